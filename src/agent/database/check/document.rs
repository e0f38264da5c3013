//! The report as files: JSON for programs, Markdown for people. Everything in them has a bound.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::markdown::markdown;
use crate::api::names::Revisions;
use crate::schema::check::{
    Checklist, Evidence, Executed, HeldLock, Judgement, LintFinding, Rows, SchemaDifference, Step, Verdict,
};

/// The most statements in the document.
const MAX_STATEMENTS: usize = 300;
/// The longest statement, in characters.
const MAX_SQL: usize = 2_000;
/// The most notes of a step, and the most lines of a difference.
const MAX_NOTES: usize = 100;
/// The longest note or sentence, in characters.
const MAX_TEXT: usize = 700;
/// The most tables that rows are told of.
const MAX_TABLES: usize = 1_000;

/// `migration-report.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    /// 1. Fields are only ever added.
    pub(super) version: u32,
    pub(super) verdict: Verdict,
    pub(super) warnings: u32,
    pub(super) server_version: String,
    /// Revisions that the chain started from.
    pub(super) from: Option<Revisions>,
    /// Revisions that the upgrade reached.
    pub(super) to: Option<Revisions>,
    /// Whether the base commit's code runs on the new schema.
    pub(super) expands: Option<bool>,
    pub(super) steps: Vec<Step>,
    pub(super) checklist: Checklist,
    pub(super) difference: SchemaDifference,
    pub(super) rows: Rows,
    pub(super) statements: Vec<Executed>,
    /// How many statements were left out.
    pub(super) omitted: u64,
    pub(super) held: Vec<HeldLock>,
    pub(super) lint: Vec<LintFinding>,
}

impl Document {
    pub(super) fn new(evidence: &Evidence, judgement: &Judgement) -> Self {
        let statements = &evidence.statements;
        let kept = statements.executed.iter().take(MAX_STATEMENTS).map(|executed| Executed {
            sql: cut(&executed.sql, MAX_SQL),
            error: executed.error.as_deref().map(|error| cut(error, MAX_TEXT)),
            locks: executed.locks.iter().take(MAX_NOTES).cloned().collect(),
            ..executed.clone()
        });
        let steps = judgement.steps.iter().map(|step| Step {
            detail: cut(&step.detail, MAX_TEXT),
            notes: step.notes.iter().take(MAX_NOTES).map(|note| cut(note, MAX_TEXT)).collect(),
            ..step.clone()
        });
        let rows = evidence.rows.value().cloned().unwrap_or_default();
        let too_many = statements.executed.len().saturating_sub(MAX_STATEMENTS);
        Self {
            version: 1,
            verdict: judgement.verdict,
            warnings: judgement.warnings,
            server_version: evidence.server_version.clone(),
            from: evidence.start.value().map(|schema| schema.snapshot.revisions.clone()),
            to: evidence.upgrade.value().map(|schema| schema.snapshot.revisions.clone()),
            expands: judgement.expands,
            steps: steps.collect(),
            checklist: judgement.checklist.clone(),
            difference: bounded(&judgement.difference),
            rows: Rows { tables: rows.tables.into_iter().take(MAX_TABLES).collect(), unfilled: rows.unfilled },
            statements: kept.collect(),
            omitted: statements.omitted.saturating_add(u64::try_from(too_many).unwrap_or(u64::MAX)),
            held: statements.held.iter().take(MAX_NOTES).cloned().collect(),
            lint: evidence
                .lint
                .value()
                .map(|found| found.iter().take(MAX_NOTES).cloned().collect())
                .unwrap_or_default(),
        }
    }
}

fn bounded(difference: &SchemaDifference) -> SchemaDifference {
    let most = MAX_TABLES;
    SchemaDifference {
        added_tables: difference.added_tables.iter().take(most).cloned().collect(),
        dropped_tables: difference.dropped_tables.iter().take(most).cloned().collect(),
        renamed_tables: difference.renamed_tables.iter().take(most).map(|(a, b)| (a.clone(), b.clone())).collect(),
        added_columns: difference.added_columns.iter().take(most).cloned().collect(),
        dropped_columns: difference.dropped_columns.iter().take(most).cloned().collect(),
        renamed_columns: difference.renamed_columns.iter().take(most).cloned().collect(),
        changed: difference.changed.iter().take(most).cloned().collect(),
    }
}

/// The first characters of a text.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Writes both files: beside their places, then renamed, and never through a link that the app may have put there.
pub(super) fn write(directory: &Path, evidence: &Evidence, judgement: &Judgement) -> io::Result<()> {
    let document = Document::new(evidence, judgement);
    fs::create_dir_all(directory)?;
    let json = serde_json::to_vec_pretty(&document)?;
    for (name, bytes) in [("migration-report.json", json), ("migration-report.md", markdown(&document).into_bytes())] {
        let unfinished = directory.join(format!(".{name}.unfinished"));
        let _ = fs::remove_file(&unfinished);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&unfinished)?;
        io::Write::write_all(&mut file, &bytes)?;
        fs::rename(&unfinished, directory.join(name))?;
    }
    Ok(())
}
