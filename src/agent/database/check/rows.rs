//! Rows for every table of a schema, made from the catalogue: types, NOT NULL, keys and simple CHECKs are kept to.
//!
//! A migration that works on empty tables proves little: a NOT NULL without a value for old rows, or an index over
//! duplicates, fails only where rows are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::super::DatabaseError;
use super::super::connection::Session;
use super::values::{Column, identifier, literal, texts_of};
use crate::schema::check::{Rows, Unfilled};

/// Rows per table: everything filled, then only what must be, then everything again.
const ROWS: u32 = 3;
/// How long all of it may take.
const WHOLE: Duration = Duration::from_secs(120);
/// The longest cause that is told, in bytes.
const MAX_CAUSE_BYTES: usize = 300;
/// The most tables without rows that are told.
const MAX_UNFILLED: usize = 100;

const COLUMNS: &str = "
    select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), coalesce(b.typname, t.typname)::text,
           coalesce(b.typcategory, t.typcategory)::text, a.attnum,
           (a.attnotnull or (t.typtype = 'd' and t.typnotnull))
               and not a.atthasdef and a.attidentity = '' and not (t.typtype = 'd' and t.typdefault is not null),
           a.attidentity <> '' or a.attgenerated <> ''
               or coalesce(pg_get_expr(d.adbin, d.adrelid) like 'nextval(%', false),
           coalesce((select array_agg(e.enumlabel::text order by e.enumsortorder) from pg_enum e
                     where e.enumtypid = coalesce(b.oid, t.oid)), '{}')
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join pg_type t on t.oid = a.atttypid
    left join pg_type b on t.typtype = 'd' and b.oid = t.typbasetype
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition and c.relname <> 'alembic_version'
    order by c.relname, a.attnum";

const FOREIGN_KEYS: &str = "
    select c.relname::text, f.relname::text,
           array(select a.attname::text from unnest(k.conkey) with ordinality u (number, place)
                 join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.number order by u.place),
           array(select a.attname::text from unnest(k.confkey) with ordinality u (number, place)
                 join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.number order by u.place)
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    join pg_class f on f.oid = k.confrelid
    join pg_namespace n on n.oid = c.relnamespace
    where k.contype = 'f' and n.nspname = 'public' and k.conparentid = 0
    order by k.conname";

const CHECKS: &str = "
    select c.relname::text, a.attname::text, pg_get_constraintdef(k.oid)
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
    where k.contype = 'c' and n.nspname = 'public' and cardinality(k.conkey) = 1";

/// A table as far as filling it goes.
#[derive(Debug, Default)]
struct Table {
    columns: Vec<Column>,
    keys: Vec<ForeignKey>,
}

#[derive(Debug)]
struct ForeignKey {
    table: String,
    columns: Vec<String>,
    referenced: Vec<String>,
}

/// Puts rows into every table, referenced ones first.
pub(super) async fn fill(session: &Session) -> Result<Rows, DatabaseError> {
    session.client.batch_execute("set statement_timeout = '10s'; set lock_timeout = '5s'").await?;
    let tables = tables(session).await?;
    let deadline = Instant::now() + WHOLE;
    let mut rows = Rows::default();
    for name in in_order(&tables) {
        let Some(table) = tables.get(&name) else { continue };
        let filled = if Instant::now() < deadline {
            fill_table(session, &name, table).await?
        } else {
            Err("there was no time left".to_owned())
        };
        match filled {
            Ok(count) => {
                rows.tables.insert(name, count);
            }
            Err(cause) if rows.unfilled.len() < MAX_UNFILLED => rows.unfilled.push(Unfilled { table: name, cause }),
            Err(_) => {}
        }
    }
    session.client.batch_execute("analyze; reset statement_timeout; reset lock_timeout").await?;
    Ok(rows)
}

async fn tables(session: &Session) -> Result<BTreeMap<String, Table>, DatabaseError> {
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    for row in session.client.query(COLUMNS, &[]).await? {
        tables.entry(row.try_get(0)?).or_default().columns.push(Column {
            name: row.try_get(1)?,
            data_type: row.try_get(2)?,
            base: row.try_get(3)?,
            category: row.try_get(4)?,
            number: row.try_get(5)?,
            required: row.try_get(6)?,
            by_server: row.try_get(7)?,
            allowed: row.try_get(8)?,
        });
    }
    for row in session.client.query(FOREIGN_KEYS, &[]).await? {
        if let Some(table) = tables.get_mut(&row.try_get::<_, String>(0)?) {
            let key = ForeignKey { table: row.try_get(1)?, columns: row.try_get(2)?, referenced: row.try_get(3)? };
            table.keys.push(key);
        }
    }
    for row in session.client.query(CHECKS, &[]).await? {
        let (name, allowed): (String, _) = (row.try_get(1)?, texts_of(&row.try_get::<_, String>(2)?));
        let table = tables.get_mut(&row.try_get::<_, String>(0)?);
        let column = table.and_then(|table| table.columns.iter_mut().find(|column| column.name == name));
        if let Some(column) = column.filter(|column| column.allowed.is_empty() && column.category == "S") {
            column.allowed = allowed;
        }
    }
    Ok(tables)
}

