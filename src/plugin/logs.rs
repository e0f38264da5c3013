//! The logs of a run's jobs: from the pod while it is there, then what the artifact store kept.

use std::io::{self, Write};
use std::time::Duration;

use futures::io::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, LogParams};
use serde::Deserialize;
use tokio::time::sleep;

use super::error::{Access, PluginError};
use super::escape::Escaper;
use super::steps::{has_ended, has_log};
use super::store::{Content, Store, StoreError};
use super::text::{shown, size};
use super::view::pod_selector;
use super::{Context, Ending};
use crate::api::artifacts;
use crate::api::marks::MAIN_CONTAINER;
use crate::api::run::{JobPhase, JobStatus, PipelineRun};

/// How often a follower looks for what has not begun.
const LOOK: Duration = Duration::from_secs(1);
/// How often in a row a log that breaks off is opened again.
const TRIES: u32 = 5;
const BUFFER: usize = 16 << 10;
const MAX_STATE: usize = 64 << 10;

/// Arguments of `logs`.
#[derive(Debug, Clone, clap::Args)]
pub struct LogsArguments {
    /// The run.
    run: String,
    /// The job, as `status` names it: `unit-tests (models)` for one cell of a matrix, `unit-tests` for all; default: all jobs, one after the other.
    job: Option<String>,
    /// Go on until the jobs have ended.
    #[arg(long, short)]
    follow: bool,
    /// Only the jobs that failed.
    #[arg(long, conflicts_with = "follow")]
    failed: bool,
    /// Another container of the pod: a service, `source`, `collector`.
    #[arg(long, short, default_value = MAIN_CONTAINER)]
    container: String,
}

/// Prints the logs that were asked for.
pub(super) async fn logs(context: &Context, arguments: &LogsArguments) -> Result<Ending, PluginError> {
    // By the Kubernetes Job, so that a second attempt is a log of its own.
    let mut printed: Vec<String> = Vec::new();
    loop {
        let run = context.run(&arguments.run).await?;
        let status = run.status.clone().unwrap_or_default();
        let wanted: Vec<&JobStatus> = status.jobs.iter().filter(|job| is_wanted(job, arguments)).collect();
        let over = status.completion_time.is_some();
        let may_come = arguments.follow && !over && (arguments.job.is_none() || status.jobs.is_empty());
        if wanted.is_empty() && printed.is_empty() && !may_come {
            return Err(no_job(arguments, &status.jobs));
        }
        let next = wanted.iter().find(|job| {
            let begun = job.phase == JobPhase::Running || job.phase.is_final();
            !printed.contains(key(job)) && (begun || !arguments.follow)
        });
        match next {
            Some(job) => {
                if wanted.len() > 1 {
                    writeln!(io::stdout().lock(), "==> {} <==", shown(&job.name))?;
                }
                one(context, &run, job, arguments).await?;
                printed.push(key(job).clone());
            }
            None if !arguments.follow || over => return Ok(Ending::Success),
            None if arguments.job.is_some() && wanted.iter().all(|job| job.phase.is_final()) => {
                return Ok(Ending::Success);
            }
            None => sleep(LOOK).await,
        }
    }
}

fn key(job: &JobStatus) -> &String {
    job.job.as_ref().unwrap_or(&job.name)
}

fn is_wanted(job: &JobStatus, arguments: &LogsArguments) -> bool {
    let named = match &arguments.job {
        Some(name) => {
            job.name == *name || job.name.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(" ("))
        }
        // Of all jobs, those that have a log, or still may have one.
        None => job.job.is_some() || (arguments.follow && !job.phase.is_final()),
    };
    named && (!arguments.failed || job.phase == JobPhase::Failed)
}

fn no_job(arguments: &LogsArguments, jobs: &[JobStatus]) -> PluginError {
    let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    PluginError::Usage(match (&arguments.job, names.is_empty()) {
        (_, true) => format!("run {} has no jobs: kubectl timetracker status {0} says why", arguments.run),
        (Some(job), false) if arguments.failed => format!("no job {job} of run {} has failed", arguments.run),
        (None, false) if arguments.failed => format!("no job of run {} has failed", arguments.run),
        (None, false) => format!("no job of run {} has started", arguments.run),
        (Some(job), false) => format!("run {} has no job {job}; it has: {}", arguments.run, names.join(", ")),
    })
}

