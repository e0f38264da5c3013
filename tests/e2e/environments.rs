//! Environments: what the sample app's requirement files name, installed once by the real pip and used by several jobs.

use serde_json::{Value, json};

use crate::git;
use crate::runs::{BOUND, RUN, begin, job, source};
use crate::stage::on_stage;
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
