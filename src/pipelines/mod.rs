//! Pipelines: a run executes a graph of jobs, each a Kubernetes Job of one pod.
//!
//! **observe** reads the run, what it executes, and its Jobs, pods and claims; **decide** is pure; **act** writes.
//! What is true stands in the world, never in the run's status: results are annotations on the Jobs, the verdict is one
//! on the run, and a status that was deleted is rebuilt from both.

mod attempt;
mod attempts;
mod begin;
mod concurrency;
mod decide;
mod definition;
mod effect;
mod end;
mod environment;
mod environments;
mod expressions;
mod failure;
mod findings;
mod gate;
mod graph;
mod history;
mod images;
mod inputs;
mod jobs;
pub mod names;
mod observe;
pub mod outline;
mod parameters;
mod plain_logs;
mod pods;
mod progress;
mod queue;
mod result;
mod reuse;
mod revisions;
mod services;
mod settings;
pub mod significance;
mod status;
mod steps;
mod surroundings;
mod wake;
mod walk;

pub use begin::revision_wanted;
pub use concurrency::Rival;
pub use decide::decide;
pub use definition::{Definition, Source};
pub use effect::Effect;
pub use environments::flight::Flight;
pub use graph::{Graph, GraphError};
pub use history::Finished;
pub use observe::{Observed, is_told};
pub use parameters::Refusal;
pub use plain_logs::owes_log;
pub use queue::{Mark, Queue, Waiting, takes_room};
pub use result::{JobResult, Outcome, Stop};
pub use reuse::Reused;
pub use settings::{Endpoint, Settings};
pub use status::patch as status_patch;
pub use wake::woken;

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use kube::ResourceExt;
use tokio::sync::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};

use self::revisions::Revisions;
use crate::api::conditions::{MAX_MESSAGE, printable};
use crate::api::run::PipelineRun;
use crate::cluster::{ActError, Cluster, ManifestError, ReadError, Target, Write};
use crate::logs::Keeper;
use crate::plan::{Next, Notice, Severity};

/// How many messages of what became free may be on their way.
const FREED_CAPACITY: usize = 256;

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

/// What all reconciles of runs share.
#[derive(Debug)]
pub struct Runs {
    settings: Settings,
    /// Held while a run begins or starts Jobs: so each of them counts what the one before it started, and within one
    /// operator the limits are kept exactly.
    turn: Mutex<()>,
    freed: broadcast::Sender<PipelineRun>,
    revisions: Revisions,
    /// Keeps the logs of plain pods; absent: nobody does.
    logs: Option<Keeper>,
}

impl Runs {
    /// With the operator's configuration.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            turn: Mutex::new(()),
            freed: broadcast::Sender::new(FREED_CAPACITY),
            revisions: Revisions::default(),
            logs: None,
        }
    }

    /// The same, with logs of plain pods kept in the artifact store, where the configuration names a token for it.
    #[must_use]
    pub fn keeping_logs(self, cluster: &Cluster) -> Self {
        let store = self.settings.artifacts.as_ref();
        let logs = store.and_then(|store| Some(Keeper::new(cluster.clone(), &store.url, store.token_file.clone()?)));
        Self { logs, ..self }
    }

    /// The runs, by namespace and name, that waited for a log, from now on.
    pub fn logs_ended(&self) -> impl Stream<Item = (String, String)> + Send + 'static {
        match &self.logs {
            Some(logs) => logs.ended().left_stream(),
            None => futures::stream::pending().right_stream(),
        }
    }

    /// The runs that gave something free, from now on: whom they wake says [`woken`].
    pub fn freed(&self) -> impl Stream<Item = PipelineRun> + Send + 'static {
        let receiver = self.freed.subscribe();
        futures::stream::unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(run) => return Some((run, receiver)),
                    // What was missed wakes nobody: all look by themselves, less often.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
    }
}

impl Runs {
    /// Does what is no write to the API server.
    fn keep(&self, namespace: &str, run: &str, effect: &Effect) {
        match (&self.logs, effect) {
            (Some(logs), Effect::KeepLog(wanted)) => logs.keep(wanted.as_ref().clone()),
            (Some(logs), Effect::AwaitLogs { jobs }) => logs.await_end(namespace, run, jobs),
            (Some(_) | None, _) => {}
        }
    }
}

