//! Rules that compare an object with what it was.

use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::{in_namespace, object, resources};

/// The answer to a merge patch of the spec.
async fn change(client: &Client, namespace: &str, kind: &str, name: &str, spec: Value) -> Result<(), String> {
    let patch = Patch::Merge(json!({ "spec": spec }));
    let answer = resources(client, namespace, kind).patch(name, &PatchParams::default(), &patch).await;
    answer.map(|_| ()).map_err(|error| error.to_string())
}

async fn create(client: &Client, namespace: &str, kind: &str, name: &str, spec: &str) {
    let api = resources(client, namespace, kind);
    api.create(&PostParams::default(), &object(kind, name, spec)).await.unwrap();
}

fn assert_refused(answer: Result<(), String>, expected: &str) {
    let message = answer.expect_err(expected);
    assert!(message.contains(expected), "{message}");
}

#[tokio::test]
async fn a_release_never_changes_its_kind_of_database_nor_shrinks_its_volume() {
    in_namespace("ttr-database", |client, namespace| async move {
        let kind = "TimeTrackerRelease";
        let never = "a release never changes its kind of database";
        let url = json!({ "secretKeyRef": { "name": "a", "key": "b" } });
        create(&client, &namespace, kind, "implied", "{suspend: true, image: {tag: x}}").await;
        assert_refused(
            change(&client, &namespace, kind, "implied", json!({ "database": { "urlFrom": url } })).await,
            never,
        );
        let sized = |size: &str| json!({ "database": { "embedded": { "storage": { "size": size } } } });
        change(&client, &namespace, kind, "implied", sized("10Gi")).await.unwrap();
        change(&client, &namespace, kind, "implied", sized("0.5Ti")).await.unwrap();
        assert_refused(change(&client, &namespace, kind, "implied", sized("100Gi")).await, "size only grows");
        change(&client, &namespace, kind, "implied", json!({ "database": null })).await.unwrap();

        let external = "{suspend: true, image: {tag: x}, database: {urlFrom: {secretKeyRef: {name: a, key: b}}}}";
        create(&client, &namespace, kind, "external", external).await;
        assert_refused(change(&client, &namespace, kind, "external", json!({ "database": null })).await, never);
        assert_refused(
            change(&client, &namespace, kind, "external", json!({ "database": { "urlFrom": null, "embedded": {} } }))
                .await,
            never,
        );
        change(&client, &namespace, kind, "external", json!({ "image": { "tag": null, "version": "5.0.0" } }))
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_run_never_changes_but_for_cancel_and_the_approved_commit() {
    in_namespace("ttr-run", |client, namespace| async move {
        let kind = "PipelineRun";
        let immutable = "a run never changes but for cancel and approvedCommit";
        let spec = "{pipelineRef: {name: none}, revision: {branch: main}, params: [{name: a, value: b}]}";
        create(&client, &namespace, kind, "run", spec).await;
        for changed in [
            json!({ "pipelineRef": { "name": "other" } }),
            json!({ "revision": { "branch": "develop" } }),
            json!({ "revision": null }),
            json!({ "params": [{ "name": "a", "value": "c" }] }),
            json!({ "params": null }),
            json!({ "ttl": "1h" }),
            json!({ "rerunOf": { "name": "earlier" } }),
        ] {
            assert_refused(change(&client, &namespace, kind, "run", changed).await, immutable);
        }
        let commit = "0123456789abcdef0123456789abcdef01234567";
        change(&client, &namespace, kind, "run", json!({ "approvedCommit": commit })).await.unwrap();
        change(&client, &namespace, kind, "run", json!({ "cancel": true })).await.unwrap();
        assert_refused(
            change(&client, &namespace, kind, "run", json!({ "cancel": false })).await,
            "a cancelled run stays cancelled",
        );
        assert_refused(
            change(&client, &namespace, kind, "run", json!({ "cancel": null })).await,
            "a cancelled run stays cancelled",
        );
    })
    .await;
}

#[tokio::test]
async fn a_release_may_go_from_one_policy_to_another_under_server_side_apply() {
    in_namespace("ttr-apply", |client, namespace| async move {
        let kind = "TimeTrackerRelease";
        let api = resources(&client, &namespace, kind);
        let apply = PatchParams::apply("gitops");
        for image in ["{version: 5.0.0}", "{semver: '>=5'}", "{channel: Development, interval: 1m}", "{tag: stable}"] {
            let wanted = object(kind, "site", &format!("{{suspend: true, image: {image}}}"));
            api.patch("site", &apply, &Patch::Apply(&wanted)).await.unwrap_or_else(|error| panic!("{image}: {error}"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_job_may_become_another_kind_of_step_under_server_side_apply() {
    in_namespace("ttr-step", |client, namespace| async move {
        let api = resources(&client, &namespace, "Pipeline");
        let apply = PatchParams::apply("gitops");
        for step in [
            "githubRelease: {tag: \"'v1'\", name: \"'v1'\"}",
            "run: 'true', services: [{name: db, postgres: {version: '16'}}]",
            "run: 'true', services: [{name: db, image: redis, port: 6379}]",
            "changelog: {since: v*}",
        ] {
            let wanted = object("Pipeline", "subject", &format!("jobs: [{{name: a, {step}}}]"));
            api.patch("subject", &apply, &Patch::Apply(&wanted))
                .await
                .unwrap_or_else(|error| panic!("{step}: {error}"));
        }
    })
    .await;
}
