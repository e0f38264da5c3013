//! What a reviewer of a migration asks, answered by evidence.

use serde::{Deserialize, Serialize};

use super::difference::SchemaDifference;
use super::evidence::Evidence;
use super::verdict::without_downgrade;

/// The questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CheckItem {
    /// Every new migration has a downgrade.
    HasDowngrade,
    /// The downgrade restores the schema.
    DowngradeRestores,
    /// Old code runs on the new schema.
    OldCodeRuns,
    /// No lock that stops readers or writers is held too long.
    ShortLocks,
    /// No data is dropped.
    NoDataDropped,
    /// The migration ran over existing rows.
    RanOverRows,
    /// There is one head.
    OneHead,
}

impl CheckItem {
    /// The question as a statement.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::HasDowngrade => "has a downgrade",
            Self::DowngradeRestores => "downgrade restores the schema",
            Self::OldCodeRuns => "old code runs on the new schema",
            Self::ShortLocks => "locks are short",
            Self::NoDataDropped => "no data dropped",
            Self::RanOverRows => "ran over existing rows",
            Self::OneHead => "one head",
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tick {
    /// The question.
    pub item: CheckItem,
    /// `None`: there is no evidence.
    pub ticked: Option<bool>,
    /// The evidence, in words.
    pub evidence: String,
}

/// All answers.
pub type Checklist = Vec<Tick>;

pub(super) fn checklist(evidence: &Evidence, difference: &SchemaDifference, expands: Option<bool>) -> Checklist {
    vec![
        has_downgrade(evidence),
        downgrade_restores(evidence),
        old_code_runs(expands),
        short_locks(evidence),
        no_data_dropped(evidence, difference),
        ran_over_rows(evidence),
        one_head(evidence),
    ]
}

fn tick(item: CheckItem, ticked: Option<bool>, evidence: impl Into<String>) -> Tick {
    Tick { item, ticked, evidence: evidence.into() }
}

fn has_downgrade(evidence: &Evidence) -> Tick {
    let item = CheckItem::HasDowngrade;
    if evidence.files.value().is_none() || evidence.start.value().is_none() {
        return tick(item, None, "the new migrations are not known");
    }
    let missing = without_downgrade(evidence);
    match missing.first() {
        None => tick(item, Some(true), "every migration that was run has one"),
        Some(first) => tick(item, Some(false), format!("{} without, the first: {first}", missing.len())),
    }
}

fn downgrade_restores(evidence: &Evidence) -> Tick {
    let item = CheckItem::DowngradeRestores;
    match (evidence.start.value(), evidence.downgrade.value()) {
        (Some(before), Some(after)) => {
            let same = before == after;
            tick(item, Some(same), if same { "the same before and after" } else { "it leaves another schema" })
        }
        (Some(_), None) if evidence.upgrade.value().is_some() => {
            tick(item, Some(false), "the downgrade did not go through")
        }
        (Some(_) | None, Some(_) | None) => tick(item, None, "no downgrade was run"),
    }
}

fn old_code_runs(expands: Option<bool>) -> Tick {
    let (item, told) = match expands {
        None => (CheckItem::OldCodeRuns, "old code or new schema is not known"),
        Some(true) => (CheckItem::OldCodeRuns, "the schema has everything that it needs"),
        Some(false) => (CheckItem::OldCodeRuns, "the schema lacks what it needs, or demands what it does not know"),
    };
    tick(item, expands, told)
}

fn short_locks(evidence: &Evidence) -> Tick {
    let item = CheckItem::ShortLocks;
    if evidence.upgrade.value().is_none() {
        return tick(item, None, "no upgrade went through");
    }
    let limit = evidence.lock_limit_milliseconds;
    let longest = evidence.statements.held.iter().max_by_key(|held| held.milliseconds);
    let over = evidence.rows.value().map_or(0, super::evidence::Rows::total);
    match longest {
        None => tick(item, Some(true), "none was taken on tables that were there before"),
        Some(held) => {
            let told = format!(
                "{} on {} for {} ms (limit {limit} ms), measured over {over} rows in all",
                held.mode, held.table, held.milliseconds
            );
            tick(item, Some(held.milliseconds <= limit), told)
        }
    }
}

fn no_data_dropped(evidence: &Evidence, difference: &SchemaDifference) -> Tick {
    let item = CheckItem::NoDataDropped;
    if evidence.upgrade.value().is_none() || evidence.start.value().is_none() {
        return tick(item, None, "there are no two schemas to compare");
    }
    match difference.destructive().as_slice() {
        [] => tick(item, Some(true), "no table or column was dropped or narrowed"),
        [first, rest @ ..] => tick(item, Some(false), format!("{first}, and {} more", rest.len())),
    }
}

fn ran_over_rows(evidence: &Evidence) -> Tick {
    let item = CheckItem::RanOverRows;
    match (evidence.upgrade.value(), evidence.rows.value()) {
        (Some(_), Some(rows)) => {
            tick(item, Some(rows.total() > 0), format!("{} rows in {} tables", rows.total(), rows.tables.len()))
        }
        (Some(_) | None, Some(_) | None) => tick(item, None, "no upgrade over rows went through"),
    }
}

fn one_head(evidence: &Evidence) -> Tick {
    let item = CheckItem::OneHead;
    match evidence.files.value() {
        Some(files) => tick(item, Some(files.heads.len() == 1), files.heads.to_string()),
        None => tick(item, None, "the files can't be read"),
    }
}
