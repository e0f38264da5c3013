//! What became of a schema, and whether data went with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::schema::{ColumnName, SchemaSnapshot};

/// How a schema changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaDifference {
    /// New tables.
    pub added_tables: BTreeSet<String>,
    /// Tables that are gone with their rows.
    pub dropped_tables: BTreeSet<String>,
    /// Tables with another name: old to new.
    pub renamed_tables: BTreeMap<String, String>,
    /// New columns of tables that were there before.
    pub added_columns: BTreeSet<ColumnName>,
    /// Columns that are gone with their values; those of dropped tables not counted.
    pub dropped_columns: BTreeSet<ColumnName>,
    /// Columns with another name, as `table.old` to `table.new`.
    pub renamed_columns: Vec<(ColumnName, ColumnName)>,
    /// Columns with another type or nullability.
    pub changed: Vec<ColumnChange>,
}

/// A column that is no longer what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnChange {
    /// Its name now.
    pub column: ColumnName,
    /// Type, and `not null`, before.
    pub from: String,
    /// The same now.
    pub to: String,
    /// Whether there are values of the old type that the new one can't hold.
    pub narrows: bool,
}

impl SchemaDifference {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// What takes data away, a sentence each.
    #[must_use]
    pub fn destructive(&self) -> Vec<String> {
        let tables = self.dropped_tables.iter().map(|table| format!("table {table} is dropped"));
        let columns = self.dropped_columns.iter().map(|column| format!("column {column} is dropped"));
        let narrowed = self.changed.iter().filter(|change| change.narrows).map(|change| {
            format!("column {} becomes {}, which can't hold every {}", change.column, change.to, change.from)
        });
        tables.chain(columns).chain(narrowed).collect()
    }

    /// Every change, a short line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.added_tables.iter().map(|table| format!("+ table {table}")));
        lines.extend(self.dropped_tables.iter().map(|table| format!("- table {table}")));
        lines.extend(self.renamed_tables.iter().map(|(old, new)| format!("~ table {old} → {new}")));
        lines.extend(self.added_columns.iter().map(|column| format!("+ column {column}")));
        lines.extend(self.dropped_columns.iter().map(|column| format!("- column {column}")));
        lines.extend(self.renamed_columns.iter().map(|(old, new)| format!("~ column {old} → {new}")));
        lines.extend(self.changed.iter().map(ToString::to_string));
        lines
    }
}

impl fmt::Display for ColumnChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "~ column {}: {} → {}", self.column, self.from, self.to)
    }
}

/// How `after` differs from `before`, when these tables and columns (by their names before) have got other names.
#[must_use]
pub fn difference(
    before: &SchemaSnapshot,
    after: &SchemaSnapshot,
    renamed_tables: &BTreeMap<String, String>,
    renamed: &BTreeMap<ColumnName, ColumnName>,
) -> SchemaDifference {
    let mut found = SchemaDifference { renamed_tables: renamed_tables.clone(), ..SchemaDifference::default() };
    let new_tables: BTreeSet<&String> = renamed_tables.values().collect();
    found.added_tables = after
        .tables
        .keys()
        .filter(|table| !before.tables.contains_key(*table) && !new_tables.contains(table))
        .cloned()
        .collect();
    for (table, columns) in &before.tables {
        let now = renamed_tables.get(table).unwrap_or(table);
        let Some(present) = after.tables.get(now) else {
            found.dropped_tables.insert(table.clone());
            continue;
        };
        let mut kept: BTreeSet<&String> = BTreeSet::new();
        for (name, was) in columns {
            let old = ColumnName { table: table.clone(), column: name.clone() };
            let new = renamed.get(&old);
            let new_name = new.map_or(name, |new| &new.column);
            let Some(is) = present.get(new_name) else {
                found.dropped_columns.insert(old);
                continue;
            };
            kept.insert(new_name);
            let column = ColumnName { table: now.clone(), column: new_name.clone() };
            if new_name != name {
                found.renamed_columns.push((old, column.clone()));
            }
            let told = |kind: &str, nullable: bool| format!("{kind}{}", if nullable { "" } else { " not null" });
            let (from, to) = (told(&was.data_type, was.nullable), told(&is.data_type, is.nullable));
            if from != to {
                let narrows = !holds_every(&is.data_type, &was.data_type);
                found.changed.push(ColumnChange { column, from, to, narrows });
            }
        }
        let added = present.keys().filter(|name| !kept.contains(name));
        found.added_columns.extend(added.map(|name| ColumnName { table: now.clone(), column: name.clone() }));
    }
    found
}

/// Whether every value of `from` is also one of `to`. What is not known to be so, is not.
fn holds_every(to: &str, from: &str) -> bool {
    if to == from {
        return true;
    }
    let ((to, to_size), (from, from_size)) = (parts(to), parts(from));
    let characters = |kind: &str| ["character varying", "character", "text"].contains(&kind);
    let integer = |kind: &str| ["smallint", "integer", "bigint"].iter().position(|known| *known == kind);
    match (from, to) {
        _ if characters(from) && to == "text" => true,
        _ if characters(from) && to == "character varying" => match (from_size, to_size) {
            (_, None) => true,
            (Some((from, _)), Some((to, _))) => from <= to,
            (None, Some(_)) => false,
        },
        ("character", "character") => from_size.map(|size| size.0) <= to_size.map(|size| size.0),
        ("numeric", "numeric") => match (from_size, to_size) {
            (_, None) => true,
            (Some((from, from_scale)), Some((to, to_scale))) => {
                from_scale <= to_scale && from.saturating_sub(from_scale) <= to.saturating_sub(to_scale)
            }
            (None, Some(_)) => false,
        },
        ("smallint" | "integer" | "bigint", "numeric") => {
            let digits = [5, 10, 19].get(integer(from).unwrap_or(2)).copied().unwrap_or(19);
            to_size.is_none_or(|(precision, scale)| precision.saturating_sub(scale) >= digits)
        }
        ("smallint" | "integer", "double precision") | ("smallint", "real") => true,
        ("real", "double precision") | ("date", "timestamp without time zone") | ("json" | "jsonb", "text") => true,
        _ => matches!((integer(from), integer(to)), (Some(from), Some(to)) if from <= to),
    }
}

