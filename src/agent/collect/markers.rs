//! Test counts by pytest marker, from the properties that the agent's plugin adds to each test.

use std::collections::BTreeMap;

use junit_parser::TestCase;

use crate::agent::report::{MarkerCounts, is_marker};

/// The property's name.
const PROPERTY: &str = "timetracker-markers";
/// How many markers a report tells; those with most tests.
const MAX_MARKERS: usize = 40;
/// How many different ones are counted at all.
const MAX_COUNTED: usize = 1_000;

/// Counts while cases are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Markers {
    counts: BTreeMap<String, MarkerCounts>,
    /// Tests of pytest that say nothing of their markers.
    silent: u64,
    dropped: bool,
}

impl Markers {
    /// What the test says of its markers.
    pub(super) fn of(case: &TestCase) -> Option<&str> {
        case.properties.vec.iter().find(|(name, _)| name == PROPERTY).map(|(_, names)| names.as_str())
    }

    /// Counts a test, and returns whether it says anything of its markers.
    pub(super) fn count(&mut self, case: &TestCase, is_pytest: bool, passed: bool) -> bool {
        let Some(names) = Self::of(case) else {
            self.silent = self.silent.saturating_add(u64::from(is_pytest));
            return false;
        };
        for name in names.split_ascii_whitespace() {
            let known = self.counts.contains_key(name);
            if !is_marker(name) || (!known && self.counts.len() >= MAX_COUNTED) {
                self.dropped = true;
                continue;
            }
            self.counts.entry(name.to_owned()).or_default().add(passed);
        }
        true
    }

    /// A test with these markers passed so often instead of having failed so often.
    pub(super) fn replace(&mut self, names: &str, failed: u32, passed: u32) {
        for name in names.split_ascii_whitespace() {
            if let Some(counts) = self.counts.get_mut(name) {
                counts.replace(failed, passed);
            }
        }
    }

    /// The markers with most tests, and what is not told.
    pub(super) fn told(self) -> (BTreeMap<String, MarkerCounts>, Option<String>) {
        let mut ordered: Vec<(String, MarkerCounts)> = self.counts.into_iter().collect();
        ordered.sort_by_key(|(name, counts)| (std::cmp::Reverse(counts.all()), name.clone()));
        let dropped = self.dropped || ordered.len() > MAX_MARKERS;
        ordered.truncate(MAX_MARKERS);
        let problem = match self.silent {
            0 if dropped => Some(format!("only the {MAX_MARKERS} commonest markers are counted")),
            0 => None,
            silent => Some(format!(
                "{silent} tests say nothing of their markers: pytest ran without the agent's plugin on PYTHONPATH"
            )),
        };
        (ordered.into_iter().collect(), problem)
    }
}
