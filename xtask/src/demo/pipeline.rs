//! The act with the pipeline: tests of a commit as Jobs, some of them on a Postgres of their own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::git::Server;
use super::{NAMESPACE, Narration, Stage};
use crate::cluster::choice::OWN_LABEL;
use crate::host::progress::seconds;
use crate::host::wait;

const KIND: &str = "pipelineruns.timetracker.dev";
const RUN: &str = "tests-1";
/// What the sample app's suite has for each marker (dev/timetracker/tests/test_counts.py counts).
const SMOKE: i64 = 13;
const DATABASE: i64 = 15;
const BOUND: Duration = Duration::from_secs(600);

/// Runs smoke tests, then database tests on Postgres 16, on version 1.1.0's commit.
pub fn act(stage: &Stage<'_>, narration: &mut Narration<'_>) -> Result<()> {
    narration
        .act("A pipeline", "A commit's smoke tests, then its database tests on a Postgres 16 of their own, as Jobs.");
    let gateway = stage.cluster.gateway().context("this cluster does not reach this machine")?;
    let server = Server::start(gateway)?;
    let commit = server.commit("v1.1.0")?;
    narration.say(format!(
        "a git server offers {}; the commit is {}",
        server.clone_url(),
        commit.get(..7).unwrap_or(&commit)
    ));
    for object in objects(stage, &server.clone_url(), &commit) {
        stage.kubectl.apply(&object)?;
    }
    let begun = Instant::now();
    let status = wait_for_end(stage, narration)?;
    let took = begun.elapsed();
    judge(&status)?;
    let tests = &status["tests"];
    narration.shown(
        "a pipeline of tests runs as Jobs",
        format!("{} passed, {} failed in {}", tests["passed"], tests["failed"], seconds(took)),
    );
    Ok(())
}

fn objects(stage: &Stage<'_>, clone_url: &str, commit: &str) -> [Value; 3] {
    let labels = json!({OWN_LABEL: "true"});
    let job = |name: &str, marker: &str, needs: Value, services: Value| {
        json!({
            "name": name,
            "needs": needs,
            "services": services,
            "reports": ["JUnit"],
            "run": format!("python -m pytest -m {marker} --no-cov -p no:cacheprovider --junitxml \"$REPORTS/junit.xml\""),
        })
    };
    [
        json!({
            "apiVersion": "timetracker.dev/v1alpha1", "kind": "SourceRepository",
            "metadata": {"name": "timetracker", "namespace": NAMESPACE, "labels": labels},
            "spec": {"cloneURL": clone_url},
        }),
        json!({
            "apiVersion": "timetracker.dev/v1alpha1", "kind": "Pipeline",
            "metadata": {"name": "tests", "namespace": NAMESPACE, "labels": labels},
            "spec": {
                "repositoryRef": {"name": "timetracker"},
                "timeout": "15m",
                "defaults": {
                    "image": stage.images.public_name(stage.cluster, "drytrix/timetracker-ci:dev"),
                    "timeout": "5m",
                },
                "jobs": [
                    job("smoke-tests", "smoke", json!([]), json!([])),
                    job("database-tests", "database", json!(["smoke-tests"]), json!([{"name": "postgres", "postgres": {"version": "16"}}])),
                ],
            },
        }),
        json!({
            "apiVersion": "timetracker.dev/v1alpha1", "kind": "PipelineRun",
            "metadata": {"name": RUN, "namespace": NAMESPACE, "labels": labels},
            "spec": {"pipelineRef": {"name": "tests"}, "revision": {"commit": commit}},
        }),
    ]
}

fn status(stage: &Stage<'_>) -> Result<Value> {
    let object = stage.kubectl.get(KIND, NAMESPACE, RUN)?.context("the run is gone")?;
    Ok(object["status"].clone())
}

fn wait_for_end(stage: &Stage<'_>, narration: &Narration<'_>) -> Result<Value> {
    let mut told = String::new();
    let ended = wait::until(BOUND, || {
        let status = status(stage)?;
        let now = jobs(&status);
        if now != told && !now.is_empty() {
            narration.say(&now);
            told = now;
        }
        Ok(!status["completionTime"].is_null())
    })?;
    let status = status(stage)?;
    if !ended {
        bail!("waited {} s for the run to end; its status is now:\n{status:#}", BOUND.as_secs());
    }
    Ok(status)
}

fn jobs(status: &Value) -> String {
    let jobs = status["jobs"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    jobs.map(|job| format!("{}: {}", text(&job["name"]), text(&job["phase"]))).collect::<Vec<_>>().join(", ")
}

/// The run must have passed, and by exactly the tests that there are.
fn judge(status: &Value) -> Result<()> {
    let succeeded = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Succeeded" && condition["status"] == "True");
    let passed = status["tests"]["passed"].as_i64().unwrap_or_default();
    let failed = status["tests"]["failed"].as_i64().unwrap_or_default();
    if succeeded && passed == SMOKE + DATABASE && failed == 0 {
        return Ok(());
    }
    bail!("the run should have passed {} tests; its status is:\n{status:#}", SMOKE + DATABASE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_passed_with_fewer_tests_than_there_are_has_not_passed() {
        let status = |verdict: &str, passed: i64| json!({"conditions": [{"type": "Succeeded", "status": verdict}], "tests": {"passed": passed, "failed": 0}});
        assert!(judge(&status("True", 28)).is_ok());
        assert!(judge(&status("True", 0)).is_err());
        assert!(judge(&status("False", 28)).is_err());
    }
}
