//! What the collector tells of a job's reports: tests, coverage, findings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::database::CheckReport;
use super::findings::FindingCounts;
use crate::api::names::Digest;

/// The report of `agent collect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CollectReport {
    /// Test counts of all JUnit reports together; absent without a readable report.
    pub tests: Option<TestCounts>,
    /// Some of the flaky tests, by name; bounded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flaky: Vec<String>,
    /// Test counts by pytest marker; bounded, those with most tests.
    pub markers: BTreeMap<String, MarkerCounts>,
    /// Line coverage in hundredths of a percent (8,130 = 81.30 %).
    pub coverage: Option<u32>,
    /// How many files of raw coverage data the job left.
    pub coverage_data: u32,
    /// What scanners found, of all SARIF reports together; absent without any such report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<FindingCounts>,
    /// The first of the most serious findings: rule, file, line and message, at most 100 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<String>,
    /// `$OUTPUTS` lines by name; names and values bounded.
    pub outputs: BTreeMap<String, String>,
    /// Digest of the uploaded summary.
    pub summary: Option<Digest>,
    /// How many artifacts reached the store.
    pub uploaded: u32,
    /// The report of `agent database check`, when the job was one.
    pub migration: Option<CheckReport>,
    /// What could not be read or uploaded, one sentence, at most 300 bytes.
    pub problem: Option<String>,
}

/// Tests with one marker: those that passed, and all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkerCounts(u32, u32);

impl MarkerCounts {
    /// Counts one test more.
    pub fn add(&mut self, passed: bool) {
        self.0 = self.0.saturating_add(u32::from(passed));
        self.1 = self.1.saturating_add(1);
    }

    /// Counts so many that passed instead of so many that had failed.
    pub fn replace(&mut self, failed: u32, passed: u32) {
        self.0 = self.0.saturating_add(passed);
        self.1 = self.1.saturating_sub(failed).saturating_add(passed);
    }

    /// Tests that passed.
    #[must_use]
    pub fn passed(self) -> u32 {
        self.0
    }

    /// All tests: passed, failed and skipped.
    #[must_use]
    pub fn all(self) -> u32 {
        self.1
    }
}

/// Whether it can be a marker: a name of Python's, of at most 40 characters.
#[must_use]
pub fn is_marker(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// Test counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestCounts {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed or had an error.
    pub failed: u32,
    /// Tests that were skipped.
    pub skipped: u32,
    /// Of those that passed, the ones that had failed before, when only what failed was run again.
    #[serde(default)]
    pub flaky: u32,
}

impl TestCounts {
    /// Tests that were really run.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.passed.saturating_add(self.failed)
    }
}
