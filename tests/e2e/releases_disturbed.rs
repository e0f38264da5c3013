//! Deliveries that are disturbed in each of their phases: nothing is done twice, nothing is left behind.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::kill::kill_operator;
use crate::releases::{DELIVERY, LEDGER, SITE, delivered, release};
use crate::stage::{Stage, on_stage};
use crate::waiting::{is_true, status, until};
use crate::witness::Witness;

/// The steps of a delivery in which it can be met.
const STEPS: [&str; 3] = ["Inspect", "Migrate", "RollOut"];
const ATTEMPTS: &str = "select max(attempt) from timetracker_delivery.ledger";

/// A release whose migration takes a while, so that something can happen meanwhile.
fn slow(stage: &Stage) -> Value {
    let mut spec = release(stage);
    spec["migration"] = json!({ "command": ["sh", "-c", "sleep 4; exec flask db upgrade heads"] });
    spec
}

/// The step under way, or none.
fn step(status: &Value) -> Option<&'static str> {
    STEPS.into_iter().find(|step| status["candidate"]["step"] == *step)
}

/// Waits for a step that is not among these; `None` once the version is delivered.
async fn next_step(stage: &Stage, met: &BTreeSet<&str>) -> Option<&'static str> {
    let met_before = |status: &Value| step(status).filter(|step| !met.contains(step));
    let status = status(stage, "TimeTrackerRelease", SITE, "the next step", DELIVERY, |status| {
        met_before(status).is_some() || status["current"]["version"] == "1.0.0"
    })
    .await;
    met_before(&status)
}

/// Takes the status away, as a backup tool's restore does.
pub fn delete_status(stage: &Stage, kind: &str, name: &str) {
    let patch = r#"{"status":null}"#;
    stage.kubectl(&["patch", kind, name, "--subresource=status", "--type=merge", "--patch", patch]);
}

/// 1.0.0 is there once: by the ledger, by the attempts, by the pods that there were.
async fn delivered_once(stage: &Stage, witness: &Witness) {
    let status = delivered(stage, "1.0.0").await;
    assert!(status["quarantined"].is_null(), "{status:#}");
    assert_eq!(status["history"].as_array().map(Vec::len), Some(1), "{status:#}");
    assert_eq!(stage.sql(SITE, LEDGER), "1", "one row per migration");
    assert_eq!(stage.sql(SITE, ATTEMPTS), "1", "one attempt");
    assert_eq!(witness.saw_each_once(), 3, "contract, inspection, migration");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_deleted_in_each_phase_is_rebuilt_and_nothing_is_done_twice() {
    on_stage("status", |stage| async move {
        let witness = Witness::of(&stage);
        stage.publish("1.0.0").await;
        stage.create("TimeTrackerRelease", SITE, slow(&stage)).await;
        let mut met = BTreeSet::new();
        while let Some(step) = next_step(&stage, &met).await {
            delete_status(&stage, "timetrackerrelease", SITE);
            met.insert(step);
        }
        assert_eq!(met, BTreeSet::from(STEPS));
        let before = delivered(&stage, "1.0.0").await;
        delete_status(&stage, "timetrackerrelease", SITE);
        delivered_once(&stage, &witness).await;
        let after = delivered(&stage, "1.0.0").await;
        assert_eq!((&after["current"], &after["history"]), (&before["current"], &before["history"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_in_each_phase_goes_on_and_migrates_once() {
    on_stage("killed", |stage| async move {
        let witness = Witness::of(&stage);
        stage.publish("1.0.0").await;
        stage.create("TimeTrackerRelease", SITE, slow(&stage)).await;
        let mut met = BTreeSet::new();
        while let Some(step) = next_step(&stage, &met).await {
            kill_operator().await;
            met.insert(step);
        }
        assert!(met.contains("Inspect") && met.contains("Migrate"), "{met:?}");
        delivered_once(&stage, &witness).await;
    })
    .await;
}

/// Everything in the namespace that Kubernetes did not put there itself.
fn left(stage: &Stage) -> BTreeSet<String> {
    let kinds = "deployments,replicasets,statefulsets,jobs,pods,services,endpointslices,configmaps,controllerrevisions,\
                 serviceaccounts,ingresses,networkpolicies,secrets,persistentvolumeclaims";
    let names = stage.kubectl(&["get", kinds, "--output=name"]);
    let own = ["configmap/kube-root-ca.crt", "serviceaccount/default"];
    names.lines().filter(|name| !own.contains(name)).map(str::to_owned).collect()
}

/// Deletes the release and waits until only these are left.
async fn delete(stage: &Stage, kept: &[&str]) {
    stage.kubectl(&["delete", "timetrackerrelease", SITE, "--timeout=60s"]);
    let kept: BTreeSet<String> = kept.iter().map(|name| (*name).to_owned()).collect();
    let mut last = BTreeSet::new();
    let what = "what the deletion policy does not keep to be gone";
    until(what, 120, || {
        last = left(stage);
        last.is_subset(&kept)
    })
    .await;
    assert_eq!(last, kept, "what the deletion policy keeps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_deleted_in_each_phase_leaves_what_its_policy_keeps_and_is_taken_up_again() {
    let mut kept = vec!["persistentvolumeclaim/data-site-postgres-0", "secret/site-postgres", "secret/site-secret-key"];
    on_stage("deleted", |stage| async move {
        stage.publish("1.0.0").await;
        let mut spec = slow(&stage);
        spec["deletionPolicy"] = json!("Retain");
        for step in STEPS {
            stage.create("TimeTrackerRelease", SITE, spec.clone()).await;
            let reached = status(&stage, "TimeTrackerRelease", SITE, step, DELIVERY, |status| {
                status["candidate"]["step"] == step || status["current"]["version"] == "1.0.0"
            })
            .await;
            assert_eq!(reached["candidate"]["step"], step, "{reached:#}");
            if step == "RollOut" {
                kept.push("persistentvolumeclaim/site-data");
            }
            delete(&stage, &kept).await;
        }
        // A release of the same name takes up volume and Secrets, and the migration that was done.
        spec["deletionPolicy"] = json!("Delete");
        stage.create("TimeTrackerRelease", SITE, spec).await;
        let status = delivered(&stage, "1.0.0").await;
        assert!(is_true(&status, "Available"), "{status:#}");
        delete(&stage, &[]).await;
    })
    .await;
}
