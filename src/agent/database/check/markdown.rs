//! The report for people, as Markdown that GitHub shows in a comment.
//!
//! Names, SQL and what programs printed are hostile: they stand in code, or escaped, and never make a link, a mention
//! or HTML.

use std::fmt::Write;

use super::document::{Document, cut};
use crate::schema::check::{Executed, Step, StepName, StepOutcome, Verdict};

/// The most lines of each list.
const MAX_LINES: usize = 30;
/// The longest sentence, in characters.
const MAX_TEXT: usize = 200;
/// The longest name, in characters.
const MAX_NAME: usize = 80;
/// The most notes of a step.
const MAX_NOTES: usize = 8;
/// The most statements.
const MAX_STATEMENTS: usize = 20;
/// The longest statement, in characters.
const MAX_SQL: usize = 400;
/// The longest comment that GitHub takes is 65,536 characters.
#[cfg(test)]
const MAX_COMMENT: usize = 65_536;

/// The whole report.
pub(super) fn markdown(document: &Document) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = write_all(&mut text, document);
    text
}

fn write_all(text: &mut String, document: &Document) -> std::fmt::Result {
    writeln!(text, "## {}\n", headline(document))?;
    let revision = |revisions: &Option<_>| revisions.as_ref().map_or_else(|| "–".to_owned(), |r| code(&format!("{r}")));
    let (from, to) = (revision(&document.from), revision(&document.to));
    writeln!(
        text,
        "{from} → {to} on Postgres {}, {}\n",
        prose(&cut(&document.server_version, MAX_NAME)),
        kind(document.expands)
    )?;
    steps(text, &document.steps)?;
    list(text, "Schema changes", &document.difference.lines())?;
    checklist(text, document)?;
    notes(text, document)?;
    statements(text, document)
}

fn headline(document: &Document) -> String {
    match (document.verdict, document.warnings) {
        (Verdict::Passed, _) => "✅ Database migration check: passed".to_owned(),
        (Verdict::Warning, 1) => "⚠️ Database migration check: passed with 1 warning".to_owned(),
        (Verdict::Warning, count) => format!("⚠️ Database migration check: passed with {count} warnings"),
        (Verdict::Failed, _) => "❌ Database migration check: failed".to_owned(),
    }
}

fn kind(expands: Option<bool>) -> &'static str {
    match expands {
        Some(true) => "**expand** (the base commit's code runs on the new schema)",
        Some(false) => "**contract** (the base commit's code can't run on the new schema)",
        None => "expand or contract is not known",
    }
}

fn icon(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Passed => "✅ passed",
        StepOutcome::Warning => "⚠️ warning",
        StepOutcome::Failed => "❌ failed",
        StepOutcome::Skipped => "⏭️ skipped",
    }
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

fn steps(text: &mut String, steps: &[Step]) -> std::fmt::Result {
    writeln!(text, "| Step | Result | Time | |\n|---|---|---|---|")?;
    for step in steps {
        let (title, told) = (step.name.title(), prose(&cut(&step.detail, MAX_TEXT)));
        writeln!(text, "| {title} | {} | {} | {told} |", icon(step.outcome), seconds(step.milliseconds))?;
    }
    writeln!(text)
}

fn list(text: &mut String, title: &str, lines: &[String]) -> std::fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(text, "### {title}\n")?;
    for line in lines.iter().take(MAX_LINES) {
        writeln!(text, "- {}", code(&cut(line, MAX_TEXT)))?;
    }
    if let Some(more) = lines.len().checked_sub(MAX_LINES).filter(|more| *more > 0) {
        writeln!(text, "- … and {more} more")?;
    }
    writeln!(text)
}

fn checklist(text: &mut String, document: &Document) -> std::fmt::Result {
    writeln!(text, "### Checklist\n")?;
    for tick in &document.checklist {
        let mark = if tick.ticked == Some(true) { "x" } else { " " };
        let unknown = if tick.ticked.is_none() { "not known: " } else { "" };
        let title = tick.item.title();
        writeln!(text, "- [{mark}] {title}: {unknown}{}", prose(&cut(&tick.evidence, MAX_TEXT)))?;
    }
    writeln!(text)
}

