//! From evidence to verdict.
//!
//! | What is seen | Verdict |
//! |---|---|
//! | files that are not there or can't be parsed, several heads, an upgrade that does not go through or does not do what it says | failed |
//! | models changed without a migration, or no migration serves them | warning |
//! | a downgrade that fails or leaves another schema, an upgrade after it that does | warning |
//! | anything else | passed |
//!
//! What is only worth knowing (lint, locks, lost data, old code) is told and moves nothing: the checklist has it.

use serde::{Deserialize, Serialize};

use super::checklist::{Checklist, checklist};
use super::difference::{SchemaDifference, difference};
use super::evidence::{Attempt, Evidence, Schema};
use super::step::{Step, StepName, StepOutcome};
use crate::schema::{Compatibility, SchemaContract, compatibility};

/// What a check comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// Nothing speaks against the migration.
    Passed,
    /// Something should be looked at; the check stays green.
    Warning,
    /// The migration must not be delivered.
    Failed,
}

/// What a check comes to, with everything that led there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// How many steps ended with a warning.
    pub warnings: u32,
    /// All steps, in their order.
    pub steps: Vec<Step>,
    /// What the upgrade made of the schema.
    pub difference: SchemaDifference,
    /// Whether old code runs on the new schema (`Some(true)`: the migration expands, `Some(false)`: it contracts).
    pub expands: Option<bool>,
    /// What a reviewer asks, answered by evidence.
    pub checklist: Checklist,
}

impl Judgement {
    /// The step that the verdict comes from: the first that failed, else the first warning.
    #[must_use]
    pub fn decisive(&self) -> Option<&Step> {
        let first = |outcome| self.steps.iter().find(|step| step.outcome == outcome);
        first(StepOutcome::Failed).or_else(|| first(StepOutcome::Warning))
    }
}

/// Judges the evidence.
#[must_use]
pub fn judge(evidence: &Evidence) -> Judgement {
    let difference = match (evidence.start.value(), evidence.upgrade.value()) {
        (Some(before), Some(after)) => {
            difference(&before.snapshot, &after.snapshot, &evidence.renamed_tables, &evidence.renamed)
        }
        (Some(_) | None, Some(_) | None) => SchemaDifference::default(),
    };
    let steps = vec![
        changes(evidence),
        files(evidence),
        heads(evidence),
        base(evidence),
        rows(evidence),
        upgrade(evidence),
        models(evidence),
        old_code(evidence),
        downgrade(evidence),
        upgrade_again(evidence),
        data_loss(evidence, &difference),
        locks(evidence),
        lint(evidence),
    ];
    let count = |outcome| steps.iter().filter(|step| step.outcome == outcome).count();
    let warnings = u32::try_from(count(StepOutcome::Warning)).unwrap_or(u32::MAX);
    let verdict = match (count(StepOutcome::Failed), warnings) {
        (1.., _) => Verdict::Failed,
        (0, 1..) => Verdict::Warning,
        (0, 0) => Verdict::Passed,
    };
    let expands = on_new_schema(evidence, &evidence.old_code).map(|found| found.holds());
    let checklist = checklist(evidence, &difference, expands);
    Judgement { verdict, warnings, steps, difference, expands, checklist }
}

fn step(name: StepName, outcome: StepOutcome, milliseconds: u64, detail: impl Into<String>) -> Step {
    Step { name, outcome, milliseconds, detail: detail.into(), notes: Vec::new() }
}

/// The step of an attempt that did not go through, or `None`.
fn unless_done<T>(name: StepName, attempt: &Attempt<T>, if_failed: StepOutcome) -> Option<Step> {
    match attempt {
        Attempt::Done { .. } => None,
        Attempt::Failed { milliseconds, cause } => Some(step(name, if_failed, *milliseconds, cause.clone())),
        Attempt::NotRun { why } => Some(step(name, StepOutcome::Skipped, 0, why.clone())),
    }
}

fn on_new_schema(evidence: &Evidence, code: &Attempt<SchemaContract>) -> Option<Compatibility> {
    Some(compatibility(code.value()?, &evidence.upgrade.value()?.snapshot))
}

/// Whether the commit changes migrations; unknown without a base: then taken as so, for the worse case fails.
fn has_migrations_changed(evidence: &Evidence) -> bool {
    evidence.changes.value().is_none_or(|changes| !changes.migrations.is_empty())
}

