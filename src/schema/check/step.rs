//! The steps of a check.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The steps of a check, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StepName {
    /// Models changed without a migration?
    Changes,
    /// The migration files can be read.
    Files,
    /// One head, or a declared merge.
    Heads,
    /// The schema that the migration meets.
    Base,
    /// Rows in every table of it.
    Rows,
    /// The upgrade goes through and does what it says.
    Upgrade,
    /// The schema has what the models need.
    Models,
    /// The base commit's code on the new schema.
    OldCode,
    /// The downgrade leads back to the schema before.
    Downgrade,
    /// The upgrade goes through once more.
    UpgradeAgain,
    /// Dropped or narrowed columns and tables.
    DataLoss,
    /// Locks and rewritten tables.
    Locks,
    /// The linter on the SQL that was executed.
    Lint,
}

impl StepName {
    /// What the step is called in reports.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Changes => "models and migrations changed together",
            Self::Files => "migration files can be read",
            Self::Heads => "one head",
            Self::Base => "schema of the base commit",
            Self::Rows => "rows in every table",
            Self::Upgrade => "upgrade over existing rows",
            Self::Models => "schema has what the models need",
            Self::OldCode => "old code on the new schema",
            Self::Downgrade => "downgrade",
            Self::UpgradeAgain => "upgrade again",
            Self::DataLoss => "no data dropped",
            Self::Locks => "locks and rewritten tables",
            Self::Lint => "lint of the executed SQL",
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepOutcome {
    /// As it should be, or only to be told.
    Passed,
    /// To be looked at.
    Warning,
    /// The check fails for it.
    Failed,
    /// Not done, or nothing to be done.
    Skipped,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Which one.
    pub name: StepName,
    /// How it ended.
    pub outcome: StepOutcome,
    /// How long it took.
    pub milliseconds: u64,
    /// One sentence.
    pub detail: String,
    /// More, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
