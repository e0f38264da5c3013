//! Runs: conditions, what is repeated, and who waits for whom.

use serde_json::json;

use crate::runs::{BOUND, RUN, begin, ended, job, pipeline};
use crate::stage::{Stage, on_stage};
use crate::waiting::{condition, is_true, status};

/// Name of a second run.
const SECOND: &str = "second";

async fn second(stage: &Stage, spec: serde_json::Value) {
    let mut spec = spec;
    spec["pipelineRef"] = json!({ "name": RUN });
    stage.create("PipelineRun", SECOND, spec).await;
}

async fn second_ended(stage: &Stage) -> serde_json::Value {
    status(stage, "PipelineRun", SECOND, "its end", BOUND, |status| !status["completionTime"].is_null()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_decides_by_results_outputs_and_params() {
    on_stage("when", |stage| async move {
        let mut definition = pipeline(json!([
            { "name": "smoke-tests", "run": "exit 3" },
            { "name": "version", "outputs": ["version"], "run": "echo version=5.1 >> \"$OUTPUTS\"" },
            { "name": "forced", "needs": ["smoke-tests"], "run": "true",
              "when": "needs['smoke-tests'].result == 'Succeeded' || params.force" },
            { "name": "never", "needs": ["version"], "run": "true", "when": "!needs.version.outputs.version.startsWith('5.')" },
            { "name": "broken", "needs": ["version"], "run": "true", "when": "int(needs.version.outputs.version) > 5" },
        ]));
        definition["params"] = json!([{ "name": "force", "type": "Boolean", "default": "true" }]);
        begin(&stage, definition, json!({})).await;
        let status = ended(&stage).await;
        assert_eq!(job(&status, "forced")["phase"], "Succeeded", "{status:#}");
        assert_eq!(job(&status, "never")["phase"], "Skipped", "{status:#}");
        assert_eq!(job(&status, "broken")["failure"], "Configuration", "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_can_not_be_is_refused_before_the_first_job() {
    on_stage("when-refused", |stage| async move {
        let jobs = json!([{ "name": "a", "run": "true", "when": "needs.zebra.result == 'Succeeded'" }]);
        begin(&stage, pipeline(jobs), json!({})).await;
        let status = ended(&stage).await;
        assert_eq!(condition(&status, "Succeeded")["reason"], "InvalidExpression", "{status:#}");
        assert_eq!(stage.kubectl(&["get", "jobs", "--output=name"]), "");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_run_of_a_group_replaces_the_older() {
    on_stage("group", |stage| async move {
        let mut definition = pipeline(json!([{ "name": "long", "run": "test \"$PARAM_LONG\" = false || { trap 'exit 143' TERM; sleep 600 & wait; }" }]));
        definition["params"] = json!([{ "name": "long", "type": "Boolean", "default": "true" }]);
        definition["concurrency"] = json!({ "group": "'deploy'", "cancelInProgress": true });
        begin(&stage, definition, json!({})).await;
        let runs = |status: &serde_json::Value| status["jobs"][0]["phase"] == "Running";
        status(&stage, "PipelineRun", RUN, "its job", BOUND, runs).await;
        second(&stage, json!({ "params": [{ "name": "long", "value": "false" }] })).await;
        let older = ended(&stage).await;
        assert_eq!(condition(&older, "Succeeded")["reason"], "Superseded", "{older:#}");
        let newer = second_ended(&stage).await;
        assert!(is_true(&newer, "Succeeded"), "{newer:#}");
        assert!(newer["startTime"].as_str() >= older["completionTime"].as_str(), "{older:#} {newer:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_run_does_only_what_failed_and_what_depends_on_it() {
    on_stage("rerun", |stage| async move {
        // What was wrong in the first run is repaired in the second.
        let flaky = "case \"$RUN_NAME\" in second) exit 0;; *) exit 1;; esac";
        begin(
            &stage,
            pipeline(json!([
                { "name": "build", "outputs": ["version"], "run": "echo version=7 >> \"$OUTPUTS\"" },
                { "name": "flaky", "run": flaky },
                { "name": "deploy", "needs": ["build", "flaky"], "run": "test \"$NEEDS_BUILD_VERSION\" = 7" },
            ])),
            json!({}),
        )
        .await;
        let first = ended(&stage).await;
        assert_eq!(job(&first, "deploy")["phase"], "Skipped", "{first:#}");
        second(&stage, json!({ "rerunOf": { "name": RUN } })).await;
        let status = second_ended(&stage).await;
        assert!(is_true(&status, "Succeeded"), "{status:#}");
        assert_eq!(job(&status, "build")["message"], json!(format!("reused from {RUN}")), "{status:#}");
        let jobs = stage.kubectl(&["get", "jobs", "--selector=timetracker.dev/run=second", "--output=name"]);
        assert_eq!(jobs.lines().count(), 2, "{jobs}");
        // A tag may be moved: what runs again runs in the image of what was taken over.
        let image = "jsonpath={.items[*].spec.template.spec.containers[0].image}";
        let images = stage.kubectl(&["get", "jobs", "--selector=timetracker.dev/run=second", "--output", image]);
        assert!(images.split(' ').all(|image| image.contains("@sha256:")), "{images}");
    })
    .await;
}
