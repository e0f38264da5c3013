//! What a decision about a run reads of its Jobs and pods: all other changes of them wake nobody.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::attempt::is_terminal;
use super::failure::{COLLECTOR, MAIN};
use super::names;
use crate::workload::{PodPhase, WaitCause, container_end, job_is_finished, pod_phase};

/// What decisions read of a pod; `None` while it starts as it should.
#[must_use]
pub fn of_pod(pod: &Pod) -> Option<String> {
    let phase = pod_phase(&Job::default(), Some(pod), MAIN);
    let collector = container_end(pod, COLLECTOR);
    match &phase {
        PodPhase::Waiting(waiting) if waiting.cause == WaitCause::Starting && !is_terminal(pod) => None,
        // Nothing more is to come but the collector's end, or the pod's without it.
        PodPhase::Ended(_) => {
            let waits = has_collector(pod) && collector.is_none();
            Some(format!("{phase:?} {collector:?} {}", waits && is_terminal(pod)))
        }
        PodPhase::NoPod | PodPhase::Waiting(_) | PodPhase::Running { .. } | PodPhase::Lost(_) => {
            Some(format!("{phase:?} {}", is_terminal(pod)))
        }
    }
}

/// Whether the pod is in a state that is only shown: nothing is done before its command has ended.
#[must_use]
pub fn is_passing(pod: &Pod) -> bool {
    let runs = matches!(pod_phase(&Job::default(), Some(pod), MAIN), PodPhase::Running { .. });
    runs && !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// What decisions read of a Job; `None` while its pod tells all.
///
/// Its end counts only until its result is written down: for the case that its pod is gone.
#[must_use]
pub fn of_job(job: &Job) -> Option<String> {
    let metadata = &job.metadata;
    let recorded =
        metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(names::RESULT_ANNOTATION));
    if metadata.deletion_timestamp.is_some() {
        return Some("deleted".to_owned());
    }
    (!recorded && job_is_finished(job)).then(|| "finished".to_owned())
}

fn has_collector(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    containers.into_iter().any(|container| container.name == COLLECTOR)
}

#[cfg(test)]
#[path = "significance_tests.rs"]
mod tests;