fn changes(evidence: &Evidence) -> Step {
    let name = StepName::Changes;
    if let Some(step) = unless_done(name, &evidence.changes, StepOutcome::Skipped) {
        return step;
    }
    let milliseconds = evidence.changes.milliseconds();
    let Some(changes) = evidence.changes.value() else {
        return step(name, StepOutcome::Skipped, milliseconds, "unknown");
    };
    let (outcome, detail) = match (changes.models.len(), changes.migrations.len()) {
        (0, 0) if changes.requirements.is_empty() => {
            (StepOutcome::Passed, "neither models nor migrations changed".into())
        }
        (0, 0) if evidence.own_packages => {
            (StepOutcome::Passed, "only requirements changed: the whole chain ran with the new ones".into())
        }
        (0, 0) => (
            StepOutcome::Warning,
            "only requirements changed, but the job has no environment: the chain ran with the image's packages, not with \
             the new ones"
                .into(),
        ),
        (0, files) => (StepOutcome::Passed, format!("{files} migration file(s) changed")),
        (models, 0) => (
            StepOutcome::Warning,
            format!("{models} model file(s) changed without a migration: add one, unless the schema stays as it is"),
        ),
        (models, files) => (StepOutcome::Passed, format!("{models} model and {files} migration file(s) changed")),
    };
    let notes = changes.models.iter().chain(&changes.migrations).chain(&changes.requirements).cloned().collect();
    Step { notes, ..step(name, outcome, milliseconds, detail) }
}

fn files(evidence: &Evidence) -> Step {
    let name = StepName::Files;
    match evidence.files.value() {
        Some(files) if files.revisions.is_empty() => {
            // A check that found nothing to check is not passed.
            let detail = "there are no migrations: is it the right folder?";
            step(name, StepOutcome::Failed, evidence.files.milliseconds(), detail)
        }
        Some(files) => {
            let detail = format!("{} revisions", files.revisions.len());
            step(name, StepOutcome::Passed, evidence.files.milliseconds(), detail)
        }
        None => unless_done(name, &evidence.files, StepOutcome::Failed)
            .unwrap_or_else(|| step(name, StepOutcome::Skipped, 0, "not read")),
    }
}

fn heads(evidence: &Evidence) -> Step {
    let name = StepName::Heads;
    let Some(files) = evidence.files.value() else {
        return step(name, StepOutcome::Skipped, 0, "the files can't be read");
    };
    let told = files.heads.to_string();
    match (files.heads.len(), files.revisions.is_empty()) {
        (1, _) => step(name, StepOutcome::Passed, 0, told),
        (_, true) => step(name, StepOutcome::Skipped, 0, "there are no migrations"),
        (0, false) => step(name, StepOutcome::Failed, 0, "the revisions build on each other in a circle"),
        (count, false) => {
            let detail = format!("{count} heads ({told}): declare a merge (`flask db merge heads`)");
            step(name, StepOutcome::Failed, 0, detail)
        }
    }
}

fn base(evidence: &Evidence) -> Step {
    let name = StepName::Base;
    // A base that can't be made is not this commit's fault; what it means for the rest, the other steps say.
    unless_done(name, &evidence.start, StepOutcome::Skipped).unwrap_or_else(|| {
        let schema = evidence.start.value();
        let tables = schema.map_or(0, |schema| schema.snapshot.tables.len());
        let revisions = schema.map(|schema| schema.snapshot.revisions.to_string()).unwrap_or_default();
        let detail = format!("{tables} tables at {revisions}");
        step(name, StepOutcome::Passed, evidence.start.milliseconds(), detail)
    })
}

fn rows(evidence: &Evidence) -> Step {
    let name = StepName::Rows;
    unless_done(name, &evidence.rows, StepOutcome::Skipped).unwrap_or_else(|| {
        let rows = evidence.rows.value().cloned().unwrap_or_default();
        let filled = rows.tables.values().filter(|count| **count > 0).count();
        let mut detail = format!("{} rows in {filled} tables", rows.total());
        if !rows.unfilled.is_empty() {
            detail.push_str(&format!("; {} table(s) stay empty", rows.unfilled.len()));
        }
        let notes = rows.unfilled.iter().map(|unfilled| format!("{}: {}", unfilled.table, unfilled.cause)).collect();
        Step { notes, ..step(name, StepOutcome::Passed, evidence.rows.milliseconds(), detail) }
    })
}

