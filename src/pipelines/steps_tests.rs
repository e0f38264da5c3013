#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use rstest::rstest;
use serde_json::{Value, json};

use super::super::definition::{Definition, Source};
use super::super::jobs::{Given, RunContext, job};
use super::super::parameters::{Refusal, accept};
use super::super::progress::CellView;
use super::super::settings::Settings;
use super::*;
use crate::api::run::{JobPhase, PipelineRunSpec};
use crate::config::Artifacts;

fn settings() -> Settings {
    let store = Artifacts { url: "http://store:8080".to_owned(), token_file: None };
    Settings { artifacts: Some(store), ..Settings::default() }
}

fn definition(pipeline: Value) -> Definition {
    let source = Source { clone_url: "https://github.com/o/n.git".to_owned(), token_secret: None, environments: None };
    Definition { pipeline: serde_json::from_value(pipeline).unwrap(), source: Some(source) }
}

fn run(fork: Option<bool>) -> PipelineRunSpec {
    let mut revision = json!({"commit": "a".repeat(40)});
    if let Some(fork) = fork {
        revision["pullRequest"] = json!({"number": 1, "base": "main", "fork": fork});
    }
    serde_json::from_value(json!({"pipelineRef": {"name": "p"}, "revision": revision})).unwrap()
}

fn pipeline(finally: Value) -> Value {
    json!({
        "defaults": {"image": "ci", "services": [{"name": "postgres", "postgres": {"version": "16"}}]},
        "jobs": [
            {"name": "unit", "run": "pytest", "reports": ["JUnit", "Coverage"],
             "matrix": {"axes": [{"name": "group", "values": ["a", "$(b)"]}]}},
            {"name": "lint", "run": "flake8"},
            {"name": "late", "run": "pytest", "reports": ["Coverage"]},
        ],
        "finally": finally,
    })
}

fn refused(pipeline: Value, settings: &Settings) -> Refusal {
    let mut settings = settings.clone();
    settings.images.postgres.insert("16".to_owned(), "postgres".to_owned());
    accept(&definition(pipeline), &run(None), &settings).unwrap_err()
}

struct Pod {
    text: String,
    init: Vec<String>,
    holders: Vec<String>,
}

/// The pod of the job of that name, when the cells of `unit` were started and `late` was not.
fn pod(pipeline: Value, name: &str, run: &PipelineRunSpec) -> Pod {
    let definition = definition(pipeline);
    let settings = settings();
    let commit = "a".repeat(40).parse().unwrap();
    let parameters = std::collections::BTreeMap::new();
    let context = RunContext {
        event: "Manual",
        name: "run",
        namespace: "ns",
        uid: "uid",
        spec: run,
        owner: None,
        definition: &definition,
        parameters: &parameters,
        commit: Some(&commit),
        settings: &settings,
        reused: None,
    };
    let graph = Graph::of(&definition.pipeline).unwrap();
    let before: Vec<CellView> = graph
        .nodes()
        .iter()
        .flat_map(|node| &node.cells)
        .map(|cell| CellView {
            name: cell.name.clone(),
            position: 0,
            phase: JobPhase::Succeeded,
            message: None,
            job: (cell.name != "late").then(|| format!("run-{}", cell.name.len())),
            attempt: Some(1),
            result: None,
            forgiven: false,
            combines: false,
        })
        .collect();
    let node = graph.nodes().iter().find(|node| node.spec.name == name).unwrap();
    let inputs = super::super::inputs::Inputs::of(&graph, node, &before);
    let job = job(&context, node, node.cells.first().unwrap(), 1, &Given { inputs, ..Given::default() });
    let spec = job.spec.as_ref().unwrap().template.spec.clone().unwrap();
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let holds = |mount: &k8s_openapi::api::core::v1::VolumeMount| mount.name == "timetracker-read-token";
    Pod {
        text: serde_json::to_string(&job).unwrap(),
        init: spec.init_containers.iter().flatten().map(|container| container.name.clone()).collect(),
        holders: all
            .filter(|container| container.volume_mounts.iter().flatten().any(holds))
            .map(|container| container.name.clone())
            .collect(),
    }
}

#[test]
fn a_coverage_report_reads_each_cell_that_measures_and_only_its_fetcher_has_the_token() {
    let pod = pod(pipeline(json!([{"name": "total", "coverageReport": {"threshold": 50}}])), "total", &run(None));
    assert_eq!(pod.init, ["source", "fetch", "collector"], "no service of the defaults");
    assert_eq!(pod.holders, ["fetch"]);
    for part in [
        "--input=unit (a)=run-8/coverage-data-unit",
        "--input=unit ($$(b))=run-11/coverage-data-unit",
        "--missing=late",
        "timetracker-artifacts-read",
        "coverage combine",
        "coverage-html=/workspace/coverage-html",
    ] {
        assert!(pod.text.contains(part), "{part} in {}", pod.text);
    }
    assert!(!pod.text.contains("coverage-data-lint"));
}

#[test]
fn a_job_that_reads_nothing_has_no_token_for_reading() {
    let pod = pod(pipeline(json!([])), "unit", &run(None));
    assert!(pod.holders.is_empty() && !pod.text.contains("artifacts-read"), "{}", pod.text);
    assert!(pod.text.contains("COVERAGE_FILE") && pod.text.contains("--pytest-plugins"));
}

fn upload() -> Value {
    json!([{"name": "total", "coverageReport": {}},
        {"name": "codecov", "needs": ["total"], "codecovUpload": {"tokenSecretRef": {"name": "codecov"}, "flags": ["unit"]}}])
}

