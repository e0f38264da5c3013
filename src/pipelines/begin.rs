//! The start of a run: what it executes is found, checked and frozen.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use super::concurrency::{Group, Turn};
use super::decide::{RunPlan, Started, context, other_finalizers};
use super::definition::{Definition, Source};
use super::effect::Effect;
use super::end::over;
use super::jobs::RunContext;
use super::names;
use super::observe::Observed;
use super::parameters::{Accepted, Refusal, admit};
use super::result::Outcome;
use super::reuse::{Execution, Reused, reused};
use super::settings::Settings;
use super::status::{self, Facts, Situation};
use super::surroundings;
use super::walk::ended;
use crate::api::run::{JobPhase, PullRequest};
use crate::api::source::ForkPolicy;
use crate::plan::{Next, Notice, Plan, Severity};

/// How long a pipeline or repository may be missing: GitOps tools create in any order.
const PATIENCE: Duration = Duration::from_secs(30);

/// How soon a run that waits for another one of its group looks again, should it not be woken.
const GROUP_INTERVAL: Duration = Duration::from_secs(15);

/// What the run would execute if it began now.
///
/// # Errors
/// When the pipeline or its repository is not there (yet).
fn found(observed: &Observed) -> Result<Definition, Refusal> {
    let name = &observed.run.spec.pipeline_ref.name;
    let pipeline = observed.pipeline.as_ref().ok_or_else(|| Refusal::PipelineNotFound(name.clone()))?;
    definition_from(pipeline, observed)
}

fn definition_from(pipeline: &crate::api::pipeline::Pipeline, observed: &Observed) -> Result<Definition, Refusal> {
    let source = match &pipeline.spec.repository_ref {
        None => None,
        Some(reference) => {
            let missing = || Refusal::RepositoryNotFound(reference.name.clone());
            let repository = observed.repository.as_ref().ok_or_else(missing)?;
            Some(Source::of(&repository.spec).ok_or_else(missing)?)
        }
    };
    Ok(Definition { pipeline: pipeline.spec.clone(), source })
}

/// The name of the revision that the run would execute if it began now.
#[must_use]
pub fn revision_wanted(observed: &Observed) -> Option<String> {
    let definition = found(observed).ok()?;
    Some(definition.revision_name(&observed.run.spec.pipeline_ref.name))
}

/// What a run that has begun executes: its revision, or should that be lost, the pipeline if it is still the same.
#[must_use]
pub fn definition_of(observed: &Observed, revision: &str) -> Option<Definition> {
    let kept = observed.revision.as_ref().filter(|kept| kept.name_any() == revision);
    kept.and_then(|kept| Definition::read(kept).ok()).or_else(|| {
        let definition = found(observed).ok()?;
        (definition.revision_name(&observed.run.spec.pipeline_ref.name) == revision).then_some(definition)
    })
}

/// What the run executes, or would execute if it began now.
#[must_use]
pub fn definition_now(observed: &Observed) -> Option<Definition> {
    match Started::of(observed) {
        Some(started) => definition_of(observed, &started.revision),
        None => found(observed).ok(),
    }
}

/// Keeps the revision there as long as the run is: made again when lost, with the run among its owners.
#[must_use]
pub fn keep_definition(observed: &Observed, definition: &Definition, name: &str) -> Vec<Effect> {
    let run = &observed.run;
    let Some(revision) = observed.revision.as_ref().filter(|kept| kept.name_any() == name) else {
        let namespace = run.namespace().unwrap_or_default();
        let mut revision = definition.revision(&namespace, &run.spec.pipeline_ref.name);
        // Owned from its first moment: no crash leaves it to nobody. Should another run make it at the same time, this
        // creation is refused, and the next look finds it.
        revision.metadata.owner_references = run.owner_ref(&()).map(|owner| vec![owner]);
        return vec![Effect::Preserve(Box::new(revision))];
    };
    let uid = run.uid().unwrap_or_default();
    let owners = revision.owner_references();
    if owners.iter().any(|owner| owner.uid == uid) {
        return Vec::new();
    }
    let Some(reference) = run.owner_ref(&()) else {
        return Vec::new();
    };
    let owners: Vec<OwnerReference> = owners.iter().cloned().chain([reference]).collect();
    vec![Effect::Reference { revision: name.to_owned(), resource_version: revision.resource_version(), owners }]
}

/// The end of a run that never started.
#[must_use]
pub fn refused(refusal: &Refusal, now: Timestamp) -> Outcome {
    Outcome {
        phase: JobPhase::Failed,
        reason: refusal.reason().to_owned(),
        message: refusal.to_string(),
        completed: now,
    }
}