fn upgrade(evidence: &Evidence) -> Step {
    let name = StepName::Upgrade;
    if let Some(step) = unless_done(name, &evidence.upgrade, StepOutcome::Failed) {
        return step;
    }
    let milliseconds = evidence.upgrade.milliseconds();
    let (Some(schema), Some(files)) = (evidence.upgrade.value(), evidence.files.value()) else {
        return step(name, StepOutcome::Skipped, milliseconds, "nothing to upgrade to");
    };
    let reached = &schema.snapshot.revisions;
    if *reached != files.heads {
        let detail = format!("the command ended with 0, yet the database is at {reached} instead of {}", files.heads);
        return step(name, StepOutcome::Failed, milliseconds, detail);
    }
    // The proof that a migration happened is that its code can run on what it left: errors are swallowed in many.
    if let Some(lacking) = on_new_schema(evidence, &evidence.new_code).filter(|found| !found.holds())
        && has_migrations_changed(evidence)
        && !lacked_before(evidence, &lacking)
    {
        let detail = format!("the command ended with 0, yet the schema lacks what the models need: {lacking}");
        return Step { notes: refused(evidence), ..step(name, StepOutcome::Failed, milliseconds, detail) };
    }
    let from = evidence.start.value().map(|start| start.snapshot.revisions.to_string());
    let detail = format!("{} → {reached}", from.as_deref().unwrap_or("an empty database"));
    Step { notes: refused(evidence), ..step(name, StepOutcome::Passed, milliseconds, detail) }
}

/// Statements that the server refused while the upgrade went on: errors that somebody swallowed.
fn refused(evidence: &Evidence) -> Vec<String> {
    let errors = evidence.statements.executed.iter().filter_map(|executed| executed.error.as_ref());
    errors.map(|error| format!("the server refused a statement, and the upgrade went on: {error}")).collect()
}

/// Whether the base commit lacked the same on its own schema: then it is no migration of this commit that failed.
fn lacked_before(evidence: &Evidence, lacking: &Compatibility) -> bool {
    let Some((code, schema)) = evidence.old_code.value().zip(evidence.start.value()) else {
        return false;
    };
    let before = compatibility(code, &schema.snapshot);
    lacking.missing_tables.is_subset(&before.missing_tables)
        && lacking.missing_columns.is_subset(&before.missing_columns)
        && lacking.unknown_required.is_subset(&before.unknown_required)
}

fn models(evidence: &Evidence) -> Step {
    let name = StepName::Models;
    if let Some(step) = unless_done(name, &evidence.new_code, StepOutcome::Warning) {
        return step;
    }
    let milliseconds = evidence.new_code.milliseconds();
    let Some(found) = on_new_schema(evidence, &evidence.new_code) else {
        return step(name, StepOutcome::Skipped, milliseconds, "there is no schema after an upgrade");
    };
    let stricter = found.stricter.iter().map(|column| format!("{column} is NOT NULL and the model may write NULL"));
    let unknown = unknown_tables(evidence).into_iter().map(|table| format!("no model uses table {table}"));
    let notes = stricter.chain(unknown).collect();
    let (outcome, detail) = match (found.holds(), lacked_before(evidence, &found)) {
        (true, _) => (StepOutcome::Passed, found.to_string()),
        (false, true) => (StepOutcome::Passed, format!("as on the base commit: {found}")),
        (false, false) => (StepOutcome::Warning, format!("no migration serves the models: {found}")),
    };
    Step { notes, ..step(name, outcome, milliseconds, detail) }
}

fn unknown_tables(evidence: &Evidence) -> Vec<String> {
    let (Some(code), Some(schema)) = (evidence.new_code.value(), evidence.upgrade.value()) else {
        return Vec::new();
    };
    schema.snapshot.tables.keys().filter(|table| !code.tables.contains_key(*table)).cloned().collect()
}

fn old_code(evidence: &Evidence) -> Step {
    let name = StepName::OldCode;
    if let Some(step) = unless_done(name, &evidence.old_code, StepOutcome::Skipped) {
        return step;
    }
    let milliseconds = evidence.old_code.milliseconds();
    match on_new_schema(evidence, &evidence.old_code) {
        None => step(name, StepOutcome::Skipped, milliseconds, "there is no schema after an upgrade"),
        Some(found) if found.holds() => {
            step(name, StepOutcome::Passed, milliseconds, "expand: the base commit's code runs on the new schema")
        }
        Some(found) => {
            let detail = format!("contract: the base commit's code can't run on the new schema ({found})");
            step(name, StepOutcome::Passed, milliseconds, detail)
        }
    }
}

