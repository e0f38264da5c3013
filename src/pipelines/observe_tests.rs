//! Runs that this operator can't decode, among those that it can.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::*;
use crate::cluster::fake::{Asked, FakeApi};

const MARK: &str = r#"{"since":"2026-01-01T00:00:00Z","jobs":1,"seen":"2026-01-01T00:00:00Z"}"#;
const SUCCEEDED: &str =
    r#"{"phase":"Succeeded","reason":"Succeeded","message":"m","completed":"2026-01-01T00:00:00Z"}"#;

/// A run with these annotations.
fn run(name: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "timetracker.dev/v1alpha1", "kind": "PipelineRun",
        "metadata": {
            "name": name, "namespace": "ci", "uid": name, "annotations": annotations,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {names::GROUP_LABEL: "group", names::EVENT_LABEL: "Push", names::WAITING_LABEL: "true"},
        },
        "spec": {"pipelineRef": {"name": "p"}},
    })
}

/// The same as a newer operator left it.
fn newer(name: &str, annotations: Value) -> Value {
    let mut run = run(name, annotations);
    run["status"] = json!({"jobs": [{"name": "a", "phase": "Hibernated"}]});
    run
}

fn observed() -> Observed {
    let annotations = json!({names::REVISION_ANNOTATION: "p-1"});
    Observed::alone(serde_json::from_value(run("own", annotations)).unwrap())
}

fn list(asked: Asked, items: &[Value]) {
    asked.answer(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}));
}

#[tokio::test]
async fn a_run_that_can_t_be_decoded_and_says_that_it_waits_keeps_no_place() {
    let (cluster, mut api) = FakeApi::cluster();
    let mut observed = observed();
    let waits = json!({names::WAITING_ANNOTATION: MARK});
    let server = async {
        for _ in 0..2 {
            let asked = api.next().await;
            let runs = [newer("unreadable", waits.clone()), run("readable", waits.clone())];
            let items: &[Value] = if asked.path.ends_with("pipelineruns") { &runs } else { &[] };
            list(asked, items);
        }
    };
    let settings = Settings::default();
    let no_environments = BTreeSet::new();
    let (read, ()) = tokio::join!(observed.take_turn(&cluster, &settings, &no_environments), server);
    read.unwrap();
    let waiting: Vec<String> = observed.queue.unwrap().waiting.into_iter().map(|waiting| waiting.name).collect();
    assert_eq!(waiting, ["readable"]);
}

#[tokio::test]
async fn of_rivals_that_can_t_be_decoded_only_those_that_have_begun_are_waited_for() {
    let (cluster, mut api) = FakeApi::cluster();
    let mut observed = observed();
    let begun = json!({names::STARTED_ANNOTATION: "2026-01-01T00:00:00Z"});
    let runs =
        [run("readable", json!({})), newer("never-begins", json!({})), newer("begun", begun), run("own", json!({}))];
    let server = async { list(api.next().await, &runs) };
    let (read, ()) = tokio::join!(observed.read_rivals(&cluster, "ci"), server);
    read.unwrap();
    let rivals: Vec<String> = observed.rivals.into_iter().map(|rival| rival.name).collect();
    assert_eq!(rivals, ["readable", "begun"]);
}

#[tokio::test]
async fn a_run_that_can_t_be_decoded_stays_and_no_end_waits_for_it() {
    let (cluster, mut api) = FakeApi::cluster();
    let mut observed = observed();
    let over = json!({names::OUTCOME_ANNOTATION: SUCCEEDED});
    let runs = [newer("unreadable", over.clone()), run("readable", over)];
    let server = async { list(api.next().await, &runs) };
    let (read, ()) = tokio::join!(observed.read_history(&cluster), server);
    read.unwrap();
    let history: Vec<String> = observed.history.unwrap().into_iter().map(|finished| finished.name).collect();
    assert_eq!(history, ["readable"]);
}
