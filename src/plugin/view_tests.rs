//! Views for the tests of whatever shows them, and the test of how they come about.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::steps::{StepState, StepView};
use super::view::{JobView, RunState, RunView};
use crate::api::run::{FailureClass, JobPhase, PipelineRun, TestStatus};

/// A job that is that far.
pub fn job(name: &str, phase: JobPhase, seconds: Option<i64>) -> JobView {
    JobView {
        name: name.to_owned(),
        phase,
        failure: None,
        message: None,
        attempt: 1,
        seconds,
        flaky: 0,
        limit: None,
        steps: Vec::new(),
    }
}

/// A job that failed so.
pub fn failed(name: &str, class: FailureClass, message: &str) -> JobView {
    JobView { failure: Some(class), message: Some(message.to_owned()), ..job(name, JobPhase::Failed, Some(125)) }
}

/// A step of a pod.
pub fn step(name: &str, state: StepState, seconds: Option<i64>) -> StepView {
    StepView { name: name.to_owned(), state, seconds, command: name == "run" }
}

/// A job whose command runs beside a database.
pub fn running(name: &str) -> JobView {
    JobView {
        limit: Some(600),
        steps: vec![
            step("source", StepState::Done, Some(2)),
            step("postgres", StepState::Done, Some(1)),
            step("run", StepState::Going, Some(66)),
            step("collect", StepState::Waiting, None),
        ],
        ..job(name, JobPhase::Running, Some(70))
    }
}

/// A run with these jobs.
pub fn run(state: RunState, jobs: Vec<JobView>) -> RunView {
    RunView {
        name: "ci-x7k2p".to_owned(),
        pipeline: "comprehensive-ci".to_owned(),
        revision: Some("1a2b3c4".to_owned()),
        state,
        cancelling: false,
        reason: String::new(),
        message: String::new(),
        seconds: 132,
        jobs,
        tests: None,
        coverage: None,
    }
}

/// Test counts.
pub fn tests(passed: i64, failed: i64) -> TestStatus {
    TestStatus { passed, failed, skipped: 1, flaky: 0, by_marker: BTreeMap::new() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn object(spec: Value, status: Value) -> PipelineRun {
    serde_json::from_value(json!({
        "apiVersion": "timetracker.dev/v1alpha1", "kind": "PipelineRun",
        "metadata": {"name": "r", "creationTimestamp": at(100).to_string()}, "spec": spec, "status": status,
    }))
    .unwrap()
}

fn condition(status: &str, reason: &str) -> Value {
    json!({"type": "Succeeded", "status": status, "reason": reason, "message": "m", "lastTransitionTime": at(100).to_string()})
}

fn state_of(status: Value) -> RunState {
    RunView::of(&object(json!({"pipelineRef": {"name": "p"}}), status), [], at(130)).state
}

#[test]
fn the_state_of_a_run_is_what_its_verdict_says() {
    let with = |status: &str, reason: &str| json!({"observedGeneration": 1, "conditions": [condition(status, reason)]});
    assert_eq!(state_of(json!({"observedGeneration": -1})), RunState::Unseen);
    assert_eq!(state_of(with("Unknown", "WaitingForApproval")), RunState::Waiting);
    let mut going = with("Unknown", "Running");
    going["startTime"] = json!(at(110).to_string());
    assert_eq!(state_of(going), RunState::Going);
    assert_eq!(state_of(with("True", "Succeeded")), RunState::Succeeded);
    assert_eq!(state_of(with("False", "TestFailure")), RunState::Failed);
    assert_eq!(state_of(with("False", "Cancelled")), RunState::Cancelled);
}

#[test]
fn a_run_that_nobody_looks_at_says_so_after_a_while() {
    let run = object(json!({"pipelineRef": {"name": "p"}, "revision": {"branch": "develop"}}), json!(null));
    assert_eq!(RunView::of(&run, [], at(105)).message, "");
    let view = RunView::of(&run, [], at(111));
    assert!(view.message.contains("does it watch this namespace"), "{view:?}");
    assert_eq!(view.revision.as_deref(), Some("develop"));
}

#[test]
fn a_job_has_the_steps_of_the_newest_pod_of_its_newest_attempt() {
    let pod = |name: &str, job: &str, made: i64, started: i64| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": at(made).to_string(), "labels": {"batch.kubernetes.io/job-name": job}},
            "spec": {"containers": [{"name": "job"}]},
            "status": {"containerStatuses": [{"name": "job", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": at(started).to_string()}}}]},
        }))
        .unwrap()
    };
    let run = object(
        json!({"pipelineRef": {"name": "p"}}),
        json!({"observedGeneration": 1, "jobs": [
            {"name": "a", "phase": "Running", "job": "r-2", "attempt": 2}, {"name": "b", "phase": "Waiting"}]}),
    );
    let pods = [pod("old", "r-1", 101, 102), pod("new", "r-2", 120, 124), pod("lost", "r-2", 110, 111)];
    let view = RunView::of(&run, &pods, at(130));
    let job = view.job("a").unwrap();
    assert_eq!((job.attempt, job.seconds), (2, Some(10)));
    assert_eq!(job.steps, [step("run", StepState::Going, Some(6))]);
    assert_eq!(view.job("b").unwrap().steps, []);
}
