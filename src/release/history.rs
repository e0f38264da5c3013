//! What the revisions tell: what runs, what is under way, what is not to be tried again.

use super::manifests::drained_replicas;
use super::observed::{ObjectKind, Observed};
use super::revision::{Drain, Progress, Revision, UnreadableRevision};
use crate::api::names::Digest;
use crate::api::release::Outcome;

impl Observed {
    /// The newest revision that can't be read, unless a later one was delivered.
    ///
    /// It may have changed the schema and may be what runs. So nothing is current, under way or active then: what
    /// stands before it is not to be gone back to by mistake.
    #[must_use]
    pub fn unreadable(&self) -> Option<&UnreadableRevision> {
        let delivered = self.last_delivered().map_or(0, |revision| revision.number);
        self.unreadable.last().filter(|revision| revision.number > delivered)
    }

    /// The newest revision of which it is known that it was delivered.
    #[must_use]
    pub fn last_delivered(&self) -> Option<&Revision> {
        self.revisions.iter().rev().find(|revision| matches!(revision.progress, Progress::Delivered { .. }))
    }

    /// The number for the next revision, taken by none, readable or not.
    #[must_use]
    pub fn next_number(&self) -> i64 {
        let readable = self.revisions.last().map_or(0, |newest| newest.number);
        let unreadable = self.unreadable.last().map_or(0, |newest| newest.number);
        readable.max(unreadable).saturating_add(1)
    }

    /// The newest delivered revision: what the status calls current, and where going back leads to.
    #[must_use]
    pub fn current(&self) -> Option<&Revision> {
        self.last_delivered().filter(|_| self.unreadable().is_none())
    }

    /// The revision whose delivery is under way (or stopped and waits for a person).
    #[must_use]
    pub fn in_progress(&self) -> Option<&Revision> {
        let newest = self.revisions.iter().rev().find(|revision| revision.progress.is_under_way());
        newest.filter(|_| self.unreadable().is_none())
    }

    /// The revision whose manifests are to stand in the cluster.
    #[must_use]
    pub fn active(&self) -> Option<&Revision> {
        if self.unreadable().is_some() {
            return None;
        }
        if let Some(revision) = self.in_progress() {
            match &revision.progress {
                Progress::Inspected { migrate: false, .. } | Progress::Migrated { .. } => return Some(revision),
                Progress::Returning { to, .. } => return self.revisions.iter().find(|known| &known.name == to),
                Progress::Failed { rolled_out: true, .. } | Progress::Stuck { rolled_out: true, .. } => {
                    return Some(revision);
                }
                Progress::Pinned
                | Progress::Inspected { .. }
                | Progress::Failed { .. }
                | Progress::Stuck { .. }
                | Progress::Delivered { .. }
                | Progress::Ended { .. }
                | Progress::Superseded { .. } => {}
            }
        }
        // What was rolled out last and not taken back: an older one might not run on the schema that it left.
        self.revisions.iter().rev().find(|revision| {
            matches!(revision.progress, Progress::Delivered { .. } | Progress::Superseded { rolled_out: true, .. })
        })
    }

    /// The revision for whose migration the pods of what is active are stopped, as long as it is not known that they may
    /// come back.
    #[must_use]
    pub fn drained_by(&self) -> Option<&Revision> {
        let active = self.active()?;
        let mut later = self.revisions.iter().rev().take_while(|known| known.number > active.number);
        // What was only pinned, or refused at the inspection, stopped nothing and brought nothing back.
        let says_nothing = |known: &Revision| {
            matches!(known.progress, Progress::Pinned | Progress::Ended { outcome: Outcome::Refused, .. })
        };
        later.find(|known| !says_nothing(known)).filter(|known| known.progress.drain().is_some())
    }

    /// Why the pods of what is active are stopped.
    #[must_use]
    pub fn drained(&self) -> Option<&Drain> {
        self.drained_by()?.progress.drain()
    }

    /// Whether the site has no pods because of a migration: they are stopped, or have not been started again yet.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let live = self.object(ObjectKind::Deployment, &self.name());
        self.drained().is_some() || live.is_some_and(|live| live.owned && drained_replicas(&live.body).is_some())
    }

    /// The newest of a digest's revisions.
    #[must_use]
    pub fn newest_of(&self, digest: &Digest) -> Option<&Revision> {
        self.revisions.iter().rev().find(|revision| {
            &revision.data.target.digest == digest
                && !matches!(revision.progress, Progress::Superseded { failure: None, .. })
        })
    }

    /// Whether a digest is quarantined: its newest delivery failed by its own fault, and nobody lifted that.
    #[must_use]
    pub fn is_quarantined(&self, digest: &Digest) -> bool {
        self.newest_of(digest).is_some_and(|revision| self.is_blamed(revision))
    }

    /// Whether this revision failed by its digest's fault, and nobody lifted that.
    #[must_use]
    pub fn is_blamed(&self, revision: &Revision) -> bool {
        revision.progress.failure().is_some_and(|failure| {
            failure.blames_digest && !failure.is_lifted(&revision.data.target.digest, self.retry_annotation())
        })
    }

    /// Whether exactly this content failed before, by whatever fault, and nobody lifted that.
    #[must_use]
    pub fn is_refused(&self, content: &Digest) -> Option<&Revision> {
        let newest = self.revisions.iter().rev().find(|revision| {
            &revision.data.content == content && !matches!(revision.progress, Progress::Superseded { .. })
        })?;
        let failure = match &newest.progress {
            Progress::Ended { failure, .. } => failure,
            Progress::Pinned
            | Progress::Inspected { .. }
            | Progress::Migrated { .. }
            | Progress::Delivered { .. }
            | Progress::Failed { .. }
            | Progress::Returning { .. }
            | Progress::Stuck { .. }
            | Progress::Superseded { .. } => return None,
        };
        // A delivery that a person called off is no verdict on what was delivered.
        let counts =
            !failure.is_withdrawal() && !failure.is_lifted(&newest.data.target.digest, self.retry_annotation());
        counts.then_some(newest)
    }
}