fn notes(text: &mut String, document: &Document) -> std::fmt::Result {
    for step in &document.steps {
        let told = match step.name {
            StepName::Changes | StepName::Locks => &[],
            StepName::Files
            | StepName::Heads
            | StepName::Base
            | StepName::Rows
            | StepName::Upgrade
            | StepName::Models
            | StepName::OldCode
            | StepName::Downgrade
            | StepName::UpgradeAgain
            | StepName::DataLoss
            | StepName::Lint => step.notes.as_slice(),
        };
        list(text, step.name.title(), told.get(..told.len().min(MAX_NOTES)).unwrap_or_default())?;
    }
    Ok(())
}

fn statements(text: &mut String, document: &Document) -> std::fmt::Result {
    if document.statements.is_empty() {
        return Ok(());
    }
    writeln!(text, "<details><summary>SQL that the upgrade executed</summary>\n")?;
    for executed in document.statements.iter().take(MAX_STATEMENTS) {
        writeln!(text, "{}\n", block(&cut(&executed.sql, MAX_SQL)))?;
        writeln!(text, "{}\n", measured(executed))?;
    }
    let left_out = document.statements.len().saturating_sub(MAX_STATEMENTS);
    let left_out = document.omitted.saturating_add(u64::try_from(left_out).unwrap_or(u64::MAX));
    if left_out > 0 {
        writeln!(text, "… and {left_out} more\n")?;
    }
    writeln!(text, "</details>")
}

fn measured(executed: &Executed) -> String {
    let mut told = vec![format!("{} ms", executed.milliseconds)];
    told.extend(executed.rows.map(|rows| format!("{rows} rows")));
    told.extend(executed.locks.iter().take(3).map(|lock| code(&cut(lock, MAX_NAME))));
    let rewritten = executed.rewritten.iter().take(3);
    told.extend(rewritten.map(|(table, rows)| format!("rewrites {} ({rows} rows)", code(&cut(table, MAX_NAME)))));
    told.extend(executed.error.as_deref().map(|error| format!("refused: {}", prose(&cut(error, MAX_TEXT)))));
    told.join(", ")
}

/// Without control characters and those that reorder text; line ends become spaces unless they are kept.
fn plain(text: &str, keep_lines: bool) -> String {
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' if keep_lines => result.push('\n'),
            '\n' | '\t' | '\r' => result.push(' '),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                result.extend(character.escape_unicode());
            }
            other if other.is_control() => result.extend(other.escape_default()),
            other => result.push(other),
        }
    }
    result
}

/// The longest run of backticks, and one more.
fn fence(text: &str, least: usize) -> String {
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or_default();
    "`".repeat((longest + 1).max(least))
}

/// As code in a line, also inside a table: there a bar ends a cell even in code.
fn code(text: &str) -> String {
    let text = plain(text, false).replace('|', "\u{2502}");
    let fence = fence(&text, 1);
    format!("{fence} {} {fence}", if text.trim().is_empty() { "–" } else { text.trim() })
}

/// As a block of code.
fn block(text: &str) -> String {
    let text = plain(text, true);
    let fence = fence(&text, 3);
    format!("{fence}sql\n{}\n{fence}", text.trim_end())
}

/// As prose in which nothing has a meaning: no mention, no reference, no link, no HTML.
fn prose(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for character in plain(text, false).chars() {
        match character {
            '@' | '#' => result.extend([character, '\u{200b}']),
            // Neither `https://…` nor `www.…` becomes a link.
            ':' | '.' => result.extend([character, '\u{2060}']),
            '&' => result.push_str("&amp;"),
            '<' => result.push_str("&lt;"),
            '>' => result.push_str("&gt;"),
            other if other.is_ascii_punctuation() && !matches!(other, ',' | '\'' | '/' | ';') => {
                result.extend(['\\', other]);
            }
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
#[path = "markdown_tests.rs"]
mod tests;
