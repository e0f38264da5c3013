//! What a check has seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::api::names::{Revision, Revisions};
use crate::schema::{ColumnName, SchemaContract, SchemaSnapshot};

/// How one part of the chain ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all_fields = "camelCase")]
pub enum Attempt<T> {
    /// It went through.
    Done {
        /// How long it took.
        milliseconds: u64,
        /// What it gave.
        value: T,
    },
    /// It did not.
    Failed {
        /// How long it took.
        milliseconds: u64,
        /// The cause, in words.
        cause: String,
    },
    /// It was not tried.
    NotRun {
        /// Why not.
        why: String,
    },
}

impl<T> Attempt<T> {
    /// What it gave, when it went through.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Done { value, .. } => Some(value),
            Self::Failed { .. } | Self::NotRun { .. } => None,
        }
    }

    /// How long it took; zero when it was not tried.
    #[must_use]
    pub fn milliseconds(&self) -> u64 {
        match self {
            Self::Done { milliseconds, .. } | Self::Failed { milliseconds, .. } => *milliseconds,
            Self::NotRun { .. } => 0,
        }
    }

    /// Not tried, and why.
    #[must_use]
    pub fn not_run(why: impl Into<String>) -> Self {
        Self::NotRun { why: why.into() }
    }
}

/// Everything that a check has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The server's version, for example `16.14`.
    pub server_version: String,
    /// No lock that stops readers or writers may be held longer.
    pub lock_limit_milliseconds: u64,
    /// Whether the chain ran with the packages that the commit's own requirement files name.
    pub own_packages: bool,
    /// What the commit changes against its base.
    pub changes: Attempt<Changes>,
    /// The commit's migration files.
    pub files: Attempt<MigrationFiles>,
    /// The schema that the chain starts from.
    pub start: Attempt<Schema>,
    /// The rows that were put into it.
    pub rows: Attempt<Rows>,
    /// The schema after the upgrade.
    pub upgrade: Attempt<Schema>,
    /// The schema after the downgrade.
    pub downgrade: Attempt<Schema>,
    /// The schema after the second upgrade.
    pub upgrade_again: Attempt<Schema>,
    /// Columns that the upgrade renamed: old name to new name.
    pub renamed: BTreeMap<ColumnName, ColumnName>,
    /// Tables that the upgrade renamed: old name to new name.
    pub renamed_tables: BTreeMap<String, String>,
    /// What the upgrade executed.
    pub statements: Statements,
    /// What the linter says about it.
    pub lint: Attempt<Vec<LintFinding>>,
    /// What the base commit's code needs.
    pub old_code: Attempt<SchemaContract>,
    /// What the commit's code needs.
    pub new_code: Attempt<SchemaContract>,
}

/// Paths that the commit adds, changes or removes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// Below the models' path.
    pub models: BTreeSet<String>,
    /// Below the migrations' folder.
    pub migrations: BTreeSet<String>,
    /// Files of requirements.
    pub requirements: BTreeSet<String>,
}

/// The migration files of one commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationFiles {
    /// Every revision with its file.
    pub revisions: BTreeMap<Revision, MigrationFile>,
    /// The revisions that no other one builds on.
    pub heads: Revisions,
}

/// One migration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationFile {
    /// The file's name.
    pub file: String,
    /// The revisions that it builds on; more than one: a declared merge.
    pub parents: Revisions,
    /// Whether its `downgrade()` does anything. A merge has nothing to do.
    pub has_downgrade: bool,
}

impl MigrationFiles {
    /// The revisions that an upgrade from `start` runs: those that are neither in it nor below it.
    #[must_use]
    pub fn since(&self, start: &Revisions) -> BTreeSet<&Revision> {
        let mut known: BTreeSet<&Revision> = BTreeSet::new();
        let mut open: Vec<&Revision> = start.iter().collect();
        while let Some(revision) = open.pop() {
            if known.insert(revision)
                && let Some(file) = self.revisions.get(revision)
            {
                open.extend(file.parents.iter());
            }
        }
        self.revisions.keys().filter(|revision| !known.contains(revision)).collect()
    }
}

/// Where the chain starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Whether the base commit's own files make it.
    pub by_base: bool,
    /// The revisions that it is brought to.
    pub revisions: Revisions,
}

/// Where the chain starts: at the base commit's heads, or, where the commit adds no revision (or nothing is known of a
/// base), one step below the commit's own, so that the chain is run all the same.
#[must_use]
pub fn start_of(base: Option<&MigrationFiles>, head: &MigrationFiles) -> Start {
    match base {
        Some(base) if base.heads != head.heads => Start { by_base: true, revisions: base.heads.clone() },
        Some(_) | None => {
            let below = head.heads.iter().filter_map(|revision| head.revisions.get(revision));
            let revisions = below.flat_map(|file| file.parents.iter().cloned()).collect();
            Start { by_base: base.is_some(), revisions }
        }
    }
}

