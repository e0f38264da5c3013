//! How a pod stands, and what its end proves.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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

/// What keeps the main container from starting.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The class.
    pub cause: WaitCause,
    /// Kubelet's or the scheduler's words.
    pub message: String,
    /// Since when it waits for this: its creation, and once it has a node, since it has that.
    pub since: Option<Timestamp>,
}

/// Classes of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCause {
    /// It is starting as it should.
    Starting,
    /// No node fits.
    Unschedulable,
    /// The image can't be had and never will: bad name, not found, not allowed.
    ImageMissing,
    /// The image can't be had now: registry down, too many requests.
    ImagePull,
    /// A Secret, ConfigMap or key that the container names does not exist.
    MissingReference,
    /// An init container or a service beside the main container failed.
    InitFailed,
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
        return match deletion_asked(pod) {
            Some(asked) if end.finished.is_none_or(|finished| finished >= asked) => PodPhase::Lost(Loss::Deleted),
            Some(_) | None => PodPhase::Ended(end),
        };
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

/// When deletion was asked for: the timestamp in the metadata is that plus the grace period.
fn deletion_asked(pod: &Pod) -> Option<Timestamp> {
    let due = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    due.checked_sub(SignedDuration::from_secs(grace)).ok()
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

/// Whether the init container of that name runs beside the main one, and is started again when it ends.
fn is_service(pod: &Pod, name: &str) -> bool {
    let mut containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    containers.any(|container| container.name == name && container.restart_policy.as_deref() == Some("Always"))
}

/// The first service that ended, with whatever code: it should run for as long as the main container does.
fn crashing(pod: &Pod, since: Option<Timestamp>) -> Option<Waiting> {
    pod.status.as_ref()?.init_container_statuses.iter().flatten().find_map(|container| {
        let state = container.state.as_ref()?;
        let backs_off =
            state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref()) == Some("CrashLoopBackOff");
        let before = container.last_state.as_ref().and_then(|state| state.terminated.as_ref()).filter(|_| backs_off);
        let ended = state.terminated.as_ref().or(before).filter(|_| is_service(pod, &container.name))?;
        let starts = container.restart_count.saturating_add(1);
        Some(Waiting {
            cause: WaitCause::InitFailed,
            message: format!(
                "{}: ended with exit code {} at its start number {starts}",
                container.name, ended.exit_code
            ),
            // Since its last start: one that comes up at its second has done no harm.
            since: ended.started_at.as_ref().map(|time| time.0).or(since),
        })
    })
}

/// The words of the first init container that ended with another code than 0.
fn failed_init(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.init_container_statuses.iter().flatten().find_map(|container| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        if ended.exit_code == 0 || is_service(pod, &container.name) {
            return None;
        }
        let words = ended.message.clone().or_else(|| ended.reason.clone()).unwrap_or_default();
        Some(format!("{} ended with exit code {}: {}", container.name, ended.exit_code, words))
    })
}

fn waiting(pod: &Pod, main: &str) -> Waiting {
    let since = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let starting = Waiting { cause: WaitCause::Starting, message: String::new(), since };
    let Some(status) = pod.status.as_ref() else {
        return starting;
    };
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        let message = condition.message.clone().unwrap_or_default();
        return Waiting { cause: WaitCause::Unschedulable, message, since };
    }
    let since = scheduled(pod).or(since);
    let starting = Waiting { since, ..starting };
    if let Some(waiting) = crashing(pod, since) {
        return waiting;
    }
    if let Some(message) = failed_init(pod) {
        return Waiting { cause: WaitCause::InitFailed, message, since };
    }
    let lists = [status.init_container_statuses.as_deref(), status.container_statuses.as_deref()];
    for container in lists.into_iter().flatten().flatten() {
        let Some(blocked) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) else {
            continue;
        };
        let words = blocked.message.as_deref().unwrap_or_default();
        let cause = match blocked.reason.as_deref().unwrap_or_default() {
            "InvalidImageName" | "ErrImageNeverPull" => WaitCause::ImageMissing,
            "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" => pull_cause(words, &container.image),
            "CreateContainerConfigError" => WaitCause::MissingReference,
            // The runtime's own trouble, as on a busy node: kubelet tries again.
            "CreateContainerError" => WaitCause::Starting,
            "CrashLoopBackOff" | "RunContainerError" if container.name != main => WaitCause::InitFailed,
            _ => continue,
        };
        let words = match pull_words(words) {
            "" => "kubelet gives no details".to_owned(),
            reason if reason.len() < words.len() && !reason.contains(&container.image) => {
                format!("{}: {reason}", container.image)
            }
            words => words.to_owned(),
        };
        let message = format!("{}: {words}", container.name);
        return Waiting { cause, message, since };
    }
    starting
}

/// Since when the pod has a node.
fn scheduled(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled =
        conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "True")?;
    scheduled.last_transition_time.as_ref().map(|time| time.0)
}

/// What the registry said of an image. The container runtime puts the image's name before it, once for each of its layers
/// of code, and people are shown only so much.
fn pull_words(words: &str) -> &str {
    let said = |prefix: &str| words.get(words.rfind(prefix)?..)?.split_once("\": ").map(|(_, said)| said);
    said("failed to resolve reference \"").or_else(|| said("failed to pull and unpack image \"")).unwrap_or(words)
}

/// Whether the words of a failed pull mean "never" or "not now". Names of images and addresses mean nothing.
fn pull_cause(words: &str, image: &str) -> WaitCause {
    let is_name = |word: &str| word.contains('/') || (!image.is_empty() && word.contains(image));
    let said: Vec<&str> = words.split_whitespace().filter(|word| !is_name(word)).collect();
    let words = said.join(" ").to_ascii_lowercase();
    if words.contains("dial tcp") {
        return WaitCause::ImagePull;
    }
    let never = [
        "not found",
        "manifest unknown",
        "unauthorized",
        "denied",
        "forbidden",
        "authorization failed",
        "no match for platform",
        "invalid reference",
    ];
    if never.iter().any(|sign| words.contains(sign)) { WaitCause::ImageMissing } else { WaitCause::ImagePull }
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
