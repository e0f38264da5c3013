//! SARIF 2.1.0: findings of scanners, counted by level. A scanner that runs beside the job's code may have had its
//! report changed by it, so it is data of unknown quality like every report.
//!
//! Followed is the standard where it decides what counts: a result without a level has its rule's, else `warning`
//! (3.27.10); one whose kind is not `fail`, whose level is `none`, or that is gone since a baseline is no finding;
//! one is suppressed when every suppression of it is accepted (3.27.23).

use std::collections::HashMap;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::bounded::{Few, First, Text, cleaned, too_many};
use crate::agent::report::FindingCounts;

/// How many results all reports of a job may hold.
const MAX_RESULTS: usize = 100_000;
/// How many rules a tool may have.
const MAX_RULES: usize = 20_000;
/// How many runs, extensions, invocations or suppressions there may be at one place.
const MAX_FEW: usize = 1_000;
/// How deep values may be nested.
const MAX_DEPTH: usize = 64;
/// How many findings the summary names, and how much it says of each: bytes of its names, and of its message.
const MAX_NAMED: usize = 200;
const MAX_NAME: usize = 300;
const MAX_MESSAGE: usize = 500;

/// Why a report can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SarifError {
    #[error("it has more than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("it is no SARIF: {0}")]
    Malformed(String),
    #[error("it is of version `{0}`, not 2.1.0")]
    Version(String),
    #[error("it has no runs")]
    NoRuns,
}

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    None,
    Note,
    Warning,
    Error,
}

/// A finding that the summary names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) tool: String,
    pub(super) rule: String,
    pub(super) file: String,
    pub(super) line: Option<u32>,
    pub(super) message: String,
}

impl Finding {
    /// `B602 app/deploy.py:12: subprocess call with shell=True`.
    pub(super) fn told(&self) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{} {}{line}: {}", self.rule, self.file, self.message)
    }
}

/// What all reports together say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Findings {
    counts: FindingCounts,
    errors: Vec<Finding>,
    others: Vec<Finding>,
    results: usize,
    /// What reports say of themselves that makes them worth less.
    problems: Vec<String>,
}

impl Findings {
    /// Adds a report. One that can't be read adds nothing.
    ///
    /// # Errors
    /// When it is no SARIF of the one version there is, or its bounds are passed.
    pub(super) fn add(&mut self, text: &[u8]) -> Result<(), SarifError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        check_depth(text)?;
        let log: Log = serde_json::from_slice(text)
            .map_err(|error| SarifError::Malformed(cleaned(&error.to_string(), MAX_NAME)))?;
        if log.version.0 != "2.1.0" {
            return Err(SarifError::Version(log.version.0));
        }
        let found = log.runs.filter(|runs| runs.count > 0).ok_or(SarifError::NoRuns)?.findings;
        if self.results.saturating_add(found.results) > MAX_RESULTS {
            return Err(SarifError::Malformed(too_many("results", MAX_RESULTS)));
        }
        self.join(found);
        Ok(())
    }

    /// So many reports more that could not be read.
    pub(super) fn unread(&mut self, reports: u32) {
        self.counts.unread = self.counts.unread.saturating_add(reports);
    }

    /// The counts, the findings that are named (errors first), and what is wrong with the reports.
    pub(super) fn close(self) -> (FindingCounts, Vec<Finding>, Vec<String>) {
        let mut named = self.errors;
        named.extend(self.others);
        named.truncate(MAX_NAMED);
        (self.counts, named, self.problems)
    }

    fn join(&mut self, other: Self) {
        self.counts = self.counts.with(other.counts);
        self.results = self.results.saturating_add(other.results);
        for (mine, its) in [(&mut self.errors, other.errors), (&mut self.others, other.others)] {
            mine.extend(its);
            mine.truncate(MAX_NAMED);
        }
        self.problems.extend(other.problems);
        self.problems.truncate(MAX_FEW);
    }

    /// The findings of one run of a tool.
    fn of(run: Run) -> Self {
        let mut found = Self::default();
        let tool = run.tool.driver.name.0.clone();
        let named = || if tool.is_empty() { "the tool" } else { tool.as_str() };
        let Some(results) = run.results else {
            found.unread(1);
            found.problems.push(format!("{} scanned nothing: its run has no results", named()));
            return found;
        };
        if run.invocations.iter().flat_map(|invocations| &invocations.0).any(|one| one.succeeded == Some(false)) {
            found.unread(1);
            found.problems.push(format!("{} says that it did not succeed", named()));
        }
        let rules = Rules::of(run.tool);
        found.results = results.0.len();
        for result in results.0 {
            let level = rules.level(&result);
            if level == Level::None || !result.is_finding() {
                continue;
            }
            if result.is_suppressed() {
                found.counts.suppressed = found.counts.suppressed.saturating_add(1);
                continue;
            }
            let (count, named) = match level {
                Level::Error => (&mut found.counts.errors, &mut found.errors),
                Level::Warning => (&mut found.counts.warnings, &mut found.others),
                Level::Note | Level::None => (&mut found.counts.notes, &mut found.others),
            };
            *count = count.saturating_add(1);
            if named.len() < MAX_NAMED {
                named.push(result.named(level, &tool, &rules));
            }
        }
        found
    }
}

