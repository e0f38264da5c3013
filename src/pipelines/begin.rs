//! The start of a run: what it executes is found, checked and frozen.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use super::decide::{RunPlan, context, other_finalizers, over};
use super::definition::{Definition, Source};
use super::effect::Effect;
use super::jobs::RunContext;
use super::names;
use super::observe::Observed;
use super::parameters::{Accepted, Refusal, admit};
use super::result::Outcome;
use super::settings::Settings;
use super::status::{self, Facts, Situation};
use super::surroundings;
use crate::api::run::{JobPhase, PullRequest};
use crate::api::source::ForkPolicy;
use crate::plan::{Next, Notice, Plan, Severity};

/// How long a pipeline or repository may be missing: GitOps tools create in any order.
const PATIENCE: Duration = Duration::from_secs(30);

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
        Approval::Given => start(observed, &definition, &accepted, settings, now),
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
    if let Some(trust) = surroundings::trust(run.namespace, settings)
        && surroundings::content(&trust.metadata) != observed.trust.as_deref()
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