/// A run that has not begun.
#[must_use]
pub fn begin(observed: &Observed, settings: &Settings, now: Timestamp) -> RunPlan {
    if observed.run.spec.cancel {
        let outcome = Outcome {
            phase: JobPhase::Cancelled,
            reason: "Cancelled".to_owned(),
            message: "the run was cancelled before it began".to_owned(),
            completed: now,
        };
        return over(observed, outcome, None, now);
    }
    let definition = match found(observed) {
        Ok(definition) => definition,
        Err(missing) => return patient(observed, &missing, now),
    };
    let accepted = match admit(&definition, &observed.run.spec, settings) {
        Ok(accepted) => accepted,
        Err(refusal) => return over(observed, refused(&refusal, now), None, now),
    };
    match approval(observed) {
        Approval::Given => match (&observed.run.spec.rerun_of, &observed.reused) {
            (Some(earlier), None) => take_over(observed, &earlier.name, &definition, &accepted, settings, now),
            (Some(_), Some(_)) | (None, _) => in_turn(observed, &definition, &accepted, settings, now),
        },
        Approval::Denied => over(observed, refused(&Refusal::ForkDenied, now), None, now),
        Approval::Awaited(message) => waiting(observed, "WaitingForApproval", message, Next::OnChange, now),
    }
}

/// What is missing may still come.
fn patient(observed: &Observed, missing: &Refusal, now: Timestamp) -> RunPlan {
    let created = observed.run.creation_timestamp().map_or(now, |time| time.0);
    let passed = Duration::try_from(now.duration_since(created)).unwrap_or_default();
    let left = PATIENCE.saturating_sub(passed);
    if left.is_zero() {
        return over(observed, refused(missing, now), None, now);
    }
    let message = format!("{missing}; waiting {} s for it to appear", PATIENCE.as_secs());
    waiting(observed, missing.reason(), message, Next::After(left.min(Duration::from_secs(5))), now)
}

fn waiting(observed: &Observed, reason: &'static str, message: String, next: Next, now: Timestamp) -> RunPlan {
    let facts = Facts {
        situation: Situation::Waiting { reason, message },
        cells: &[],
        revision: None,
        commit: None,
        started: None,
        artifacts: None,
    };
    Plan { effects: Vec::new(), status: Some(status::of(observed, facts, now)), events: Vec::new(), next }
}

enum Approval {
    Given,
    Denied,
    Awaited(String),
}

/// A fork's commit runs only if that very commit was approved.
fn approval(observed: &Observed) -> Approval {
    let spec = &observed.run.spec;
    let revision = spec.revision.as_ref();
    let Some(PullRequest { fork: true, number, .. }) = revision.and_then(|revision| revision.pull_request.as_ref())
    else {
        return Approval::Given;
    };
    let policy = observed.repository.as_ref().map(|repository| repository.spec.fork_pull_requests).unwrap_or_default();
    let commit = revision.and_then(|revision| revision.commit.as_deref());
    match policy {
        ForkPolicy::Deny => Approval::Denied,
        ForkPolicy::Allow => Approval::Given,
        ForkPolicy::RequireApproval if commit.is_some() && spec.approved_commit.as_deref() == commit => Approval::Given,
        ForkPolicy::RequireApproval => Approval::Awaited(format!(
            "pull request {number} comes from a fork: read its code, then set spec.approvedCommit to {}",
            commit.unwrap_or_default()
        )),
    }
}

/// Writes down what the run takes over from the earlier one, before it begins.
fn take_over(
    observed: &Observed,
    name: &str,
    definition: &Definition,
    accepted: &Accepted,
    settings: &Settings,
    now: Timestamp,
) -> RunPlan {
    let Some(earlier) = observed.earlier.as_deref() else {
        return patient(observed, &Refusal::EarlierNotFound(name.to_owned()), now);
    };
    match taken_over(observed, earlier, definition, accepted, settings, now) {
        Ok(reused) => {
            let message = format!("takes over {} jobs of run {name}", reused.cells.len());
            let effects = vec![Effect::Reuse(Box::new(reused.config_map(&observed.run)))];
            let events = unproved(&reused).into_iter().collect();
            Plan { effects, events, ..waiting(observed, "Reusing", message, Next::After(Duration::ZERO), now) }
        }
        Err(why) => {
            let refusal = Refusal::Earlier { run: name.to_owned(), why: why.to_owned() };
            over(observed, refused(&refusal, now), None, now)
        }
    }
}

/// What succeeded in the earlier run and runs again all the same.
fn unproved(reused: &Reused) -> Option<Notice> {
    let named = reused.unproved.join(", ");
    let note = format!(
        "succeeded in run {}, but it is not known that they and their services would run in the same images, so they run again: {named}",
        reused.run
    );
    let notice = Notice { severity: Severity::Normal, reason: "ImageUnproved", action: "Reuse", note };
    (!named.is_empty()).then_some(notice)
}

