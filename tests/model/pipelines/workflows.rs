//! The pipelines that are shipped, cell by cell as they are promised, and what a red lane does to the others.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use timetracker_operator::api::duration::Period;
use timetracker_operator::api::job::{JobSpec, ReportKind};
use timetracker_operator::api::pipeline::{Pipeline, PipelineSpec};
use timetracker_operator::config::Artifacts;
use timetracker_operator::pipelines::Settings;

use super::world::{Fate, World};

fn file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/pipelines/{name}.yaml"));
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn pipeline(name: &str) -> PipelineSpec {
    let pipeline: Pipeline = serde_json::from_value(file(name)).unwrap();
    assert_eq!(pipeline.metadata.name.as_deref(), Some(name));
    assert_eq!(pipeline.spec.repository_ref.as_ref().unwrap().name, "timetracker");
    pipeline.spec
}

/// What is promised of a job.
struct Promise {
    name: &'static str,
    needs: &'static [&'static str],
    minutes: u64,
    /// The matrix' only axis.
    lanes: &'static [&'static str],
    /// The tests that pytest selects; `None`: it is no lane of tests.
    marker: Option<&'static str>,
    postgres: bool,
    coverage: bool,
}

const LANE: Promise =
    Promise { name: "", needs: &[], minutes: 0, lanes: &[], marker: None, postgres: false, coverage: true };

fn assert_kept(job: &JobSpec, promise: &Promise) {
    let name = promise.name;
    assert_eq!(job.name, name);
    assert_eq!(job.needs, promise.needs, "{name}");
    assert_eq!(job.timeout.as_ref().map(Period::length).unwrap().as_secs(), promise.minutes * 60, "{name}");
    let lanes: Vec<&str> =
        job.matrix.iter().flat_map(|matrix| &matrix.axes).flat_map(|axis| &axis.values).map(String::as_str).collect();
    assert_eq!(lanes, promise.lanes, "{name}");
    let postgres: Vec<&str> =
        job.services.iter().filter_map(|service| Some(service.postgres.as_ref()?.version.as_str())).collect();
    assert_eq!(postgres, if promise.postgres { &["16"][..] } else { &[] }, "{name}");
    assert!(!job.continue_on_error && job.retries.is_none() && job.env.is_empty(), "{name}");
    let script = job.run.as_deref().unwrap();
    let Some(marker) = promise.marker else {
        assert!(job.reports.is_empty() && !script.contains("pytest"), "{name}");
        return;
    };
    // The tests are counted: a lane that collects none fails.
    assert!(job.reports.contains(&ReportKind::JUnit) && script.contains("--junitxml \"$REPORTS/junit.xml\""), "{name}");
    match marker {
        "" => assert!(script.starts_with("python -m pytest --tb=short"), "{name}: all tests"),
        marker => {
            assert!(script.contains(&format!("-m \"{marker}\"")) || script.contains(&format!("-m {marker} ")), "{name}")
        }
    }
    assert_eq!(job.reports.contains(&ReportKind::Coverage), promise.coverage, "{name}");
    assert_eq!(script.contains("--cov=app"), promise.coverage, "{name}");
    assert_eq!(script.contains("--no-cov"), !promise.coverage, "{name}");
}

fn assert_all_kept(jobs: &[JobSpec], promises: &[Promise]) {
    assert_eq!(
        jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(),
        promises.iter().map(|promise| promise.name).collect::<Vec<_>>()
    );
    for (job, promise) in jobs.iter().zip(promises) {
        assert_kept(job, promise);
    }
}

/// The combined report of raw data, held against the threshold.
fn assert_reports(job: &JobSpec, needs: &[&str]) {
    assert_eq!((job.name.as_str(), job.needs.as_slice().len()), ("coverage-report", needs.len()));
    assert_eq!(job.needs, needs);
    assert_eq!(job.coverage_report.as_ref().unwrap().threshold, Some(50));
}

#[test]
fn comprehensive_ci_has_its_lanes_one_after_another_and_reports_at_the_end() {
    let spec = pipeline("comprehensive-ci");
    let trigger = spec.triggers.as_ref().unwrap();
    assert_eq!(trigger.pull_request.as_ref().unwrap().branches, ["main", "develop"]);
    assert!(trigger.push.is_none() && trigger.release.is_none() && trigger.schedule.is_empty());
    let promises = [
        Promise { name: "smoke-tests", minutes: 5, marker: Some("smoke"), ..LANE },
        Promise {
            name: "unit-tests",
            needs: &["smoke-tests"],
            minutes: 10,
            lanes: &["models", "routes", "api", "utils"],
            marker: Some("(unit or api) and $MATRIX_GROUP"),
            ..LANE
        },
        Promise {
            name: "integration-tests-auth",
            needs: &["unit-tests"],
            minutes: 15,
            marker: Some("integration and auth"),
            postgres: true,
            ..LANE
        },
        Promise {
            name: "integration-tests",
            needs: &["integration-tests-auth"],
            minutes: 15,
            lanes: &["timer", "projects", "invoices"],
            marker: Some("integration and $MATRIX_GROUP"),
            postgres: true,
            ..LANE
        },
        Promise {
            name: "database-tests",
            needs: &["integration-tests"],
            minutes: 10,
            marker: Some("database"),
            postgres: true,
            ..LANE
        },
        Promise { name: "security-tests", needs: &["database-tests"], minutes: 10, marker: Some("security"), ..LANE },
        Promise {
            name: "code-quality",
            needs: &["security-tests"],
            minutes: 5,
            lanes: &["black", "flake8", "bandit", "safety"],
            ..LANE
        },
    ];
    assert_all_kept(&spec.jobs, &promises);
    let quality = spec.jobs.last().unwrap();
    assert_eq!(quality.matrix.as_ref().unwrap().fail_fast, Some(false));
    for tool in ["black --check .", "flake8 .", "bandit --quiet --recursive app", "safety check"] {
        assert!(quality.run.as_ref().unwrap().contains(tool), "{tool}");
    }
    assert_eq!(spec.finally.len(), 1);
    assert_reports(&spec.finally[0], &[]);
}

