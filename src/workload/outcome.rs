//! How a pod stands, and what its end proves.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::waiting::{WaitCause, Waiting, failed_init, waiting};

/// How a Job's one pod stands.
#[derive(Debug, Clone, PartialEq)]
pub enum PodPhase {
    /// The Job has no pod yet, and none was lost.
    NoPod,
    /// The main container has not started.
    Waiting(Waiting),
    /// The main container runs.
    Running {
        /// Since when.
        since: Option<Timestamp>,
    },
    /// The main container ended, and its end was seen before any deletion was asked for.
    Ended(ContainerEnd),
    /// The pod is gone or was taken away before its end was seen: nothing is proved.
    Lost(Loss),
}

/// How the pod was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// Deleted by someone, or gone without a trace.
    Deleted,
    /// Evicted or preempted.
    Evicted,
    /// Its node is gone.
    NodeLost,
}

/// How a pod was lost, with what was said of it while it was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How.
    pub how: Loss,
    /// Kubelet's or a controller's words, and the node; may be empty.
    pub words: String,
}

impl Lost {
    /// As the pod shows it.
    #[must_use]
    pub fn of(how: Loss, pod: Option<&Pod>) -> Self {
        Self { how, words: pod.map(loss_words).unwrap_or_default() }
    }
}

/// How the main container ended.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerEnd {
    /// The exit code.
    pub exit_code: i32,
    /// Kubelet's reason, for example `OOMKilled`.
    pub reason: String,
    /// The termination message.
    pub message: String,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

/// The end of the container `name`, if it has ended.
#[must_use]
pub fn container_end(pod: &Pod, name: &str) -> Option<ContainerEnd> {
    let ended = status_of(pod, name)?.state.as_ref()?.terminated.as_ref()?;
    Some(ContainerEnd {
        exit_code: ended.exit_code,
        reason: ended.reason.clone().unwrap_or_default(),
        message: ended.message.clone().unwrap_or_default(),
        started: ended.started_at.as_ref().map(|time| time.0),
        finished: ended.finished_at.as_ref().map(|time| time.0),
    })
}

/// The report in a termination message.
///
/// # Errors
/// The parser's own when the message is no such report.
pub fn read_report<T: DeserializeOwned>(message: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(message)
}

/// How the pod of `job` stands. `main` is the name of the container whose end counts.
///
/// The rules (each tried on a real cluster): an end counts only with `finishedAt` before any deletion was asked for
/// (a process may trap TERM and exit 0) and without `DisruptionTarget`; a Job that is Complete without its pod proves
/// nothing.
#[must_use]
pub fn pod_phase(job: &Job, pod: Option<&Pod>, main: &str) -> PodPhase {
    let Some(pod) = pod else {
        return if job_is_finished(job) { PodPhase::Lost(Loss::Deleted) } else { PodPhase::NoPod };
    };
    if let Some(loss) = disruption(pod) {
        return PodPhase::Lost(loss);
    }
    if let Some(end) = container_end(pod, main) {
        return if came_before_deletion(&end, pod) { PodPhase::Ended(end) } else { PodPhase::Lost(Loss::Deleted) };
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return PodPhase::Lost(Loss::Deleted);
    }
    if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed") {
        return failed_without_end(pod);
    }
    match status_of(pod, main).and_then(|status| status.state.as_ref()).and_then(|state| state.running.as_ref()) {
        Some(running) => PodPhase::Running { since: running.started_at.as_ref().map(|time| time.0) },
        None => PodPhase::Waiting(waiting(pod, main)),
    }
}

fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [status.container_statuses.as_deref(), status.init_container_statuses.as_deref()];
    lists.into_iter().flatten().flatten().find(|container| container.name == name)
}

