//! Pipelines: a run executes a graph of jobs, each a Kubernetes Job of one pod.
//!
//! **observe** reads the run, what it executes, and its Jobs, pods and claims; **decide** is pure; **act** writes.
//! What is true stands in the world, never in the run's status: results are annotations on the Jobs, the verdict is one
//! on the run, and a status that was deleted is rebuilt from both.

mod attempt;
mod attempts;
mod begin;
mod decide;
mod definition;
mod effect;
mod environment;
mod expressions;
mod failure;
mod gate;
mod graph;
mod inputs;
mod jobs;
pub mod names;
mod observe;
mod parameters;
mod pods;
mod progress;
mod result;
mod services;
mod settings;
pub mod significance;
mod status;
mod steps;
mod surroundings;

pub use begin::revision_wanted;
pub use decide::decide;
pub use definition::{Definition, Source};
pub use effect::Effect;
pub use graph::{Graph, GraphError};
pub use observe::{Observed, Room};
pub use parameters::Refusal;
pub use result::{JobResult, Outcome, Stop};
pub use settings::{Endpoint, Settings};
pub use status::patch as status_patch;

use std::time::Duration;

use jiff::Timestamp;

use crate::api::run::PipelineRun;
use crate::cluster::{ActError, Cluster, ManifestError, ReadError, Target, Write};
use crate::plan::{Next, Notice, Severity};

/// How soon a start that a quota refused is tried again.
const QUOTA_INTERVAL: Duration = Duration::from_secs(10);

/// What selects the children to be watched: Jobs and pods, of which [`names::RUN_LABEL`] names the run.
pub use names::CHILD_SELECTOR;

/// A reconcile that did not come to its end: it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The world could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An effect is no object.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An effect was not done, or we don't know.
    #[error(transparent)]
    Act(#[from] ActError),
}

impl RunError {
    /// A static word for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Read(error) => error.reason(),
            Self::Manifest(_) => "Manifest",
            Self::Act(error) => error.reason(),
        }
    }

    /// Whether it is enough to observe again at once.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Act(error) => error.is_conflict(),
            Self::Read(_) | Self::Manifest(_) => false,
        }
    }
}

/// Brings one run a step further, and says when to look again. `now` is the time of the decision.
///
/// # Errors
/// When the world can't be read or written; what was done until then is found again.
pub async fn reconcile(
    cluster: &Cluster,
    settings: &Settings,
    namespace: &str,
    name: &str,
    now: impl Fn() -> Timestamp,
) -> Result<Next, RunError> {
    let Some(observed) = Observed::read(cluster, settings, namespace, name, now()).await? else {
        return Ok(Next::OnChange);
    };
    let now = now();
    act(cluster, &observed, decide(&observed, settings, now), now).await
}

async fn act(cluster: &Cluster, observed: &Observed, plan: decide::RunPlan, now: Timestamp) -> Result<Next, RunError> {
    let metadata = &observed.run.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    for effect in &plan.effects {
        tracing::info!(run = name, namespace, effect = effect.describe(), "acting");
        match (cluster.act(&effect.write(namespace, name)?).await, effect) {
            (Ok(()), _) => {}
            // A quota is used up: the run waits. Its status is not written: it would tell of a Job that is not there.
            (Err(error @ ActError::Refused { quota: true, .. }), Effect::Start(_)) => {
                let note = format!("a job waits: {error}");
                let notice = Notice { severity: Severity::Warning, reason: "QuotaExceeded", action: "Start", note };
                cluster.notify(&observed.run, &notice).await;
                return Ok(Next::After(QUOTA_INTERVAL));
            }
            // The Job can never be made: the run says so, instead of trying for ever.
            (Err(error @ (ActError::Refused { .. } | ActError::Foreign { .. })), Effect::Start(job)) => {
                let end = decide::unstartable(observed, job, &error.to_string(), now);
                cluster.act(&end.write(namespace, name)?).await?;
                return Ok(Next::After(Duration::ZERO));
            }
            (Err(error), _) => return Err(error.into()),
        }
    }
    if let Some(status) = &plan.status {
        let target = Target::of::<PipelineRun>(namespace, name);
        cluster.act(&Write::Status { target, status: status::patch(status) }).await?;
    }
    for notice in &plan.events {
        cluster.notify(&observed.run, notice).await;
    }
    Ok(plan.next)
}
