//! How one attempt at a job stands: one Job, its pod, and what is to be done about them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::failure::{self, COLLECTOR, Expectations, MAIN};
use super::names;
use super::result::{JobResult, Stop, annotation};
use crate::api::run::{FailureClass, JobPhase};
use crate::cluster::{patience_left, references};
use crate::plan::Next;
use crate::workload::{Loss, Lost, PodPhase, WaitCause, Waiting, container_end, pod_phase};

/// How long a pod may wait for a node, or a Job for its pod, or a container for its start.
pub const START_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long a registry may fail to answer.
const PULL_LIMIT: Duration = Duration::from_secs(5 * 60);
/// How soon a Job without a pod is looked at again.
const UNMADE_INTERVAL: Duration = Duration::from_secs(10);
/// How long a Secret or ConfigMap may be missing: GitOps tools create in any order.
const REFERENCE_LIMIT: Duration = Duration::from_secs(30);
/// How long a service may fail beside the job before the attempt is given up.
const SERVICE_LIMIT: Duration = Duration::from_secs(30);
/// How long other containers may go on after the command: the pod's grace and a little.
pub const LINGER_LIMIT: Duration = Duration::from_secs(150);
/// How long after its deletion was due a pod may still be listed before it counts as gone.
const GONE_LIMIT: Duration = Duration::from_secs(30);

/// How an attempt stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// It is on its way.
    Going(Going),
    /// It is over.
    Over {
        /// How it ended.
        result: JobResult,
        /// Whether that is written down.
        recorded: bool,
    },
}

/// An attempt on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Going {
    /// Starting or Running.
    pub phase: JobPhase,
    /// What it waits for, when that is unusual.
    pub message: Option<String>,
    /// When to look again.
    pub look: Next,
    /// Whether it was told to stop.
    pub stopping: bool,
    /// Why it must be stopped now by its own rules.
    pub stop: Option<(FailureClass, String)>,
    /// How its pod is being taken away, when that is to be written down.
    pub loss: Option<Lost>,
}

impl Going {
    fn at(phase: JobPhase, look: Next) -> Self {
        Self { phase, message: None, look, stopping: false, stop: None, loss: None }
    }

    /// The same, with what it waits for.
    fn showing(self, message: &str) -> Self {
        Self { message: (!message.is_empty()).then(|| message.to_owned()), ..self }
    }
}

/// How the attempt stands.
#[must_use]
pub fn judge(job: &Job, pod: Option<&Pod>, expected: &Expectations, now: Timestamp) -> Judgement {
    if let Some(result) = annotation::<JobResult>(&job.metadata, names::RESULT_ANNOTATION) {
        return Judgement::Over { result, recorded: true };
    }
    let stop: Option<Stop> = pod
        .and_then(|pod| annotation(&pod.metadata, names::STOP_ANNOTATION))
        .or_else(|| annotation(&job.metadata, names::STOP_ANNOTATION));
    let judgement = match pod_phase(job, pod, MAIN) {
        PodPhase::NoPod => no_pod(job, stop.as_ref(), now),
        PodPhase::Waiting(waiting) => match pod {
            Some(pod) => while_waiting(pod, &waiting, stop.as_ref(), now),
            None => no_pod(job, stop.as_ref(), now),
        },
        PodPhase::Running { since } => while_running(since, expected, now),
        PodPhase::Ended(end) => match pod {
            Some(pod) => {
                let waits = expected.collector && container_end(pod, COLLECTOR).is_none() && !is_terminal(pod);
                if waits {
                    collecting(end.finished, now)
                } else {
                    over(failure::of_end(&end, pod, stop.as_ref(), expected))
                }
            }
            None => over(failure::of_loss(&Lost::of(Loss::Deleted, None))),
        },
        PodPhase::Lost(seen) => {
            // A pod that is evicted shows why only as long as it is there.
            let written: Option<Lost> = annotation(&job.metadata, names::LOSS_ANNOTATION);
            let is_written = written.is_some();
            let loss = written.filter(|_| seen == Loss::Deleted).unwrap_or_else(|| Lost::of(seen, pod));
            match lost(pod, &loss, stop.as_ref(), now) {
                Judgement::Going(going) if !is_written && loss.how != Loss::Deleted => {
                    Judgement::Going(Going { loss: Some(loss), ..going })
                }
                judgement @ (Judgement::Going(_) | Judgement::Over { .. }) => judgement,
            }
        }
    };
    match judgement {
        Judgement::Going(going) => Judgement::Going(Going { stopping: stop.is_some(), ..going }),
        Judgement::Over { result, recorded } => {
            let finished = result.finished.or(Some(now));
            Judgement::Over { result: JobResult { finished, ..result }, recorded }
        }
    }
}