/// The log of one job.
async fn one(
    context: &Context,
    run: &PipelineRun,
    job: &JobStatus,
    arguments: &LogsArguments,
) -> Result<(), PluginError> {
    let Some(name) = job.job.as_deref() else {
        return note(&format!("{} has not started, so there is no log", job.name));
    };
    if let Some(pod) = pod_of(context, name).await?.filter(|pod| has_log(pod, &arguments.container)) {
        match from_pod(context, &pod, arguments).await {
            // The node may have gone with the pod's log.
            Err(PluginError::Api { why, .. } | PluginError::Refused(why)) if job.phase.is_final() => {
                note(&format!("the pod's log can't be read ({why}); this is what was kept"))?;
            }
            result => return result,
        }
    }
    if !job.phase.is_final() {
        let waits = job.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
        return note(&format!("{} has not started{waits}", job.name));
    }
    if arguments.container == MAIN_CONTAINER {
        from_store(context, run, job, name).await
    } else {
        service_from_store(context, run, job, name, &arguments.container).await
    }
}

async fn pod_of(context: &Context, job: &str) -> Result<Option<Pod>, PluginError> {
    let access = Access::new("list", "pods", &context.namespace);
    let list = context.pods().list(&ListParams::default().labels(&pod_selector(job))).await;
    let pods = list.map_err(|error| access.error(error))?.items;
    Ok(pods.into_iter().max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0)))
}

/// Streams the log of the pod. A log that is followed and breaks off is opened again where it was.
async fn from_pod(context: &Context, pod: &Pod, arguments: &LogsArguments) -> Result<(), PluginError> {
    let access = Access::new("get", "pods/log", &context.namespace);
    let parameters =
        LogParams { container: Some(arguments.container.clone()), follow: arguments.follow, ..LogParams::default() };
    let name = pod.name_any();
    let mut sink = Sink::new(context.output.terminal);
    let (mut seen, mut tried) = (0_u64, 0);
    loop {
        let mut stream = match context.pods().log_stream(&name, &parameters).await {
            Ok(stream) => Box::pin(stream),
            Err(error) if seen == 0 => return Err(access.error(error)),
            Err(error) => {
                tried += 1;
                if tried >= TRIES {
                    return Err(access.error(error));
                }
                sleep(LOOK).await;
                continue;
            }
        };
        let mut skip = seen;
        let mut buffer = vec![0; BUFFER];
        let broken = loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break None,
                Err(error) => break Some(error),
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    let known = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
                    skip -= u64::try_from(known).unwrap_or_default();
                    let fresh = bytes.get(known..).unwrap_or_default();
                    if !fresh.is_empty() {
                        sink.write(fresh)?;
                        seen += u64::try_from(fresh.len()).unwrap_or_default();
                        tried = 0;
                    }
                }
            }
        };
        let ended = match &broken {
            None if !arguments.follow => true,
            // A log that is followed ends with its container; a connection may end before.
            None => context
                .pods()
                .get_opt(&name)
                .await
                .map_err(|error| Access::new("get", "pods", &context.namespace).error(error))?
                .is_none_or(|pod| has_ended(&pod, &arguments.container)),
            Some(_) => false,
        };
        tried += 1;
        if ended || tried >= TRIES {
            sink.end()?;
            return match broken {
                Some(error) => note(&format!("the log broke off: {error}")),
                None => Ok(()),
            };
        }
        sleep(LOOK).await;
    }
}

/// What the collector says of a log that it keeps.
#[derive(Debug, Deserialize)]
struct LogState {
    /// Whether the command had ended when it was kept.
    complete: bool,
    /// How much it had printed; absent: nobody knows.
    bytes: Option<u64>,
}

