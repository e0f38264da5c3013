//! What the pod of a job does, step by step: source, fetch, environment, services, run, collect.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod};

use super::text::seconds_between;
use crate::api::marks::{
    COLLECTOR_CONTAINER, ENVIRONMENT_CONTAINER, FETCH_CONTAINER, MAIN_CONTAINER, POD_NET_SECONDS, SOURCE_CONTAINER,
};

/// The shortest deadline that says how long a command may take: a shorter one was set to stop the pod.
const STOPPING_SECONDS: i64 = 1;

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// Its turn has not come, or its image is on its way.
    Waiting,
    /// It is under way.
    Going,
    /// It did what it should; a service is ready.
    Done,
    /// It did not.
    Failed,
}

/// One step of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepView {
    /// `source`, `fetch`, `environment`, the name of a service, `run` or `collect`.
    pub name: String,
    /// How far it is.
    pub state: StepState,
    /// Seconds that it takes or took.
    pub seconds: Option<i64>,
    /// Whether it is the command itself.
    pub command: bool,
}

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Prepares the pod and ends: `source`, `fetch`, `environment`.
    Preparation,
    Service,
    Command,
    Collector,
}

/// When and how a container started and ended.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    started: Option<Timestamp>,
    /// With its exit code.
    ended: Option<(Option<Timestamp>, i32)>,
    ready: bool,
}

/// When the pod was made.
#[must_use]
pub(super) fn started_of(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Seconds that the command may take.
#[must_use]
pub(super) fn limit_of(pod: &Pod) -> Option<i64> {
    let deadline = pod.spec.as_ref()?.active_deadline_seconds?;
    if deadline <= STOPPING_SECONDS {
        return None;
    }
    let limit = deadline.checked_sub(i64::try_from(POD_NET_SECONDS).ok()?)?;
    (limit > 0).then_some(limit)
}

/// The steps of the pod, in the order in which their turn comes.
#[must_use]
pub(super) fn steps_of(pod: &Pod, now: Timestamp) -> Vec<StepView> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten().filter_map(|container| Some((container, role(container)?)));
    let main = spec.containers.iter().filter(|container| container.name == MAIN_CONTAINER);
    let mut containers: Vec<(&Container, Role)> = init.chain(main.map(|main| (main, Role::Command))).collect();
    // The collector starts before the command, but its turn comes after it.
    containers.sort_by_key(|(_, role)| *role == Role::Collector);
    let times: Vec<Times> = containers.iter().map(|(container, _)| times_of(pod, &container.name)).collect();
    let command = containers.iter().zip(&times).find(|((_, role), _)| *role == Role::Command).map(|(_, times)| *times);
    containers
        .iter()
        .zip(&times)
        .enumerate()
        .map(|(at, ((container, role), own))| {
            let next = times.iter().skip(at + 1).filter_map(|times| times.started).min();
            let (state, since, until) = match role {
                Role::Preparation | Role::Command => plain(own),
                Role::Service => service(own, next),
                Role::Collector => collector(own, command.unwrap_or_default()),
            };
            let name = match role {
                Role::Preparation | Role::Service => container.name.as_str(),
                Role::Command => "run",
                Role::Collector => "collect",
            };
            StepView {
                name: name.to_owned(),
                state,
                seconds: since.map(|since| seconds_between(since, until.unwrap_or(now))),
                command: *role == Role::Command,
            }
        })
        .collect()
}

fn role(container: &Container) -> Option<Role> {
    match container.name.as_str() {
        SOURCE_CONTAINER | FETCH_CONTAINER | ENVIRONMENT_CONTAINER => Some(Role::Preparation),
        COLLECTOR_CONTAINER => Some(Role::Collector),
        _ if container.restart_policy.as_deref() == Some("Always") => Some(Role::Service),
        // Something that an admission webhook added.
        _ => None,
    }
}

type Span = (StepState, Option<Timestamp>, Option<Timestamp>);

fn plain(own: &Times) -> Span {
    match own.ended {
        Some((ended, 0)) => (StepState::Done, own.started, ended),
        Some((ended, _)) => (StepState::Failed, own.started, ended),
        None if own.started.is_some() => (StepState::Going, own.started, None),
        None => (StepState::Waiting, None, None),
    }
}

/// A service is done when it is ready: the next container's start is the proof, and the time.
fn service(own: &Times, next: Option<Timestamp>) -> Span {
    match (own.ended, next) {
        // It is stopped at the end, with whatever exit code.
        (_, Some(next)) => (StepState::Done, own.started, Some(next)),
        (Some((ended, _)), None) => (StepState::Failed, own.started, ended),
        (None, None) if own.ready => (StepState::Done, own.started, own.started),
        (None, None) if own.started.is_some() => (StepState::Going, own.started, None),
        (None, None) => (StepState::Waiting, None, None),
    }
}

/// The collector waits for the command's end; only then it works.
fn collector(own: &Times, command: Times) -> Span {
    match (command.ended, own.ended) {
        (Some((since, _)), Some((ended, 0))) => (StepState::Done, since, ended),
        (Some((since, _)), Some((ended, _))) => (StepState::Failed, since, ended),
        (Some((since, _)), None) if own.started.is_some() => (StepState::Going, since, None),
        (Some(_) | None, _) => (StepState::Waiting, None, None),
    }
}

fn times_of(pod: &Pod, name: &str) -> Times {
    let Some(status) = container_status(pod, name) else { return Times::default() };
    let time = |time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| time.map(|time| time.0);
    // A container that was started again: its last end is no end.
    let Some(ContainerState { running, terminated, .. }) = &status.state else { return Times::default() };
    match (running, terminated) {
        (_, Some(ended)) => Times {
            started: time(ended.started_at.as_ref()),
            ended: Some((time(ended.finished_at.as_ref()), ended.exit_code)),
            ready: false,
        },
        (Some(running), None) => {
            Times { started: time(running.started_at.as_ref()), ended: None, ready: status.started.unwrap_or_default() }
        }
        (None, None) => Times::default(),
    }
}

/// The status of a container of the pod, init containers included.
#[must_use]
pub(super) fn container_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [status.container_statuses.as_deref(), status.init_container_statuses.as_deref()];
    lists.into_iter().flatten().flatten().find(|container| container.name == name)
}

/// Whether the container runs or has run, so that there is a log of it.
#[must_use]
pub(super) fn has_log(pod: &Pod, name: &str) -> bool {
    let times = times_of(pod, name);
    times.started.is_some() || times.ended.is_some()
}

/// Whether the container has ended.
#[must_use]
pub(super) fn has_ended(pod: &Pod, name: &str) -> bool {
    times_of(pod, name).ended.is_some()
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
