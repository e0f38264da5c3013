//! The migration check: what was seen, and what it means. Pure.
//!
//! [`Evidence`] is gathered by whoever runs a chain of migrations on a throw-away database (the pipelines' built-in
//! step now, the delivery's rehearsal later); [`judge`] makes of it the steps, the verdict and the checklist.

mod checklist;
mod difference;
mod evidence;
mod step;
mod verdict;

pub use checklist::{CheckItem, Checklist, Tick};
pub use difference::{ColumnChange, SchemaDifference, difference};
pub use evidence::{
    Attempt, Changes, Evidence, Executed, HeldLock, LintFinding, MigrationFile, MigrationFiles, Rows, Schema, Start,
    Statements, Unfilled, start_of,
};
pub use step::{Step, StepName, StepOutcome};
pub use verdict::{Judgement, Verdict, judge};
