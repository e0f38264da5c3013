//! Runs: what they execute, what they count, how they end.

use serde_json::{Value, json};

use crate::git;
use crate::stage::{Stage, on_stage};
use crate::waiting::{condition, is_true, status, until};

/// Name of every test's run and pipeline.
pub const RUN: &str = "run";
/// How long a run may take on a busy machine.
pub const BOUND: u64 = 300;
/// Python with everything that the sample app's tests need.
pub const ENVIRONMENT: &str = "ghcr.io/drytrix/timetracker-ci:dev";
/// Python and a shell.
pub const PYTHON: &str = "docker.io/library/python:3.11-slim";

/// Runs until it is told to end: a shell that is a container's first process ignores TERM otherwise, and is waited for.
pub const LONG: &str = "trap 'exit 143' TERM; sleep 600 & wait";

/// A pipeline without a repository.
pub fn pipeline(jobs: Value) -> Value {
    json!({ "timeout": "10m", "defaults": { "image": PYTHON, "timeout": "3m" }, "jobs": jobs })
}

/// Creates pipeline and run.
pub async fn begin(stage: &Stage, pipeline: Value, run: Value) {
    stage.create("Pipeline", RUN, pipeline).await;
    let mut spec = run;
    spec["pipelineRef"] = json!({ "name": RUN });
    stage.create("PipelineRun", RUN, spec).await;
}

/// Waits for the end.
pub async fn ended(stage: &Stage) -> Value {
    status(stage, "PipelineRun", RUN, "its end", BOUND, |status| !status["completionTime"].is_null()).await
}

/// One job of the status.
pub fn job<'a>(status: &'a Value, name: &str) -> &'a Value {
    let found = status["jobs"].as_array().into_iter().flatten().find(|job| job["name"] == name);
    found.unwrap_or_else(|| panic!("no job {name} in {status:#}"))
}

/// Makes the sample app's repository known.
pub async fn source(stage: &Stage) {
    stage.create("SourceRepository", "timetracker", json!({ "cloneURL": git::server().clone_url() })).await;
}

fn tests(name: &str, marker: &str, needs: &[&str]) -> Value {
    json!({
        "name": name, "needs": needs, "reports": ["JUnit"], "image": ENVIRONMENT,
        "run": format!("python -m pytest -m {marker} --no-cov -p no:cacheprovider --junitxml \"$REPORTS/junit.xml\""),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_of_a_commit_run_on_postgres_and_are_counted() {
    on_stage("tests", |stage| async move {
        source(&stage).await;
        let mut database = tests("database-tests", "database", &["smoke-tests"]);
        database["services"] = json!([{ "name": "postgres", "postgres": { "version": "16" } }]);
        let mut definition = pipeline(json!([tests("smoke-tests", "smoke", &[]), database]));
        definition["repositoryRef"] = json!({ "name": "timetracker" });
        let commit = git::server().commit("v1.1.0");
        begin(&stage, definition, json!({ "revision": { "commit": &commit } })).await;
        let status = ended(&stage).await;
        assert!(is_true(&status, "Succeeded") && is_true(&status, "Ready"), "{status:#}");
        assert_eq!(status["commit"], json!(commit));
        assert_eq!((&status["tests"]["passed"], &status["tests"]["failed"]), (&json!(28), &json!(0)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_that_fail_fail_the_run_and_skip_what_needs_them() {
    on_stage("red", |stage| async move {
        source(&stage).await;
        let mut database = tests("database-tests", "database", &[]);
        database["services"] = json!([{ "name": "postgres", "postgres": { "version": "16" } }]);
        let after =
            json!({ "name": "after", "needs": ["database-tests"], "checkout": { "enabled": false }, "run": "true" });
        let mut definition = pipeline(json!([database, after]));
        definition["repositoryRef"] = json!({ "name": "timetracker" });
        begin(&stage, definition, json!({ "revision": { "tag": "v1.5.0" } })).await;
        let status = ended(&stage).await;
        assert_eq!(condition(&status, "Succeeded")["status"], "False", "{status:#}");
        assert!(is_true(&status, "Stalled"), "{status:#}");
        assert_eq!(job(&status, "database-tests")["failure"], "TestFailure", "{status:#}");
        assert_eq!(job(&status, "after")["phase"], "Skipped", "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_collects_no_test_has_not_passed() {
    on_stage("no-tests", |stage| async move {
        let empty = r#"echo '<testsuites><testsuite name="x" tests="0"/></testsuites>' > "$REPORTS/junit.xml""#;
        begin(&stage, pipeline(json!([{ "name": "lane", "reports": ["JUnit"], "run": empty }])), json!({})).await;
        let status = ended(&stage).await;
        assert_eq!(condition(&status, "Succeeded")["status"], "False", "{status:#}");
        assert_eq!(job(&status, "lane")["failure"], "NoTestsCollected", "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_param_says_reaches_the_script_as_it_is_and_is_never_a_command() {
    on_stage("hostile", |stage| async move {
        let hostile = "$(HOME) $$(HOME) $HOME `id` \"'; exit 7 # \\ ${PATH}\nsecond $(touch /tmp/x) line";
        let encoded = {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(hostile)
        };
        let script = format!(
            "python3 -c \"import os, base64, sys; sys.exit(os.environ['PARAM_TEXT'].encode() != base64.b64decode('{encoded}'))\""
        );
        let mut definition = pipeline(json!([
            { "name": "plain", "run": script },
            { "name": "agent", "reports": ["JUnit"], "run": format!(
                "{script} && echo '<testsuite tests=\"1\"><testcase name=\"a\"/></testsuite>' > \"$REPORTS/junit.xml\"") },
        ]));
        definition["params"] = json!([{ "name": "text", "type": "String" }]);
        begin(&stage, definition, json!({ "params": [{ "name": "text", "value": hostile }] })).await;
        let status = ended(&stage).await;
        assert!(is_true(&status, "Succeeded"), "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_ends_and_its_pods_with_it() {
    on_stage("cancel", |stage| async move {
        begin(&stage, pipeline(json!([{ "name": "long", "run": LONG }])), json!({})).await;
        status(&stage, "PipelineRun", RUN, "the job to run", BOUND, |status| {
            status["jobs"].as_array().into_iter().flatten().any(|job| job["phase"] == "Running")
        })
        .await;
        stage.kubectl(&["patch", "pipelinerun", RUN, "--type=merge", "--patch", r#"{"spec":{"cancel":true}}"#]);
        let status = ended(&stage).await;
        assert_eq!(condition(&status, "Succeeded")["reason"], "Cancelled", "{status:#}");
        assert_eq!(job(&status, "long")["phase"], "Cancelled", "{status:#}");
        until("no pod to run", 60, || {
            stage.kubectl(&["get", "pods", "--field-selector=status.phase=Running", "--output=name"]).trim().is_empty()
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_runs_too_long_is_ended_at_its_timeout() {
    on_stage("timeout", |stage| async move {
        let jobs = json!([{ "name": "slow", "timeout": "10s", "run": LONG }]);
        begin(&stage, pipeline(jobs), json!({})).await;
        let status = ended(&stage).await;
        assert_eq!(job(&status, "slow")["failure"], "DeadlineExceeded", "{status:#}");
    })
    .await;
}
