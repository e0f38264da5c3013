#![allow(clippy::unwrap_used)]

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn definition(pipeline: Value) -> Definition {
    Definition { pipeline: serde_json::from_value(pipeline).unwrap(), source: None }
}

fn run(spec: Value) -> PipelineRunSpec {
    serde_json::from_value(spec).unwrap()
}

fn try_params(params: Value, given: Value) -> Result<Accepted, Refusal> {
    let pipeline = json!({"params": params, "jobs": [{"name": "a", "image": "x", "run": "true"}]});
    accept(&definition(pipeline), &run(json!({"pipelineRef": {"name": "p"}, "params": given})), &Settings::default())
}

#[rstest]
#[case("Boolean", "yes")]
#[case("Boolean", "True")]
#[case("Integer", "1.5")]
#[case("Integer", "$(id)")]
#[case("Choice", "c")]
#[case("String", "nul\0")]
fn a_value_of_the_wrong_type_is_refused_by_name(#[case] kind: &str, #[case] value: &str) {
    let declared = json!([{"name": "p", "type": kind, "choices": ["a", "b"]}]);
    let error = try_params(declared, json!([{"name": "p", "value": value}])).unwrap_err();
    assert_eq!(error.reason(), "InvalidParameter");
    assert!(error.to_string().contains("`p`"), "{error}");
}

#[test]
fn hostile_text_is_a_value_like_any_other() {
    let text = "x; $(id) `id` $$ ${HOME} \" ' \n --upload-pack=x";
    let accepted = try_params(json!([{"name": "p"}]), json!([{"name": "p", "value": text}])).unwrap();
    assert_eq!(accepted.parameters.get("p").unwrap(), text);
}

#[test]
fn unknown_double_and_missing_parameters_are_refused() {
    for (declared, given) in [
        (json!([]), json!([{"name": "zebra", "value": ""}])),
        (json!([{"name": "p"}]), json!([{"name": "p", "value": "1"}, {"name": "p", "value": "2"}])),
        (json!([{"name": "p"}]), json!([])),
    ] {
        assert_eq!(try_params(declared, given).unwrap_err().reason(), "InvalidParameter");
    }
}

#[test]
fn two_parameters_that_become_one_variable_are_refused() {
    let told = try_params(json!([{"name": "dry-run", "default": "a"}, {"name": "Dry_Run", "default": "b"}]), json!([]));
    let error = told.unwrap_err();
    assert_eq!(error.reason(), "InvalidParameter");
    assert!(error.to_string().contains("`Dry_Run`") && error.to_string().contains("$PARAM_DRY_RUN"), "{error}");
}

#[test]
fn values_of_more_than_the_bounds_are_refused() {
    let long = "x".repeat(1 << 20);
    let error = try_params(json!([{"name": "p"}]), json!([{"name": "p", "value": long}])).unwrap_err();
    assert!(error.to_string().contains("has 1048576 bytes"), "{error}");
    let many = |count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!("p{number}")).collect();
        let declared: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
        let given: Vec<Value> = names.iter().map(|name| json!({"name": name, "value": "x".repeat(8 << 10)})).collect();
        try_params(json!(declared), json!(given))
    };
    let error = many(9).unwrap_err();
    assert!(error.to_string().contains("more than 64 KiB"), "{error}");
    assert!(many(8).is_ok());
}

#[rstest]
#[case(json!({"outputs": ["x-y", "x_y"]}), "outputs: `x_y`")]
#[case(json!({"artifacts": [{"name": "summary.json", "path": "a"}]}), "`summary.json` is a name of the operator's own")]
#[case(json!({"artifacts": [{"name": "log.json", "path": "a"}]}), "`log.json` is a name of the operator's own")]
#[case(json!({"artifacts": [{"name": "service-log-db.txt", "path": "a"}]}), "`service-log-db.txt` is a name")]
#[case(json!({"artifacts": [{"name": "coverage-data-other", "path": "a"}]}), "`coverage-data-other` is a name")]
#[case(json!({"pod": {"volumes": [{"name": "v", "mountPath": "/timetracker/bin", "emptyDir": {}}]}}), "pod.volumes: volume `v`")]
fn what_would_stand_in_the_operators_way_is_refused(#[case] rest: Value, #[case] told: &str) {
    let mut job = json!({"name": "a", "image": "x", "run": "true"});
    job.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    let spec = run(json!({"pipelineRef": {"name": "p"}}));
    let error = accept(&definition(json!({"jobs": [job]})), &spec, &Settings::default()).unwrap_err();
    assert!(error.to_string().contains(told), "{error}");
}

#[test]
fn volumes_for_all_jobs_are_held_to_the_same_places() {
    let pod = json!({"volumes": [{"name": "v", "mountPath": "/workspace/x", "emptyDir": {}}]});
    let pipeline = json!({"defaults": {"pod": pod}, "jobs": [{"name": "a", "image": "x", "run": "true"}]});
    let spec = run(json!({"pipelineRef": {"name": "p"}}));
    let error = accept(&definition(pipeline), &spec, &Settings::default()).unwrap_err();
    assert!(error.to_string().starts_with("Pipeline spec.defaults.pod.volumes: volume `v`"), "{error}");
}

#[test]
fn a_default_is_taken_and_checked() {
    let accepted = try_params(json!([{"name": "p", "type": "Boolean", "default": "false"}]), json!([])).unwrap();
    assert_eq!(accepted.parameters.get("p").unwrap(), "false");
    assert!(try_params(json!([{"name": "p", "type": "Boolean", "default": "no"}]), json!([])).is_err());
}

