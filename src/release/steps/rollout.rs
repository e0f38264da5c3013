//! Roll out: the manifests stand, and the pods show whether the digest serves.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{AT_ONCE, database, failure, go_back, record};
use crate::api::release::ReleaseStep;
use crate::release::decide::Step;
use crate::release::manifests::{self, deployment_replicas, is_at_hash, template_hash};
use crate::release::observed::{AppPod, ObjectKind, Observed};
use crate::release::revision::{Failure, FailureReason, Progress, Revision};
use crate::release::status::Situation;
use crate::workload::{PodPhase, WaitCause};

/// So many restarts make a crash loop.
const CRASHES: i32 = 3;

/// How the pods of a revision stand.
pub(super) enum Health {
    /// Observed, updated, available and enough: it serves, and has soaked.
    Healthy,
    /// On its way, or hindered by something that is not the digest's fault.
    Progressing {
        /// A static word.
        reason: &'static str,
        /// What happens.
        message: String,
    },
    /// The digest's own failure.
    Failing {
        /// The class.
        reason: FailureReason,
        /// What is seen.
        message: String,
    },
}

pub(super) fn next(observed: &Observed, revision: &Revision, now: Timestamp) -> Step {
    let version = &revision.data.target.version;
    match health(observed, revision, now) {
        Health::Healthy => {
            let progress = Progress::Delivered {
                revisions: revision.progress.revisions().cloned().unwrap_or_default(),
                time: now,
            };
            let situation = changing("RollingOut", format!("{version} serves"));
            record(revision, progress, situation)
        }
        Health::Progressing { reason, message } => {
            Step::stand(changing(reason, message)).again_after(Duration::from_secs(15))
        }
        Health::Failing { reason, message } => {
            let step = ReleaseStep::RollOut;
            let why: Failure = failure(observed, revision, step, reason, message, true);
            go_back::next(observed, revision, &why, true, now).again_after(AT_ONCE.saturating_mul(50))
        }
    }
}

fn changing(reason: &'static str, message: String) -> Situation {
    Situation::Changing { step: ReleaseStep::RollOut, reason, message }
}

/// How the pods of `revision` stand.
pub(super) fn health(observed: &Observed, revision: &Revision, now: Timestamp) -> Health {
    let progressing = |reason, message: String| Health::Progressing { reason, message };
    let version = &revision.data.target.version;
    let desired = revision
        .data
        .manifests
        .iter()
        .filter_map(|body| Some((manifests::key_of(body)?, body)))
        .find(|(key, _)| key.kind == ObjectKind::Deployment);
    let Some((key, desired)) = desired else {
        return progressing("RollingOut", format!("revision {} has no Deployment", revision.name));
    };
    let live = match observed.objects.get(&key) {
        Some(live) if is_at_hash(&live.body, desired) => &live.body,
        Some(_) | None => return progressing("RollingOut", format!("the manifests of {version} are applied")),
    };
    let wanted = deployment_replicas(desired);
    if wanted == 0 {
        return progressing("ScaledToZero", "values.replicaCount is 0: nothing serves".to_owned());
    }
    if is_healthy(live, wanted) {
        return Health::Healthy;
    }
    if let Some(step) = database::not_ready(observed, true)
        && let Situation::Changing { reason, message, .. } = step.situation
    {
        return progressing(reason, message);
    }
    let template = template_hash(desired);
    let is_its = |pod: &&AppPod| pod.controlled && pod.content.as_deref() == template && pod.terminating.is_none();
    let pods: Vec<&AppPod> = observed.pods.iter().filter(is_its).collect();
    if let Some((reason, message)) = pods.iter().find_map(|pod| hindrance(pod)) {
        return progressing(reason, message);
    }
    if let Some((reason, message)) = pods.iter().find_map(|pod| fault(pod, version, live, desired, now)) {
        return Health::Failing { reason, message };
    }
    let ready = live.pointer("/status/readyReplicas").and_then(Value::as_i64).unwrap_or(0);
    let message = if ready > 0 {
        format!("{ready} of {wanted} pods of {version} are ready and soak")
    } else {
        format!("the pods of {version} start")
    };
    progressing("RollingOut", message)
}

