//! Test counts over the rounds of a script: what failed, and passed when only that was run again, is flaky.
//!
//! A test is known by its name in the reports. Of rounds after the first, only what failed before or was never seen
//! counts: so a test counts once however often its script ran.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use junit_parser::{TestCase, TestStatus, TestSuite};

use super::markers::Markers;
use super::reports::{FailedTest, Summary, start_of};
use crate::agent::report::TestCounts;

/// How many failed or flaky tests the summary names.
const MAX_NAMED: usize = 200;
/// How many tests that failed are looked for in a later round: more than are ever run again.
const MAX_AGAIN: usize = 1_000;

/// What is counted so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Whether rounds may follow the first. Without any, no name is remembered.
    has_rounds: bool,
    round: u32,
    counts: Option<TestCounts>,
    markers: Markers,
    failures: Vec<FailedTest>,
    flaky: Vec<FailedTest>,
    /// Each test by the hash of its name.
    known: HashMap<u64, Known>,
    /// What became in this round of tests that had failed before.
    again: HashMap<u64, Again>,
    crowded: bool,
}

/// A test that was seen.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// In which round first.
    round: u32,
    /// How often it counts as failed: twice where its teardown failed too.
    failed: u32,
    /// How often of these it counts among its markers.
    marked: u32,
}

/// A test that runs again because it failed.
#[derive(Debug, Default)]
struct Again {
    name: String,
    markers: Option<String>,
    passed: u32,
    failed: bool,
}

impl Tally {
    pub(super) fn new(has_rounds: bool) -> Self {
        Self { has_rounds, ..Self::default() }
    }

    /// The newest round of which there is a report.
    pub(super) fn round(&self) -> u32 {
        self.round
    }

    /// Counts a report's suites. Rounds come in their order.
    pub(super) fn add(&mut self, suites: &[TestSuite], round: u32) {
        if round > self.round {
            self.end_round();
            self.round = round;
        }
        self.counts.get_or_insert_default();
        for suite in suites {
            self.suite(suite);
        }
    }

    /// Hands over what was counted.
    pub(super) fn close(mut self, summary: &mut Summary) {
        self.end_round();
        summary.tests = self.counts;
        summary.failures = self.failures;
        summary.flaky = self.flaky;
        let (markers, problem) = self.markers.told();
        summary.markers = markers;
        summary.problems.extend(problem);
        if self.crowded {
            summary.problems.push(format!("of tests that failed, {MAX_AGAIN} are looked for in a later round"));
        }
    }

    fn suite(&mut self, suite: &TestSuite) {
        // What pytest names its suite; of other tools' tests no markers are expected.
        let is_pytest = suite.name == "pytest";
        for case in &suite.cases {
            let key = hash(&case.name);
            let before = self.known.get(&key).filter(|known| known.round < self.round).copied();
            match before {
                Some(known) if known.failed > 0 => self.again(key, case),
                Some(_) if failure(case).is_none() => {}
                Some(_) | None => self.first(key, case, is_pytest),
            }
        }
        // The depth was bounded before this was parsed.
        for inner in &suite.suites {
            self.suite(inner);
        }
    }

    fn first(&mut self, key: u64, case: &TestCase, is_pytest: bool) {
        let passed = matches!(case.status, TestStatus::Success);
        let marked = self.markers.count(case, is_pytest, passed);
        let message = failure(case);
        let counts = self.counts.get_or_insert_default();
        let counted = match (&message, passed) {
            (Some(_), _) => &mut counts.failed,
            (None, true) => &mut counts.passed,
            (None, false) => &mut counts.skipped,
        };
        *counted = counted.saturating_add(1);
        if self.has_rounds {
            let known = self.known.entry(key).or_insert(Known { round: self.round, ..Known::default() });
            if message.is_some() {
                known.round = self.round;
                known.failed = known.failed.saturating_add(1);
                known.marked = known.marked.saturating_add(u32::from(marked));
            }
        }
        if let Some(message) = message
            && self.failures.len() < MAX_NAMED
        {
            self.failures.push(FailedTest { name: start_of(&case.name), message: start_of(message.trim()) });
        }
    }

    fn again(&mut self, key: u64, case: &TestCase) {
        if self.again.len() >= MAX_AGAIN && !self.again.contains_key(&key) {
            self.crowded = true;
            return;
        }
        let again = self.again.entry(key).or_default();
        if failure(case).is_some() {
            again.failed = true;
        } else if matches!(case.status, TestStatus::Success) {
            again.passed = again.passed.saturating_add(1);
            again.name = start_of(&case.name);
            again.markers = Markers::of(case).map(start_of);
        }
    }

    /// What failed before, and has now passed and not failed, is flaky.
    fn end_round(&mut self) {
        for (key, again) in std::mem::take(&mut self.again) {
            let Some(known) = self.known.get_mut(&key).filter(|_| again.passed > 0 && !again.failed) else { continue };
            let counts = self.counts.get_or_insert_default();
            counts.failed = counts.failed.saturating_sub(known.failed);
            counts.passed = counts.passed.saturating_add(again.passed);
            counts.flaky = counts.flaky.saturating_add(1);
            if let Some(markers) = &again.markers {
                self.markers.replace(markers, known.marked, again.passed);
            }
            *known = Known { round: known.round, ..Known::default() };
            let said = self.failures.iter().find(|failure| failure.name == again.name);
            let message = said.map(|failure| failure.message.clone()).unwrap_or_default();
            self.failures.retain(|failure| failure.name != again.name);
            if self.flaky.len() < MAX_NAMED {
                self.flaky.push(FailedTest { name: again.name, message });
            }
        }
        self.flaky.sort_by(|one, other| one.name.cmp(&other.name));
    }
}

/// What a failed test says; `None`: it did not fail.
fn failure(case: &TestCase) -> Option<String> {
    match &case.status {
        TestStatus::Success | TestStatus::Skipped(_) => None,
        TestStatus::Failure(failure) => Some(format!("{}\n{}", failure.message, failure.text)),
        TestStatus::Error(error) => Some(format!("{}\n{}", error.message, error.text)),
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
