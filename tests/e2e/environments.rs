//! Environments: what the sample app's requirement files name, installed once by the real pip and used by several jobs.

use serde_json::{Value, json};

use crate::git;
use crate::runs::{BOUND, RUN, begin, job, source};
use crate::stage::{Stage, on_stage};
use crate::waiting::{condition, is_true, status};

/// pip fetches from PyPI, on a busy machine.
const WHOLE: u64 = 3 * BOUND;

fn pipeline(requirements: &str) -> Value {
    let where_it_is = "import flask, sys; sys.exit(not flask.__file__.startswith('/timetracker/environment/'))";
    json!({
        "timeout": "20m",
        "repositoryRef": { "name": "timetracker" },
        "defaults": { "environment": { "python": "3.11", "requirements": [requirements] } },
        "jobs": [
            { "name": "smoke", "reports": ["JUnit"], "timeout": "5m",
              "run": "python -m pytest -m smoke --no-cov -p no:cacheprovider --junitxml \"$REPORTS/junit.xml\"" },
            { "name": "lint", "timeout": "3m", "run": format!("flake8 --version; python -c \"{where_it_is}\"\ntouch /timetracker/environment/x 2> /dev/null && exit 9 || true") },
            { "name": "plain", "image": "docker.io/library/python:3.11-slim", "checkout": { "enabled": false }, "run": "true" },
        ],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_run_in_an_environment_that_was_installed_once() {
    on_stage("environment", |stage| async move {
        source(&stage).await;
        let commit = git::server().commit("v1.1.0");
        begin(&stage, pipeline("requirements-test.txt"), json!({ "revision": { "commit": commit } })).await;
        let status =
            status(&stage, "PipelineRun", RUN, "its end", WHOLE, |status| !status["completionTime"].is_null()).await;
        assert!(is_true(&status, "Succeeded"), "{status:#}");
        let made = status["jobs"].as_array().unwrap().iter().filter(|job| job["name"] == "environment").count();
        assert_eq!((made, &job(&status, "environment")["phase"]), (1, &json!("Succeeded")), "{status:#}");
        assert_eq!((&status["tests"]["passed"], &status["tests"]["failed"]), (&json!(13), &json!(0)), "{status:#}");
        for name in ["environment", "smoke", "lint"] {
            println!("{name}: {} s", job(&status, name)["seconds"]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requirement_file_that_is_missing_is_told_with_the_commit() {
    on_stage("no-environment", |stage| async move {
        source(&stage).await;
        let commit = git::server().commit("v1.1.0");
        begin(&stage, pipeline("requirements-none.txt"), json!({ "revision": { "commit": &commit } })).await;
        let status =
            status(&stage, "PipelineRun", RUN, "its end", BOUND, |status| !status["completionTime"].is_null()).await;
        assert_eq!(condition(&status, "Succeeded")["reason"], "Configuration", "{status:#}");
        let message = job(&status, "environment")["message"].as_str().unwrap();
        assert!(message.contains("requirements-none.txt") && message.contains(&commit[..7]), "{message}");
        assert_eq!(job(&status, "smoke")["phase"], "Skipped", "{status:#}");
        assert_eq!(job(&status, "plain")["phase"], "Succeeded", "{status:#}");
    })
    .await;
}

/// One further run of the pipeline: its status at its end.
async fn again(stage: &Stage, name: &str, revision: Value) -> Value {
    stage.create("PipelineRun", name, json!({ "pipelineRef": { "name": RUN }, "revision": revision })).await;
    let status =
        status(stage, "PipelineRun", name, "its end", WHOLE, |status| !status["completionTime"].is_null()).await;
    assert!(is_true(&status, "Succeeded"), "{status:#}");
    status
}

/// What a job's pod runs in.
fn image_of(stage: &Stage, status: &Value, name: &str) -> String {
    let target = format!("job/{}", job(status, name)["job"].as_str().unwrap());
    let path = "--output=jsonpath={.spec.template.spec.containers[0].image}";
    stage.kubectl(&["get", &target, path])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_run_installs_nothing_and_a_pull_request_publishes_nothing() {
    on_stage("environment-image", |stage| async move {
        let spec = json!({ "cloneURL": git::server().clone_url(), "image": { "repository": stage.image_name() } });
        stage.create("SourceRepository", "timetracker", spec).await;
        let commit = git::server().commit("v1.1.0");
        stage.create("Pipeline", RUN, pipeline("requirements-test.txt")).await;

        // A pull request first: were it to publish, the next run would find its image.
        let pull_request = json!({ "commit": commit, "pullRequest": { "number": 1, "base": "main", "fork": false } });
        let hostile = again(&stage, "pull-request", pull_request.clone()).await;
        assert_eq!(job(&hostile, "environment-publish")["phase"], "Skipped", "{hostile:#}");

        let first = again(&stage, "first", json!({ "commit": commit })).await;
        assert_eq!(job(&first, "environment-publish")["phase"], "Succeeded", "{first:#}");
        assert_eq!(image_of(&stage, &first, "smoke"), "docker.io/library/python:3.11-slim");

        let expected = format!("{}-environment@sha256:", stage.image_name());
        for (name, revision) in [("second", json!({ "commit": commit })), ("read", pull_request)] {
            let later = again(&stage, name, revision).await;
            assert_eq!(job(&later, "environment-publish")["phase"], "Skipped", "{later:#}");
            let image = image_of(&stage, &later, "smoke");
            assert!(image.starts_with(&expected), "{image}");
            assert_eq!(later["tests"]["passed"], json!(13), "{later:#}");
            let seconds = |status: &Value| job(status, "environment")["seconds"].as_i64().unwrap();
            assert!(seconds(&later) <= 2 && seconds(&later) < seconds(&first), "{later:#}");
            println!("{name}: {} s instead of {} s", seconds(&later), seconds(&first));
        }
    })
    .await;
}
