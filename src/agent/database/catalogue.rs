//! What the database has, read from its catalogue in one consistent look.

use std::collections::BTreeMap;

use super::DatabaseError;
use super::connection::Session;
use super::ledger::{self, LedgerRow};
use crate::agent::report::DatabaseFailure;
use crate::api::names::{Digest, Revision, Revisions};
use crate::schema::{PresentColumn, SchemaSnapshot};

/// One look at the database.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) snapshot: SchemaSnapshot,
    /// The newest ledger row of the digest asked about.
    pub(super) ledger: Option<LedgerRow>,
    /// The newest ledger row of all, when it belongs to another digest.
    pub(super) other: Option<LedgerRow>,
}

const TABLES: &str = "
    select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod),
           not (a.attnotnull or (t.typtype = 'd' and t.typnotnull)) as nullable,
           a.atthasdef or a.attidentity <> '' or a.attgenerated <> '' or (t.typtype = 'd' and t.typdefault is not null)
               as filled_by_server
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_type t on t.oid = a.atttypid
    where n.nspname = 'public' and c.relkind in ('r', 'p') and c.relname <> 'alembic_version'";

/// Reads schema, revisions and ledger at one moment. Creates nothing.
pub(super) async fn look(session: &Session, digest: Option<&Digest>) -> Result<Look, DatabaseError> {
    session.client.batch_execute("begin isolation level repeatable read read only").await?;
    let result = look_in_transaction(session, digest).await;
    let end = session.client.batch_execute("rollback").await;
    let look = result?;
    end?;
    Ok(look)
}

async fn look_in_transaction(session: &Session, digest: Option<&Digest>) -> Result<Look, DatabaseError> {
    let mut tables: BTreeMap<String, BTreeMap<String, PresentColumn>> = BTreeMap::new();
    for row in session.client.query(TABLES, &[]).await? {
        let columns = tables.entry(row.try_get(0)?).or_default();
        // A table without any column has one row of nulls.
        if let Some(column) = row.try_get::<_, Option<String>>(1)? {
            let present = PresentColumn {
                data_type: row.try_get(2)?,
                nullable: row.try_get(3)?,
                filled_by_server: row.try_get(4)?,
            };
            columns.insert(column, present);
        }
    }
    let snapshot = SchemaSnapshot { revisions: revisions(session).await?, tables };
    let (ledger, other) = ledger::newest(session, digest).await?;
    Ok(Look { snapshot, ledger, other })
}

async fn revisions(session: &Session) -> Result<Revisions, DatabaseError> {
    let present = session.client.query_one("select to_regclass('public.alembic_version') is not null", &[]).await?;
    if !present.try_get::<_, bool>(0)? {
        return Ok(Revisions::default());
    }
    let rows = session.client.query("select version_num::text from public.alembic_version", &[]).await?;
    rows.iter().map(|row| parse_revision(&row.try_get::<_, String>(0)?)).collect()
}

fn parse_revision(text: &str) -> Result<Revision, DatabaseError> {
    text.parse().map_err(|error| {
        DatabaseError::new(DatabaseFailure::Ambiguous, format!("alembic_version can't be understood: {error}"))
    })
}
