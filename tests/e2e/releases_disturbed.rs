//! Deliveries that are disturbed in each of their phases: nothing is done twice, nothing is left behind.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::kill::kill_operator;
use crate::releases::{DELIVERY, LEDGER, SITE, delivered, release};
use crate::stage::{Stage, on_stage};
use crate::waiting::{comes_true, condition, is_true, status, until};
use crate::witness::Witness;

/// The phases in which a release can be met: those of a delivery, and the way back from the one after it.
const PHASES: [&str; 6] = ["Database", "Inspect", "Migrate", "RollOut", "Soak", "GoBack"];
const ATTEMPTS: &str = "select max(attempt) from timetracker_delivery.ledger";

/// A release whose migration and whose pods take a while, so that something can happen meanwhile.
fn slow(stage: &Stage) -> Value {
    let mut spec = release(stage);
    spec["image"] = json!({ "repository": stage.image_name(), "version": "1.0.0", "interval": "10s" });
    spec["migration"] = json!({ "command": ["sh", "-c", "sleep 4; exec flask db upgrade heads"] });
    spec["rollout"]["soak"] = json!("6s");
    spec
}

/// Asks for 1.7.0, which never gets ready, and does not wait long for it.
async fn ask_for_a_bad_one(stage: &Stage) {
    stage.publish("1.7.0").await;
    let patch = json!({ "spec": { "image": { "version": "1.7.0" }, "rollout": { "timeout": "16s" } } }).to_string();
    stage.kubectl(&["patch", "timetrackerrelease", SITE, "--type=merge", "--patch", &patch]);
}

/// The phase that a status tells, or none.
fn phase(status: &Value) -> Option<&'static str> {
    let candidate = &status["candidate"];
    let soaks = candidate["verdict"].as_str().is_some_and(|message| message.ends_with("are ready and soak"));
    if soaks && candidate["step"] == "RollOut" {
        return Some("Soak");
    }
    PHASES.into_iter().find(|phase| candidate["step"] == *phase)
}

/// 1.0.0 was asked for and runs.
fn is_delivered(status: &Value) -> bool {
    status["current"]["version"] == "1.0.0" && is_true(status, "Ready") && status["candidate"].is_null()
}

/// 1.7.0 was asked for, and 1.0.0 runs again.
fn is_taken_back(status: &Value) -> bool {
    is_true(status, "Stalled") && is_true(status, "Available") && status["candidate"].is_null()
}

/// Waits for a phase that is not among these; `None` once that is over.
async fn next_phase(stage: &Stage, met: &BTreeSet<&str>, is_over: fn(&Value) -> bool) -> Option<&'static str> {
    let fresh = |status: &Value| phase(status).filter(|phase| !met.contains(phase));
    let status = status(stage, "TimeTrackerRelease", SITE, "the next phase", DELIVERY, |status| {
        fresh(status).is_some() || is_over(status)
    })
    .await;
    fresh(&status)
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

