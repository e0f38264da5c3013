//! The steps of a delivery. Each looks at the same observation and says what is next.

mod attempts;
mod database;
mod drain;
mod go_back;
mod inspect;
mod migrate;
pub mod pick;
mod rollout;
mod unreadable;
mod upkeep;

use std::time::Duration;

use jiff::Timestamp;

use super::decide::{Effect, Step};
use super::gates;
use super::observed::{DEFAULT_INTERVAL, Observed, Purpose};
use super::revision::{Drain, Failure, FailureReason, Progress, Revision, RevisionData};
use super::status::{Pending, Situation};
use crate::api::release::{Outcome, ReleaseStep};

/// After something was recorded the next step follows at once.
const AT_ONCE: Duration = Duration::from_millis(200);

/// What the specification wants now.
#[derive(Debug, Clone, PartialEq)]
enum Wanted {
    /// What stands in the cluster.
    Active(Option<Pending>),
    /// Something else.
    Other(Box<RevisionData>),
    /// It can't be said, or must not be done.
    Unclear(Situation),
}

/// What is next.
#[must_use]
pub fn next(observed: &Observed, now: Timestamp) -> Step {
    if observed.release.spec.suspend {
        return Step::stand(Situation::Suspended);
    }
    if let Some(revision) = observed.unreadable() {
        return unreadable::next(observed, revision).again_after(interval(observed));
    }
    let mut step = match observed.foreign() {
        Some(key) => Step::stand(Situation::Stalled {
            reason: "ForeignObject",
            message: format!(
                "{} {} exists and does not belong to this release: rename or delete it",
                key.kind.as_str(),
                key.name
            ),
        })
        // What an earlier release of this name left is being collected.
        .again_after(Duration::from_secs(15)),
        None => delivery(observed, now),
    };
    let mut effects = upkeep::effects(observed);
    effects.append(&mut step.effects);
    Step { effects, ..step }.again_after(interval(observed))
}

fn interval(observed: &Observed) -> Duration {
    observed.release.spec.image.interval.as_ref().map_or(DEFAULT_INTERVAL, |interval| interval.length())
}

fn delivery(observed: &Observed, now: Timestamp) -> Step {
    let wanted = wanted(observed);
    if let Some(revision) = observed.in_progress() {
        return match replaced(observed, revision, &wanted, now) {
            Some(progress) => record(
                revision,
                progress,
                Situation::Preparing {
                    step: ReleaseStep::Pick,
                    message: format!("{} gives way", revision.data.target.version),
                },
            ),
            None => proceed(observed, revision, now),
        };
    }
    if let (Some(stopped), Wanted::Active(_) | Wanted::Unclear(_)) = (observed.drained_by(), &wanted) {
        return look_back(observed, stopped, now);
    }
    match wanted {
        Wanted::Unclear(situation) => Step::stand(situation),
        Wanted::Active(pending) => Step::stand(match &observed.release.spec.hold {
            Some(hold) => Situation::Held { message: hold.reason.clone() },
            None => Situation::Settled { pending },
        }),
        Wanted::Other(data) => {
            let number = observed.next_number();
            let situation = Situation::Preparing {
                step: ReleaseStep::Pick,
                message: format!("{} is picked: {}", data.target.version, data.target.digest),
            };
            Step::stand(situation).with(Effect::Pin { number, data }).again_after(AT_ONCE)
        }
    }
}

fn proceed(observed: &Observed, revision: &Revision, now: Timestamp) -> Step {
    match &revision.progress {
        Progress::Pinned => inspect::next(observed, revision, now),
        Progress::Inspected { migrate: true, from, .. } => migrate::next(observed, revision, from, now),
        Progress::Inspected { .. } | Progress::Migrated { .. } => rollout::next(observed, revision, now),
        Progress::Failed { failure, rolled_out, .. } => go_back::next(observed, revision, failure, *rolled_out, now),
        Progress::Returning { to, failure, .. } => go_back::returning(observed, revision, to, failure, now),
        Progress::Stuck { failure, .. } => Step::stand(stopped(failure)),
        // Not under way.
        Progress::Delivered { .. } | Progress::Ended { .. } | Progress::Superseded { .. } => {
            Step::stand(Situation::Settled { pending: None })
        }
    }
}

