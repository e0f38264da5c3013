#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const KEY: &str = "0123456789";

/// A Job of run `a`: what it installs or publishes, and how it ended.
fn job(installs: bool, result: Value) -> Job {
    let mut labels = json!({names::ENVIRONMENT_LABEL: KEY});
    let mut annotations = json!({});
    if installs {
        annotations[names::ENVIRONMENT_LABEL] = json!(KEY);
    }
    if !result.is_null() {
        labels[names::FINISHED_LABEL] = json!("true");
        annotations[names::RESULT_ANNOTATION] = json!(result.to_string());
    }
    let owner = json!({"apiVersion": "timetracker.dev/v1alpha1", "kind": "PipelineRun", "name": "a", "uid": "uid-a", "controller": true});
    let metadata = json!({"name": "j", "labels": labels, "annotations": annotations, "ownerReferences": [owner]});
    serde_json::from_value(json!({ "metadata": metadata })).unwrap()
}

fn succeeded() -> Value {
    json!({"phase": "Succeeded"})
}

fn failed() -> Value {
    json!({"phase": "Failed", "failure": "CommandFailure"})
}

#[rstest]
#[case("it installs", vec![job(true, Value::Null)], true)]
#[case("it has installed, and will publish", vec![job(true, succeeded())], true)]
#[case("pip failed", vec![job(true, failed())], false)]
#[case("it tries again", vec![job(true, failed()), job(true, Value::Null)], true)]
#[case("it publishes", vec![job(true, succeeded()), job(false, Value::Null)], true)]
#[case("it has published", vec![job(true, succeeded()), job(false, succeeded())], false)]
#[case("it could not publish", vec![job(true, succeeded()), job(false, failed())], false)]
#[case("there was an image by then", vec![job(true, json!({"phase": "Succeeded", "outputs": {"image": "i"}}))], false)]
fn who_makes_an_environment_is_read_off_its_jobs(#[case] when: &str, #[case] jobs: Vec<Job>, #[case] expected: bool) {
    assert_eq!(!Flight::among(&jobs, "uid-b").is_empty(), expected, "{when}");
    assert_eq!(Flight::among(&jobs, "uid-a"), [], "nobody waits for itself");
}

#[test]
fn what_no_run_has_made_holds_nobody_up() {
    let mut foreign = job(true, Value::Null);
    foreign.metadata.owner_references = None;
    assert_eq!(Flight::among(&[foreign], "uid-b"), []);
    let mut unlabelled = job(true, Value::Null);
    unlabelled.labels_mut().remove(names::ENVIRONMENT_LABEL);
    assert_eq!(Flight::among(&[unlabelled], "uid-b"), [], "as a pull request's run leaves it");
}

#[test]
fn a_run_that_is_over_gone_or_a_pull_requests_is_not_waited_for() {
    let flight = Flight { key: KEY.to_owned(), run: "a".to_owned(), uid: "uid-a".to_owned() };
    let run = |uid: &str, annotations: Value, revision: Value| -> PipelineRun {
        let metadata = json!({"name": "a", "uid": uid, "annotations": annotations});
        let spec = json!({"pipelineRef": {"name": "p"}, "revision": revision});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    };
    assert!(flight.goes_on(Some(&run("uid-a", json!({}), json!({})))));
    assert!(!flight.goes_on(None));
    assert!(!flight.goes_on(Some(&run("another", json!({}), json!({})))));
    assert!(!flight.goes_on(Some(&run("uid-a", json!({names::OUTCOME_ANNOTATION: "{}"}), json!({})))));
    let of_pull_request = json!({"pullRequest": {"number": 1, "base": "main", "fork": true}});
    assert!(!flight.goes_on(Some(&run("uid-a", json!({}), of_pull_request))));
}