/// 1.7.0 was tried once and taken back once, and 1.0.0 runs again.
async fn taken_back_once(stage: &Stage, witness: &Witness) -> Value {
    let status = status(stage, "TimeTrackerRelease", SITE, "1.7.0 to be taken back", DELIVERY, is_taken_back).await;
    assert_eq!(condition(&status, "Stalled")["reason"], "NotReady", "{status:#}");
    assert_eq!(status["current"]["version"], "1.0.0", "{status:#}");
    assert_eq!(status["quarantined"].as_array().map(Vec::len), Some(1), "{status:#}");
    assert_eq!(status["quarantined"][0]["version"], "1.7.0", "{status:#}");
    let outcomes: Vec<_> = status["history"].as_array().unwrap().iter().map(|entry| entry["outcome"].clone()).collect();
    assert_eq!(outcomes, ["TakenBack", "Delivered"], "{status:#}");
    assert_eq!(stage.sql(SITE, LEDGER), "2", "one row per migration");
    assert_eq!(stage.sql(SITE, ATTEMPTS), "1", "one attempt each");
    assert_eq!(witness.saw_each_once(), 7, "three per version, and the look at the database before going back");
    let pods = |entry: &Value| witness.pods_of(entry["digest"].as_str().unwrap());
    assert_eq!(pods(&status["current"]), 2, "the good image was started once more");
    assert_eq!(pods(&status["quarantined"][0]), 1, "the bad one once");
    stage.ask(SITE, "/_ready").expect("the site answers after the bad version was taken back");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_deleted_in_each_phase_is_rebuilt_and_nothing_is_done_twice() {
    on_stage("status", |stage| async move {
        let witness = Witness::of(&stage);
        stage.publish("1.0.0").await;
        stage.create("TimeTrackerRelease", SITE, slow(&stage)).await;
        let mut met = BTreeSet::new();
        while let Some(phase) = next_phase(&stage, &met, is_delivered).await {
            delete_status(&stage, "timetrackerrelease", SITE);
            met.insert(phase);
        }
        let before = delivered(&stage, "1.0.0").await;
        delete_status(&stage, "timetrackerrelease", SITE);
        delivered_once(&stage, &witness).await;
        let after = delivered(&stage, "1.0.0").await;
        assert_eq!((&after["current"], &after["history"]), (&before["current"], &before["history"]));

        ask_for_a_bad_one(&stage).await;
        while let Some(phase) = next_phase(&stage, &met, is_taken_back).await {
            delete_status(&stage, "timetrackerrelease", SITE);
            met.insert(phase);
        }
        assert_eq!(met, BTreeSet::from(PHASES));
        let before = taken_back_once(&stage, &witness).await;
        delete_status(&stage, "timetrackerrelease", SITE);
        let after = taken_back_once(&stage, &witness).await;
        for field in ["current", "history", "quarantined"] {
            assert_eq!(after[field], before[field], "{field}");
        }
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
        while let Some(phase) = next_phase(&stage, &met, is_delivered).await {
            kill_operator().await;
            met.insert(phase);
        }
        delivered_once(&stage, &witness).await;
        ask_for_a_bad_one(&stage).await;
        while let Some(phase) = next_phase(&stage, &met, is_taken_back).await {
            kill_operator().await;
            met.insert(phase);
        }
        // The pods may have soaked before a new pod of the operator has the lease.
        met.insert("Soak");
        assert_eq!(met, BTreeSet::from(PHASES));
        taken_back_once(&stage, &witness).await;
    })
    .await;
}

/// A pod with the labels of the site's that nobody of ours made, as one that was orphaned.
fn stray_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "stray", "labels": {
            "app.kubernetes.io/managed-by": "timetracker-operator", "app.kubernetes.io/instance": SITE,
            "app.kubernetes.io/component": "app",
        } },
        "spec": { "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "stray", "image": "docker.io/library/postgres:16",
            "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait"],
        }] },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_pod_with_the_site_s_labels_is_left_nothing_is_migrated_whatever_happens_to_operator_and_status() {
    on_stage("stray", |stage| async move {
        let witness = Witness::of(&stage);
        stage.publish("1.1.0").await;
        stage.create("TimeTrackerRelease", SITE, release(&stage)).await;
        delivered(&stage, "1.1.0").await;
        stage.apply(&stray_pod());
        stage.kubectl(&["wait", "pod/stray", "--for=condition=Ready", "--timeout=60s"]);
        stage.publish("1.2.0").await;
        let waits = |status: &Value| {
            let reconciling = condition(status, "Reconciling");
            reconciling["reason"] == "StrayPod" && condition(status, "Available")["reason"] == "Drained"
        };
        for disturbance in 0..3 {
            let told = status(&stage, "TimeTrackerRelease", SITE, "the stray pod to be told", DELIVERY, waits).await;
            assert_eq!(told["candidate"]["step"], "Drain", "{told:#}");
            let ready = condition(&told, "Ready");
            assert!(ready["message"].as_str().unwrap().starts_with("pod stray has the labels"), "{ready:#}");
            assert!(ready["status"] == "Unknown" && told["current"]["version"] == "1.1.0", "{told:#}");
            match disturbance {
                0 => kill_operator().await,
                1 => delete_status(&stage, "timetrackerrelease", SITE),
                _ => {
                    stage.kubectl(&["scale", "deployment", SITE, "--replicas=2"]);
                }
            }
        }
        until("the site to be stopped again", 60, || {
            stage.kubectl(&["get", "deployment", SITE, "--output=jsonpath={.spec.replicas}"]) == "0"
        })
        .await;
        assert!(!witness.saw("migrate/2"), "nothing is migrated while it is there");
        stage.kubectl(&["delete", "pod", "stray"]);
        delivered(&stage, "1.2.0").await;
        assert_eq!(witness.sites_at("migrate/2"), Vec::<String>::new());
        stage.ask(SITE, "/_ready").expect("the site answers");
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

/// Deletes the release and waits until nothing else is left than what its policy keeps.
async fn delete(stage: &Stage, kept: &[&str], perhaps: Option<&str>) {
    stage.kubectl(&["delete", "timetrackerrelease", SITE, "--timeout=60s"]);
    let kept: BTreeSet<String> = kept.iter().map(|name| (*name).to_owned()).collect();
    let mut last = BTreeSet::new();
    comes_true(120, || {
        last = left(stage);
        last.retain(|name| Some(name.as_str()) != perhaps);
        last.is_subset(&kept)
    })
    .await;
    assert_eq!(last, kept, "what the deletion policy keeps");
}

/// What `deletionPolicy: Retain` keeps: the database's volume and the generated Secrets, and from the roll-out on this as well.
const KEPT: [&str; 3] =
    ["persistentvolumeclaim/data-site-postgres-0", "secret/site-postgres", "secret/site-secret-key"];
const KEPT_OF_SITE: &str = "persistentvolumeclaim/site-data";

#[tokio::test(flavor = "multi_thread")]
async fn a_release_deleted_in_each_phase_leaves_what_its_policy_keeps_and_is_taken_up_again() {
    on_stage("deleted", |stage| async move {
        stage.publish("1.0.0").await;
        let mut spec = slow(&stage);
        spec["deletionPolicy"] = json!("Retain");
        let mut rolled_out = false;
        // While pods soak there is what there was while they started.
        for wanted in PHASES.into_iter().filter(|phase| *phase != "Soak") {
            stage.create("TimeTrackerRelease", SITE, spec.clone()).await;
            let mut is_over: fn(&Value) -> bool = is_delivered;
            if wanted == "GoBack" {
                delivered(&stage, "1.0.0").await;
                ask_for_a_bad_one(&stage).await;
                is_over = is_taken_back;
            }
            let reached = status(&stage, "TimeTrackerRelease", SITE, wanted, DELIVERY, |status| {
                phase(status) == Some(wanted) || is_over(status)
            })
            .await;
            assert_eq!(phase(&reached), Some(wanted), "{reached:#}");
            match wanted {
                "Database" => until("the database's volume", 60, || left(&stage).contains(KEPT[0])).await,
                "RollOut" => rolled_out = true,
                _ => {}
            }
            let mut kept = KEPT.to_vec();
            kept.extend(rolled_out.then_some(KEPT_OF_SITE));
            // On a busy machine the migration is over before the deletion comes.
            delete(&stage, &kept, (wanted == "Migrate").then_some(KEPT_OF_SITE)).await;
        }
        // A release of the same name takes up volume and Secrets, and the migrations that were done.
        stage.publish("1.1.0").await;
        spec["image"]["version"] = json!("1.1.0");
        spec["deletionPolicy"] = json!("Delete");
        stage.create("TimeTrackerRelease", SITE, spec).await;
        let status = delivered(&stage, "1.1.0").await;
        assert!(is_true(&status, "Available"), "{status:#}");
        let migrated = "select count(distinct digest) from timetracker_delivery.ledger where state = 'Done'";
        assert_eq!(stage.sql(SITE, migrated), "2", "that of 1.0.0, and that of 1.7.0, which 1.1.0 has as well");
        delete(&stage, &[], None).await;
    })
    .await;
}