fn wanted(observed: &Observed) -> Wanted {
    if let Some(situation) = gates::closed(observed) {
        return Wanted::Unclear(situation);
    }
    let (target, pending) = match pick::choose(observed) {
        pick::Choice::Blocked(situation) => return Wanted::Unclear(situation),
        pick::Choice::Take(target) => (target, None),
        pick::Choice::Keep(pending) => match observed.current() {
            Some(revision) => (revision.data.target.clone(), pending),
            None => return Wanted::Unclear(Situation::Settled { pending }),
        },
    };
    let data = match pick::render(observed, &target) {
        Ok(data) => data,
        Err(message) => return Wanted::Unclear(Situation::Stalled { reason: "ManifestInvalid", message }),
    };
    // An unfinished delivery of the same content is not the active one yet, and yet is what is wanted.
    let stands = observed.active().filter(|active| active.data.content == data.content);
    if stands.is_some_and(|active| matches!(active.progress, Progress::Delivered { .. })) {
        return Wanted::Active(pending);
    }
    match observed.is_refused(&data.content).and_then(|revision| revision.progress.failure()) {
        Some(failure) => Wanted::Unclear(refused(observed, &data, failure)),
        None => Wanted::Other(Box::new(data)),
    }
}

/// What is wanted failed before, exactly as it is.
fn refused(observed: &Observed, data: &RevisionData, failure: &Failure) -> Situation {
    let message = format!(
        "{} was tried before: {}. Change the specification, or annotate with timetracker.dev/retry={} to try it again",
        data.target.version, failure.message, data.target.digest,
    );
    if pick::is_satisfied(observed) {
        Situation::Settled { pending: Some(Pending { reason: failure.reason.as_str(), message }) }
    } else {
        Situation::Stalled { reason: failure.reason.as_str(), message }
    }
}

/// Whether the delivery under way gives way to something else, and as what it ends.
fn replaced(observed: &Observed, revision: &Revision, wanted: &Wanted, now: Timestamp) -> Option<Progress> {
    let (content, back_to_active) = match wanted {
        Wanted::Unclear(_) => return None,
        Wanted::Other(data) => {
            let delivered = observed.current().is_some_and(|current| current.data.content == data.content);
            (&data.content, delivered)
        }
        Wanted::Active(_) => (&observed.active()?.data.content, true),
    };
    let same = content == &revision.data.content;
    let drain = observed.drained().map(Drain::in_doubt);
    let superseded =
        |rolled_out, failure| Progress::Superseded { rolled_out, failure, drain: drain.clone(), time: now };
    match &revision.progress {
        Progress::Pinned => (!same).then(|| superseded(false, None)),
        Progress::Inspected { migrate: true, drain, .. } => {
            let started = !observed.attempts(&Purpose::Migrate { revision: revision.number }).is_empty();
            match drain {
                _ if same || started => None,
                None => Some(superseded(false, None)),
                // The site is stopped for it: a newer tag waits; only the specification calls it off.
                Some(_) if pick::is_still_wanted(observed, revision) => None,
                Some(drain) => Some(drain::end(observed, drain, withdrawal(observed, revision), true, now)),
            }
        }
        Progress::Inspected { .. } | Progress::Migrated { .. } => {
            // A newer tag waits until this one is done; only the specification calls it off.
            if same || pick::is_still_wanted(observed, revision) {
                return None;
            }
            Some(if back_to_active { withdrawn(observed, revision, true, now) } else { superseded(true, None) })
        }
        Progress::Stuck { failure, rolled_out, drain, generation, .. } => {
            let lifted = failure.is_lifted(&revision.data.target.digest, observed.retry_annotation());
            let answered = *generation != observed.generation() || lifted;
            let roll_forward =
                !same && !back_to_active && matches!(failure.step, ReleaseStep::RollOut | ReleaseStep::GoBack);
            if !answered && !roll_forward {
                return None;
            }
            Some(if (*rolled_out || drain.is_some()) && back_to_active && !same {
                withdrawn(observed, revision, *rolled_out, now)
            } else {
                superseded(*rolled_out, (!lifted).then(|| failure.clone()))
            })
        }
        Progress::Failed { .. }
        | Progress::Returning { .. }
        | Progress::Delivered { .. }
        | Progress::Ended { .. }
        | Progress::Superseded { .. } => None,
    }
}