fn taken_over(
    observed: &Observed,
    earlier: &Observed,
    definition: &Definition,
    accepted: &Accepted,
    settings: &Settings,
    now: Timestamp,
) -> Result<Reused, &'static str> {
    let (own, before) = (&observed.run.spec, &earlier.run.spec);
    if own.pipeline_ref != before.pipeline_ref {
        return Err("is of another pipeline; name a run of the same one");
    }
    let ended = ended(earlier, settings, now)?;
    // A branch or tag means the commit that it named then: a run on its newest commit is a run without rerunOf.
    let given = own.revision.as_ref().and_then(|revision| revision.commit.as_deref());
    let is_same_commit = match given {
        Some(commit) => ended.commit.as_ref().is_some_and(|ended| ended.as_str() == commit),
        None => own.revision == before.revision,
    };
    if !is_same_commit {
        return Err("is of another commit; write its revision, or make a run without rerunOf");
    }
    let commit = ended.commit.as_ref();
    let own_context = context(observed, definition, accepted, commit, settings);
    let earlier_context = context(earlier, &ended.definition, &ended.accepted, commit, settings);
    let before = earlier_context.execution(&ended.accepted.graph);
    let own = Execution { event: before.event, ..own_context.execution(&accepted.graph) };
    Ok(reused(&own, &before, &earlier.run.name_any(), &ended.cells))
}

/// Begins when no other run of the concurrency group is before this one.
fn in_turn(
    observed: &Observed,
    definition: &Definition,
    accepted: &Accepted,
    settings: &Settings,
    now: Timestamp,
) -> RunPlan {
    let Some(concurrency) = &definition.pipeline.concurrency else {
        return start(observed, definition, accepted, settings, now);
    };
    let declared = &definition.pipeline.params;
    let group = match Group::of(concurrency, declared, &accepted.parameters, &observed.run) {
        Ok(group) => group,
        Err(refusal) => return over(observed, refused(&refusal, now), None, now),
    };
    let queued = |effects: Vec<Effect>, message: String, next: Next| {
        let plan = waiting(observed, "Queued", message, next, now);
        Plan { effects, ..plan }
    };
    // Who is in the group is read by the label: it stands there before anybody is counted.
    if observed.run.labels().get(names::GROUP_LABEL) != Some(&group.hash) {
        let message = format!("joins concurrency group {}", group.shown);
        return queued(vec![Effect::Join { group: group.hash }], message, Next::After(Duration::ZERO));
    }
    let wait = |other: &str| format!("waits for run {other} of concurrency group {}", group.shown);
    match Turn::of(&observed.run, &observed.rivals, concurrency.cancel_in_progress) {
        Turn::Begin => start(observed, definition, accepted, settings, now),
        Turn::Wait(other) => queued(Vec::new(), wait(&other), Next::After(GROUP_INTERVAL)),
        Turn::Replace(older) => {
            let message = older.first().map(|other| wait(other)).unwrap_or_default();
            let effects = older.into_iter().map(|run| Effect::Supersede { run }).collect();
            queued(effects, message, Next::After(GROUP_INTERVAL))
        }
        Turn::Superseded(newer) => over(observed, superseded(&newer, now), None, now),
    }
}

/// The end of a run that a newer one of its group replaced.
#[must_use]
pub fn superseded(newer: &str, now: Timestamp) -> Outcome {
    Outcome {
        phase: JobPhase::Cancelled,
        reason: "Superseded".to_owned(),
        message: format!("the newer run {newer} of the same concurrency group replaced it"),
        completed: now,
    }
}

/// Freezes the definition and marks the run as begun. The first jobs follow once the marks are seen.
fn start(
    observed: &Observed,
    definition: &Definition,
    accepted: &Accepted,
    settings: &Settings,
    now: Timestamp,
) -> RunPlan {
    let run = context(observed, definition, accepted, None, settings);
    let mut effects = Vec::new();
    if !surroundings::is_trusted(observed.trust.as_deref(), settings)
        && let Some(trust) = surroundings::trust(run.namespace, settings)
    {
        effects.push(Effect::Trust(Box::new(trust)));
    }
    let policies = surroundings::network_policies(run.namespace, settings);
    // The last one is read back, so that it stands for all before it.
    let stands = policies.last().and_then(|last| surroundings::content(&last.metadata)) == observed.policy.as_deref();
    if !stands {
        effects.extend(policies.into_iter().map(|policy| Effect::Restrict(Box::new(policy))));
    }
    let revision = definition.revision_name(&observed.run.spec.pipeline_ref.name);
    effects.extend(keep_definition(observed, definition, &revision));
    let mut finalizers = other_finalizers(observed);
    finalizers.push(names::FINALIZER.to_owned());
    effects.push(Effect::Begin {
        resource_version: observed.run.resource_version(),
        finalizers,
        revision: revision.clone(),
        started: now,
    });
    // The status is written with the first jobs: one write less.
    Plan { effects, status: None, events: notices(&run, accepted), next: Next::After(Duration::ZERO) }
}

/// What a pull request's run does without.
fn notices(run: &RunContext<'_>, accepted: &Accepted) -> Vec<Notice> {
    let ignored: Vec<String> =
        accepted.graph.nodes().iter().flat_map(|node| run.ignored_in_pull_request(&node.spec)).collect();
    let mut notices = vec![Notice {
        severity: Severity::Normal,
        reason: "Started",
        action: "Run",
        note: format!("started with {} jobs", accepted.graph.cell_count()),
    }];
    if !ignored.is_empty() {
        notices.push(Notice {
            severity: Severity::Warning,
            reason: "PullRequestRestricted",
            action: "Run",
            note: format!("ignored in a pull request's run: {}", ignored.join(", ")),
        });
    }
    notices
}