/// The log of a service as it was kept.
async fn service_from_store(
    context: &Context,
    run: &PipelineRun,
    job: &JobStatus,
    kubernetes_job: &str,
    service: &str,
) -> Result<(), PluginError> {
    let store = context.store(run).await?;
    let (run, name) = (run.name_any(), artifacts::service_log(service));
    match store.get([context.namespace.as_str(), run.as_str(), kubernetes_job, &name]).await {
        Err(StoreError::NotFound) => note(&format!(
            "the pod of {} is gone, and no log of {service} was kept: only that of a postgres beside a job that failed is",
            job.name
        )),
        other => {
            note(&format!("the pod of {} is gone; this is what the artifact store kept of {service}", job.name))?;
            let mut sink = Sink::new(context.output.terminal);
            copy(other?, &mut sink).await?;
            sink.end()
        }
    }
}

/// Head and tail as they were kept.
async fn from_store(
    context: &Context,
    run: &PipelineRun,
    job: &JobStatus,
    kubernetes_job: &str,
) -> Result<(), PluginError> {
    let store = context.store(run).await?;
    let run = run.name_any();
    let names = |name| [context.namespace.as_str(), run.as_str(), kubernetes_job, name];
    let head = match store.get(names(artifacts::LOG_HEAD)).await {
        Err(StoreError::NotFound) => {
            return note(&format!(
                "the pod of {} is gone, and no log of it was kept: it printed nothing, was lost within its first minute, or ended longer ago than the store's retention says",
                job.name
            ));
        }
        other => other?,
    };
    let state = state(&store, names(artifacts::LOG_STATE)).await;
    note(&format!("the pod of {} is gone; this is what the artifact store kept", job.name))?;
    let mut sink = Sink::new(context.output.terminal);
    let mut shown = copy(head, &mut sink).await?;
    let tail = match store.get(names(artifacts::LOG_TAIL)).await {
        Err(StoreError::NotFound) => None,
        other => Some(other?),
    };
    if let Some(tail) = tail {
        shown += tail.length.unwrap_or_default();
        let missing = state.as_ref().map(|state| state.bytes.map(|bytes| bytes.saturating_sub(shown)));
        match missing {
            None | Some(Some(0)) => {}
            Some(Some(missing)) => {
                sink.end()?;
                note(&format!("{} in the middle were not kept", size(missing)))?;
            }
            Some(None) => {
                sink.end()?;
                note("what came in the middle was not kept")?;
            }
        }
        copy(tail, &mut sink).await?;
    }
    sink.end()?;
    if state.is_some_and(|state| !state.complete) {
        note(
            "this log is incomplete: the pod was lost while it was written, and what came after the last look is missing",
        )?;
    }
    Ok(())
}

async fn state(store: &Store, names: [&str; 4]) -> Option<LogState> {
    serde_json::from_slice(&store.read(names, MAX_STATE).await.ok()?).ok()
}

async fn copy(mut content: Content, sink: &mut Sink) -> Result<u64, PluginError> {
    let mut copied = 0;
    while let Some(part) = content.next().await? {
        copied += u64::try_from(part.len()).unwrap_or_default();
        sink.write(&part)?;
    }
    Ok(copied)
}

/// Tells something about a log, beside it.
fn note(text: &str) -> Result<(), PluginError> {
    Ok(writeln!(io::stderr().lock(), "{}", shown(text))?)
}

/// Where a log goes: escaped to a terminal, as it is to anything else.
struct Sink {
    escaper: Option<Escaper>,
}

impl Sink {
    fn new(terminal: bool) -> Self {
        Self { escaper: terminal.then(Escaper::default) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PluginError> {
        let mut out = io::stdout().lock();
        match &mut self.escaper {
            Some(escaper) => out.write_all(escaper.part(bytes).as_bytes())?,
            None => out.write_all(bytes)?,
        }
        Ok(out.flush()?)
    }

    fn end(&mut self) -> Result<(), PluginError> {
        let rest = self.escaper.as_mut().map(Escaper::end).unwrap_or_default();
        let mut out = io::stdout().lock();
        out.write_all(rest.as_bytes())?;
        Ok(out.flush()?)
    }
}
