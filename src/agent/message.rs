//! Termination messages: one JSON report, short, without control characters and without credentials.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::report::{
    CheckReport, CollectReport, ContractReport, EnvironmentReport, ExecReport, FetchReport, InspectReport,
    MAX_REPORT_BYTES, MigrationReport, ResolveReport, SourceReport,
};

/// The longest message inside a report, in bytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 600;

/// Texts that never leave the container: passwords and tokens as they stand in the environment.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// The values of these environment variables, as far as they are set.
    pub(super) fn from_environment(names: &[&str]) -> Self {
        let mut secrets = Self::default();
        for name in names {
            if let Ok(value) = std::env::var(name) {
                secrets.add(value);
            }
        }
        secrets
    }

    /// Remembers one more. Texts of less than three bytes are no secrets, and removing them would garble every message.
    pub(super) fn add(&mut self, secret: impl Into<String>) {
        let secret = secret.into();
        if secret.len() >= 3 {
            self.0.push(secret);
            self.0.sort_by_key(|known| std::cmp::Reverse(known.len()));
        }
    }

    /// `text` without these secrets and without the userinfo of any URL, on one line, control characters escaped.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret.as_str(), "***");
        }
        one_line(&without_userinfo(&text))
    }

    /// The same, at most [`MAX_MESSAGE_BYTES`] long.
    pub(super) fn message(&self, text: &str) -> String {
        cut(&self.scrub(text), MAX_MESSAGE_BYTES)
    }

    /// `cause`, and as much of the end of `output` as fits behind it.
    pub(super) fn message_with_output(&self, cause: &str, output: &str) -> String {
        let cause = self.message(cause);
        let output = self.scrub(output);
        let room = MAX_MESSAGE_BYTES.saturating_sub(cause.len() + 2);
        match keep_end(&output, room) {
            "" => cause,
            end => format!("{cause}: {end}"),
        }
    }
}

/// Replaces what stands between `://` and `@` in every URL.
fn without_userinfo(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("://") {
        result.push_str(before);
        result.push_str("://");
        let authority = behind.split([' ', '\t', '\n', '\r', '"', '\'', '<', '>']).next().unwrap_or_default();
        rest = behind;
        if let Some((userinfo, _)) = authority.rsplit_once('@') {
            result.push_str("***");
            rest = behind.get(userinfo.len()..).unwrap_or_default();
        }
    }
    result.push_str(rest);
    result
}

/// Lines joined by ` | `; control characters and the ones that reorder text are escaped.
fn one_line(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if !result.is_empty() {
            result.push_str(" | ");
        }
        for character in line.chars() {
            if character.is_control()
                || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
            {
                result.extend(character.escape_default());
            } else {
                result.push(character);
            }
        }
    }
    result
}

fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mark = "…";
    let mut end = limit.saturating_sub(mark.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", text.get(..end).unwrap_or_default())
}

fn keep_end(text: &str, limit: usize) -> &str {
    let mut start = text.len().saturating_sub(limit);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default()
}

/// A report that can be made to fit a termination message.
pub(super) trait Report: Serialize {
    /// Cuts every message in it to `limit` bytes.
    fn shorten(&mut self, limit: usize);
}

/// Writes a report as the container's termination message.
///
/// In place: the path is a file that kubelet mounts, which can't be replaced.
pub(super) fn write(path: &Path, mut report: impl Report) -> io::Result<()> {
    let mut text = String::new();
    for limit in [MAX_MESSAGE_BYTES, 400, 200, 100, 40, 0] {
        report.shorten(limit);
        text = serde_json::to_string(&report)?;
        if text.len() <= MAX_REPORT_BYTES {
            break;
        }
    }
    std::fs::write(path, text)
}

impl Report for ContractReport {
    fn shorten(&mut self, limit: usize) {
        match self {
            Self::Dumped { .. } => {}
            Self::Failed { message } => *message = cut(message, limit),
        }
    }
}

impl Report for InspectReport {
    fn shorten(&mut self, limit: usize) {
        match self {
            Self::Inspected { contracts, .. } => {
                for verdict in contracts.values_mut() {
                    verdict.message = cut(&verdict.message, limit);
                }
            }
            Self::Failed { message, .. } => *message = cut(message, limit),
        }
    }
}

impl Report for MigrationReport {
    fn shorten(&mut self, limit: usize) {
        match self {
            Self::Completed { bootstrap, .. } => {
                if let Some(bootstrap) = bootstrap {
                    bootstrap.message = cut(&bootstrap.message, limit);
                }
            }
            Self::Failed { message, .. } => *message = cut(message, limit),
        }
    }
}

