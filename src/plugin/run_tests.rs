#![allow(clippy::unwrap_used)]

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn run(spec: Value, status: Value) -> PipelineRun {
    serde_json::from_value(json!({
        "apiVersion": "timetracker.dev/v1alpha1", "kind": "PipelineRun", "metadata": {"name": "r"}, "spec": spec, "status": status,
    }))
    .unwrap()
}

fn ended(verdict: &str, jobs: Value) -> Value {
    json!({"observedGeneration": 1, "commit": COMMIT, "jobs": jobs, "conditions": [
        {"type": "Succeeded", "status": verdict, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
}

fn pipeline(spec: Value) -> Pipeline {
    serde_json::from_value(json!({
        "apiVersion": "timetracker.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": "ci"}, "spec": spec,
    }))
    .unwrap()
}

fn arguments(words: &[&str]) -> RunArguments {
    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        own: RunArguments,
    }
    let words = ["run", "ci"].iter().chain(words);
    <Only as clap::Parser>::try_parse_from(words).unwrap().own
}

#[rstest]
#[case("ci", "ci-")]
#[case("comprehensive-ci-for-the-whole-product-x", "comprehensive-ci-for-the-whole-pro-")]
#[case("a-very-long-name-that-has-a-dash-x-at-", "a-very-long-name-that-has-a-dash-x-")]
fn a_generated_name_fits_with_what_the_api_server_appends(#[case] pipeline: &str, #[case] expected: &str) {
    assert_eq!(name_stem(pipeline), expected);
    assert!(name_stem(pipeline).len() + SUFFIX <= MAX_NAME);
}

#[test]
fn a_whole_repetition_runs_on_the_commit_that_the_branch_named_then() {
    let earlier = run(
        json!({"pipelineRef": {"name": "ci"}, "revision": {"branch": "develop"}, "params": [{"name": "a", "value": "1"}], "cancel": true}),
        ended("False", json!([])),
    );
    let again = repeated(&earlier, false).unwrap();
    assert_eq!(
        serde_json::to_value(&again).unwrap(),
        json!({
            "pipelineRef": {"name": "ci"}, "revision": {"commit": COMMIT}, "params": [{"name": "a", "value": "1"}], "cancel": false,
        })
    );
}

#[test]
fn an_approval_is_not_carried_over() {
    let earlier = run(
        json!({"pipelineRef": {"name": "ci"}, "approvedCommit": COMMIT,
            "revision": {"commit": COMMIT, "pullRequest": {"number": 7, "base": "main", "fork": true}}}),
        ended("False", json!([])),
    );
    let again = repeated(&earlier, false).unwrap();
    assert_eq!(again.approved_commit, None);
    assert_eq!(again.revision.unwrap().pull_request.unwrap().number, 7);
}

#[test]
fn repeating_what_failed_names_the_run_it_is_taken_from() {
    let jobs = json!([{"name": "unit", "phase": "Failed"}]);
    let earlier = run(json!({"pipelineRef": {"name": "ci"}, "revision": {"branch": "main"}}), ended("False", jobs));
    let again = repeated(&earlier, true).unwrap();
    assert_eq!(again.rerun_of, Some(LocalName { name: "r".to_owned() }));
    assert_eq!(again.revision, earlier.spec.revision, "what the jobs see stays the same");
}

#[rstest]
#[case(json!({"observedGeneration": 1}), "run r is not over: watch or cancel it first")]
#[case(ended("Unknown", json!([])), "run r is not over: watch or cancel it first")]
#[case(ended("True", json!([{"name": "a", "phase": "Succeeded"}])), "nothing of run r failed: leave out --failed to repeat all")]
#[case(ended("False", json!([])), "run r ended before its first job: leave out --failed to repeat it")]
fn what_can_not_be_repeated_in_part_is_refused_with_the_way_out(#[case] status: Value, #[case] expected: &str) {
    let earlier = run(json!({"pipelineRef": {"name": "ci"}}), status);
    assert_eq!(repeated(&earlier, true).unwrap_err().to_string(), expected);
}

#[test]
fn a_pipeline_with_a_repository_wants_a_revision() {
    let pipeline = pipeline(json!({"repositoryRef": {"name": "timetracker"}, "jobs": []}));
    let refused = |words: &[&str]| revision(&pipeline, &arguments(words)).unwrap_err().to_string();
    assert_eq!(refused(&[]), "pipeline ci checks out timetracker: say --commit, --branch or --tag");
    assert_eq!(
        refused(&["--commit", "abc1234"]),
        "`abc1234` is not a commit: expected the full 40 lower-case hexadecimal digits"
    );
    let taken = revision(&pipeline, &arguments(&["--branch", "feature/$(X)"])).unwrap().unwrap();
    assert_eq!(taken.branch.as_deref(), Some("feature/$(X)"));
}

#[test]
fn parameters_are_the_pipelines_own_and_stand_once() {
    let pipeline = pipeline(json!({"params": [{"name": "version"}, {"name": "force"}], "jobs": []}));
    let given = |words: &[&str]| params(&pipeline, &arguments(words).params);
    let taken = given(&["--param", "version=a=b c", "-p", "force="]).unwrap();
    assert_eq!(taken.first().unwrap().value, "a=b c");
    assert_eq!(taken.last().unwrap().value, "");
    assert_eq!(
        given(&["-p", "versoin=1"]).unwrap_err().to_string(),
        "pipeline ci has no parameter versoin; it has: version, force"
    );
    assert_eq!(given(&["-p", "force=1", "-p", "force=2"]).unwrap_err().to_string(), "parameter force is given twice");
}

#[rstest]
#[case("novalue")]
#[case("=x")]
fn a_parameter_is_a_name_and_a_value(#[case] text: &str) {
    assert_eq!(param(text), Err("expected NAME=VALUE".to_owned()));
}
