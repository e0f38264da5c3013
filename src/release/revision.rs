//! A revision: one (digest, values, rendered manifests), pinned before anything else is done, and how far it came.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::names::{Digest, Repository, Revisions, Tag};
use crate::api::release::{Outcome, ReleaseStep};

/// The annotation of a ControllerRevision that holds its [`Progress`] as JSON.
pub const PROGRESS_ANNOTATION: &str = "timetracker.dev/progress";

/// One image that may be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Where it lives.
    pub repository: Repository,
    /// What it is.
    pub digest: Digest,
    /// The tag it was picked by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// What people call it: the version without `v`, else the tag, else the short digest.
    pub version: String,
}

/// What a ControllerRevision holds. Immutable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionData {
    /// The image.
    pub target: Target,
    /// Digest of image and manifests: equal contents are the same delivery.
    pub content: Digest,
    /// The application's objects, rendered; their kinds and names are the inventory.
    pub manifests: Vec<Value>,
}

/// A revision as it is in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// The ControllerRevision's name.
    pub name: String,
    /// Rises with each delivery.
    pub number: i64,
    /// Its uid.
    pub uid: Option<String>,
    /// Its resourceVersion: progress is recorded only onto what was seen.
    pub resource_version: Option<String>,
    /// What it holds.
    pub data: RevisionData,
    /// How far it came.
    pub progress: Progress,
}

/// A revision of the release that can't be read. What it delivered, if anything, is not known.
#[derive(Debug, Clone, PartialEq)]
pub struct UnreadableRevision {
    /// The ControllerRevision's name.
    pub name: String,
    /// Its place among the revisions.
    pub number: i64,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// What is wrong with it, in words.
    pub cause: String,
    /// The image that it holds, when only its progress can't be read.
    pub digest: Option<Digest>,
}

/// How far a delivery came. Recorded on the revision before anything is built on it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all_fields = "camelCase")]
pub enum Progress {
    /// Pinned; nothing is known yet.
    #[default]
    Pinned,
    /// Image and database were read.
    Inspected {
        /// The database's revisions.
        from: Revisions,
        /// Whether a migration is needed. If not, the roll-out is next.
        migrate: bool,
        /// Why what runs is stopped before that. None: it goes on running.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drain: Option<Drain>,
    },
    /// The database is migrated and the image's contract holds. The roll-out is next.
    Migrated {
        /// Revisions before.
        from: Revisions,
        /// Revisions now.
        to: Revisions,
        /// What the migration's report says besides.
        note: Option<String>,
    },
    /// It ran, was observed and soaked.
    Delivered {
        /// The database's revisions then.
        revisions: Revisions,
        /// When.
        time: Timestamp,
    },
    /// It failed after something was changed: whether there is a way back is found out next.
    Failed {
        /// Why.
        failure: Failure,
        /// Whether its manifests were applied.
        rolled_out: bool,
        /// Why what ran is stopped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drain: Option<Drain>,
        /// When.
        time: Timestamp,
    },
    /// The manifests of an earlier revision are being restored.
    Returning {
        /// The name of the earlier revision.
        to: String,
        /// Why.
        failure: Failure,
        /// When it failed.
        time: Timestamp,
    },
    /// It is over, and something else runs.
    Ended {
        /// How.
        outcome: Outcome,
        /// Why.
        failure: Failure,
        /// When.
        time: Timestamp,
    },
    /// It stopped, and a person must act.
    Stuck {
        /// Why, and what to do.
        failure: Failure,
        /// Whether its manifests were applied.
        rolled_out: bool,
        /// Why what ran is stopped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drain: Option<Drain>,
        /// The generation of the specification then: a change of it is an answer.
        generation: i64,
        /// When.
        time: Timestamp,
    },
    /// Another took its place before it was done.
    Superseded {
        /// Whether its manifests were applied.
        rolled_out: bool,
        /// Why it had stopped before that, if it had.
        failure: Option<Failure>,
        /// Why what ran is stopped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drain: Option<Drain>,
        /// When.
        time: Timestamp,
    },
}

/// Why the pods of what runs are stopped: the migration was not proved to leave them what they need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// What they might lack.
    pub because: String,
    /// Whether a migration may have changed the schema: the pods come back only once it is seen that their code can run
    /// on it.
    pub schema_in_doubt: bool,
}

impl Drain {
    /// The same after a migration may have changed the schema.
    #[must_use]
    pub fn in_doubt(&self) -> Self {
        Self { schema_in_doubt: true, ..self.clone() }
    }
}

/// Why a delivery failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The class.
    pub reason: FailureReason,
    /// A sentence: cause and next step.
    pub message: String,
    /// In which step.
    pub step: ReleaseStep,
    /// Whether the digest is not to be picked again.
    pub blames_digest: bool,
    /// The retry annotation at that time: only another value lifts this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_seen: Option<String>,
}