fn over(result: JobResult) -> Judgement {
    Judgement::Over { result, recorded: false }
}

fn going(phase: JobPhase, look: Next) -> Judgement {
    Judgement::Going(Going::at(phase, look))
}

/// Goes on until `limit` after `since`, then must be stopped for that reason.
fn limited(
    phase: JobPhase,
    since: Option<Timestamp>,
    limit: Duration,
    now: Timestamp,
    class: FailureClass,
    why: &str,
) -> Going {
    let left = remaining(since, limit, now);
    let stop = left.is_zero().then(|| (class, why.to_owned()));
    Going { stop, ..Going::at(phase, Next::After(left.max(Duration::from_secs(1)))) }
}

/// The command has ended: its reports are read and what it leaves is kept, which must come to an end too.
fn collecting(ended: Option<Timestamp>, now: Timestamp) -> Judgement {
    let limit = LINGER_LIMIT + LINGER_LIMIT;
    let late = "the collector did not end after the command";
    let going = limited(JobPhase::Running, ended, limit, now, FailureClass::Infrastructure, late);
    let shown = if going.stop.is_none() { "reports and artifacts are being collected" } else { late };
    Judgement::Going(going.showing(shown))
}

/// What is left of `limit` since then; an unknown start leaves all of it.
#[must_use]
pub fn remaining(since: Option<Timestamp>, limit: Duration, now: Timestamp) -> Duration {
    let passed = since.map_or(SignedDuration::ZERO, |since| now.duration_since(since));
    limit.saturating_sub(Duration::try_from(passed).unwrap_or_default())
}

fn no_pod(job: &Job, stop: Option<&Stop>, now: Timestamp) -> Judgement {
    match stop {
        // The Job is suspended: no pod will come.
        Some(stop) => over(stop.result()),
        None => {
            let since = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
            let text = "no pod was made for 15 minutes: see `kubectl describe job`";
            let going = limited(JobPhase::Starting, since, START_LIMIT, now, FailureClass::Unschedulable, text);
            // Why there is none is asked, should there still be none then.
            let early = patience_left(since, now);
            let look = going.look.sooner(Next::After(if early.is_zero() { UNMADE_INTERVAL } else { early }));
            let shown = if going.stop.is_some() { text } else { "" };
            Judgement::Going(Going { look, ..going.showing(shown) })
        }
    }
}

/// The judgement on an attempt of which the API server lets the Job controller make no pod, in the controller's words.
#[must_use]
pub fn unmade(judgement: Judgement, job: &Job, why: Option<&str>, now: Timestamp) -> Judgement {
    let (Judgement::Going(going), Some(why)) = (&judgement, why) else {
        return judgement;
    };
    if going.stopping {
        return judgement;
    }
    let (class, limit) = unmade_class(why);
    let since = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let text = format!("no pod can be made: {why}");
    let going = limited(JobPhase::Starting, since, limit, now, class, &text).showing(&text);
    Judgement::Going(Going { look: going.look.sooner(Next::After(UNMADE_INTERVAL)), ..going })
}

/// What the API server's refusal of a pod means, and how long it may last: that a quota is used up passes, what does not
/// exist or is not allowed must be corrected, and all else may be the cluster's own trouble.
fn unmade_class(why: &str) -> (FailureClass, Duration) {
    const MISTAKES: [&str; 6] = [
        "error looking up service account",
        "no PriorityClass with name",
        "no RuntimeClass with name",
        "violates PodSecurity",
        "is invalid",
        "denied the request",
    ];
    let is_mistake = !why.contains("exceeded quota") && MISTAKES.iter().any(|sign| why.contains(sign));
    if is_mistake { (FailureClass::Configuration, REFERENCE_LIMIT) } else { (FailureClass::Unschedulable, START_LIMIT) }
}

