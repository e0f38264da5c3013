//! What to do about one run: pure, total, and the same whatever was interrupted before.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::attempts::linger;
use super::begin;
use super::definition::Definition;
use super::effect::Effect;
use super::end::{end, finished, lost_definition, lost_reused, outcome_of, over, release, unresolved};
use super::history::{Finished, too_many};
use super::jobs::RunContext;
use super::names;
use super::observe::Observed;
use super::parameters::{Accepted, accept};
use super::plain_logs::PlainLogs;
use super::progress::Halt;
use super::queue::Mark;
use super::result::{Outcome, annotation};
use super::settings::Settings;
use super::status::{self, Facts, Situation};
use super::walk::walk;
use crate::api::conditions::{find, types};
use crate::api::duration::Period;
use crate::api::names::CommitSha;
use crate::api::run::RunStatus;
use crate::cluster::controlled_by;
use crate::plan::{Next, Notice, Plan, Severity};

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
    told(observed, pruned(observed, plan))
}

/// The marks of a run that has begun.
#[derive(Debug, Clone)]
pub struct Started {
    /// The revision's name.
    pub revision: String,
    /// When.
    pub at: Timestamp,
}

impl Started {
    /// Of a run; `None` when it has not begun.
    #[must_use]
    pub fn of(observed: &Observed) -> Option<Self> {
        let annotations = observed.run.metadata.annotations.as_ref()?;
        let at = annotations.get(names::STARTED_ANNOTATION)?.parse().ok()?;
        Some(Self { revision: annotations.get(names::REVISION_ANNOTATION)?.clone(), at })
    }
}

/// The finalizers of the run without ours.
#[must_use]
pub fn other_finalizers(observed: &Observed) -> Vec<String> {
    let all = observed.run.metadata.finalizers.iter().flatten();
    all.filter(|finalizer| finalizer.as_str() != names::FINALIZER).cloned().collect()
}

/// The context that all jobs of the run share.
#[must_use]
pub fn context<'a>(
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
        event: observed.reused.as_ref().map_or_else(|| names::event(&observed.run), |reused| &reused.event),
        commit,
        settings,
        reused: observed.reused.as_ref(),
    }
}

fn under_way(observed: &Observed, started: &Started, settings: &Settings, now: Timestamp) -> RunPlan {
    let Some(definition) = begin::definition_of(observed, &started.revision) else {
        return lost_definition(observed, started, now);
    };
    if observed.run.spec.rerun_of.is_some() && observed.reused.is_none() {
        return lost_reused(observed, started, now);
    }
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
    } else if observed.run.annotations().contains_key(names::SUPERSEDED_ANNOTATION) {
        Some(Halt::Superseded)
    } else {
        left.is_zero().then_some(Halt::TimedOut)
    };
    let walked = walk(observed, &definition, &accepted, settings, halt, now);
    let mut effects = begin::keep_definition(observed, &definition, &started.revision);
    let logs = PlainLogs::of(observed, now);
    let mut next = walked.progress.next.sooner(logs.next());
    effects.extend(logs.effects);
    effects.extend(walked.progress.effects);
    let (lingering, look) = linger(observed, now);
    effects.extend(lingering);
    next = next.sooner(look);
    if halt.is_none() {
        next = next.sooner(Next::After(left));
    }
    // What the pods have printed is kept before the run lets them go.
    if !walked.progress.going && !logs.under_way.is_empty() {
        effects.push(Effect::AwaitLogs { jobs: logs.under_way });
    }
    let going = walked.progress.going || logs.pending;
    let cells = walked.progress.cells;
    let situation = match walked.refused {
        _ if halt == Some(Halt::Deleted) => {
            if !going {
                effects.extend(release(observed).effects);
            }
            Situation::Waiting { reason: "Deleting", message: "the run's pods are being ended".to_owned() }
        }
        Some(result) => Situation::Over(unresolved(&result, now)),
        None if !going && cells.iter().all(|cell| cell.phase.is_final()) => {
            Situation::Over(outcome_of(observed, &cells, halt, now))
        }
        None => {
            let room = walked.waits.as_ref().map(|(grant, _)| grant.why(&settings.limits));
            let follows = walked.progress.follows.as_ref();
            let made = follows.map(|run| format!("waits for run {run}, which makes the same environment"));
            let waits: Vec<String> = room.into_iter().chain(made).collect();
            Situation::Running { waits: (!waits.is_empty()).then(|| waits.join("; ")) }
        }
    };
    effects.extend(match &situation {
        Situation::Over(outcome) => vec![end(observed, outcome.clone())],
        Situation::Running { .. } | Situation::Waiting { .. } => {
            let waits = marked(observed, walked.waits.map(|(_, mark)| mark));
            waits.into_iter().chain(following(observed, walked.progress.follows)).collect()
        }
    });
    let facts = Facts {
        situation,
        cells: &cells,
        revision: Some(started.revision.clone()),
        commit: walked.commit,
        started: Some(started.at),
        artifacts: status::kept_at(observed, &definition, settings),
    };
    Plan { effects, status: Some(status::of(observed, facts, now)), events: Vec::new(), next }
}

/// Says that the run waits for room, or that it does not any more.
#[must_use]
pub fn marked(observed: &Observed, wanted: Option<Mark>) -> Option<Effect> {
    let mark = Mark::of(&observed.run);
    match wanted {
        Some(wanted) => (mark.as_ref() != Some(&wanted)).then_some(Effect::Wait(wanted)),
        None => mark.map(|_| Effect::Proceed),
    }
}

/// Says which run makes an environment that this one waits for, or that it waits for none any more.
fn following(observed: &Observed, run: Option<String>) -> Option<Effect> {
    let marked = observed.run.annotations().get(names::FOLLOWS_ANNOTATION);
    (marked != run.as_ref()).then_some(Effect::Follow { run })
}

/// With the end of a run that a trigger or the plugin made, older ones go, should they be too many by then.
fn pruned(observed: &Observed, plan: RunPlan) -> RunPlan {
    let outcome = plan
        .effects
        .iter()
        .find_map(|effect| if let Effect::Finish { outcome, .. } = effect { Some(outcome) } else { None });
    let own = outcome.and_then(|outcome| Finished::ended(&observed.run, outcome));
    let (Some(own), Some(history)) = (own, &observed.history) else {
        return plan;
    };
    let limits = begin::definition_now(observed).and_then(|definition| definition.pipeline.history_limits);
    let others = history.iter().filter(|other| other.uid != own.uid).cloned();
    let all: Vec<Finished> = others.chain([own.clone()]).collect();
    let gone = too_many(&all, limits.as_ref()).into_iter().filter(|run| run.uid != own.uid);
    let effects =
        plan.effects.into_iter().chain(gone.map(|run| Effect::Prune { run: run.name, uid: run.uid })).collect();
    Plan { effects, ..plan }
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
