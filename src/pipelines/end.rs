//! How a run ends, and what is done with it afterwards.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::attempts::linger;
use super::begin;
use super::decide::{RunPlan, Started, marked, other_finalizers};
use super::effect::Effect;
use super::names;
use super::observe::Observed;
use super::parameters::accept;
use super::progress::{CellView, Halt};
use super::result::{JobResult, Outcome};
use super::reuse::Reused;
use super::settings::Settings;
use super::status::{self, Facts, Situation};
use super::walk::walk;
use crate::api::conditions::printable;
use crate::api::duration::Period;
use crate::api::run::{FailureClass, JobPhase, JobStatus};
use crate::plan::{Next, Plan};

/// How long a finished run is kept when a trigger or the plugin made it and it does not say.
const DEFAULT_TTL: Duration = Duration::from_secs(720 * 3600);

/// Lets a run go that is being deleted.
#[must_use]
pub fn release(observed: &Observed) -> RunPlan {
    let held = observed.run.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER);
    let mut plan = Plan::rest();
    if held {
        plan.effects.push(Effect::Release {
            resource_version: observed.run.resource_version(),
            finalizers: other_finalizers(observed),
        });
    }
    plan
}

/// The end of a run, as an effect and as status.
#[must_use]
pub fn end(observed: &Observed, outcome: Outcome) -> Effect {
    Effect::Finish {
        resource_version: observed.run.resource_version(),
        finalizers: other_finalizers(observed),
        pipeline: observed.run.spec.pipeline_ref.name.clone(),
        outcome,
    }
}

/// A run that is over now: refused, or without its definition.
#[must_use]
pub fn over(observed: &Observed, outcome: Outcome, started: Option<&Started>, now: Timestamp) -> RunPlan {
    let facts = Facts {
        situation: Situation::Over(outcome.clone()),
        cells: &[],
        revision: started.map(|started| started.revision.clone()),
        commit: None,
        started: started.map(|started| started.at),
        artifacts: None,
    };
    let status = status::of(observed, facts, now);
    Plan { effects: vec![end(observed, outcome)], status: Some(status), events: Vec::new(), next: Next::OnChange }
}

/// How the run ended, once every cell is final.
#[must_use]
pub fn outcome_of(observed: &Observed, cells: &[CellView], halt: Option<Halt>, now: Timestamp) -> Outcome {
    let stopped = matches!(halt, Some(Halt::Cancelled | Halt::Superseded));
    let outcome = status::outcome(cells, stopped, now);
    if halt == Some(Halt::TimedOut) && outcome.phase == JobPhase::Cancelled {
        return timed_out(cells, outcome);
    }
    let newer = observed.run.annotations().get(names::SUPERSEDED_ANNOTATION);
    match newer.filter(|_| halt == Some(Halt::Superseded) && outcome.phase == JobPhase::Cancelled) {
        Some(newer) => begin::superseded(&printable(newer, 63), outcome.completed),
        None => outcome,
    }
}

/// A run whose time was up before all its jobs had begun, none of which failed by itself.
fn timed_out(cells: &[CellView], outcome: Outcome) -> Outcome {
    let left = cells.iter().filter(|cell| cell.phase == JobPhase::Cancelled).count();
    Outcome {
        phase: JobPhase::Failed,
        reason: FailureClass::DeadlineExceeded.as_str().to_owned(),
        message: format!(
            "the run took longer than its timeout: {left} of {} jobs were not run; raise the pipeline's timeout, or find room for its jobs",
            cells.len()
        ),
        ..outcome
    }
}

#[must_use]
pub fn unresolved(result: &JobResult, now: Timestamp) -> Outcome {
    let reason = result.failure.map_or("Infrastructure", |class| class.as_str());
    let message = result.message.as_deref().unwrap_or("no details");
    Outcome {
        phase: result.phase,
        reason: reason.to_owned(),
        message: format!("spec.revision: its commit could not be read: {message}. Correct it, then make a new run"),
        completed: result.finished.unwrap_or(now),
    }
}

#[must_use]
pub fn lost_definition(observed: &Observed, started: &Started, now: Timestamp) -> RunPlan {
    if observed.run.metadata.deletion_timestamp.is_some() {
        return release(observed);
    }
    let outcome = Outcome {
        phase: JobPhase::Failed,
        reason: "DefinitionLost".to_owned(),
        message: format!(
            "ControllerRevision {} with the pipeline as it was at the start was deleted, and the pipeline has changed; make a new run",
            started.revision
        ),
        completed: now,
    };
    over(observed, outcome, Some(started), now)
}

