//! What the agent tells the operator: JSON in the container's termination message.
//!
//! Kubelet shares 12 KiB of termination messages among all containers of a pod, so a report stays under
//! [`MAX_REPORT_BYTES`]; whatever may be longer is cut by the agent before it writes.

mod findings;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::names::{CommitSha, Digest, Revisions};
use crate::schema::check::{StepName, Verdict};
pub use findings::FindingCounts;

/// The longest report, in bytes.
pub const MAX_REPORT_BYTES: usize = 2_000;

/// The report of `agent contract`: the contract itself is one framed line on standard output (see [`crate::agent::frame`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub enum ContractReport {
    /// The contract was dumped.
    Dumped {
        /// Digest of the contract's JSON, as in the frame: what stands in the log must hash to this.
        contract: Digest,
        /// The image's own migration heads.
        heads: Revisions,
        /// How many tables the code declares.
        tables: u32,
    },
    /// The image's code could not be read: the cause as its last lines told it.
    Failed {
        /// The cause, at most 600 bytes.
        message: String,
    },
}

/// The report of `agent database inspect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub enum InspectReport {
    /// The database was read.
    Inspected {
        /// For example `16.14`.
        server_version: String,
        /// The rows of `alembic_version`.
        revisions: Revisions,
        /// Digest of the schema snapshot.
        snapshot: Digest,
        /// No table and no revision.
        empty: bool,
        /// Verdict on each contract given, by image digest.
        contracts: BTreeMap<Digest, ContractVerdict>,
        /// The newest ledger row for the candidate digest asked about, when there is one.
        ledger: Option<LedgerEntry>,
    },
    /// The database could not be read.
    Failed {
        /// What kind of failure.
        failure: DatabaseFailure,
        /// The cause and the next step, at most 600 bytes, without credentials.
        message: String,
    },
}

/// Whether one image's code can run on the schema as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContractVerdict {
    /// The contract holds.
    pub holds: bool,
    /// One sentence: what is missing.
    pub message: String,
}

/// One row of the ledger in the database (schema `timetracker_delivery`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// The image whose migration it is.
    pub digest: Digest,
    /// Revisions before.
    pub from: Revisions,
    /// Revisions that the migration ends in.
    pub to: Revisions,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// How far it came.
    pub state: LedgerState,
}

/// How far an attempt came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LedgerState {
    /// Committed before the command was started.
    Started,
    /// Revisions and contract were checked afterwards.
    Done,
    /// The command failed and left revisions and schema as they were.
    Failed,
    /// Neither done nor untouched: a person must look.
    Ambiguous,
}

/// The report of `agent database migrate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub enum MigrationReport {
    /// The database is at the image's heads and its contract holds.
    Completed {
        /// Revisions before this attempt.
        from: Revisions,
        /// Revisions now.
        to: Revisions,
        /// Digest of the schema snapshot now.
        snapshot: Digest,
        /// Whether an earlier attempt had done it already and this one only found it done.
        found_done: bool,
        /// Seconds that the command took.
        seconds: u64,
        /// What the bootstrap step did (default rows, first admin), or why it could not.
        bootstrap: Option<BootstrapReport>,
    },
    /// It did not succeed.
    Failed {
        /// What kind of failure.
        failure: DatabaseFailure,
        /// Revisions now, when they could be read.
        revisions: Option<Revisions>,
        /// Whether the schema is as it was before the first attempt (`None`: could not be read).
        untouched: Option<bool>,
        /// The cause and the next step, at most 600 bytes, without credentials.
        message: String,
    },
}

/// The file in `$REPORTS` where the collector finds the report of `agent database check`.
pub const CHECK_FILE: &str = "migration-check.json";

/// The report of `agent database check`; the whole of it is `migration-report.json` in the job's artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub enum CheckReport {
    /// The check was made.
    Checked {
        /// What it comes to.
        verdict: Verdict,
        /// How many steps ended with a warning.
        warnings: u32,
        /// The first step that failed, else the first with a warning.
        step: Option<StepName>,
        /// Whether the base commit's code runs on the new schema.
        expands: Option<bool>,
        /// Seconds it took.
        seconds: u64,
        /// One sentence, at most 600 bytes, without credentials.
        message: String,
    },
    /// It could not be made.
    Failed {
        /// What kind of failure.
        failure: DatabaseFailure,
        /// The cause and the next step, at most 600 bytes, without credentials.
        message: String,
    },
}

/// What became of the bootstrap step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapReport {
    /// Whether it went through.
    pub succeeded: bool,
    /// One sentence.
    pub message: String,
}

/// Why a database step failed. Decides whether it is tried again and whether the digest is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatabaseFailure {
    /// No connection: refused, no route, name unknown, starting up. Tried again.
    Unreachable,
    /// Password or user refused, or TLS demanded. A person must look; the digest is not to blame.
    AccessDenied,
    /// The URL can't be used (scheme, syntax, missing variable). A person must look.
    Configuration,
    /// A transaction pooler stands between: session locks would not hold. Remedy: `migrationUrlFrom`.
    TransactionPooler,
    /// Server older than the oldest supported version.
    UnsupportedServer,
    /// Another migration held the lock, or `lock_timeout` struck. Tried again, at most three attempts.
    LockTimeout,
    /// The image's code knows none of the revisions the database is at.
    UnknownRevision,
    /// The migration command ended with an exit code other than 0. The digest is to blame.
    CommandFailed,
    /// The command was stopped at its timeout.
    TimedOut,
    /// The command ended with 0, yet the revisions are not the image's heads.
    RevisionsDiffer,
    /// The command ended with 0, yet the database lacks what the image's code needs.
    ContractBroken,
    /// The agent was told to stop, or the connection that held the lock broke. Tried again.
    Interrupted,
    /// An earlier attempt left the database neither as it was nor done. Nothing was touched; a person must look.
    Ambiguous,
}