fn downgrade(evidence: &Evidence) -> Step {
    let name = StepName::Downgrade;
    let missing = without_downgrade(evidence);
    let mut step = unless_done(name, &evidence.downgrade, StepOutcome::Warning).unwrap_or_else(|| {
        compared(
            name,
            evidence.start.value(),
            &evidence.downgrade,
            "the schema is as before",
            "it leaves another schema",
        )
    });
    step.notes.extend(missing.into_iter().map(|file| format!("{file}: downgrade() does nothing")));
    step
}

/// Files of this commit's migrations whose `downgrade()` does nothing.
pub(super) fn without_downgrade(evidence: &Evidence) -> Vec<String> {
    let (Some(files), Some(start)) = (evidence.files.value(), evidence.start.value()) else {
        return Vec::new();
    };
    let new = files.since(&start.snapshot.revisions).into_iter().filter_map(|revision| files.revisions.get(revision));
    new.filter(|file| !file.has_downgrade).map(|file| file.file.clone()).collect()
}

fn upgrade_again(evidence: &Evidence) -> Step {
    let name = StepName::UpgradeAgain;
    unless_done(name, &evidence.upgrade_again, StepOutcome::Warning).unwrap_or_else(|| {
        let (same, other) =
            ("the schema is as after the first upgrade", "it leads to another schema than the first time");
        compared(name, evidence.upgrade.value(), &evidence.upgrade_again, same, other)
    })
}

fn compared(name: StepName, before: Option<&Schema>, now: &Attempt<Schema>, same: &str, other: &str) -> Step {
    let (Some(before), Some(after)) = (before, now.value()) else {
        return step(name, StepOutcome::Skipped, now.milliseconds(), "there is nothing to compare with");
    };
    let mut notes = before.unlike(after);
    if before.snapshot.revisions != after.snapshot.revisions {
        notes.insert(0, format!("revisions {} instead of {}", after.snapshot.revisions, before.snapshot.revisions));
    }
    let (outcome, detail) = if notes.is_empty() {
        (StepOutcome::Passed, same.to_owned())
    } else {
        (StepOutcome::Warning, format!("{other} ({} differences)", notes.len()))
    };
    Step { notes, ..step(name, outcome, now.milliseconds(), detail) }
}

fn data_loss(evidence: &Evidence, difference: &SchemaDifference) -> Step {
    let name = StepName::DataLoss;
    if evidence.upgrade.value().is_none() || evidence.start.value().is_none() {
        return step(name, StepOutcome::Skipped, 0, "there are no two schemas to compare");
    }
    let notes = difference.destructive();
    let detail = match notes.len() {
        0 => "nothing is dropped or narrowed".to_owned(),
        count => format!("{count} change(s) take data away"),
    };
    Step { notes, ..step(name, StepOutcome::Passed, 0, detail) }
}

fn locks(evidence: &Evidence) -> Step {
    let name = StepName::Locks;
    if matches!(evidence.upgrade, Attempt::NotRun { .. }) {
        return step(name, StepOutcome::Skipped, 0, "no upgrade was run");
    }
    let statements = &evidence.statements;
    let longest = statements.held.iter().map(|held| held.milliseconds).max();
    let rewritten = statements.executed.iter().map(|executed| executed.rewritten.len()).sum::<usize>();
    let mut detail = match longest {
        None => "no lock that stops anybody on tables that were there".to_owned(),
        Some(longest) => format!("{} lock(s), the longest held for {longest} ms", statements.held.len()),
    };
    match &statements.rewrites_unknown {
        None => detail.push_str(&format!("; {rewritten} table(s) rewritten")),
        Some(why) => detail.push_str(&format!("; rewritten tables are not known: {why}")),
    }
    let notes = statements.held.iter();
    let notes = notes.map(|held| format!("{} {}: {} ms", held.table, held.mode, held.milliseconds)).collect();
    Step { notes, ..step(name, StepOutcome::Passed, 0, detail) }
}

fn lint(evidence: &Evidence) -> Step {
    let name = StepName::Lint;
    unless_done(name, &evidence.lint, StepOutcome::Skipped).unwrap_or_else(|| {
        let findings = evidence.lint.value().map(Vec::as_slice).unwrap_or_default();
        let notes = findings.iter().map(|finding| format!("{}: {}", finding.rule, finding.message)).collect();
        let detail = match findings.len() {
            0 => "no finding".to_owned(),
            count => format!("{count} finding(s)"),
        };
        Step { notes, ..step(name, StepOutcome::Passed, evidence.lint.milliseconds(), detail) }
    })
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