fn while_waiting(pod: &Pod, waiting: &Waiting, stop: Option<&Stop>, now: Timestamp) -> Judgement {
    if is_terminal(pod) {
        return over(match (stop, failure::of_init(pod)) {
            (Some(stop), _) => stop.result(),
            (None, Some(result)) => result,
            (None, None) => {
                JobResult::failed(FailureClass::Infrastructure, &format!("did not start: {}", waiting.message))
            }
        });
    }
    let (limit, class) = match waiting.cause {
        WaitCause::Starting => (START_LIMIT, FailureClass::Infrastructure),
        WaitCause::Unschedulable => (START_LIMIT, FailureClass::Unschedulable),
        WaitCause::ImageMissing => (Duration::ZERO, FailureClass::Configuration),
        WaitCause::ImagePull => (PULL_LIMIT, FailureClass::ImagePull),
        WaitCause::MissingReference => (REFERENCE_LIMIT, FailureClass::Configuration),
        WaitCause::InitFailed => match failure::of_init(pod) {
            Some(result) => return over(result),
            None => (SERVICE_LIMIT, FailureClass::ServiceNotReady),
        },
    };
    let early = patience_left(waiting.since, now);
    if waiting.cause == WaitCause::Starting
        && !early.is_zero()
        && pod.spec.as_ref().is_some_and(|spec| !references(spec).is_empty())
    {
        // Should it still wait then, it is asked for what its volumes lack.
        return going(JobPhase::Starting, Next::After(early));
    }
    let starting = waiting.cause == WaitCause::Starting;
    let late = "the container did not start for 15 minutes: see `kubectl describe pod`";
    let why = if starting { late } else { &waiting.message };
    let going = limited(JobPhase::Starting, waiting.since, limit, now, class, why);
    let is_late = starting && going.stop.is_some();
    Judgement::Going(if is_late { going } else { going.showing(&waiting.message) })
}

/// The judgement on an attempt whose pod can't start for want of an object: kubelet says nothing of it.
#[must_use]
pub fn lacking(judgement: Judgement, pod: Option<&Pod>, lacks: Option<&str>, now: Timestamp) -> Judgement {
    let (Judgement::Going(going), Some(pod), Some(lacks)) = (&judgement, pod, lacks) else {
        return judgement;
    };
    if going.phase != JobPhase::Starting || going.stopping || going.stop.is_some() {
        return judgement;
    }
    let since = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let going = limited(JobPhase::Starting, since, REFERENCE_LIMIT, now, FailureClass::Configuration, lacks);
    Judgement::Going(going.showing(lacks))
}

fn while_running(since: Option<Timestamp>, expected: &Expectations, now: Timestamp) -> Judgement {
    if expected.agent {
        // The agent counts the time itself, and the pod's own deadline stands behind it.
        return going(JobPhase::Running, Next::OnChange);
    }
    let text = format!("stopped after its timeout of {} s; raise timeout", expected.timeout.as_secs());
    Judgement::Going(limited(JobPhase::Running, since, expected.timeout, now, FailureClass::DeadlineExceeded, &text))
}

/// A pod that is being taken away may still run: nothing follows it before it is gone.
fn lost(pod: Option<&Pod>, loss: &Lost, stop: Option<&Stop>, now: Timestamp) -> Judgement {
    if let Some(pod) = pod.filter(|pod| !is_terminal(pod)) {
        match pod.metadata.deletion_timestamp.as_ref() {
            Some(due) => {
                let left = remaining(Some(due.0), GONE_LIMIT, now);
                if !left.is_zero() {
                    return going(JobPhase::Running, Next::After(left));
                }
            }
            // Disrupted, but not taken away yet: kubelet or the eviction will do it, or the condition goes.
            None => return going(JobPhase::Running, Next::After(Duration::from_secs(10))),
        }
    }
    over(stop.map_or_else(|| failure::of_loss(loss), Stop::result))
}

/// Whether no container of the pod runs or will run.
#[must_use]
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// When a foreign container that keeps the pod alive after its command must be ended; `None` when nothing lingers.
#[must_use]
pub fn lingers(pod: &Pod, now: Timestamp) -> Option<Duration> {
    if is_terminal(pod) || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds) == Some(1) {
        return None;
    }
    let end = container_end(pod, MAIN)?;
    Some(remaining(end.finished, LINGER_LIMIT, now))
}

#[cfg(test)]
#[path = "attempt_tests.rs"]
mod tests;
