//! Runs that can't be: each ends with its reason instead of waiting for ever.

use serde_json::{Value, json};

use crate::runs::{RUN, begin, ended, job, pipeline, source};
use crate::stage::{Stage, on_stage};
use crate::waiting::{condition, is_true, says};

/// Expects the end, a verdict of failure, and these words in a message.
async fn fails_saying(stage: &Stage, words: &[&str]) -> Value {
    let status = ended(stage).await;
    assert_eq!(condition(&status, "Succeeded")["status"], "False", "{status:#}");
    assert!(is_true(&status, "Stalled"), "{status:#}");
    for word in words {
        let told = says(&status, word) || status["jobs"].to_string().contains(word);
        assert!(told, "{word:?} is not in {status:#}");
    }
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_in_a_circle_are_refused_before_the_first_job() {
    on_stage("cycle", |stage| async move {
        let jobs = json!([
            { "name": "a", "needs": ["b"], "run": "true" },
            { "name": "b", "needs": ["a"], "run": "true" },
        ]);
        begin(&stage, pipeline(jobs), json!({})).await;
        fails_saying(&stage, &["needs go round in a circle", "a → b → a"]).await;
        assert!(stage.kubectl(&["get", "jobs", "--output=name"]).trim().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_does_not_exist_is_named() {
    on_stage("unknown", |stage| async move {
        stage.create("PipelineRun", RUN, json!({ "pipelineRef": { "name": "nowhere" } })).await;
        fails_saying(&stage, &["nowhere"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_does_not_exist_is_named() {
    on_stage("commit", |stage| async move {
        source(&stage).await;
        let mut definition = pipeline(json!([{ "name": "job", "run": "true" }]));
        definition["repositoryRef"] = json!({ "name": "timetracker" });
        let commit = "0123456789abcdef0123456789abcdef01234567";
        begin(&stage, definition, json!({ "revision": { "commit": commit } })).await;
        fails_saying(&stage, &["0123456"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_looks_like_a_command_is_only_a_branch_that_does_not_exist() {
    on_stage("branch", |stage| async move {
        source(&stage).await;
        let mut definition = pipeline(json!([{ "name": "job", "run": "true" }]));
        definition["repositoryRef"] = json!({ "name": "timetracker" });
        begin(&stage, definition, json!({ "revision": { "branch": "feature/$(X)-$$(Y)" } })).await;
        fails_saying(&stage, &["feature/$(X)-$$(Y)"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist_fails_the_job_as_configuration() {
    on_stage("image", |stage| async move {
        let jobs = json!([{ "name": "job", "image": "ghcr.io/nobody/nothing:1", "run": "true" }]);
        begin(&stage, pipeline(jobs), json!({})).await;
        let status = fails_saying(&stage, &["ghcr.io/nobody/nothing:1"]).await;
        assert_eq!(job(&status, "job")["failure"], "Configuration", "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_fails_the_job_as_configuration() {
    on_stage("job-secret", |stage| async move {
        let env = json!([{ "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": "absent", "key": "token" } } }]);
        begin(&stage, pipeline(json!([{ "name": "job", "env": env, "run": "true" }])), json!({})).await;
        let status = fails_saying(&stage, &["absent"]).await;
        assert_eq!(job(&status, "job")["failure"], "Configuration", "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_param_is_refused_by_name() {
    on_stage("param", |stage| async move {
        begin(
            &stage,
            pipeline(json!([{ "name": "job", "run": "true" }])),
            json!({ "params": [{ "name": "typo", "value": "1" }] }),
        )
        .await;
        fails_saying(&stage, &["typo"]).await;
    })
    .await;
}