/// Whether the container had ended before anybody asked for its pod's deletion, as far as that can be proved.
///
/// The timestamp in the metadata is the moment of asking plus the grace period. A second deletion with a shorter period
/// moves it; where that period is over already, it becomes the moment of the second one, and the period 0, or 1
/// (`rest.BeforeDelete` of k8s.io/apiserver). Kubelet's own last deletion does so, after the processes have ended: when
/// the first one was asked for can't be told any more.
fn came_before_deletion(end: &ContainerEnd, pod: &Pod) -> bool {
    let Some(due) = pod.metadata.deletion_timestamp.as_ref() else {
        return true;
    };
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    let asked = due.0.checked_sub(SignedDuration::from_secs(grace)).ok().filter(|_| grace > 1);
    matches!((end.finished, asked), (Some(finished), Some(asked)) if finished < asked)
}

fn disruption(pod: &Pod) -> Option<Loss> {
    let status = pod.status.as_ref()?;
    if status.reason.as_deref() == Some("Evicted") {
        return Some(Loss::Evicted);
    }
    if status.reason.as_deref() == Some("NodeLost") {
        return Some(Loss::NodeLost);
    }
    let condition = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")?;
    match condition.reason.as_deref() {
        Some("DeletionByTaintManager" | "DeletionByPodGC") => Some(Loss::NodeLost),
        Some("TerminationByKubelet" | "PreemptionByScheduler" | "EvictionByEvictionAPI") => Some(Loss::Evicted),
        Some(_) | None => Some(Loss::Evicted),
    }
}

/// Which node, and why: kubelet's words, else those of whoever disrupts the pod.
fn loss_words(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let disrupted = || {
        let conditions = status.and_then(|status| status.conditions.as_ref())?;
        conditions.iter().find(|condition| condition.type_ == "DisruptionTarget")?.message.as_ref()
    };
    let said = status.and_then(|status| status.message.as_ref()).or_else(disrupted).map(|words| words.trim());
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    let parts = [node.map(|node| format!("node {node}")), said.map(str::to_owned)];
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

/// Phase Failed, yet the main container never ended: rejected by kubelet, past its deadline, or a failed init container.
fn failed_without_end(pod: &Pod) -> PodPhase {
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.clone()).unwrap_or_default();
    match reason.as_str() {
        "NodeShutdown" | "Terminated" | "Shutdown" => PodPhase::Lost(Loss::NodeLost),
        "OutOfcpu"
        | "OutOfmemory"
        | "OutOfpods"
        | "OutOfephemeral-storage"
        | "NodeAffinity"
        | "UnexpectedAdmissionError"
        | "Preempting" => PodPhase::Lost(Loss::Evicted),
        _ => {
            let message = status.and_then(|status| status.message.clone()).unwrap_or(reason);
            let since = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            let detail = failed_init(pod).unwrap_or(message);
            PodPhase::Waiting(Waiting { cause: WaitCause::InitFailed, message: detail, since })
        }
    }
}

