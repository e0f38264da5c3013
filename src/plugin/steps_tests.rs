#![allow(clippy::unwrap_used)]

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn running(name: &str, since: i64, started: bool) -> Value {
    json!({"name": name, "image": "i", "imageID": "i", "ready": started, "restartCount": 0, "started": started,
        "state": {"running": {"startedAt": at(since).to_string()}}})
}

fn ended(name: &str, since: i64, until: i64, code: i32) -> Value {
    json!({"name": name, "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code, "startedAt": at(since).to_string(), "finishedAt": at(until).to_string()}}})
}

/// A pod with all steps whose containers stand like this.
fn pod(init: &[Value], main: &[Value]) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "creationTimestamp": at(0).to_string()},
        "spec": {
            "activeDeadlineSeconds": 1200,
            "initContainers": [
                {"name": "source"}, {"name": "injected"},
                {"name": "postgres", "restartPolicy": "Always"}, {"name": "collector", "restartPolicy": "Always"}],
            "containers": [{"name": "job"}, {"name": "sidecar"}]},
        "status": {"initContainerStatuses": init, "containerStatuses": main},
    }))
    .unwrap()
}

fn told(pod: &Pod) -> String {
    let steps = steps_of(pod, at(100));
    let words: Vec<String> = steps
        .iter()
        .map(|step| {
            let seconds = step.seconds.map(|seconds| format!(" {seconds}")).unwrap_or_default();
            format!("{} {:?}{seconds}", step.name, step.state)
        })
        .collect();
    words.join(", ")
}

#[rstest]
#[case::unscheduled(&[], &[], "source Waiting, postgres Waiting, run Waiting, collect Waiting")]
#[case::fetching(&[running("source", 90, false)], &[], "source Going 10, postgres Waiting, run Waiting, collect Waiting")]
#[case::unfetched(&[ended("source", 90, 95, 1)], &[], "source Failed 5, postgres Waiting, run Waiting, collect Waiting")]
#[case::service_starts(
    &[ended("source", 80, 85, 0), running("postgres", 86, false)], &[],
    "source Done 5, postgres Going 14, run Waiting, collect Waiting")]
#[case::service_fails(
    &[ended("source", 80, 85, 0), ended("postgres", 86, 90, 1)], &[],
    "source Done 5, postgres Failed 4, run Waiting, collect Waiting")]
#[case::runs(
    &[ended("source", 80, 85, 0), running("postgres", 86, true), running("collector", 88, true)],
    &[running("job", 89, true)],
    "source Done 5, postgres Done 2, run Going 11, collect Waiting")]
#[case::collects(
    &[ended("source", 80, 85, 0), running("postgres", 86, true), running("collector", 88, true)],
    &[ended("job", 89, 95, 1)],
    "source Done 5, postgres Done 2, run Failed 6, collect Going 5")]
#[case::over(
    &[ended("source", 80, 85, 0), ended("postgres", 86, 99, 137), ended("collector", 88, 98, 0)],
    &[ended("job", 89, 95, 0)],
    "source Done 5, postgres Done 2, run Done 6, collect Done 3")]
fn steps_are_as_far_as_the_containers_say(#[case] init: &[Value], #[case] main: &[Value], #[case] expected: &str) {
    assert_eq!(told(&pod(init, main)), expected);
}

#[test]
fn times_of_a_clock_ahead_of_ours_are_no_negative_lengths() {
    let pod = pod(&[], &[running("job", 500, true)]);
    assert!(told(&pod).contains("run Going 0"), "{}", told(&pod));
}

#[rstest]
#[case(Some(1200), Some(600))]
#[case(Some(1), None)]
#[case(Some(600), None)]
#[case(Some(i64::MIN), None)]
#[case(None, None)]
fn the_limit_is_the_deadline_without_its_net(#[case] deadline: Option<i64>, #[case] limit: Option<i64>) {
    let mut pod = pod(&[], &[]);
    pod.spec.as_mut().unwrap().active_deadline_seconds = deadline;
    assert_eq!(limit_of(&pod), limit);
}