impl Report for CheckReport {
    fn shorten(&mut self, limit: usize) {
        match self {
            Self::Checked { message, .. } | Self::Failed { message, .. } => *message = cut(message, limit),
        }
    }
}

impl Report for SourceReport {
    fn shorten(&mut self, limit: usize) {
        match self {
            Self::Fetched { .. } => {}
            Self::Failed { message, .. } => *message = cut(message, limit),
        }
    }
}

impl Report for ResolveReport {
    fn shorten(&mut self, limit: usize) {
        match self {
            Self::Resolved { .. } => {}
            Self::Failed { message, .. } => *message = cut(message, limit),
        }
    }
}

impl Report for ExecReport {
    fn shorten(&mut self, _: usize) {}
}

impl Report for FetchReport {
    fn shorten(&mut self, limit: usize) {
        match self {
            Self::Fetched { missing, .. } => *missing = missing.take().map(|missing| cut(&missing, limit)),
            Self::Failed { message, .. } => *message = cut(message, limit),
        }
    }
}

impl Report for EnvironmentReport {
    fn shorten(&mut self, limit: usize) {
        match self {
            Self::Identified { problem, .. } => *problem = problem.take().map(|problem| cut(&problem, limit)),
            Self::Packed { .. } | Self::Unpacked { .. } | Self::Published { .. } => {}
            Self::Failed { message, .. } => *message = cut(message, limit),
        }
    }
}

impl Report for CollectReport {
    fn shorten(&mut self, limit: usize) {
        if let Some(migration) = &mut self.migration {
            migration.shorten(limit);
        }
        self.problem = self.problem.take().map(|problem| cut(&problem, limit));
        self.finding = self.finding.take().map(|finding| cut(&finding, limit));
        self.flaky = std::mem::take(&mut self.flaky).iter().map(|name| cut(name, limit)).collect();
        // Markers are worth less than outputs and counts: they go first, those with fewest tests before the others.
        let keep = if limit >= 400 { usize::MAX } else { limit / 10 };
        while self.markers.len() > keep {
            let least = self.markers.iter().min_by_key(|(_, counts)| counts.all()).map(|(name, _)| name.clone());
            let Some(least) = least else { break };
            self.markers.remove(&least);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::agent::report::DatabaseFailure;
    use proptest::prelude::*;

    fn secrets(known: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        for secret in known {
            secrets.add(*secret);
        }
        secrets
    }

    #[test]
    fn credentials_disappear_as_words_and_in_urls() {
        let scrubbed = secrets(&["s3cret"])
            .scrub("password s3cret for postgresql://app:p%40ss@db:5432/x and https://token@git.example/a.git failed");
        assert_eq!(scrubbed, "password *** for postgresql://***@db:5432/x and https://***@git.example/a.git failed");
    }

    #[test]
    fn control_and_reordering_characters_are_escaped() {
        let scrubbed = secrets(&[]).scrub("red \u{1b}[31m\u{202e}\u{0}\n\n  second line\t.");
        assert_eq!(scrubbed, "red \\u{1b}[31m\\u{202e}\\u{0} | second line\\t.");
    }

    #[test]
    fn the_end_of_the_output_is_what_a_message_keeps() {
        let output = format!("{}\nthe last line", "noise ".repeat(1_000));
        let message = secrets(&[]).message_with_output("the command ended with exit code 1", &output);
        assert!(message.starts_with("the command ended with exit code 1: "), "{message}");
        assert!(message.ends_with("the last line"), "{message}");
        assert!(message.len() <= MAX_MESSAGE_BYTES);
    }

    proptest! {
        #[test]
        fn every_report_fits_and_carries_no_secret(text in any::<String>(), secret in "[A-Za-z0-9]{8,20}") {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("message");
            let message = secrets(&[&secret]).message(&format!("{text}{secret}{}", "\u{1}\"".repeat(900)));
            prop_assert!(message.len() <= MAX_MESSAGE_BYTES);
            let report = InspectReport::Failed { failure: DatabaseFailure::Unreachable, message };
            write(&path, report).unwrap();
            let written = std::fs::read_to_string(&path).unwrap();
            prop_assert!(written.len() <= MAX_REPORT_BYTES);
            prop_assert!(!written.contains(&secret));
            prop_assert!(!written.chars().any(char::is_control));
            let _: InspectReport = serde_json::from_str(&written).unwrap();
        }
    }
}
