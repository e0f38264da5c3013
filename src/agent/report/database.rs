//! What the agent tells of databases: contracts, migrations, checks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::names::{Digest, Revisions};
use crate::schema::check::{StepName, Verdict};

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