/// Without what it took over the run would do all of it again, even what must be done only once.
#[must_use]
pub fn lost_reused(observed: &Observed, started: &Started, now: Timestamp) -> RunPlan {
    if observed.run.metadata.deletion_timestamp.is_some() {
        return release(observed);
    }
    let name = Reused::name(&observed.run);
    let outcome = Outcome {
        phase: JobPhase::Failed,
        reason: "DefinitionLost".to_owned(),
        message: format!("ConfigMap {name} with what the run took over was deleted; make a new run"),
        completed: now,
    };
    over(observed, outcome, Some(started), now)
}

/// A run that is over does nothing any more but show itself, end what lingers, and go when its time is over.
#[must_use]
pub fn finished(
    observed: &Observed,
    outcome: &Outcome,
    started: Option<Started>,
    settings: &Settings,
    now: Timestamp,
) -> RunPlan {
    if observed.run.metadata.deletion_timestamp.is_some() {
        return release(observed);
    }
    let definition = started.as_ref().and_then(|started| begin::definition_of(observed, &started.revision));
    let walked = definition.as_ref().and_then(|definition| {
        let accepted = accept(definition, &observed.run.spec, settings).ok()?;
        // What an earlier leader started after the end is stopped; nothing else is done.
        let late = walk(observed, definition, &accepted, settings, Some(Halt::Deleted), now);
        let halt = match outcome.reason.as_str() {
            "Superseded" => Some(Halt::Superseded),
            _ => (outcome.phase == JobPhase::Cancelled).then_some(Halt::Cancelled),
        };
        Some((walk(observed, definition, &accepted, settings, halt, now), late.progress))
    });
    let before = observed.run.status.clone().unwrap_or_default();
    let (cells, commit, late) =
        walked.map(|(walked, late)| (walked.progress.cells, walked.commit, Some(late))).unwrap_or_default();
    let facts = Facts {
        situation: Situation::Over(outcome.clone()),
        cells: &cells,
        revision: started.as_ref().map(|started| started.revision.clone()),
        commit: commit.or(before.commit),
        started: started.map(|started| started.at),
        artifacts: definition.as_ref().and_then(|definition| status::kept_at(observed, definition, settings)),
    };
    let mut status = status::of(observed, facts, now);
    for entry in &mut status.jobs {
        settle(entry, &before.jobs, observed, outcome);
    }
    status.progress = (!status.jobs.is_empty()).then(|| format!("{0}/{0}", status.jobs.len()));
    let (mut effects, mut next) = linger(observed, now);
    if let Some(late) = late {
        effects.extend(late.effects);
        next = next.sooner(late.next);
    }
    effects.extend(marked(observed, None));
    if let Some(left) = time_to_live(observed, outcome, now) {
        if left.is_zero() {
            effects.push(Effect::Expire { uid: observed.run.uid() });
        } else {
            next = next.sooner(Next::After(left));
        }
    }
    Plan { effects, status: Some(status), events: Vec::new(), next }
}

/// The entry of a job whose Job was deleted after the end is what was known of it.
fn settle(entry: &mut JobStatus, before: &[JobStatus], observed: &Observed, outcome: &Outcome) {
    let proved = entry.job.as_ref().is_some_and(|job| observed.jobs.iter().any(|seen| seen.name_any() == *job));
    if proved && entry.phase.is_final() {
        return;
    }
    if let Some(known) = before.iter().find(|known| known.name == entry.name && known.phase.is_final()) {
        entry.clone_from(known);
    } else if !entry.phase.is_final() {
        *entry = JobStatus {
            phase: outcome.phase,
            job: None,
            attempt: None,
            message: Some("as the run; its Job is gone".to_owned()),
            ..entry.clone()
        };
    }
}

/// What is left of the run's time to live; `None`: it stays.
fn time_to_live(observed: &Observed, outcome: &Outcome, now: Timestamp) -> Option<Duration> {
    let made_by_event = observed.run.labels().contains_key(names::EVENT_LABEL);
    let given = observed.run.spec.ttl.as_ref().map(Period::length);
    let ttl = given.or(made_by_event.then_some(DEFAULT_TTL))?;
    let passed = Duration::try_from(now.duration_since(outcome.completed)).unwrap_or_default();
    Some(ttl.saturating_sub(passed))
}
