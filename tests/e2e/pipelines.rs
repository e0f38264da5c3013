//! The shipped pipelines on the sample app, with the real tools.

use serde_json::{Value, json};

use crate::git;
use crate::runs::{BOUND, ENVIRONMENT, RUN, begin, job, pipeline, source};
use crate::stage::{Stage, on_stage, repository};
use crate::waiting::{condition, is_true, status};

/// How long all lanes may take, one after another, on a busy machine.
const WHOLE: u64 = 6 * BOUND;

/// The primary markers of the sample app's suite: each of its 137 tests has exactly one.
const PRIMARY: [(&str, u32); 6] =
    [("smoke", 13), ("unit", 40), ("integration", 30), ("security", 25), ("database", 15), ("api", 14)];

fn shipped(name: &str) -> Value {
    let path = repository().join(format!("config/pipelines/{name}.yaml"));
    let object: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    object["spec"].clone()
}

/// The same in an environment of these requirement files instead of an image: installed by a Job in the cluster.
fn in_environment(name: &str, requirements: &[&str]) -> Value {
    let mut definition = shipped(name);
    let defaults = definition["defaults"].as_object_mut().unwrap();
    defaults.remove("image");
    defaults.insert("environment".to_owned(), json!({ "python": "3.11", "requirements": requirements }));
    definition
}

async fn run(stage: &Stage, definition: Value) -> Value {
    run_of(stage, definition, "v1.1.0").await
}

async fn run_of(stage: &Stage, definition: Value, tag: &str) -> Value {
    source(stage).await;
    let commit = git::server().commit(tag);
    begin(stage, definition, json!({ "revision": { "commit": commit } })).await;
    status(stage, "PipelineRun", RUN, "its end", WHOLE, |status| !status["completionTime"].is_null()).await
}

fn percent(value: &Value) -> f64 {
    value.as_str().unwrap_or_else(|| panic!("no percentage: {value}")).parse().unwrap()
}