#[rstest]
#[case(json!({"name": "a", "buildImage": {"platforms": ["linux/amd64"]}}), "buildImage")]
fn what_is_not_executed_is_refused_by_its_field(#[case] job: Value, #[case] field: &str) {
    let error =
        accept(&definition(json!({"jobs": [job]})), &run(json!({"pipelineRef": {"name": "p"}})), &Settings::default())
            .unwrap_err();
    assert_eq!(error.reason(), "NotSupported");
    assert!(error.to_string().contains(field), "{error}");
}

#[rstest]
#[case(json!({"run": "true"}), true)]
#[case(json!({"run": "true", "reports": ["Coverage"]}), true)]
#[case(json!({"run": "true", "reports": ["JUnit"]}), false)]
fn failed_tests_run_again_only_where_reports_tell_of_them(#[case] rest: Value, #[case] refused: bool) {
    let mut job = json!({"name": "a", "image": "x", "retries": {"failedTests": 2}});
    job.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    let spec = run(json!({"pipelineRef": {"name": "p"}}));
    let told = accept(&definition(json!({"jobs": [job]})), &spec, &Settings::default());
    let named = told.is_err_and(|error| error.reason() == "InvalidJob" && error.to_string().contains("failedTests"));
    assert_eq!(named, refused);
}

#[rstest]
#[case("needs.zebra.result == 'Succeeded'", "needs['zebra']")]
#[case("params.zebra", "parameter `zebra`")]
#[case("true &&", "column")]
#[case("'yes'", "a boolean is needed")]
fn a_condition_that_can_not_be_is_refused_with_its_job(#[case] when: &str, #[case] part: &str) {
    let pipeline = json!({"jobs": [{"name": "lint", "image": "x", "run": "true", "when": when}]});
    let error =
        admit(&definition(pipeline), &run(json!({"pipelineRef": {"name": "p"}})), &Settings::default()).unwrap_err();
    assert_eq!(error.reason(), "InvalidExpression");
    let text = error.to_string();
    assert!(text.contains("job `lint`: when") && text.contains(part), "{text}");
}

#[test]
fn a_condition_reads_only_the_jobs_that_are_final_by_then() {
    let job = |name: &str, rest: Value| {
        let mut job = json!({"name": name, "image": "x", "run": "true"});
        job.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        job
    };
    let with = |when: &str| {
        let last = job("last", json!({"when": "needs.b.result == 'Failed' || needs.a.result == 'Failed'"}));
        let pipeline =
            json!({"jobs": [job("a", json!({})), job("b", json!({"needs": ["a"], "when": when}))], "finally": [last]});
        admit(&definition(pipeline), &run(json!({"pipelineRef": {"name": "p"}})), &Settings::default())
    };
    assert!(with("needs.a.result != 'Failed'").is_ok(), "finally reads all jobs");
    assert!(with("needs.b.result != 'Failed'").is_err(), "its own result");
    assert!(with("needs.last.result != 'Failed'").is_err(), "a job of finally");
}

#[test]
fn a_pull_requests_run_sees_no_secret() {
    let env = json!([{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    let pipeline = definition(json!({"jobs": [{"name": "a", "image": "x", "run": "true", "env": env,
        "checkout": {"enabled": false}}]}));
    let commit = "a".repeat(40);
    let hostile = run(json!({"pipelineRef": {"name": "p"},
        "revision": {"commit": commit, "pullRequest": {"number": 1, "base": "main"}}}));
    let error = accept(&pipeline, &hostile, &Settings::default()).unwrap_err();
    assert_eq!(error.reason(), "SecretInPullRequest");
    let own = run(json!({"pipelineRef": {"name": "p"}, "revision": {"commit": "a".repeat(40)}}));
    assert!(accept(&pipeline, &own, &Settings::default()).is_ok());
}

#[rstest]
#[case("--upload-pack=x")]
#[case("a..b")]
#[case("x\ny")]
fn a_branch_that_git_does_not_take_is_refused(#[case] branch: &str) {
    let mut pipeline = definition(json!({"jobs": [{"name": "a", "image": "x", "run": "true"}]}));
    pipeline.source = Some(super::super::definition::Source {
        clone_url: "http://x/y".into(),
        token_secret: None,
        environments: None,
    });
    let spec = run(json!({"pipelineRef": {"name": "p"}, "revision": {"branch": branch}}));
    assert_eq!(accept(&pipeline, &spec, &Settings::default()).unwrap_err().reason(), "InvalidRevision");
}

#[test]
fn code_without_a_revision_is_refused() {
    let mut pipeline = definition(json!({"jobs": [{"name": "a", "image": "x", "run": "true"}]}));
    pipeline.source = Some(super::super::definition::Source {
        clone_url: "http://x/y".into(),
        token_secret: None,
        environments: None,
    });
    let error = accept(&pipeline, &run(json!({"pipelineRef": {"name": "p"}})), &Settings::default()).unwrap_err();
    assert_eq!(error.reason(), "RevisionMissing");
}

#[rstest]
#[case("../../etc/passwd")]
#[case("/etc/passwd")]
fn an_artifact_outside_the_working_directory_is_refused(#[case] path: &str) {
    let job = json!({"name": "a", "image": "x", "run": "true", "artifacts": [{"name": "x", "path": path}]});
    let error =
        accept(&definition(json!({"jobs": [job]})), &run(json!({"pipelineRef": {"name": "p"}})), &Settings::default())
            .unwrap_err();
    assert_eq!(error.reason(), "InvalidJob");
}
