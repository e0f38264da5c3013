//! What the agent tells the operator: JSON in the container's termination message.
//!
//! Kubelet shares 12 KiB of termination messages among all containers of a pod, so a report stays under
//! [`MAX_REPORT_BYTES`]; whatever may be longer is cut by the agent before it writes.

mod collected;
mod database;
mod environment;
mod findings;

use serde::{Deserialize, Serialize};

use crate::api::names::CommitSha;
pub use collected::{CollectReport, MarkerCounts, TestCounts, is_marker};
pub use database::{
    BootstrapReport, CHECK_FILE, CheckReport, ContractReport, ContractVerdict, DatabaseFailure, InspectReport,
    LedgerEntry, LedgerState, MigrationReport,
};
pub use environment::{EnvironmentFailure, EnvironmentReport};
pub use findings::FindingCounts;

/// The longest report, in bytes.
pub const MAX_REPORT_BYTES: usize = 2_000;

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