/// The specification went back to what ran before: whether that can run on the schema as it is, is checked first.
fn withdrawn(observed: &Observed, revision: &Revision, rolled_out: bool, now: Timestamp) -> Progress {
    let drain = observed.drained().map(Drain::in_doubt);
    Progress::Failed { failure: withdrawal(observed, revision), rolled_out, drain, time: now }
}

/// Nothing follows on a delivery for which the site is stopped: whether what ran before can run on the schema as it is.
fn look_back(observed: &Observed, stopped: &Revision, now: Timestamp) -> Step {
    let version = &stopped.data.target.version;
    let failure = match stopped.progress.failure() {
        // Not what was told then: that would grow with each look.
        Some(failure) => {
            Failure { message: format!("{version} was not delivered ({})", failure.reason.as_str()), ..failure.clone() }
        }
        None => withdrawal(observed, stopped),
    };
    let situation = Situation::Changing {
        step: ReleaseStep::GoBack,
        reason: super::status::step_reason(ReleaseStep::GoBack),
        message: failure.message.clone(),
    };
    let drain = observed.drained().map(Drain::in_doubt);
    record(stopped, Progress::Failed { failure, rolled_out: false, drain, time: now }, situation)
}

/// Why a delivery ends that the specification no longer wants.
fn withdrawal(observed: &Observed, revision: &Revision) -> Failure {
    Failure {
        reason: FailureReason::Withdrawn,
        message: format!("{} was called off by a change of the specification", revision.data.target.version),
        step: ReleaseStep::RollOut,
        blames_digest: false,
        retry_seen: observed.retry_annotation().map(ToOwned::to_owned),
    }
}

/// Records how far a revision came, and stands there until that is seen.
fn record(revision: &Revision, progress: Progress, situation: Situation) -> Step {
    let effect = Effect::Record {
        revision: revision.name.clone(),
        resource_version: revision.resource_version.clone(),
        progress: Box::new(progress),
    };
    Step::stand(situation).with(effect).again_after(AT_ONCE)
}

/// Why a delivery failed. `message` names the version, for it is shown without it. A digest that was delivered before is not blamed: then it is the values that failed.
fn failure(
    observed: &Observed,
    revision: &Revision,
    step: ReleaseStep,
    reason: FailureReason,
    message: String,
    blames_digest: bool,
) -> Failure {
    let ran_before = observed.revisions.iter().any(|known| {
        known.data.target.digest == revision.data.target.digest && matches!(known.progress, Progress::Delivered { .. })
    });
    Failure {
        reason,
        message: crate::api::conditions::printable(&message, 600),
        step,
        blames_digest: blames_digest && !ran_before,
        retry_seen: observed.retry_annotation().map(ToOwned::to_owned),
    }
}

/// Ends a delivery that has left the schema as it was. What was stopped for it comes back.
fn refuse(observed: &Observed, revision: &Revision, failure: Failure, now: Timestamp) -> Step {
    let situation = Situation::Preparing { step: failure.step, message: failure.message.clone() };
    let progress = match observed.drained() {
        None => Progress::Ended { outcome: Outcome::Refused, failure, time: now },
        Some(drain) => drain::end(observed, drain, failure, true, now),
    };
    record(revision, progress, situation)
}

/// Stops a delivery until a person acts. With `drain` the site stays down until then.
fn stop(
    observed: &Observed,
    revision: &Revision,
    mut failure: Failure,
    rolled_out: bool,
    drain: Option<&Drain>,
    now: Timestamp,
) -> Step {
    if let Some(active) = observed.active().filter(|_| drain.is_some()) {
        let version = &active.data.target.version;
        failure.message.push_str(&format!(". Until then the site is down: the pods of {version} stay stopped"));
    }
    let situation = stopped(&failure);
    let drain = drain.map(Drain::in_doubt);
    let progress = Progress::Stuck { failure, rolled_out, drain, generation: observed.generation(), time: now };
    record(revision, progress, situation)
}

fn stopped(failure: &Failure) -> Situation {
    Situation::Stopped { step: failure.step, reason: failure.reason.as_str(), message: failure.message.clone() }
}