#[test]
fn migration_check_proves_the_migrations_and_runs_their_tests_on_postgres_16() {
    let spec = pipeline("migration-check");
    let trigger = spec.triggers.as_ref().unwrap();
    let paths = ["app/models/**", "migrations/**", "requirements.txt"];
    let (pull_request, push) = (trigger.pull_request.as_ref().unwrap(), trigger.push.as_ref().unwrap());
    assert!(pull_request.branches.is_empty(), "any base");
    assert_eq!(
        (pull_request.paths.as_slice(), push.paths.as_slice()),
        (&paths.map(str::to_owned)[..], &paths.map(str::to_owned)[..])
    );
    assert_eq!(push.branches, ["main"]);
    let (validate, others) = spec.jobs.split_first().unwrap();
    assert_eq!((validate.name.as_str(), validate.needs.len()), ("validate-migrations", 0));
    assert_eq!(validate.timeout.as_ref().map(Period::length).unwrap().as_secs(), 600);
    let check = validate.migration_check.as_ref().unwrap();
    assert_eq!((check.directory.as_deref(), check.models.as_deref()), (Some("migrations"), Some("app/models")));
    let tests = Promise {
        name: "migration-tests",
        needs: &["validate-migrations"],
        minutes: 10,
        marker: Some("database"),
        postgres: true,
        coverage: false,
        ..LANE
    };
    assert_all_kept(others, &[tests]);
    assert!(spec.finally.is_empty());
}

#[test]
fn development_cd_begins_with_quick_tests() {
    let spec = pipeline("development-cd");
    assert_eq!(spec.triggers.as_ref().unwrap().push.as_ref().unwrap().branches, ["develop"]);
    let quick =
        Promise { name: "quick-tests", minutes: 10, marker: Some("smoke"), postgres: true, coverage: false, ..LANE };
    assert_all_kept(&spec.jobs, &[quick]);
}

#[test]
fn release_cd_begins_with_all_tests_in_one_run_and_half_of_the_lines_covered() {
    let spec = pipeline("release-cd");
    let trigger = spec.triggers.as_ref().unwrap();
    let push = trigger.push.as_ref().unwrap();
    assert_eq!(
        (push.branches.as_slice(), push.tags.as_slice()),
        (&["main".to_owned(), "master".to_owned()][..], &["v*.*.*".to_owned()][..])
    );
    assert!(trigger.release.is_some() && trigger.pull_request.is_none());
    let full = Promise { name: "full-test-suite", minutes: 30, marker: Some(""), postgres: true, ..LANE };
    assert_kept(&spec.jobs[0], &full);
    assert_reports(&spec.jobs[1], &["full-test-suite"]);
    assert_eq!(spec.jobs.len(), 2);
}

/// Runs a pipeline in the model world, with these cells failing; tells each cell's phase.
fn played(name: &str, failing: &[&str]) -> BTreeMap<String, String> {
    let mut spec = file(name)["spec"].clone();
    // The model world has no repository.
    spec.as_object_mut().unwrap().remove("repositoryRef");
    let fate = Fate { exit: 1, failed_tests: 1, steps: 1, traps: false };
    let fates = failing.iter().map(|cell| ((*cell).to_owned(), fate.clone())).collect();
    let mut settings = Settings {
        artifacts: Some(Artifacts { url: "http://store".to_owned(), token_file: None }),
        ..Settings::default()
    };
    settings.images.postgres.insert("16".to_owned(), "postgres:16".to_owned());
    let mut world = World::new(spec, json!({"pipelineRef": {"name": "p"}}), fates, settings);
    world.settle();
    assert!(world.is_over(), "{name}");
    let status = world.run().unwrap().status.unwrap();
    assert_eq!(status.coverage.unwrap().percent, "60.0", "the combined coverage");
    status.jobs.into_iter().map(|job| (job.name, format!("{:?}", job.phase))).collect()
}

#[test]
fn comprehensive_ci_is_accepted_and_green_when_nothing_fails() {
    let phases = played("comprehensive-ci", &[]);
    assert_eq!(phases.len(), 16);
    assert!(phases.values().all(|phase| phase == "Succeeded"), "{phases:?}");
}

#[test]
fn a_tool_without_an_answer_fails_alone_and_coverage_is_reported_also_when_red() {
    let phases = played("comprehensive-ci", &["code-quality (safety)"]);
    let failed: Vec<&String> = phases.iter().filter(|(_, phase)| *phase == "Failed").map(|(name, _)| name).collect();
    assert_eq!(failed, ["code-quality (safety)"]);
    assert!(phases.iter().all(|(name, phase)| name == "code-quality (safety)" || phase == "Succeeded"), "{phases:?}");

    let phases = played("comprehensive-ci", &["smoke-tests"]);
    assert_eq!((phases["smoke-tests"].as_str(), phases["coverage-report"].as_str()), ("Failed", "Succeeded"));
    assert_eq!(phases.values().filter(|phase| *phase == "Skipped").count(), 14, "{phases:?}");
}

#[test]
fn release_cd_is_accepted() {
    assert!(played("release-cd", &[]).values().all(|phase| phase == "Succeeded"));
}