/// Classes of failures; each is a condition's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureReason {
    /// The image's code can't be read.
    ContractUnreadable,
    /// The database lacks what the image's code needs.
    ContractBroken,
    /// An older image that can't run on the schema as it is.
    SchemaTooNew,
    /// The migration failed.
    MigrationFailed,
    /// Three attempts ended without a result.
    MigrationUnfinished,
    /// The database can't be used for migrations as it is set up.
    DatabaseRefused,
    /// An earlier attempt left the database in between.
    MigrationAmbiguous,
    /// The new pods crash.
    CrashLoop,
    /// The new pods don't become ready.
    NotReady,
    /// There is nothing to go back to.
    NothingToGoBackTo,
    /// The previous image can't run on the schema as it is.
    NoWayBack,
    /// The previous version was restored and does not run either.
    GoBackFailed,
    /// A change of the specification called it off.
    Withdrawn,
}

impl FailureReason {
    /// The word for conditions and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContractUnreadable => "ContractUnreadable",
            Self::ContractBroken => "ContractBroken",
            Self::SchemaTooNew => "SchemaTooNew",
            Self::MigrationFailed => "MigrationFailed",
            Self::MigrationUnfinished => "MigrationUnfinished",
            Self::DatabaseRefused => "DatabaseRefused",
            Self::MigrationAmbiguous => "MigrationAmbiguous",
            Self::CrashLoop => "CrashLoop",
            Self::NotReady => "NotReady",
            Self::NothingToGoBackTo => "NothingToGoBackTo",
            Self::NoWayBack => "NoWayBack",
            Self::GoBackFailed => "GoBackFailed",
            Self::Withdrawn => "Withdrawn",
        }
    }
}

impl Failure {
    /// Whether the retry annotation asks for `digest` again, and did not when this failed.
    #[must_use]
    pub fn is_lifted(&self, digest: &Digest, annotation: Option<&str>) -> bool {
        annotation.is_some_and(|value| {
            value.split(',').next().map(str::trim) == Some(digest.as_str()) && self.retry_seen.as_deref() != Some(value)
        })
    }

    /// Whether a person called it off.
    #[must_use]
    pub fn is_withdrawal(&self) -> bool {
        self.reason == FailureReason::Withdrawn
    }
}

impl Progress {
    /// Whether the delivery is not over: it goes on, or waits for a person.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        match self {
            Self::Pinned
            | Self::Inspected { .. }
            | Self::Migrated { .. }
            | Self::Failed { .. }
            | Self::Returning { .. }
            | Self::Stuck { .. } => true,
            Self::Delivered { .. } | Self::Ended { .. } | Self::Superseded { .. } => false,
        }
    }

    /// Whether the manifests are being applied or were.
    #[must_use]
    pub fn is_rolled_out(&self) -> bool {
        match self {
            Self::Pinned | Self::Inspected { migrate: true, .. } | Self::Ended { .. } => false,
            Self::Inspected { migrate: false, .. }
            | Self::Migrated { .. }
            | Self::Delivered { .. }
            | Self::Returning { .. } => true,
            Self::Failed { rolled_out, .. } | Self::Stuck { rolled_out, .. } | Self::Superseded { rolled_out, .. } => {
                *rolled_out
            }
        }
    }

    /// Why it failed.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed { failure, .. }
            | Self::Returning { failure, .. }
            | Self::Ended { failure, .. }
            | Self::Stuck { failure, .. } => Some(failure),
            Self::Superseded { failure, .. } => failure.as_ref(),
            Self::Pinned | Self::Inspected { .. } | Self::Migrated { .. } | Self::Delivered { .. } => None,
        }
    }

    /// Why the pods of what ran before are stopped for this delivery.
    #[must_use]
    pub fn drain(&self) -> Option<&Drain> {
        match self {
            Self::Inspected { drain, .. }
            | Self::Failed { drain, .. }
            | Self::Stuck { drain, .. }
            | Self::Superseded { drain, .. } => drain.as_ref(),
            Self::Pinned
            | Self::Migrated { .. }
            | Self::Delivered { .. }
            | Self::Returning { .. }
            | Self::Ended { .. } => None,
        }
    }

    /// When it failed or ended.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Pinned | Self::Inspected { .. } | Self::Migrated { .. } => None,
            Self::Delivered { time, .. }
            | Self::Failed { time, .. }
            | Self::Returning { time, .. }
            | Self::Ended { time, .. }
            | Self::Stuck { time, .. }
            | Self::Superseded { time, .. } => Some(*time),
        }
    }

    /// The database's revisions as far as this delivery knows them.
    #[must_use]
    pub fn revisions(&self) -> Option<&Revisions> {
        match self {
            Self::Inspected { from, .. } => Some(from),
            Self::Migrated { to, .. } => Some(to),
            Self::Delivered { revisions, .. } => Some(revisions),
            Self::Pinned
            | Self::Failed { .. }
            | Self::Returning { .. }
            | Self::Ended { .. }
            | Self::Stuck { .. }
            | Self::Superseded { .. } => None,
        }
    }
}
