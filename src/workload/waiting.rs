//! What keeps a pod's main container from starting.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

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
pub(super) fn failed_init(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.init_container_statuses.iter().flatten().find_map(|container| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        if ended.exit_code == 0 || is_service(pod, &container.name) {
            return None;
        }
        let words = ended.message.clone().or_else(|| ended.reason.clone()).unwrap_or_default();
        Some(format!("{} ended with exit code {}: {}", container.name, ended.exit_code, words))
    })
}

/// What it waits for, of a pod whose main container has neither started nor ended.
pub(super) fn waiting(pod: &Pod, main: &str) -> Waiting {
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