/// The levels of a tool's rules.
struct Rules {
    /// Of the tool itself, in their order.
    driver: Vec<(String, Option<Level>)>,
    /// Of the tool and its extensions.
    levels: HashMap<String, Level>,
}

impl Rules {
    fn of(tool: Tool) -> Self {
        let mut rules = Self { driver: Vec::new(), levels: HashMap::new() };
        let driver: Vec<Rule> = tool.driver.rules.map(|rules| rules.0).unwrap_or_default();
        rules.driver = driver.iter().map(|rule| (rule.id.0.clone(), rule.level())).collect();
        let extensions = tool.extensions.into_iter().flat_map(|extensions| extensions.0);
        let further = extensions.flat_map(|extension| extension.rules.map(|rules| rules.0).unwrap_or_default());
        for rule in driver.into_iter().chain(further.take(MAX_RULES)) {
            if let Some(level) = rule.level() {
                rules.levels.entry(rule.id.0).or_insert(level);
            }
        }
        rules
    }

    /// The rule among the tool's own that a result names by its place.
    fn at(&self, result: &ResultObject) -> Option<&(String, Option<Level>)> {
        let reference = result.rule.as_ref();
        if reference.is_some_and(|rule| rule.tool_component.is_some()) {
            return None;
        }
        let index = result.rule_index.or_else(|| reference.and_then(|rule| rule.index))?;
        self.driver.get(usize::try_from(index).ok()?)
    }

    fn id(&self, result: &ResultObject) -> String {
        let named = result.rule_id.as_ref().or_else(|| result.rule.as_ref().and_then(|rule| rule.id.as_ref()));
        named.map(|id| id.0.clone()).or_else(|| self.at(result).map(|(id, _)| id.clone())).unwrap_or_default()
    }

    fn level(&self, result: &ResultObject) -> Level {
        if let Some(level) = result.level {
            return level;
        }
        if let Some((_, Some(level))) = self.at(result) {
            return *level;
        }
        let id = self.id(result);
        // A part of a rule is named `rule/part`.
        let whole = id.rsplit_once('/').map(|(rule, _)| rule);
        let known = self.levels.get(&id).or_else(|| self.levels.get(whole?));
        known.copied().unwrap_or(Level::Warning)
    }
}

/// Walks over the text once and checks how deep it is: what is passed over below is never built, but read.
fn check_depth(text: &[u8]) -> Result<(), SarifError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => in_string = false,
            (true, _) => {}
            (false, b'"') => in_string = true,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (false, _) => {}
        }
        if depth > MAX_DEPTH {
            return Err(SarifError::TooDeep);
        }
    }
    Ok(())
}

/// The report, as far as it is read.
#[derive(Deserialize)]
struct Log {
    version: Text<MAX_NAME>,
    runs: Option<Runs>,
}