/// `numeric(10,2)` as its name and its numbers.
fn parts(kind: &str) -> (&str, Option<(u32, u32)>) {
    let Some((name, behind)) = kind.split_once('(') else {
        return (kind, None);
    };
    let Some(numbers) = behind.strip_suffix(')') else {
        return (kind, None);
    };
    let (first, second) = numbers.split_once(',').unwrap_or((numbers, "0"));
    match (first.trim().parse(), second.trim().parse()) {
        (Ok(first), Ok(second)) => (name, Some((first, second))),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => (kind, None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::schema::PresentColumn;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("character varying(20)", "character varying(40)", true)]
    #[case("character varying(40)", "character varying(20)", false)]
    #[case("character varying(40)", "text", true)]
    #[case("text", "character varying(40)", false)]
    #[case("integer", "bigint", true)]
    #[case("bigint", "integer", false)]
    #[case("integer", "numeric(12,2)", true)]
    #[case("integer", "numeric(10,2)", false)]
    #[case("numeric(10,2)", "numeric(12,2)", true)]
    #[case("numeric(10,2)", "numeric(10,4)", false)]
    #[case("numeric(10,2)", "numeric", true)]
    #[case("numeric", "numeric(10,2)", false)]
    #[case("timestamp without time zone", "date", false)]
    #[case("text", "integer", false)]
    #[case("status(odd", "status(odd", true)]
    fn a_type_holds_what_another_held(#[case] from: &str, #[case] to: &str, #[case] holds: bool) {
        assert_eq!(holds_every(to, from), holds);
    }

    fn snapshot(tables: &[(&str, &[(&str, &str)])]) -> SchemaSnapshot {
        let column = |kind: &str| PresentColumn { data_type: kind.to_owned(), nullable: true, filled_by_server: false };
        let columns = |columns: &[(&str, &str)]| columns.iter().map(|(n, k)| ((*n).to_owned(), column(k))).collect();
        let tables = tables.iter().map(|(name, list)| ((*name).to_owned(), columns(list))).collect();
        SchemaSnapshot { tables, ..SchemaSnapshot::default() }
    }

    fn name(table: &str, column: &str) -> ColumnName {
        ColumnName { table: table.into(), column: column.into() }
    }

    #[test]
    fn a_renamed_column_is_not_a_dropped_one() {
        let before =
            snapshot(&[("clients", &[("contact", "text")]), ("projects", &[("code", "text"), ("id", "integer")])]);
        let after = snapshot(&[("clients", &[("contact_name", "text")]), ("projects", &[("id", "integer")])]);
        let renamed = [(name("clients", "contact"), name("clients", "contact_name"))].into();
        let found = difference(&before, &after, &BTreeMap::new(), &renamed);
        assert_eq!(found.destructive(), ["column projects.code is dropped"]);
        assert_eq!(found.lines(), ["- column projects.code", "~ column clients.contact → clients.contact_name"]);
    }

    #[test]
    fn a_renamed_table_keeps_its_columns() {
        let before = snapshot(&[("old", &[("a", "text"), ("b", "text")])]);
        let after = snapshot(&[("new", &[("a", "integer"), ("c", "text")])]);
        let found = difference(&before, &after, &[("old".to_owned(), "new".to_owned())].into(), &BTreeMap::new());
        assert_eq!(
            found.lines(),
            ["~ table old → new", "+ column new.c", "- column old.b", "~ column new.a: text → integer"]
        );
        assert_eq!(found.destructive().len(), 2);
    }

    fn any_snapshot() -> impl Strategy<Value = SchemaSnapshot> {
        let kind = prop::sample::select(vec!["text", "integer", "bigint", "numeric(10,2)"]);
        let column = (kind, any::<bool>()).prop_map(|(kind, nullable)| PresentColumn {
            data_type: kind.to_owned(),
            nullable,
            filled_by_server: false,
        });
        let columns = prop::collection::btree_map("[a-c]", column, 0..3);
        prop::collection::btree_map("[t-w]", columns, 0..4)
            .prop_map(|tables| SchemaSnapshot { tables, ..SchemaSnapshot::default() })
    }

    proptest! {
        #[test]
        fn what_is_told_is_what_differs(before in any_snapshot(), after in any_snapshot()) {
            let found = difference(&before, &after, &BTreeMap::new(), &BTreeMap::new());
            prop_assert_eq!(found.is_empty(), before.tables == after.tables);
            let back = difference(&after, &before, &BTreeMap::new(), &BTreeMap::new());
            prop_assert_eq!(&found.added_tables, &back.dropped_tables);
            prop_assert_eq!(&found.added_columns, &back.dropped_columns);
        }

        #[test]
        fn no_text_of_a_type_is_too_odd(from in ".{0,40}", to in ".{0,40}") {
            let _ = holds_every(&to, &from);
        }
    }
}
