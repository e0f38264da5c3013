//! What scanners found.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Findings of SARIF reports by level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FindingCounts {
    /// Of the level `error`.
    pub errors: u32,
    /// Of the level `warning`.
    pub warnings: u32,
    /// Of the level `note`.
    pub notes: u32,
    /// Of these levels, but suppressed: they count nowhere else.
    pub suppressed: u32,
    /// Reports, or runs of a tool in them, that prove nothing: they can't be read, or say that the tool failed.
    pub unread: u32,
}

impl FindingCounts {
    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            errors: self.errors.saturating_add(other.errors),
            warnings: self.warnings.saturating_add(other.warnings),
            notes: self.notes.saturating_add(other.notes),
            suppressed: self.suppressed.saturating_add(other.suppressed),
            unread: self.unread.saturating_add(other.unread),
        }
    }

    /// Whether anything was found that is not suppressed.
    #[must_use]
    pub fn any(self) -> bool {
        self.errors > 0 || self.warnings > 0 || self.notes > 0
    }
}

/// `2 errors, 1 warning`: the levels of which there are any.
impl fmt::Display for FindingCounts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for (count, word) in [(self.errors, "error"), (self.warnings, "warning"), (self.notes, "note")] {
            if count > 0 {
                write!(formatter, "{before}{count} {word}{}", if count == 1 { "" } else { "s" })?;
                before = ", ";
            }
        }
        if before.is_empty() { formatter.write_str("nothing found") } else { Ok(()) }
    }
}
