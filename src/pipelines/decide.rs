//! What to do about one run: pure, total, and the same whatever was interrupted before.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use super::attempts::linger;
use super::begin;
use super::definition::Definition;
use super::effect::Effect;
use super::jobs::RunContext;
use super::names;
use super::observe::Observed;
use super::parameters::{Accepted, accept};
use super::progress::{CellView, Halt, Progress, Walk};
use super::result::{JobResult, Outcome, annotation};
use super::settings::Settings;
use super::status::{self, Facts, Situation};
use crate::api::conditions::{MAX_MESSAGE, find, printable, types};
use crate::api::duration::Period;
use crate::api::names::CommitSha;
use crate::api::run::{JobPhase, JobStatus, RunStatus};
use crate::cluster::controlled_by;
use crate::plan::{Next, Notice, Plan, Severity};

/// How long a finished run is kept when a trigger or the plugin made it and it does not say.
const DEFAULT_TTL: Duration = Duration::from_secs(720 * 3600);
/// How long a run may take when its pipeline does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2 * 3600);

/// What a run wants done.
pub type RunPlan = Plan<Effect, RunStatus>;

/// What to do about the run. `now` is taken in whole seconds, as the API server keeps times.
#[must_use]
pub fn decide(observed: &Observed, settings: &Settings, now: Timestamp) -> RunPlan {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let run = &observed.run;
    let plan = match (annotation::<Outcome>(&run.metadata, names::OUTCOME_ANNOTATION), Started::of(observed)) {
        (Some(outcome), started) => finished(observed, &outcome, started, settings, now),
        (None, Some(started)) => under_way(observed, &started, settings, now),
        (None, None) if run.metadata.deletion_timestamp.is_some() => release(observed),
        (None, None) => begin::begin(observed, settings, now),
    };
    told(observed, plan)
}

/// The marks of a run that has begun.
#[derive(Debug, Clone)]
pub(super) struct Started {
    /// The revision's name.
    pub revision: String,
    /// When.
    pub at: Timestamp,
}

impl Started {
    fn of(observed: &Observed) -> Option<Self> {
        let annotations = observed.run.metadata.annotations.as_ref()?;
        let at = annotations.get(names::STARTED_ANNOTATION)?.parse().ok()?;
        Some(Self { revision: annotations.get(names::REVISION_ANNOTATION)?.clone(), at })
    }
}

/// The finalizers of the run without ours.
pub(super) fn other_finalizers(observed: &Observed) -> Vec<String> {
    let all = observed.run.metadata.finalizers.iter().flatten();
    all.filter(|finalizer| finalizer.as_str() != names::FINALIZER).cloned().collect()
}

/// Lets a run go that is being deleted.
fn release(observed: &Observed) -> RunPlan {
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
pub(super) fn end(observed: &Observed, outcome: Outcome) -> Effect {
    Effect::Finish {
        resource_version: observed.run.resource_version(),
        finalizers: other_finalizers(observed),
        outcome,
    }
}

/// The end of a run one of whose Jobs the API server refuses to make.
pub(super) fn unstartable(observed: &Observed, job: &Job, why: &str, now: Timestamp) -> Effect {
    let cell = job.annotations().get(names::CELL_ANNOTATION).cloned().unwrap_or_default();
    let message = format!("job {cell}: its Job can't be made: {why}. Correct the pipeline, then make a new run");
    let outcome = Outcome {
        phase: JobPhase::Failed,
        reason: "Configuration".to_owned(),
        message: printable(&message, MAX_MESSAGE),
        completed: Timestamp::from_second(now.as_second()).unwrap_or(now),
    };
    end(observed, outcome)
}

/// The context that all jobs of the run share.
pub(super) fn context<'a>(
    observed: &'a Observed,
    definition: &'a Definition,
    accepted: &'a Accepted,
    commit: Option<&'a CommitSha>,
    settings: &'a Settings,
) -> RunContext<'a> {
    let metadata = &observed.run.metadata;
    RunContext {
        name: metadata.name.as_deref().unwrap_or_default(),
        namespace: metadata.namespace.as_deref().unwrap_or_default(),
        uid: metadata.uid.as_deref().unwrap_or_default(),
        spec: &observed.run.spec,
        owner: controlled_by(&observed.run),
        definition,
        parameters: &accepted.parameters,
        event: names::event(&observed.run),
        commit,
        settings,
    }
}

fn under_way(observed: &Observed, started: &Started, settings: &Settings, now: Timestamp) -> RunPlan {
    let Some(definition) = begin::definition_of(observed, &started.revision) else {
        return lost_definition(observed, started, now);
    };
    let accepted = match accept(&definition, &observed.run.spec, settings) {
        Ok(accepted) => accepted,
        // The operator's configuration no longer allows what it allowed at the start.
        Err(refusal) => {
            return over(observed, begin::refused(&refusal, now), Some(started), now);
        }
    };
    let timeout = definition.pipeline.timeout.as_ref().map_or(DEFAULT_TIMEOUT, Period::length);
    let passed = Duration::try_from(now.duration_since(started.at)).unwrap_or_default();
    let left = timeout.saturating_sub(passed);
    let halt = if observed.run.metadata.deletion_timestamp.is_some() {
        Some(Halt::Deleted)
    } else if observed.run.spec.cancel {
        Some(Halt::Cancelled)
    } else {
        left.is_zero().then_some(Halt::TimedOut)
    };
    let walked = walk(observed, &definition, &accepted, settings, halt, now);
    let mut effects = begin::keep_definition(observed, &definition, &started.revision);
    effects.extend(walked.progress.effects);
    let (lingering, look) = linger(observed, now);
    effects.extend(lingering);
    let mut next = walked.progress.next.sooner(look);
    if halt.is_none() {
        next = next.sooner(Next::After(left));
    }
    let cells = walked.progress.cells;
    let situation = match walked.refused {
        _ if halt == Some(Halt::Deleted) => {
            if !walked.progress.going {
                effects.extend(release(observed).effects);
            }
            Situation::Waiting { reason: "Deleting", message: "the run's pods are being ended".to_owned() }
        }
        Some(result) => Situation::Over(unresolved(&result, now)),
        None if !walked.progress.going && cells.iter().all(|cell| cell.phase.is_final()) => {
            Situation::Over(status::outcome(&cells, halt == Some(Halt::Cancelled), now))
        }
        None => Situation::Running,
    };
    if let Situation::Over(outcome) = &situation {
        effects.push(end(observed, outcome.clone()));
    }
    let facts = Facts {
        situation,
        cells: &cells,
        revision: Some(started.revision.clone()),
        commit: walked.commit,
        started: Some(started.at),
    };
    Plan { effects, status: Some(status::of(observed, facts, now)), events: Vec::new(), next }
}