/// Read one after the other: only one run's results are in memory.
#[derive(Default)]
struct Runs {
    count: usize,
    findings: Findings,
}

impl<'de> Deserialize<'de> for Runs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Runs;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of runs")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Runs, A::Error> {
                let mut runs = Runs::default();
                while let Some(run) = sequence.next_element::<Run>()? {
                    runs.count += 1;
                    runs.findings.join(Findings::of(run));
                    if runs.count > MAX_FEW {
                        return Err(A::Error::custom(too_many("runs", MAX_FEW)));
                    }
                    if runs.findings.results > MAX_RESULTS {
                        return Err(A::Error::custom(too_many("results", MAX_RESULTS)));
                    }
                }
                Ok(runs)
            }
        }
        deserializer.deserialize_seq(Each)
    }
}

#[derive(Deserialize)]
struct Run {
    tool: Tool,
    results: Option<Few<ResultObject, MAX_RESULTS>>,
    invocations: Option<Few<Invocation, MAX_FEW>>,
}

#[derive(Deserialize)]
struct Tool {
    driver: Component,
    extensions: Option<Few<Component, MAX_FEW>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Component {
    name: Text<MAX_NAME>,
    rules: Option<Few<Rule, MAX_RULES>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    id: Text<MAX_NAME>,
    default_configuration: Option<Configuration>,
}

impl Rule {
    fn level(&self) -> Option<Level> {
        self.default_configuration.as_ref()?.level
    }
}

#[derive(Deserialize)]
struct Configuration {
    level: Option<Level>,
}

#[derive(Deserialize)]
struct Invocation {
    #[serde(rename = "executionSuccessful")]
    succeeded: Option<bool>,
}

/// A result; only what is used of it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ResultObject {
    rule_id: Option<Text<MAX_NAME>>,
    rule_index: Option<i64>,
    rule: Option<RuleReference>,
    kind: Option<Text<20>>,
    level: Option<Level>,
    message: Message,
    locations: Option<First<Location>>,
    suppressions: Option<Few<Suppression, MAX_FEW>>,
    baseline_state: Option<Text<20>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleReference {
    id: Option<Text<MAX_NAME>>,
    index: Option<i64>,
    tool_component: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    text: Option<Text<MAX_MESSAGE>>,
    id: Option<Text<MAX_NAME>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: Option<PhysicalLocation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: Option<ArtifactLocation>,
    region: Option<Region>,
}

#[derive(Deserialize)]
struct ArtifactLocation {
    uri: Option<Text<MAX_NAME>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: Option<u32>,
}

#[derive(Deserialize)]
struct Suppression {
    status: Option<Text<20>>,
}

impl ResultObject {
    fn is_finding(&self) -> bool {
        let says = |text: &Option<Text<20>>, word: &str| text.as_ref().is_none_or(|text| text.0 == word);
        says(&self.kind, "fail") && self.baseline_state.as_ref().is_none_or(|state| state.0 != "absent")
    }

    fn is_suppressed(&self) -> bool {
        self.suppressions.as_ref().is_some_and(|suppressions| {
            let accepted = |one: &Suppression| one.status.as_ref().is_none_or(|status| status.0 == "accepted");
            !suppressions.0.is_empty() && suppressions.0.iter().all(accepted)
        })
    }

    fn named(self, level: Level, tool: &str, rules: &Rules) -> Finding {
        let rule = rules.id(&self);
        let place = self.locations.and_then(|locations| locations.0).and_then(|location| location.physical_location);
        let (file, region) = place.map(|place| (place.artifact_location, place.region)).unwrap_or_default();
        let file = file.and_then(|file| file.uri).unwrap_or_default().0;
        let message = self.message.text.map(|text| text.0).or_else(|| self.message.id.map(|id| id.0));
        Finding {
            level,
            tool: tool.to_owned(),
            rule,
            file: file.strip_prefix("file://").unwrap_or(&file).to_owned(),
            line: region.and_then(|region| region.start_line),
            message: message.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
#[path = "sarif_tests.rs"]
mod tests;