/// Referenced tables before those that refer to them; a circle is broken anywhere.
fn in_order(tables: &BTreeMap<String, Table>) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut done: BTreeSet<&String> = BTreeSet::new();
    loop {
        let ready = |(name, table): &(&String, &Table)| {
            !done.contains(name)
                && table
                    .keys
                    .iter()
                    .all(|key| key.table == **name || done.contains(&key.table) || !tables.contains_key(&key.table))
        };
        let next: Vec<&String> = tables.iter().filter(ready).map(|(name, _)| name).collect();
        let next =
            if next.is_empty() { tables.keys().filter(|name| !done.contains(name)).take(1).collect() } else { next };
        if next.is_empty() {
            return order;
        }
        order.extend(next.iter().map(|name| (*name).clone()));
        done.extend(next);
    }
}

/// How many rows the table got, or why none.
async fn fill_table(session: &Session, name: &str, table: &Table) -> Result<Result<u64, String>, DatabaseError> {
    let mut count = 0;
    let mut cause = String::new();
    for row in 0..ROWS {
        let referenced = references(session, name, table, row).await?;
        // A row that breaks a rule which nobody here understands may go through with less in it.
        let attempts: &[bool] = if row == 1 { &[false] } else { &[true, false] };
        for everything in attempts {
            let statement = match insert(name, table, row, *everything, &referenced) {
                Ok(statement) => statement,
                Err(why) => {
                    cause = why;
                    continue;
                }
            };
            match session.client.batch_execute(&statement).await {
                Ok(()) => {
                    count += 1;
                    break;
                }
                Err(error) if session.is_lost() => return Err(error.into()),
                Err(error) => {
                    cause = error.as_db_error().map_or_else(|| error.to_string(), |told| told.message().to_owned());
                }
            }
        }
    }
    Ok(if count > 0 { Ok(count) } else { Err(cut(&cause)) })
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_CAUSE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Columns with the value of the row that they refer to; absent where there is none.
async fn references(
    session: &Session,
    name: &str,
    table: &Table,
    row: u32,
) -> Result<BTreeMap<String, String>, DatabaseError> {
    let mut found = BTreeMap::new();
    for key in table.keys.iter().filter(|key| key.table != name) {
        let columns: Vec<String> =
            key.referenced.iter().map(|column| format!("{}::text", identifier(column))).collect();
        let (columns, from) = (columns.join(", "), identifier(&key.table));
        let statement = format!(
            "select {columns} from public.{from} order by {} offset {row} % greatest((select count(*) from public.{from}), 1) limit 1",
            (1..=key.referenced.len()).map(|number| number.to_string()).collect::<Vec<_>>().join(", ")
        );
        if let Some(referenced) = session.client.query_opt(&statement, &[]).await? {
            for (index, column) in key.columns.iter().enumerate() {
                if let Some(value) = referenced.try_get::<_, Option<String>>(index)? {
                    found.entry(column.clone()).or_insert(value);
                }
            }
        }
    }
    Ok(found)
}

fn insert(
    name: &str,
    table: &Table,
    row: u32,
    everything: bool,
    referenced: &BTreeMap<String, String>,
) -> Result<String, String> {
    let refers = |column: &Column| table.keys.iter().any(|key| key.columns.contains(&column.name));
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for column in table.columns.iter().filter(|column| !column.by_server && (everything || column.required)) {
        let value = match referenced.get(&column.name) {
            Some(value) => Some(format!("{}::{}", literal(value), column.data_type)),
            // Nothing to refer to yet.
            None if refers(column) => None,
            None => column.value(row),
        };
        match value {
            Some(value) => {
                columns.push(identifier(&column.name));
                values.push(value);
            }
            None if column.required && refers(column) => {
                return Err(format!("{} refers to a table without rows", column.name));
            }
            None if column.required => {
                return Err(format!("no value is known for {} {}", column.name, column.data_type));
            }
            None => {}
        }
    }
    let table = identifier(name);
    Ok(if columns.is_empty() {
        format!("insert into public.{table} default values")
    } else {
        format!("insert into public.{table} ({}) values ({})", columns.join(", "), values.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(refers_to: &[&str]) -> Table {
        let key = |table: &&str| ForeignKey { table: (*table).to_owned(), columns: Vec::new(), referenced: Vec::new() };
        Table { columns: Vec::new(), keys: refers_to.iter().map(key).collect() }
    }

    fn order(tables: &[(&str, &[&str])]) -> Vec<String> {
        in_order(&tables.iter().map(|(name, keys)| ((*name).to_owned(), table(keys))).collect())
    }

    #[test]
    fn referenced_tables_come_first() {
        assert_eq!(order(&[("a", &["c"]), ("b", &["a", "b"]), ("c", &[])]), ["c", "a", "b"]);
    }

    #[test]
    fn circles_and_references_to_elsewhere_end() {
        assert_eq!(order(&[("a", &["b"]), ("b", &["a"]), ("c", &["elsewhere"])]), ["c", "a", "b"]);
    }

    #[test]
    fn a_row_has_what_must_be_or_everything() {
        let column = |name: &str, required| Column {
            name: name.into(),
            data_type: "integer".into(),
            base: "int4".into(),
            required,
            ..Column::default()
        };
        let table = Table { columns: vec![column("a", true), column("b\"", false)], keys: Vec::new() };
        let insert = |everything| insert("t", &table, 0, everything, &BTreeMap::new());
        assert_eq!(insert(false), Ok("insert into public.\"t\" (\"a\") values (('1')::integer)".to_owned()));
        assert!(insert(true).is_ok_and(|statement| statement.contains("(\"a\", \"b\"\"\")")));
    }
}