impl DatabaseFailure {
    /// Whether the same attempt may be made again by itself.
    #[must_use]
    pub fn is_transient(self) -> bool {
        match self {
            Self::Unreachable | Self::LockTimeout | Self::Interrupted => true,
            Self::AccessDenied
            | Self::Configuration
            | Self::TransactionPooler
            | Self::UnsupportedServer
            | Self::UnknownRevision
            | Self::CommandFailed
            | Self::TimedOut
            | Self::RevisionsDiffer
            | Self::ContractBroken
            | Self::Ambiguous => false,
        }
    }

    /// Whether the failure is the image's own, so that its digest is quarantined.
    #[must_use]
    pub fn blames_digest(self) -> bool {
        match self {
            Self::UnknownRevision
            | Self::CommandFailed
            | Self::TimedOut
            | Self::RevisionsDiffer
            | Self::ContractBroken => true,
            Self::Unreachable
            | Self::LockTimeout
            | Self::Interrupted
            | Self::AccessDenied
            | Self::Configuration
            | Self::TransactionPooler
            | Self::UnsupportedServer
            | Self::Ambiguous => false,
        }
    }
}

/// The report of `agent source`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub enum SourceReport {
    /// The commit is checked out.
    Fetched {
        /// Which commit.
        commit: CommitSha,
        /// Seconds it took.
        seconds: u64,
    },
    /// It is not.
    Failed {
        /// What kind of failure.
        failure: SourceFailure,
        /// The cause and the next step, at most 600 bytes, without credentials.
        message: String,
    },
}

/// Why a commit could not be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceFailure {
    /// The server does not answer. Tried again.
    Unreachable,
    /// The server refused the credentials, or wants some.
    AccessDenied,
    /// The server has no such repository, branch, tag or commit.
    NotFound,
    /// Anything else: disk full, a broken pack.
    Failed,
}

/// The report of `agent resolve`: a branch or tag of the server as a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub enum ResolveReport {
    /// The ref names this commit now.
    Resolved {
        /// Which commit.
        commit: CommitSha,
    },
    /// It does not.
    Failed {
        /// What kind of failure.
        failure: SourceFailure,
        /// The cause and the next step, at most 600 bytes, without credentials.
        message: String,
    },
}

/// The report of `agent exec`: why the command ended as it did. The container's exit code is the command's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecReport {
    /// Exit code, or 128 + signal.
    pub exit_code: i32,
    /// Stopped because `timeout` was over.
    pub timed_out: bool,
    /// Stopped because the agent was told to terminate (cancel, eviction, deletion).
    pub terminated: bool,
    /// Seconds from the command's start to its end.
    pub seconds: u64,
    /// The cgroup's memory peak in bytes, when the kernel tells it.
    pub memory_peak: Option<u64>,
    /// Bytes the command printed in all.
    pub log_bytes: u64,
    /// How often it was run again for the tests that failed.
    #[serde(default)]
    pub reruns: u32,
}

/// The folder in `$REPORTS` for the reports of that round; the first round, 0, has none of its own.
#[must_use]
pub fn rerun_folder(round: u32) -> String {
    format!("retry-{round}")
}

/// The report of `agent fetch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub enum FetchReport {
    /// There is something to work with.
    Fetched {
        /// How many files.
        files: u32,
        /// One sentence, at most 600 bytes: which jobs left nothing.
        missing: Option<String>,
    },
    /// There is not.
    Failed {
        /// What kind of failure.
        failure: FetchFailure,
        /// The cause and the next step, at most 600 bytes, without credentials.
        message: String,
    },
}

/// Why nothing could be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchFailure {
    /// None of the jobs left what is looked for.
    Nothing,
    /// The store does not answer, or refuses. Tried again.
    Unreachable,
}

/// The report of `agent environment`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub enum EnvironmentReport {
    /// It has a name.
    Identified {
        /// The hash of what determines it.
        hash: Digest,
        /// The processor that it is for, as Kubernetes calls it: `amd64`.
        platform: String,
        /// How many requirement files there are, included ones counted.
        files: u32,
        /// The image that holds it, by digest, if there is one.
        #[serde(default)]
        image: Option<String>,
        /// Whether that image is to be given this week's tag.
        #[serde(default)]
        stale: bool,
        /// Why it can't be told whether there is one, at most 600 bytes.
        #[serde(default)]
        problem: Option<String>,
    },
    /// An image holds it.
    Published {
        /// The image, by digest, as the registry told it.
        image: String,
        /// Whether it was there already.
        found: bool,
        /// How many images were deleted that nobody has used for long.
        #[serde(default)]
        removed: u32,
        /// Why not more, at most 600 bytes.
        #[serde(default)]
        problem: Option<String>,
    },
    /// It is one archive.
    Packed {
        /// How many files it holds.
        files: u32,
        /// Their length in bytes.
        bytes: u64,
    },
    /// It is where the job finds it.
    Unpacked {
        /// How many files it holds.
        files: u32,
        /// Their length in bytes.
        bytes: u64,
    },
    /// It is not.
    Failed {
        /// What kind of failure.
        failure: EnvironmentFailure,
        /// The cause and the next step, at most 600 bytes, without credentials.
        message: String,
    },
}

/// Why there is no environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvironmentFailure {
    /// The requirement files can't be used: missing, leading out of the repository, in a circle.
    Requirements,
    /// What was installed is no archive of files, or too large.
    Archive,
    /// The registry does not allow it with these credentials, or leads elsewhere.
    Denied,
    /// The store or the registry does not answer, or refuses. Tried again.
    Unreachable,
}

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
