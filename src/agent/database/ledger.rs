//! The ledger of migrations, in the database itself: it is true whatever was restored around it.

use super::DatabaseError;
use super::connection::Session;
use crate::agent::report::{DatabaseFailure, LedgerEntry, LedgerState};
use crate::api::names::{Digest, NameError, Revision, Revisions};

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LedgerRow {
    pub(super) id: i64,
    pub(super) entry: LedgerEntry,
    /// Digest of the schema snapshot before the attempt.
    pub(super) before: Digest,
}

const EXISTS: &str = "select to_regclass('timetracker_delivery.ledger') is not null";

const SCHEMA_EXISTS: &str = "select to_regnamespace('timetracker_delivery') is not null";

const CREATE_TABLE: &str = "
    create table timetracker_delivery.ledger (
        id bigint generated always as identity primary key,
        digest text not null,
        attempt integer not null check (attempt > 0),
        from_revisions text[] not null,
        to_revisions text[] not null,
        before_snapshot text not null,
        state text not null check (state in ('Started', 'Done', 'Failed', 'Ambiguous')),
        started_at timestamptz not null default clock_timestamp(),
        finished_at timestamptz
    );
    create index ledger_by_digest on timetracker_delivery.ledger (digest, id);
    comment on table timetracker_delivery.ledger is
        'Migrations run by timetracker-operator. A row is committed before its command starts.'";

const COLUMNS: &str = "select id, digest, attempt, from_revisions, to_revisions, before_snapshot, state \
                       from timetracker_delivery.ledger";

/// The newest row of `digest`, and the newest row of all when that is another digest's.
pub(super) async fn newest(
    session: &Session,
    digest: Option<&Digest>,
) -> Result<(Option<LedgerRow>, Option<LedgerRow>), DatabaseError> {
    if !session.client.query_one(EXISTS, &[]).await?.try_get::<_, bool>(0)? {
        return Ok((None, None));
    }
    let own = match digest {
        Some(digest) => {
            let statement = format!("{COLUMNS} where digest = $1 order by id desc limit 1");
            session.client.query_opt(&statement, &[&digest.as_str()]).await?.as_ref().map(parse).transpose()?
        }
        None => None,
    };
    let statement = format!("{COLUMNS} order by id desc limit 1");
    let newest = session.client.query_opt(&statement, &[]).await?.as_ref().map(parse).transpose()?;
    Ok((own, newest.filter(|row| Some(&row.entry.digest) != digest)))
}

/// Creates schema and table where they are missing. Called with the lock held.
pub(super) async fn prepare(session: &Session) -> Result<(), DatabaseError> {
    if session.client.query_one(EXISTS, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(());
    }
    // `if not exists` would want the right to create even where nothing is to be created.
    if !session.client.query_one(SCHEMA_EXISTS, &[]).await?.try_get::<_, bool>(0)? {
        session.client.batch_execute("create schema timetracker_delivery").await?;
    }
    Ok(session.client.batch_execute(CREATE_TABLE).await?)
}

/// Writes a row and returns its id; committed, synchronously, when this returns.
pub(super) async fn insert(session: &Session, entry: &LedgerEntry, before: &Digest) -> Result<i64, DatabaseError> {
    let list = |revisions: &Revisions| revisions.iter().map(ToString::to_string).collect::<Vec<_>>();
    let attempt = i32::try_from(entry.attempt)
        .map_err(|_| DatabaseError::configuration("the number of the attempt is too large"))?;
    let row = session
        .client
        .query_one(
            "insert into timetracker_delivery.ledger \
             (digest, attempt, from_revisions, to_revisions, before_snapshot, state, finished_at) \
             values ($1, $2, $3, $4, $5, $6, case when $6 <> 'Started' then clock_timestamp() end) returning id",
            &[
                &entry.digest.as_str(),
                &attempt,
                &list(&entry.from),
                &list(&entry.to),
                &before.as_str(),
                &word(entry.state),
            ],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// Records how an attempt ended.
pub(super) async fn finish(session: &Session, id: i64, state: LedgerState) -> Result<(), DatabaseError> {
    let statement = "update timetracker_delivery.ledger set state = $2, finished_at = clock_timestamp() where id = $1";
    session.client.execute(statement, &[&id, &word(state)]).await?;
    Ok(())
}

fn word(state: LedgerState) -> &'static str {
    match state {
        LedgerState::Started => "Started",
        LedgerState::Done => "Done",
        LedgerState::Failed => "Failed",
        LedgerState::Ambiguous => "Ambiguous",
    }
}

fn parse(row: &tokio_postgres::Row) -> Result<LedgerRow, DatabaseError> {
    let garbled = |why: String| {
        DatabaseError::new(
            DatabaseFailure::Ambiguous,
            format!("a row of timetracker_delivery.ledger is garbled: {why}"),
        )
    };
    let name = |error: NameError| garbled(error.to_string());
    let revisions = |texts: Vec<String>| {
        texts.iter().map(|text| text.parse::<Revision>().map_err(name)).collect::<Result<Revisions, _>>()
    };
    let state: String = row.try_get("state")?;
    let entry = LedgerEntry {
        digest: row.try_get::<_, String>("digest")?.parse().map_err(name)?,
        from: revisions(row.try_get("from_revisions")?)?,
        to: revisions(row.try_get("to_revisions")?)?,
        attempt: u32::try_from(row.try_get::<_, i32>("attempt")?).map_err(|error| garbled(error.to_string()))?,
        state: match state.as_str() {
            "Started" => LedgerState::Started,
            "Done" => LedgerState::Done,
            "Failed" => LedgerState::Failed,
            "Ambiguous" => LedgerState::Ambiguous,
            _ => return Err(garbled("its state is unknown".to_owned())),
        },
    };
    let before = row.try_get::<_, String>("before_snapshot")?.parse().map_err(name)?;
    Ok(LedgerRow { id: row.try_get("id")?, entry, before })
}