#[test]
fn an_upload_takes_the_combined_report_and_meets_no_code_of_the_repository() {
    for run in [run(None), run(Some(false))] {
        let pod = pod(pipeline(upload()), "codecov", &run);
        assert_eq!(pod.init, ["fetch"], "nothing is checked out");
        for part in ["/test-results-total", "\"codecov\"", "\"o/n\"", "codecovcli"] {
            assert!(pod.text.contains(part), "{part} in {}", pod.text);
        }
    }
}

#[rstest]
#[case(None, false)]
#[case(Some(false), false)]
#[case(Some(true), true)]
fn an_upload_has_no_place_in_a_forks_pull_request(#[case] fork: Option<bool>, #[case] absent: bool) {
    let definition = definition(pipeline(upload()));
    let (run, settings) = (run(fork), settings());
    let context = RunContext {
        event: "Manual",
        name: "run",
        namespace: "ns",
        uid: "uid",
        spec: &run,
        owner: None,
        definition: &definition,
        parameters: &std::collections::BTreeMap::new(),
        commit: None,
        settings: &settings,
        reused: None,
    };
    let step = definition.pipeline.finally.get(1).and_then(Step::of).unwrap();
    assert_eq!(step.absent_from(&context).is_some(), absent);
}

#[test]
fn an_upload_that_fails_fails_the_run_only_when_that_is_asked_for() {
    let forgiven = |step: Value| {
        let job: JobSpec = serde_json::from_value(json!({"name": "a", "codecovUpload": step})).unwrap();
        lowered(&job).continue_on_error
    };
    assert!(forgiven(json!({})));
    assert!(!forgiven(json!({"failOnError": true})));
}

fn check(step: Value) -> Value {
    json!({"defaults": {"image": "ci"}, "jobs": [{"name": "validate", "timeout": "10m", "migrationCheck": step}]})
}

#[test]
fn a_migration_check_has_both_trees_its_own_postgres_and_its_report() {
    let pod = pod(check(json!({"models": "app/models.py", "lockLimit": "1m500ms"})), "validate", &run(Some(true)));
    assert_eq!(pod.init, ["source", "postgres", "collector"]);
    for part in [
        "\"--history\",\"full\"",
        "\"--base-dest\",\"/timetracker/home/base\",\"--base-branch=main\"",
        "migration-report=/workspace/migration-report",
        "database check",
        "\"app/models.py\"",
        "\"570s\"",
        "{\"name\":\"LOCK_LIMIT\",\"value\":\"1m500ms\"}",
    ] {
        assert!(pod.text.contains(part), "{part} in {}", pod.text);
    }
}

#[test]
fn without_a_pull_request_the_commit_before_is_the_parent() {
    let pod = pod(check(json!({})), "validate", &run(None));
    assert!(pod.text.contains("--base-dest") && !pod.text.contains("--base-branch"), "{}", pod.text);
    assert!(pod.text.contains("{\"name\":\"LOCK_LIMIT\",\"value\":\"5s\"}"), "the default: {}", pod.text);
}

#[rstest]
#[case(json!({"directory": "../elsewhere"}), "migrationCheck.directory")]
#[case(json!({"directory": "--help"}), "migrationCheck.directory")]
#[case(json!({"models": "/etc"}), "migrationCheck.models")]
#[case(json!({"models": "app//models"}), "migrationCheck.models")]
fn a_migration_check_stays_inside_the_repository(#[case] step: Value, #[case] field: &str) {
    let refusal = refused(check(step), &settings());
    assert!(refusal.to_string().contains(field), "{refusal}");
}

#[rstest]
#[case(json!({"reports": ["JUnit"]}), "reports")]
#[case(json!({"artifacts": [{"name": "x", "path": "x"}]}), "artifacts")]
#[case(json!({"services": [{"name": "x", "image": "x"}]}), "services")]
#[case(json!({"retries": {"failedTests": 1}}), "failedTests")]
#[case(json!({"matrix": {"axes": [{"name": "m", "values": ["1"]}]}}), "matrix")]
#[case(json!({"needs": ["codecov"]}), "needs")]
fn what_a_step_decides_itself_is_refused_by_its_field(#[case] fields: Value, #[case] field: &str) {
    let mut step = json!({"name": "total", "coverageReport": {}});
    step.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let told = refused(pipeline(json!([{"name": "codecov", "codecovUpload": {}}, step])), &settings()).to_string();
    assert!(told.contains("`total`") && told.contains(field), "{told}");
}

#[test]
fn a_report_without_anything_to_report_on_is_refused() {
    let jobs = json!({"jobs": [{"name": "a", "image": "x", "run": "true"},
        {"name": "total", "image": "x", "needs": ["a"], "coverageReport": {}}]});
    assert!(refused(jobs, &settings()).to_string().contains("reports: [Coverage]"));
    let early = json!({"jobs": [{"name": "a", "image": "x", "run": "true", "reports": ["Coverage"]},
        {"name": "total", "image": "x", "coverageReport": {}}]});
    assert!(refused(early, &settings()).to_string().contains("needs"));
}

#[test]
fn a_step_that_reads_artifacts_needs_a_store() {
    let told = refused(pipeline(json!([{"name": "total", "coverageReport": {}}])), &Settings::default()).to_string();
    assert!(told.contains("coverageReport") && told.contains("artifacts.url"), "{told}");
}