/// Whether the Job controller has said that the Job is over.
#[must_use]
pub fn job_is_finished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed" | "FailureTarget" | "SuccessCriteriaMet")
            && condition.status == "True"
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn pod(status: Value, metadata: Value) -> Pod {
        serde_json::from_value(json!({ "metadata": metadata, "status": status })).unwrap()
    }

    fn ended(code: i32) -> Value {
        json!({"containerStatuses": [{"name": "job", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "reason": "Completed", "finishedAt": "2026-01-01T00:00:10Z"}}}]})
    }

    #[test]
    fn an_end_before_any_deletion_counts() {
        let seen = pod_phase(&Job::default(), Some(&pod(ended(0), json!({}))), "job");
        assert!(matches!(seen, PodPhase::Ended(end) if end.exit_code == 0));
    }

    #[test]
    fn a_process_that_traps_term_and_exits_0_proves_nothing() {
        // Asked at :05 (due :35, grace 30), ended at :10.
        let asked = json!({"deletionTimestamp": "2026-01-01T00:00:35Z", "deletionGracePeriodSeconds": 30});
        assert_eq!(pod_phase(&Job::default(), Some(&pod(ended(0), asked)), "job"), PodPhase::Lost(Loss::Deleted));
        // Asked at :20, ended at :10: the end came first.
        let later = json!({"deletionTimestamp": "2026-01-01T00:00:50Z", "deletionGracePeriodSeconds": 30});
        assert!(matches!(pod_phase(&Job::default(), Some(&pod(ended(0), later)), "job"), PodPhase::Ended(_)));
    }

    #[rstest]
    #[case::kubelets_last_deletion("2026-01-01T00:00:11Z", 0)]
    #[case::a_period_shortened_after_it_was_over("2026-01-01T00:00:40Z", 1)]
    fn when_deletion_was_asked_for_is_lost_with_a_second_deletion(#[case] due: &str, #[case] grace: i64) {
        // Asked at :05, ended at :10; the API server then put due and period anew, and seems to say: asked after the end.
        let again = json!({"deletionTimestamp": due, "deletionGracePeriodSeconds": grace});
        assert_eq!(pod_phase(&Job::default(), Some(&pod(ended(0), again)), "job"), PodPhase::Lost(Loss::Deleted));
    }

    #[test]
    fn a_complete_job_without_its_pod_is_lost() {
        let job: Job =
            serde_json::from_value(json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}))
                .unwrap();
        assert_eq!(pod_phase(&job, None, "job"), PodPhase::Lost(Loss::Deleted));
        assert_eq!(pod_phase(&Job::default(), None, "job"), PodPhase::NoPod);
    }

    #[test]
    fn an_evicted_pod_never_succeeded() {
        let mut status = ended(0);
        status["reason"] = json!("Evicted");
        assert_eq!(pod_phase(&Job::default(), Some(&pod(status, json!({}))), "job"), PodPhase::Lost(Loss::Evicted));
    }

    #[rstest]
    #[case(
        "r.test/tools:1",
        r#"failed to pull and unpack image "r.test/tools:1": failed to resolve reference "r.test/tools:1": pulling from host r.test failed with status code [manifests 1]: 401 Unauthorized"#,
        "job: r.test/tools:1: pulling from host r.test failed with status code [manifests 1]: 401 Unauthorized"
    )]
    #[case(
        "r.test/tools:1",
        r#"Back-off pulling image "r.test/tools:1": ErrImagePull: rpc error: code = NotFound desc = failed to pull and unpack image "r.test/tools:1": failed to resolve reference "r.test/tools:1": r.test/tools:1: not found"#,
        "job: r.test/tools:1: not found"
    )]
    #[case("r.test/tools:1", "toomanyrequests: 429", "job: toomanyrequests: 429")]
    #[case("r.test/tools:1", r#"failed to resolve reference "r.test"#, r#"job: failed to resolve reference "r.test"#)]
    #[case("r.test/tools:1", "", "job: kubelet gives no details")]
    fn of_a_failed_pull_the_reason_is_told_first(#[case] image: &str, #[case] words: &str, #[case] told: &str) {
        let state = json!({"waiting": {"reason": "ErrImagePull", "message": words}});
        let status = json!({"containerStatuses": [{"name": "job", "image": image, "imageID": "", "ready": false,
            "restartCount": 0, "state": state}]});
        let seen = pod_phase(&Job::default(), Some(&pod(status, json!({}))), "job");
        assert!(matches!(&seen, PodPhase::Waiting(waiting) if waiting.message == told), "{seen:?}");
    }

    #[test]
    fn waiting_for_a_node_is_not_counted_to_what_follows() {
        let scheduled = json!({"conditions": [{"type": "PodScheduled", "status": "True",
            "lastTransitionTime": "2026-01-01T00:14:00Z"}]});
        let metadata = json!({"creationTimestamp": "2026-01-01T00:00:00Z"});
        let seen = pod_phase(&Job::default(), Some(&pod(scheduled, metadata.clone())), "job");
        let PodPhase::Waiting(waiting) = seen else { panic!("{seen:?}") };
        assert_eq!(waiting.since.unwrap().to_string(), "2026-01-01T00:14:00Z");
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "lastTransitionTime": "2026-01-01T00:14:00Z"}]});
        let seen = pod_phase(&Job::default(), Some(&pod(unscheduled, metadata)), "job");
        let PodPhase::Waiting(waiting) = seen else { panic!("{seen:?}") };
        assert_eq!(waiting.since.unwrap().to_string(), "2026-01-01T00:00:00Z");
    }

    /// As kubelet shows it: while it waits for the next start, and before; a service may also end with 0.
    #[rstest]
    #[case(
        json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}),
        json!({"terminated": {"exitCode": 3, "startedAt": "2026-01-01T00:03:00Z"}}),
        "postgres: ended with exit code 3 at its start number 3"
    )]
    #[case(
        json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": "2026-01-01T00:03:00Z"}}),
        json!({"terminated": {"exitCode": 1, "startedAt": "2026-01-01T00:01:00Z"}}),
        "postgres: ended with exit code 0 at its start number 3"
    )]
    fn a_service_that_ended_waits_since_its_last_start_and_says_its_exit_code(
        #[case] state: Value,
        #[case] last: Value,
        #[case] told: &str,
    ) {
        let status = json!({"initContainerStatuses": [{"name": "postgres", "image": "", "imageID": "", "ready": false,
            "restartCount": 2, "state": state, "lastState": last}]});
        let mut crashing = pod(status, json!({}));
        let spec = json!({"containers": [], "initContainers": [{"name": "postgres", "restartPolicy": "Always"}]});
        crashing.spec = serde_json::from_value(spec).unwrap();
        let seen = pod_phase(&Job::default(), Some(&crashing), "job");
        let PodPhase::Waiting(waiting) = seen else { panic!("{seen:?}") };
        assert_eq!((waiting.cause, waiting.message.as_str()), (WaitCause::InitFailed, told));
        assert_eq!(waiting.since.unwrap().to_string(), "2026-01-01T00:03:00Z");
    }

    #[test]
    fn a_lost_pod_leaves_its_node_and_what_was_said_of_it() {
        let mut evicted = pod(
            json!({"message": " Pod ephemeral local storage usage exceeds the total limit of \
            containers 20Mi. "}),
            json!({}),
        );
        assert!(Lost::of(Loss::Evicted, Some(&evicted)).words.starts_with("Pod ephemeral local storage"));
        evicted.spec.get_or_insert_default().node_name = Some("n1".to_owned());
        assert!(Lost::of(Loss::Evicted, Some(&evicted)).words.starts_with("node n1: Pod ephemeral"));
        let target =
            json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "message": "preempted by x"}]});
        assert_eq!(Lost::of(Loss::Evicted, Some(&pod(target, json!({})))).words, "preempted by x");
        assert_eq!(Lost::of(Loss::Deleted, None).words, "");
    }

    #[rstest]
    #[case("ErrImagePull", "rpc error: manifest unknown: not found", WaitCause::ImageMissing)]
    #[case("ImagePullBackOff", "unexpected status: 401 Unauthorized", WaitCause::ImageMissing)]
    #[case("ErrImagePull", "toomanyrequests: 429", WaitCause::ImagePull)]
    #[case("ErrImagePull", "dial tcp: connection refused", WaitCause::ImagePull)]
    #[case("ErrImagePull", "dial tcp 10.0.0.1:443: connect: permission denied", WaitCause::ImagePull)]
    #[case("ErrImagePull", "HEAD https://r.test/v2/a/not-found/manifests/denied: 503", WaitCause::ImagePull)]
    #[case("ImagePullBackOff", "Back-off pulling image \"access-denied:1\": 503", WaitCause::ImagePull)]
    #[case("CreateContainerError", "context deadline exceeded", WaitCause::Starting)]
    #[case("InvalidImageName", "", WaitCause::ImageMissing)]
    #[case("CreateContainerConfigError", "secret \"x\" not found", WaitCause::MissingReference)]
    #[case("ContainerCreating", "", WaitCause::Starting)]
    fn what_keeps_a_container_waiting_is_told_apart(
        #[case] reason: &str,
        #[case] message: &str,
        #[case] cause: WaitCause,
    ) {
        let status = json!({"containerStatuses": [{"name": "job", "image": "access-denied:1", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}}]});
        let seen = pod_phase(&Job::default(), Some(&pod(status, json!({}))), "job");
        assert!(matches!(seen, PodPhase::Waiting(waiting) if waiting.cause == cause));
    }
}
