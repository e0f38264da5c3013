#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::pipelines::attempt::judge;
use crate::pipelines::failure::Expectations;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

fn pod(phase: &str, job: Value, init: &[(&str, Value)]) -> Pod {
    let status_of = |name: &str, state: &Value| json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    let init: Vec<Value> = init.iter().map(|(name, state)| status_of(name, state)).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "j", "creationTimestamp": at(0).to_string()},
        "spec": {"containers": [{"name": "job"}], "initContainers": [{"name": "source"}, {"name": "postgres"}, {"name": "collector"}]},
        "status": {"phase": phase, "containerStatuses": [status_of("job", &job)], "initContainerStatuses": init},
    }))
    .unwrap()
}

fn waits(reason: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": format!("about {reason}")}})
}

fn runs() -> Value {
    json!({"running": {"startedAt": at(5).to_string()}})
}

fn ended(code: i32) -> Value {
    json!({"terminated": {"exitCode": code, "startedAt": at(5).to_string(), "finishedAt": at(10).to_string()}})
}

/// The life of a job pod that goes as it should, as a watch shows it.
fn life() -> Vec<Pod> {
    let initializing = || waits("PodInitializing");
    vec![
        pod("Pending", initializing(), &[]),
        pod("Pending", initializing(), &[("source", runs())]),
        pod("Pending", initializing(), &[("source", ended(0))]),
        pod("Pending", initializing(), &[("source", ended(0)), ("postgres", runs())]),
        pod("Pending", initializing(), &[("source", ended(0)), ("postgres", runs()), ("collector", runs())]),
        pod("Running", runs(), &[("source", ended(0)), ("postgres", runs()), ("collector", runs())]),
        pod("Running", ended(0), &[("source", ended(0)), ("postgres", runs()), ("collector", runs())]),
        pod("Running", ended(0), &[("source", ended(0)), ("postgres", runs()), ("collector", ended(0))]),
        pod("Running", ended(0), &[("source", ended(0)), ("postgres", ended(0)), ("collector", ended(0))]),
        pod("Succeeded", ended(0), &[("source", ended(0)), ("postgres", ended(0)), ("collector", ended(0))]),
    ]
}

fn hindered() -> Vec<Pod> {
    let deleted = |mut pod: Pod| {
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(20)));
        pod.metadata.deletion_grace_period_seconds = Some(12);
        pod
    };
    vec![
        pod("Pending", waits("ErrImagePull"), &[]),
        pod("Pending", waits("CreateContainerConfigError"), &[]),
        pod("Pending", waits("PodInitializing"), &[("source", ended(3))]),
        pod("Failed", waits("PodInitializing"), &[("source", ended(3))]),
        pod("Running", ended(1), &[("source", ended(0)), ("collector", runs())]),
        pod("Failed", ended(1), &[("source", ended(0)), ("collector", runs())]),
        pod("Failed", ended(1), &[("source", ended(0)), ("collector", ended(0))]),
        deleted(pod("Running", runs(), &[("collector", runs())])),
        deleted(pod("Failed", ended(0), &[("collector", runs())])),
    ]
}

#[test]
fn a_pod_that_does_as_it_should_wakes_its_run_three_times() {
    let mut before = None;
    let changes = life().iter().filter(|pod| std::mem::replace(&mut before, of_pod(pod)) != of_pod(pod)).count();
    assert_eq!(changes, 3, "the command's start, its end, the collector's end");
}

#[test]
fn whatever_is_judged_otherwise_is_a_change() {
    let expected = Expectations { agent: true, collector: true, ..Expectations::within(Duration::from_secs(60)) };
    let job = Job::default();
    let pods: Vec<Pod> = life().into_iter().chain(hindered()).collect();
    for (place, one) in pods.iter().enumerate() {
        for (other_place, other) in pods.iter().enumerate() {
            let (judged, otherwise) =
                (judge(&job, Some(one), &expected, at(12)), judge(&job, Some(other), &expected, at(12)));
            if judged != otherwise {
                assert_ne!(of_pod(one), of_pod(other), "{place} and {other_place}: {judged:?}, {otherwise:?}");
            }
        }
    }
}

#[test]
fn the_end_of_a_job_counts_until_its_result_is_written_down() {
    let job = |annotations: Value, conditions: Value| -> Job {
        let job = json!({"metadata": {"annotations": annotations}, "status": {"conditions": conditions}});
        serde_json::from_value(job).unwrap()
    };
    let finished = json!([{"type": "Complete", "status": "True"}]);
    assert_eq!(of_job(&job(json!({}), json!([]))), None);
    assert!(of_job(&job(json!({}), finished.clone())).is_some());
    assert_eq!(of_job(&job(json!({ names::RESULT_ANNOTATION: "{}" }), finished)), None);
}

#[test]
fn only_a_command_that_runs_undisturbed_may_be_told_later() {
    let told_later: Vec<bool> = life().iter().map(is_passing).collect();
    let expected: Vec<bool> = (0..10).map(|step| step == 5).collect();
    assert_eq!(told_later, expected);
    assert!(hindered().iter().all(|pod| !is_passing(pod)));
}