/// Brings one run a step further, and says when to look again. `now` is the time of the decision.
///
/// # Errors
/// When the world can't be read or written; what was done until then is found again.
pub async fn reconcile(
    cluster: &Cluster,
    runs: &Runs,
    namespace: &str,
    name: &str,
    now: impl Fn() -> Timestamp,
) -> Result<Next, RunError> {
    let Some(mut observed) =
        Observed::read(cluster, &runs.revisions, runs.logs.as_ref(), namespace, name, now()).await?
    else {
        return Ok(Next::OnChange);
    };
    let time = now();
    let mut plan = decide(&observed, &runs.settings, time);
    if plan.effects.iter().any(Effect::ends_run) {
        observed.read_history(cluster).await?;
        plan = decide(&observed, &runs.settings, time);
    }
    if !plan.effects.iter().any(Effect::needs_turn) {
        return act(cluster, runs, observed, plan, time).await;
    }
    let _turn = runs.turn.lock().await;
    observed.take_turn(cluster, &runs.settings, &environments::flight::wanted(&plan.effects)).await?;
    let time = now();
    let plan = decide(&observed, &runs.settings, time);
    act(cluster, runs, observed, plan, time).await
}

async fn write_one(cluster: &Cluster, namespace: &str, run: &str, effect: &Effect) -> Result<(), RunError> {
    if let Some(write) = effect.write(namespace, run)? {
        cluster.act(&write).await?;
    }
    Ok(())
}

async fn act(
    cluster: &Cluster,
    runs: &Runs,
    mut observed: Observed,
    mut plan: decide::RunPlan,
    now: Timestamp,
) -> Result<Next, RunError> {
    let namespace = observed.run.namespace().unwrap_or_default();
    let name = observed.run.name_any();
    let (namespace, name) = (namespace.as_str(), name.as_str());
    for effect in &plan.effects {
        if effect.is_mark() && !observed.held.is_empty() {
            continue;
        }
        tracing::info!(run = name, namespace, effect = effect.describe(), "acting");
        let Some(write) = effect.write(namespace, name)? else {
            runs.keep(namespace, name, effect);
            continue;
        };
        match (cluster.act(&write).await, effect) {
            (Ok(()), Effect::Record { .. } | Effect::Finish { .. }) => {
                // Nobody listens while the controllers start: then all are looked at anyway.
                let _listeners = runs.freed.send(observed.run.clone());
                if let Some(logs) = runs.logs.as_ref().filter(|_| effect.ends_run()) {
                    logs.forget(observed.jobs.iter().filter_map(|job| job.metadata.uid.as_deref()));
                }
            }
            (Ok(()), _) => {}
            (Err(error @ ActError::Refused { quota: true, .. }), Effect::Start(job)) => {
                // Nothing has run, so it may be claimed again.
                if plan.effects.iter().any(|effect| effect.claims(job)) {
                    let unclaim = Effect::Unclaim { claim: job.name_any() };
                    write_one(cluster, namespace, name, &unclaim).await?;
                }
                observed.held.insert(job.name_any(), error.why());
            }
            // The Job can never be made: that is its result, instead of trying for ever.
            (Err(error @ (ActError::Refused { .. } | ActError::Foreign { .. })), Effect::Start(job)) => {
                let refuse = Effect::Refuse { job: job.name_any(), why: printable(&error.why(), MAX_MESSAGE) };
                write_one(cluster, namespace, name, &refuse).await?;
                return Ok(Next::After(Duration::ZERO));
            }
            (Err(error), _) => return Err(error.into()),
        }
    }
    if let Some((job, why)) = observed.held.first_key_value() {
        let note = format!("a job waits: {job}: {why}");
        let notice = Notice { severity: Severity::Warning, reason: "QuotaExceeded", action: "Start", note };
        cluster.notify(&observed.run, &notice).await;
        // It keeps no place in the queue: others may have room where it has none.
        if Mark::of(&observed.run).is_some() {
            write_one(cluster, namespace, name, &Effect::Proceed).await?;
        }
        // What was not started is told as what it is.
        plan = decide(&observed, &runs.settings, now);
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
