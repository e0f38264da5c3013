//! The decision: from what is observed to what is to be done. Pure and total.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::lower::status_body;
use super::manifests::{Generated, JobOrder};
use super::observed::{ObjectKey, Observed};
use super::revision::{Progress, RevisionData};
use super::steps;
use super::{events, status};
use crate::api::names::Digest;
use crate::api::release::ReleaseStatus;
use crate::plan::{Next, Plan};

/// One change to the world. Each has a deterministic name, and evidence by which a restarted operator sees it done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make a generated Secret, once.
    Generate(Generated),
    /// Give a generated Secret to the release, so that it goes with it (`deletionPolicy: Delete`), or set it free.
    Own {
        /// Which.
        which: Generated,
        /// Whether it is to go with the release.
        owned: bool,
    },
    /// Pin a candidate as the revision with this number.
    Pin {
        /// The number.
        number: i64,
        /// What is pinned.
        data: Box<RevisionData>,
    },
    /// Record on the revision of this name, if it is still as it was seen, how far it came.
    Record {
        /// The ControllerRevision.
        revision: String,
        /// The resourceVersion that was seen.
        resource_version: Option<String>,
        /// How far.
        progress: Box<Progress>,
    },
    /// Apply an object.
    Apply(Box<Value>),
    /// Keep an image's schema contract.
    KeepContract {
        /// The image.
        digest: Digest,
        /// The contract as JSON.
        contract: String,
    },
    /// Start a Job.
    Start(Box<JobOrder>),
    /// Delete an object of the release.
    Remove {
        /// Which.
        key: ObjectKey,
        /// The uid that was seen.
        uid: Option<String>,
    },
    /// Delete a Job that told what it had to.
    RemoveJob {
        /// Its name.
        name: String,
        /// The uid that was seen.
        uid: Option<String>,
    },
    /// Delete an old revision, and its image's contract where no other revision has the image.
    RemoveRevision {
        /// The ControllerRevision.
        name: String,
        /// The uid that was seen.
        uid: Option<String>,
        /// Whose contract goes with it.
        contract: Option<Digest>,
    },
    /// Ask for a larger volume.
    GrowClaim {
        /// The claim.
        name: String,
        /// The size wanted.
        size: String,
    },
}

impl Effect {
    /// What it does, in a word, for the log.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Generate(_) => "generate Secret",
            Self::Own { .. } => "set owner of Secret",
            Self::Pin { .. } => "pin revision",
            Self::Record { .. } => "record progress",
            Self::Apply(_) => "apply object",
            Self::KeepContract { .. } => "keep contract",
            Self::Start(_) => "start Job",
            Self::Remove { .. } => "prune object",
            Self::RemoveJob { .. } => "remove Job",
            Self::RemoveRevision { .. } => "remove revision",
            Self::GrowClaim { .. } => "grow claim",
        }
    }

    /// Whether it can't be taken back by a later decision. A plan has at most one of these, last.
    #[must_use]
    pub fn is_irreversible(&self) -> bool {
        match self {
            Self::Start(order) => matches!(order.purpose, super::observed::Purpose::Migrate { .. }),
            Self::Generate(_)
            | Self::Own { .. }
            | Self::Pin { .. }
            | Self::Record { .. }
            | Self::Apply(_)
            | Self::KeepContract { .. }
            | Self::Remove { .. }
            | Self::RemoveJob { .. }
            | Self::RemoveRevision { .. }
            | Self::GrowClaim { .. } => false,
        }
    }
}

/// What a decision about a release wants.
pub type ReleasePlan = Plan<Effect, ReleaseStatus>;

/// What one step wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Changes, in order.
    pub effects: Vec<Effect>,
    /// How things stand, for the status.
    pub situation: status::Situation,
    /// When to look again at the latest.
    pub next: Next,
}

impl Step {
    /// Nothing to do but to say how things stand.
    #[must_use]
    pub fn stand(situation: status::Situation) -> Self {
        Self { effects: Vec::new(), situation, next: Next::OnChange }
    }

    /// The same with one more effect.
    #[must_use]
    pub fn with(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }

    /// The same, looked at again after `pause` at the latest.
    #[must_use]
    pub fn again_after(mut self, pause: Duration) -> Self {
        self.next = self.next.sooner(Next::After(pause));
        self
    }
}

/// What to do about `observed`.
#[must_use]
pub fn decide(observed: &Observed, now: Timestamp) -> ReleasePlan {
    if observed.release.metadata.deletion_timestamp.is_some() {
        // Children go by garbage collection; whatever is made now would be an orphan.
        return Plan::rest();
    }
    let step = steps::next(observed, now);
    let status = status::project(observed, &step.situation, now);
    let events = events::notices(observed, &step, &status);
    // Compared as it is written: times lose their fractions on the way and would differ for ever.
    let changed = observed.release.status.as_ref().map(status_body) != Some(status_body(&status));
    Plan { effects: step.effects, status: changed.then_some(status), events, next: step.next }
}
