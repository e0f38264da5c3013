//! Can this code run on this database?

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SchemaContract, SchemaSnapshot};

/// A column with its table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ColumnName {
    /// The table's name.
    pub table: String,
    /// The column's name.
    pub column: String,
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.column)
    }
}

/// How a contract and a snapshot differ. Nothing in it: the code can run on the database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Compatibility {
    /// Tables that the code uses and the database lacks: reads break.
    pub missing_tables: BTreeSet<String>,
    /// Columns that the code uses and the database lacks: reads break.
    pub missing_columns: BTreeSet<ColumnName>,
    /// Columns of known tables that accept no NULL, have no default and are unknown to the code: inserts break.
    pub unknown_required: BTreeSet<ColumnName>,
    /// Columns into which the code may write NULL and the database refuses it: some inserts break.
    pub stricter: BTreeSet<ColumnName>,
}

impl Compatibility {
    /// Whether the code can run on the database.
    ///
    /// [`stricter`](Self::stricter) columns alone don't break it: ORMs declare `nullable` loosely (the real app does
    /// in dozens of columns that its own migrations created NOT NULL), so they are told, not refused.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.missing_tables.is_empty() && self.missing_columns.is_empty() && self.unknown_required.is_empty()
    }
}

impl fmt::Display for Compatibility {
    /// One sentence with at most three names of each kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.holds() {
            return f.write_str("the database has everything the code needs");
        }
        let parts = [
            ("missing tables", listed(&self.missing_tables)),
            ("missing columns", listed(&self.missing_columns)),
            ("required columns unknown to the code", listed(&self.unknown_required)),
        ];
        let told: Vec<String> =
            parts.into_iter().filter_map(|(what, names)| names.map(|names| format!("{what}: {names}"))).collect();
        f.write_str(&told.join("; "))
    }
}

fn listed<T: fmt::Display>(names: &BTreeSet<T>) -> Option<String> {
    const SHOWN: usize = 3;
    if names.is_empty() {
        return None;
    }
    let mut text = names.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    Some(text)
}

/// Compares what the code needs with what the database has.
#[must_use]
pub fn compatibility(contract: &SchemaContract, snapshot: &SchemaSnapshot) -> Compatibility {
    let mut found = Compatibility::default();
    for (table, needed) in &contract.tables {
        let Some(present) = snapshot.tables.get(table) else {
            found.missing_tables.insert(table.clone());
            continue;
        };
        let name = |column: &String| ColumnName { table: table.clone(), column: column.clone() };
        for (column, need) in needed {
            match present.get(column) {
                None => {
                    found.missing_columns.insert(name(column));
                }
                Some(has) if need.nullable && !has.nullable && !has.filled_by_server => {
                    found.stricter.insert(name(column));
                }
                Some(_) => {}
            }
        }
        for (column, has) in present {
            if !has.nullable && !has.filled_by_server && !needed.contains_key(column) {
                found.unknown_required.insert(name(column));
            }
        }
    }
    found
}
