//! The whole schema: what the snapshot has, and everything else that a downgrade must restore.

use std::collections::{BTreeMap, BTreeSet};

use super::super::DatabaseError;
use super::super::catalogue::look;
use super::super::connection::Session;
use super::recorder::{TableBefore, TablesBefore};
use crate::schema::ColumnName;
use crate::schema::check::{Rows, Schema};

/// More columns than that are no schema of an app.
const MAX_COLUMNS: i64 = 100_000;

/// Tables and columns by what stays the same when they are renamed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identities {
    tables: BTreeMap<u32, String>,
    columns: BTreeMap<(u32, i16), ColumnName>,
}

/// Old names to new names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Renamed {
    pub(super) tables: BTreeMap<String, String>,
    pub(super) columns: BTreeMap<ColumnName, ColumnName>,
}

impl Identities {
    /// What has another name in `after`.
    pub(super) fn renamed(&self, after: &Self) -> Renamed {
        let tables = self.tables.iter().filter_map(|(id, old)| {
            let new = after.tables.get(id).filter(|new| *new != old)?;
            Some((old.clone(), new.clone()))
        });
        let columns = self.columns.iter().filter_map(|(id, old)| {
            let new = after.columns.get(id).filter(|new| new.column != old.column)?;
            Some((old.clone(), new.clone()))
        });
        Renamed { tables: tables.collect(), columns: columns.collect() }
    }

    /// The tables with their rows.
    pub(super) fn with_rows(&self, rows: Option<&Rows>) -> TablesBefore {
        let count = |name: &String| rows.and_then(|rows| rows.tables.get(name)).copied().unwrap_or_default();
        let table = |(id, name): (&u32, &String)| (*id, TableBefore { name: name.clone(), rows: count(name) });
        self.tables.iter().map(table).collect()
    }
}

const COLUMNS: &str = "
    select c.oid, a.attnum, c.relname::text, a.attname::text
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where n.nspname = 'public' and c.relkind in ('r', 'p') and c.relname <> 'alembic_version'";

/// One line for everything in schema `public` that is no column.
const OTHERS: &str = "
    with tables as (
        select c.oid, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'public' and c.relkind in ('r', 'p') and c.relname <> 'alembic_version'
    ), lines as (
        select 'index ' || pg_get_indexdef(i.indexrelid) as line from pg_index i join tables t on t.oid = i.indrelid
        union all
        select 'constraint ' || t.relname || '.' || k.conname || ' ' || pg_get_constraintdef(k.oid)
        from pg_constraint k join tables t on t.oid = k.conrelid
        union all
        select 'default ' || t.relname || '.' || a.attname || ' ' || pg_get_expr(d.adbin, d.adrelid)
        from pg_attrdef d join tables t on t.oid = d.adrelid
        join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
        union all
        select 'identity ' || t.relname || '.' || a.attname || ' ' || a.attidentity::text
        from pg_attribute a join tables t on t.oid = a.attrelid where a.attidentity <> '' and not a.attisdropped
        union all
        select 'trigger ' || pg_get_triggerdef(g.oid) from pg_trigger g join tables t on t.oid = g.tgrelid
        where not g.tgisinternal
        union all
        select case c.relkind when 'S' then 'sequence ' || c.relname else 'view ' || c.relname || ' ' ||
               pg_get_viewdef(c.oid) end
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'public' and c.relkind in ('S', 'v', 'm')
        union all
        select 'type ' || y.typname || ' ' ||
               (select coalesce(string_agg(e.enumlabel, ',' order by e.enumsortorder), '') from pg_enum e
                where e.enumtypid = y.oid)
        from pg_type y join pg_namespace n on n.oid = y.typnamespace
        where n.nspname = 'public' and y.typtype in ('e', 'd')
        union all
        select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ') ' || md5(p.prosrc)
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'public'
    )
    select left(line, 1000) from lines limit 50000";

/// Reads the whole schema. Nobody else may be connected: it is read in several looks.
pub(super) async fn read(session: &Session) -> Result<(Schema, Identities), DatabaseError> {
    let count = session.client.query_one("select count(*) from pg_attribute", &[]).await?;
    if count.try_get::<_, i64>(0)? > MAX_COLUMNS {
        return Err(DatabaseError::configuration(format!("the database has more than {MAX_COLUMNS} columns")));
    }
    let snapshot = look(session, None).await?.snapshot;
    let rows = session.client.query(OTHERS, &[]).await?;
    let others = rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<String>, _>>()?;
    Ok((Schema { snapshot, others }, identities(session).await?))
}

async fn identities(session: &Session) -> Result<Identities, DatabaseError> {
    let mut found = Identities::default();
    for row in session.client.query(COLUMNS, &[]).await? {
        let (table, name): (u32, String) = (row.try_get(0)?, row.try_get(2)?);
        if let (Some(number), Some(column)) = (row.try_get::<_, Option<i16>>(1)?, row.try_get::<_, Option<String>>(3)?)
        {
            found.columns.insert((table, number), ColumnName { table: name.clone(), column });
        }
        found.tables.insert(table, name);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(columns: &[(u32, i16, &str, &str)]) -> Identities {
        let mut found = Identities::default();
        for (table, number, name, column) in columns {
            let name = (*name).to_owned();
            found.tables.insert(*table, name.clone());
            found.columns.insert((*table, *number), ColumnName { table: name, column: (*column).to_owned() });
        }
        found
    }

    #[test]
    fn what_keeps_its_number_and_not_its_name_is_renamed() {
        let before = identities(&[(1, 1, "clients", "id"), (1, 2, "clients", "contact"), (2, 1, "old", "id")]);
        let after = identities(&[(1, 1, "clients", "id"), (1, 2, "clients", "contact_name"), (2, 1, "new", "id")]);
        let renamed = before.renamed(&after);
        let told: Vec<String> = renamed.columns.iter().map(|(old, new)| format!("{old} {new}")).collect();
        assert_eq!(told, ["clients.contact clients.contact_name"]);
        assert_eq!(renamed.tables, [("old".to_owned(), "new".to_owned())].into());
    }
}
