//! Go back: the last good revision is restored, if its code can run on the schema as it is now.

use std::time::Duration;

use jiff::Timestamp;

use super::attempts::Stage;
use super::database::{self, NoContract};
use super::rollout::{Health, health};
use super::{failure as failed, record, stop};
use crate::api::release::{Outcome, ReleaseStep};
use crate::release::decide::Step;
use crate::release::observed::{Observed, Purpose};
use crate::release::revision::{Failure, FailureReason, Progress, Revision};

const STAGE: Stage = Stage { step: ReleaseStep::GoBack, changing: true };
/// The longest that kubelet waits before it starts a crashed container again. After the database was away, the pods get
/// this long to come back before they are blamed.
const CRASH_PAUSE: Duration = Duration::from_secs(330);

/// Looks for the way back from `revision`, whose delivery fails by `failure`.
pub(super) fn next(
    observed: &Observed,
    revision: &Revision,
    failure: &Failure,
    rolled_out: bool,
    now: Timestamp,
) -> Step {
    let previous = observed.revisions.iter().rev().find(|known| {
        known.number < revision.number
            && known.data.content != revision.data.content
            && matches!(known.progress, Progress::Delivered { .. })
    });
    let stuck = |reason, message: String| {
        let why = Failure { reason, message, step: ReleaseStep::GoBack, ..failure.clone() };
        stop(observed, revision, why, rolled_out, observed.drained(), now)
    };
    let purpose = Purpose::InspectBack { revision: revision.number };
    let Some(previous) = previous else {
        // The database is looked at all the same: while it is away, nothing is the digest's fault.
        let reading = database::contract(observed, revision, STAGE, now)
            .map(|_| database::read(observed, revision, &purpose, &revision.data.target.digest, STAGE, now));
        return match reading {
            Ok(Err(step)) | Err(NoContract::Yet(step)) => *step,
            Ok(Ok(reading)) if let Some(step) = settling(&reading, rolled_out, failure, now) => step,
            Ok(Ok(_)) | Err(NoContract::Ever(_)) => stuck(
                FailureReason::NothingToGoBackTo,
                format!(
                    "{}. No earlier version was delivered: publish one that works, or correct the specification",
                    failure.message
                ),
            ),
        };
    };
    let version = &previous.data.target.version;
    match database::contract(observed, previous, STAGE, now) {
        Ok(_) => {}
        Err(NoContract::Yet(step)) => return *step,
        Err(NoContract::Ever(message)) => {
            return stuck(
                FailureReason::NoWayBack,
                format!("{}. Going back to {version} is not safe: {message}", failure.message),
            );
        }
    }
    let reading = match database::read(observed, revision, &purpose, &previous.data.target.digest, STAGE, now) {
        Ok(reading) => reading,
        Err(step) => return *step,
    };
    if let Some(step) = settling(&reading, rolled_out, failure, now) {
        return step;
    }
    if !reading.verdict.holds {
        return stuck(
            FailureReason::NoWayBack,
            format!(
                "{}. {version} can't run on the schema as it is: {}. Publish a version that works on it, or restore a backup",
                failure.message, reading.verdict.message
            ),
        );
    }
    let situation = STAGE.progressing(format!("{}; going back to {version}", failure.message));
    let progress = Progress::Returning { to: previous.name.clone(), failure: failure.clone(), time: now };
    record(revision, progress, situation)
}

/// The database had been away: the pods first get the time to come back.
fn settling(reading: &database::Reading, rolled_out: bool, failure: &Failure, now: Timestamp) -> Option<Step> {
    if reading.attempt <= 1 || !rolled_out || failure.is_withdrawal() {
        return None;
    }
    let passed = Duration::try_from(now.duration_since(reading.finished?)).unwrap_or_default();
    let left = CRASH_PAUSE.saturating_sub(passed);
    (!left.is_zero()).then(|| {
        let message = format!("the database is back; {}", failure.message);
        Step::stand(STAGE.hindered("DatabaseWasAway", message)).again_after(left)
    })
}

/// The manifests of `to` are applied again: done once its pods are healthy.
pub(super) fn returning(observed: &Observed, revision: &Revision, to: &str, failure: &Failure, now: Timestamp) -> Step {
    let Some(previous) = observed.revisions.iter().find(|known| known.name == to) else {
        let message = format!("{}. ControllerRevision {to}, to go back to, is gone", failure.message);
        let why = Failure { reason: FailureReason::GoBackFailed, message, ..failure.clone() };
        return stop(observed, revision, why, false, None, now);
    };
    let version = &previous.data.target.version;
    match health(observed, previous, now) {
        Health::Healthy => {
            let progress = Progress::Ended { outcome: Outcome::TakenBack, failure: failure.clone(), time: now };
            record(revision, progress, STAGE.progressing(format!("{version} runs again")))
        }
        Health::Progressing { reason, message } => {
            let message = format!("going back to {version}: {message}. Because {}", failure.message);
            Step::stand(STAGE.hindered(if reason == "RollingOut" { "GoingBack" } else { reason }, message))
                .again_after(Duration::from_secs(15))
        }
        Health::Failing { message, .. } => {
            let told = format!("{}; and {version}, gone back to, fails as well: {message}", failure.message);
            let blames = failure.blames_digest;
            let step = ReleaseStep::GoBack;
            let why = failed(observed, revision, step, FailureReason::GoBackFailed, told, blames);
            stop(observed, revision, why, false, None, now)
        }
    }
}