/// A schema as the catalogue describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schema {
    /// Revisions, tables and columns.
    pub snapshot: SchemaSnapshot,
    /// Everything else, one line each: indexes, constraints, defaults, types, sequences, views.
    pub others: BTreeSet<String>,
}

impl Schema {
    /// How `after` differs from this, as lines that begin with `-` or `+`. Revisions don't count.
    #[must_use]
    pub fn unlike(&self, after: &Self) -> Vec<String> {
        let (before, after) = (self.lines(), after.lines());
        let gone = before.difference(&after).map(|line| format!("- {line}"));
        let come = after.difference(&before).map(|line| format!("+ {line}"));
        gone.chain(come).collect()
    }

    fn lines(&self) -> BTreeSet<String> {
        let columns = self.snapshot.tables.iter().flat_map(|(table, columns)| {
            let column = move |(name, column): (&String, &crate::schema::PresentColumn)| {
                let null = if column.nullable { "" } else { " not null" };
                format!("column {table}.{name} {}{null}", column.data_type)
            };
            std::iter::once(format!("table {table}")).chain(columns.iter().map(column))
        });
        columns.chain(self.others.iter().cloned()).collect()
    }
}

/// The rows that a check made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rows {
    /// How many rows each table has.
    pub tables: BTreeMap<String, u64>,
    /// Tables that no row could be made for.
    pub unfilled: Vec<Unfilled>,
}

impl Rows {
    /// All rows together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.tables.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// A table without rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unfilled {
    /// The table.
    pub table: String,
    /// Why no row could be made.
    pub cause: String,
}

/// What the upgrade sent to the server, as it went over the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statements {
    /// In their order; queries that only read are left out, and everything behind a bound.
    pub executed: Vec<Executed>,
    /// How many were left out because there were too many.
    pub omitted: u64,
    /// The longest time that each lock was held on tables that were there before, until its transaction's end.
    pub held: Vec<HeldLock>,
    /// Why it is not known which tables were rewritten; absent: it is known.
    pub rewrites_unknown: Option<String>,
}

/// One statement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Executed {
    /// Its text; a long one is cut.
    pub sql: String,
    /// From its start to its end.
    pub milliseconds: u64,
    /// The rows that the server says it touched.
    pub rows: Option<u64>,
    /// Locks that it took on tables that were there before, as `table: mode`. Weaker ones than of an insert are left
    /// out.
    pub locks: BTreeSet<String>,
    /// Tables whose every row it wrote anew, with their rows before.
    pub rewritten: BTreeMap<String, u64>,
    /// The server's complaint.
    pub error: Option<String>,
}

/// A lock and how long it was held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldLock {
    /// The table.
    pub table: String,
    /// For example `AccessExclusiveLock`.
    pub mode: String,
    /// The longest time.
    pub milliseconds: u64,
}

/// What the linter says about one statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LintFinding {
    /// The rule.
    pub rule: String,
    /// What is wrong.
    pub message: String,
    /// The statement, cut.
    pub sql: String,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn revisions(text: &str) -> Revisions {
        text.split_whitespace().map(|revision| revision.parse::<Revision>().unwrap()).collect()
    }

    fn files(described: &[(&str, &str)], heads: &str) -> MigrationFiles {
        let file = |parents: &str| MigrationFile { parents: revisions(parents), ..MigrationFile::default() };
        let revisions_ = described.iter().map(|(name, parents)| (name.parse().unwrap(), file(parents))).collect();
        MigrationFiles { revisions: revisions_, heads: revisions(heads) }
    }

    #[test]
    fn the_chain_starts_at_the_heads_of_the_base() {
        let base = files(&[("a", ""), ("b", "a")], "b");
        let head = files(&[("a", ""), ("b", "a"), ("c", "b")], "c");
        assert_eq!(start_of(Some(&base), &head), Start { by_base: true, revisions: revisions("b") });
        assert_eq!(head.since(&revisions("b")).len(), 1);
    }

    #[test]
    fn without_new_revisions_it_starts_one_step_below() {
        let same = files(&[("a", ""), ("b", "a"), ("c", "a"), ("d", "b c")], "d");
        assert_eq!(start_of(Some(&same), &same), Start { by_base: true, revisions: revisions("b c") });
        assert_eq!(start_of(None, &same), Start { by_base: false, revisions: revisions("b c") });
    }

    #[test]
    fn a_circle_of_revisions_ends() {
        let circle = files(&[("a", "b"), ("b", "a")], "");
        assert!(circle.since(&revisions("a")).is_empty());
    }

    #[test]
    fn schemas_are_compared_without_their_revisions() {
        let mut one = Schema::default();
        one.snapshot.revisions = revisions("a");
        one.others.insert("index i".into());
        let two = Schema { others: ["index j".to_owned()].into(), ..Schema::default() };
        assert_eq!(one.unlike(&two), ["- index i", "+ index j"]);
        assert!(one.unlike(&Schema { snapshot: SchemaSnapshot::default(), ..one.clone() }).is_empty());
    }
}