fn assert_all_tests_by_marker(status: &Value) {
    assert_eq!((&status["tests"]["passed"], &status["tests"]["failed"]), (&json!(137), &json!(0)), "{status:#}");
    for (marker, count) in PRIMARY {
        assert_eq!(status["tests"]["byMarker"][marker], json!(format!("{count}/{count}")), "{marker}: {status:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn comprehensive_ci_runs_every_test_in_its_lane_and_combines_their_coverage() {
    on_stage("ci", |stage| async move {
        let status = run(&stage, in_environment("comprehensive-ci", &["requirements-ci.txt"])).await;
        assert_eq!(job(&status, "environment")["phase"], "Succeeded", "{status:#}");
        let mut lanes = vec!["smoke-tests", "integration-tests-auth", "database-tests", "security-tests"];
        lanes.extend(["unit-tests (models)", "unit-tests (routes)", "unit-tests (api)", "unit-tests (utils)"]);
        lanes.extend(["integration-tests (timer)", "integration-tests (projects)", "integration-tests (invoices)"]);
        let total = job(&status, "coverage-report");
        for lane in lanes {
            let lane = job(&status, lane);
            assert_eq!(lane["phase"], "Succeeded", "{lane:#}");
            assert!(percent(&lane["coverage"]) < percent(&total["coverage"]), "{lane:#}");
        }
        assert_all_tests_by_marker(&status);
        for tool in ["black", "flake8", "bandit"] {
            assert_eq!(job(&status, &format!("code-quality ({tool})"))["phase"], "Succeeded", "{status:#}");
        }
        assert_eq!(total["phase"], "Succeeded", "{status:#}");
        assert_eq!(total["message"], Value::Null, "no lane's data is missing: {status:#}");
        assert!(percent(&total["coverage"]) > 85.0, "{status:#}");
        assert_eq!(status["coverage"]["percent"], total["coverage"]);

        // Its database is online: whether it is reached is no affair of the other jobs.
        let safety = job(&status, "code-quality (safety)");
        assert_eq!(is_true(&status, "Succeeded"), safety["phase"] == "Succeeded", "{status:#}");
        if safety["phase"] == "Failed" {
            assert_eq!(safety["failure"], "CommandFailure", "{status:#}");
            let log = stage.kubectl(&["logs", &format!("job/{}", safety["job"].as_str().unwrap()), "--container=job"]);
            let said = log.lines().any(|line| {
                line.starts_with("safety: no verdict") || line.starts_with("safety: the vulnerable dependencies")
            });
            assert!(said, "{log}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn release_cd_runs_all_tests_on_postgres_at_once_and_breaks_them_down() {
    on_stage("release-tests", |stage| async move {
        let mut definition = shipped("release-cd");
        // An upload that can't succeed is told, and forgiven.
        let upload = json!({ "name": "codecov-upload", "needs": ["coverage-report"], "timeout": "2m",
            "env": [{ "name": "CODECOV_URL", "value": "http://127.0.0.1:9" }], "codecovUpload": {} });
        definition["jobs"].as_array_mut().unwrap().push(upload);
        let status = run(&stage, definition).await;
        assert!(is_true(&status, "Succeeded"), "{status:#}");
        assert_all_tests_by_marker(&status);
        assert_eq!(job(&status, "full-test-suite")["coverage"], status["coverage"]["percent"], "{status:#}");
        let upload = job(&status, "codecov-upload");
        assert_eq!((&upload["phase"], &upload["failure"]), (&json!("Failed"), &json!("CommandFailure")), "{status:#}");
        let log = stage.kubectl(&["logs", &format!("job/{}", upload["job"].as_str().unwrap()), "--container=job"]);
        assert!(log.contains("Found 1 coverage files to report"), "{log}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migration_check_proves_an_additive_migration_over_old_rows() {
    on_stage("migration-check", |stage| async move {
        let status = run(&stage, shipped("migration-check")).await;
        assert!(is_true(&status, "Succeeded"), "{status:#}");
        let validate = job(&status, "validate-migrations");
        assert_eq!((&validate["phase"], &validate["message"]), (&json!("Succeeded"), &Value::Null), "{status:#}");
        assert_eq!(job(&status, "migration-tests")["phase"], "Succeeded", "{status:#}");
        assert_eq!(status["tests"]["byMarker"]["database"], "15/15", "{status:#}");
    })
    .await;
}

/// Only what the commit's own files name can tell whether they fit.
#[tokio::test(flavor = "multi_thread")]
async fn requirements_alone_are_checked_with_the_packages_that_they_name() {
    on_stage("requirements", |stage| async move {
        let without = |left_out: &'static str| {
            move |text: &str| text.lines().filter(|line| !line.starts_with(left_out)).collect::<Vec<_>>().join("\n")
        };
        source(&stage).await;
        // Nothing but the web server needs gunicorn; without reportlab the app can't be imported.
        let harmless = git::server().edit("without-gunicorn", "requirements.txt", without("gunicorn"));
        let broken = git::server().edit("without-reportlab", "requirements.txt", without("reportlab"));
        let mut definition = in_environment("migration-check", &["requirements-ci.txt"]);
        definition["jobs"].as_array_mut().unwrap().truncate(1);
        begin(&stage, definition, json!({ "revision": { "commit": harmless } })).await;
        stage
            .create(
                "PipelineRun",
                "broken",
                json!({ "pipelineRef": { "name": RUN }, "revision": { "commit": broken } }),
            )
            .await;
        let ended =
            |name| status(&stage, "PipelineRun", name, "its end", WHOLE, |status| !status["completionTime"].is_null());
        let passed = ended(RUN).await;
        let validate = job(&passed, "validate-migrations");
        assert_eq!((&validate["phase"], &validate["message"]), (&json!("Succeeded"), &Value::Null), "{passed:#}");
        let failed = ended("broken").await;
        let validate = job(&failed, "validate-migrations");
        assert_eq!(validate["failure"], "CommandFailure", "{failed:#}");
        assert!(validate["message"].as_str().unwrap().contains("reportlab"), "{failed:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migration_check_says_which_step_failed_and_why() {
    on_stage("two-heads", |stage| async move {
        let status = run_of(&stage, shipped("migration-check"), "v1.6.0").await;
        let validate = job(&status, "validate-migrations");
        assert_eq!(
            (&validate["phase"], &validate["failure"]),
            (&json!("Failed"), &json!("CommandFailure")),
            "{status:#}"
        );
        assert!(validate["message"].as_str().unwrap().starts_with("one head: 2 heads"), "{status:#}");
        assert_eq!(job(&status, "migration-tests")["phase"], "Skipped", "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_coverage_fails_the_run_and_says_how_much_there_is_and_what_is_missing() {
    on_stage("coverage", |stage| async move {
        let lane = json!({ "name": "smoke", "image": ENVIRONMENT, "reports": ["Coverage"],
            "run": "python -m pytest -m smoke --cov=app --cov-report=" });
        let silent = json!({ "name": "silent", "image": ENVIRONMENT, "reports": ["Coverage"], "run": "true" });
        let mut definition = pipeline(json!([lane, silent]));
        definition["repositoryRef"] = json!({ "name": "timetracker" });
        definition["finally"] =
            json!([{ "name": "total", "image": ENVIRONMENT, "coverageReport": { "threshold": 99 } }]);
        let status = run(&stage, definition).await;
        assert_eq!(condition(&status, "Succeeded")["reason"], "CoverageBelowThreshold", "{status:#}");
        let message = job(&status, "total")["message"].as_str().unwrap();
        for part in ["% of the lines are covered, at least 99 % must be", "no coverage data of silent"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(job(&status, "silent")["message"].as_str().unwrap().contains("--cov"), "{status:#}");
    })
    .await;
}
