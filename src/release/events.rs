//! Events: told once, when a delivery moves from one stage to the next.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::decide::{Effect, Step};
use super::observed::Observed;
use super::revision::Progress;
use crate::api::conditions::{find, printable, types};
use crate::api::release::{Outcome, ReleaseStatus};
use crate::plan::{Notice, Severity};

/// What to tell about this step.
#[must_use]
pub fn notices(observed: &Observed, step: &Step, status: &ReleaseStatus) -> Vec<Notice> {
    let mut told: Vec<Notice> = step.effects.iter().filter_map(|effect| about(observed, effect)).collect();
    told.extend(step.effects.iter().filter_map(|effect| draining(observed, effect)));
    told.extend(stopped(observed, status));
    told
}

fn about(observed: &Observed, effect: &Effect) -> Option<Notice> {
    match effect {
        Effect::Pin { data, .. } => Some(Notice {
            severity: Severity::Normal,
            reason: "Picked",
            action: "Pick",
            note: format!("{} is to be delivered: {}", data.target.version, data.target.digest),
        }),
        Effect::Record { revision, progress, .. } => {
            let known = observed.revisions.iter().find(|known| &known.name == revision);
            recorded(known.map_or(revision.as_str(), |known| known.data.target.version.as_str()), progress)
        }
        Effect::Generate(_)
        | Effect::Own { .. }
        | Effect::Apply(_)
        | Effect::KeepContract { .. }
        | Effect::Start(_)
        | Effect::Remove { .. }
        | Effect::RemoveJob { .. }
        | Effect::RemoveRevision { .. }
        | Effect::GrowClaim { .. } => None,
    }
}

/// Told when it is decided that what runs is stopped.
fn draining(observed: &Observed, effect: &Effect) -> Option<Notice> {
    let Effect::Record { progress, .. } = effect else {
        return None;
    };
    let Progress::Inspected { drain: Some(drain), .. } = progress.as_ref() else {
        return None;
    };
    let old = &observed.active()?.data.target.version;
    let note =
        format!("{old} is stopped before the migration, for it might not run on the new schema ({})", drain.because);
    Some(Notice { severity: Severity::Normal, reason: "Draining", action: "Drain", note: printable(&note, 1000) })
}

fn recorded(version: &str, progress: &Progress) -> Option<Notice> {
    let normal = |reason, action, note| Some(Notice { severity: Severity::Normal, reason, action, note });
    let warning = |reason, action, note: String| {
        Some(Notice { severity: Severity::Warning, reason, action, note: printable(&note, 1000) })
    };
    match progress {
        Progress::Pinned | Progress::Superseded { .. } | Progress::Stuck { .. } => None,
        Progress::Inspected { from, migrate: true, .. } => {
            normal("MigrationNeeded", "Inspect", format!("{version} needs a migration; the database is at {from}"))
        }
        Progress::Inspected { .. } => {
            normal("NoMigrationNeeded", "Inspect", format!("the database has what {version} needs"))
        }
        Progress::Migrated { to, .. } => {
            normal("Migrated", "Migrate", format!("the database is at {to} and has what {version} needs"))
        }
        Progress::Delivered { .. } => normal("Delivered", "RollOut", format!("{version} runs")),
        // The message of a failure names its version.
        Progress::Failed { failure, .. } => warning("Failed", "RollOut", failure.message.clone()),
        Progress::Returning { to, failure, .. } => {
            warning("GoingBack", "GoBack", format!("{}; going back to {to}", failure.message))
        }
        Progress::Ended { outcome: Outcome::TakenBack, failure, .. } => {
            warning("TakenBack", "GoBack", format!("{version} was taken back: {}", failure.message))
        }
        Progress::Ended { failure, .. } => {
            warning("Refused", "Inspect", format!("{version} is not delivered: {}", failure.message))
        }
    }
}

/// Told when it stops, or begins to wait for a person, and when the reason of that changes.
fn stopped(observed: &Observed, status: &ReleaseStatus) -> Option<Notice> {
    let (reason, kind, verdict) = match find(&status.conditions, types::STALLED) {
        Some(_) => ("Stalled", types::STALLED, "True"),
        None => ("Waiting", types::READY, "False"),
    };
    let stands = |condition: &&Condition| condition.status == verdict;
    let now = find(&status.conditions, kind).filter(stands)?;
    let before = observed.release.status.as_ref().and_then(|previous| find(&previous.conditions, kind)).filter(stands);
    if before.is_some_and(|before| before.reason == now.reason) {
        return None;
    }
    let note = printable(&now.message, 1000);
    Some(Notice { severity: Severity::Warning, reason, action: "Reconcile", note })
}