/// Where the graph stands, and the commit it stands on.
struct Walked {
    progress: Progress,
    commit: Option<CommitSha>,
    /// How the ref failed to name a commit.
    refused: Option<JobResult>,
}

fn walk(
    observed: &Observed,
    definition: &Definition,
    accepted: &Accepted,
    settings: &Settings,
    halt: Option<Halt>,
    now: Timestamp,
) -> Walked {
    let revision = observed.run.spec.revision.as_ref();
    let given = revision.and_then(|revision| revision.commit.as_deref()).and_then(|commit| commit.parse().ok());
    let needs_resolving = given.is_none() && revision.is_some() && definition.source.is_some();
    if !needs_resolving {
        let run = context(observed, definition, accepted, given.as_ref(), settings);
        let progress = Walk::new(&run, observed, halt, now).through(&accepted.graph);
        return Walked { progress, commit: given.clone(), refused: None };
    }
    let run = context(observed, definition, accepted, None, settings);
    let mut resolving = Walk::new(&run, observed, halt, now);
    let resolved = resolving.resolve();
    let first = resolving.done();
    match resolved {
        Some(JobResult { commit: Some(commit), .. }) => {
            let run = context(observed, definition, accepted, Some(&commit), settings);
            let mut progress = Walk::new(&run, observed, halt, now).through(&accepted.graph);
            progress.effects.splice(0..0, first.effects);
            progress.next = progress.next.sooner(first.next);
            Walked { progress, commit: Some(commit.clone()), refused: None }
        }
        result => {
            let phase = if result.is_some() { JobPhase::Skipped } else { JobPhase::Waiting };
            let cells = untouched(accepted, phase);
            Walked { progress: Progress { cells, ..first }, commit: None, refused: result }
        }
    }
}

/// All cells before anything was started.
fn untouched(accepted: &Accepted, phase: JobPhase) -> Vec<CellView> {
    let nodes = accepted.graph.nodes().iter();
    nodes
        .flat_map(|node| {
            node.cells.iter().map(move |cell| CellView {
                name: cell.name.clone(),
                position: node.position,
                phase,
                message: None,
                job: None,
                attempt: None,
                result: None,
                forgiven: node.spec.continue_on_error,
                combines: node.spec.coverage_report.is_some(),
            })
        })
        .collect()
}

fn unresolved(result: &JobResult, now: Timestamp) -> Outcome {
    let reason = result.failure.map_or("Infrastructure", |class| class.as_str());
    let message = result.message.as_deref().unwrap_or("no details");
    Outcome {
        phase: result.phase,
        reason: reason.to_owned(),
        message: format!("spec.revision: its commit could not be read: {message}. Correct it, then make a new run"),
        completed: result.finished.unwrap_or(now),
    }
}

/// A run that is over now: refused, or without its definition.
pub(super) fn over(observed: &Observed, outcome: Outcome, started: Option<&Started>, now: Timestamp) -> RunPlan {
    let facts = Facts {
        situation: Situation::Over(outcome.clone()),
        cells: &[],
        revision: started.map(|started| started.revision.clone()),
        commit: None,
        started: started.map(|started| started.at),
    };
    let status = status::of(observed, facts, now);
    Plan { effects: vec![end(observed, outcome)], status: Some(status), events: Vec::new(), next: Next::OnChange }
}

fn lost_definition(observed: &Observed, started: &Started, now: Timestamp) -> RunPlan {
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

/// A run that is over does nothing any more but show itself, end what lingers, and go when its time is over.
fn finished(
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
        let halt = (outcome.phase == JobPhase::Cancelled).then_some(Halt::Cancelled);
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

/// Drops a status that says nothing new, and tells transitions.
fn told(observed: &Observed, plan: RunPlan) -> RunPlan {
    let before = observed.run.status.as_ref();
    let Some(status) = plan.status.filter(|status| Some(status) != before) else {
        return Plan { status: None, ..plan };
    };
    let reason = |status: &RunStatus| {
        find(&status.conditions, types::SUCCEEDED)
            .map(|condition| (condition.status.clone(), condition.message.clone()))
    };
    let was = before.and_then(reason).map(|(verdict, _)| verdict);
    let mut events = plan.events;
    match reason(&status) {
        Some((verdict, note)) if verdict != "Unknown" && was.as_deref() != Some(verdict.as_str()) => {
            let (severity, reason) = match verdict.as_str() {
                "True" => (Severity::Normal, "Succeeded"),
                _ => (Severity::Warning, "Failed"),
            };
            events.push(Notice { severity, reason, action: "Run", note });
        }
        Some(_) | None => {}
    }
    Plan { status: Some(status), events, ..plan }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