/// Observed, updated = available = replicas ≥ 1: everything of the kind that kubectl's own rollout status asks for.
fn is_healthy(live: &Value, wanted: i64) -> bool {
    let count = |pointer: &str| live.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    count("/status/observedGeneration") >= count("/metadata/generation")
        && wanted >= 1
        && count("/status/replicas") == wanted
        && count("/status/updatedReplicas") == wanted
        && count("/status/availableReplicas") == wanted
}

/// What keeps a pod from starting and is not the digest's fault.
fn hindrance(pod: &AppPod) -> Option<(&'static str, String)> {
    let told = |words: &str| format!("pod {} waits: {words}", pod.name);
    match &pod.phase {
        PodPhase::Waiting(waiting) => match waiting.cause {
            WaitCause::Unschedulable => Some(("Unschedulable", told(&waiting.message))),
            WaitCause::ImagePull => Some(("ImagePull", told(&waiting.message))),
            WaitCause::ImageMissing => Some(("ImageMissing", told(&waiting.message))),
            WaitCause::MissingReference => Some(("MissingReference", told(&waiting.message))),
            WaitCause::Starting | WaitCause::InitFailed => None,
        },
        PodPhase::Lost(_) => Some(("PodLost", format!("pod {} was lost; it is replaced", pod.name))),
        PodPhase::NoPod | PodPhase::Running { .. } | PodPhase::Ended(_) => None,
    }
}

/// What is the digest's own fault.
fn fault(
    pod: &AppPod,
    version: &str,
    live: &Value,
    desired: &Value,
    now: Timestamp,
) -> Option<(FailureReason, String)> {
    if pod.ready {
        return None;
    }
    let trouble = pod.trouble.as_deref().unwrap_or("its probes fail");
    if pod.restarts >= CRASHES {
        let message = format!("pod {} of {version} crashed {} times: {trouble}", pod.name, pod.restarts);
        return Some((FailureReason::CrashLoop, message));
    }
    // The Deployment's own verdict may still be that of another template, or of the time in which no node had room: the
    // time since the container's start must agree with it.
    let deadline = desired.pointer("/spec/progressDeadlineSeconds").and_then(Value::as_u64).unwrap_or(600);
    let soak = desired.pointer("/spec/minReadySeconds").and_then(Value::as_u64).unwrap_or(0);
    let timeout = Duration::from_secs(deadline.saturating_sub(soak));
    let age = Duration::try_from(now.duration_since(pod.started?)).unwrap_or_default();
    (age >= timeout && is_past_deadline(live)).then(|| {
        let message = format!("pod {} of {version} is not ready after {} s: {trouble}", pod.name, age.as_secs());
        (FailureReason::NotReady, message)
    })
}

fn is_past_deadline(live: &Value) -> bool {
    let conditions = live.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        condition.get("type").and_then(Value::as_str) == Some("Progressing")
            && condition.get("status").and_then(Value::as_str) == Some("False")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{WaitCause, Waiting};
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    fn pod(started: Option<Timestamp>) -> AppPod {
        let phase = match started {
            Some(since) => PodPhase::Running { since: Some(since) },
            None => {
                PodPhase::Waiting(Waiting { cause: WaitCause::Starting, message: String::new(), since: Some(at(0)) })
            }
        };
        AppPod {
            name: "site-1".to_owned(),
            digest: None,
            content: None,
            created: Some(at(0)),
            started,
            phase,
            ready: false,
            restarts: 0,
            trouble: None,
            terminating: None,
            over: false,
            controlled: true,
        }
    }

    /// Whether the pod is to blame at that second, long after its Deployment's deadline.
    fn is_to_blame(pod: &AppPod, second: i64) -> bool {
        let late = json!({ "status": { "conditions": [{ "type": "Progressing", "status": "False" }] } });
        let desired = json!({ "spec": { "progressDeadlineSeconds": 31, "minReadySeconds": 1 } });
        fault(pod, "1.0.0", &late, &desired, at(second)).is_some()
    }

    #[test]
    fn the_time_that_a_pod_waited_for_a_node_is_not_held_against_its_digest() {
        assert!(!is_to_blame(&pod(None), 500), "it never started");
        assert!(!is_to_blame(&pod(Some(at(500))), 529));
        assert!(is_to_blame(&pod(Some(at(500))), 530));
    }
}
