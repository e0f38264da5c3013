//! Releases that can't go on until somebody does something: what they say, and that they go on then.

use serde_json::{Value, json};

use crate::kill::{in_pod, kill_in_pod};
use crate::registry;
use crate::releases::{DELIVERY, SITE, delivered, release};
use crate::stage::{Stage, on_stage, program, try_output};
use crate::waiting::{condition, is_true, says, status, until};

/// Waits until the status says this, without being Ready.
async fn says_so(stage: &Stage, name: &str, text: &str) -> Value {
    let what = format!("a message with {text:?}");
    let status = status(stage, "TimeTrackerRelease", name, &what, DELIVERY, |status| says(status, text)).await;
    assert!(!is_true(&status, "Ready"), "{status:#}");
    assert!(status["quarantined"].is_null(), "a cause outside of the digest quarantines nothing: {status:#}");
    status
}

/// Waits until a person is asked for with this reason and these words, by the status and by an event.
async fn waits_for_a_person(stage: &Stage, reason: &str, words: &str) -> Value {
    let what = format!("{reason} to be told");
    let status = status(stage, "TimeTrackerRelease", SITE, &what, DELIVERY, |status| {
        condition(status, "Ready")["reason"] == reason
    })
    .await;
    let ready = condition(&status, "Ready");
    assert_eq!(ready["status"], "False", "{status:#}");
    assert!(ready["message"].as_str().unwrap().contains(words), "{words:?} is not in {status:#}");
    assert_eq!((&status["observedGeneration"], &status["candidate"]), (&json!(1), &Value::Null), "{status:#}");
    for absent in ["Reconciling", "Stalled"] {
        assert!(condition(&status, absent).is_null(), "{status:#}");
    }
    // Events follow the status.
    let events = || stage.kubectl(&["get", "events", "--no-headers", "--output=custom-columns=:reason,:message"]);
    until("the event", 20, || events().lines().any(|line| line.starts_with("Waiting ") && line.contains(words))).await;
    status
}

fn secret(name: &str, url: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "url": url } })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_for_another_platform_is_refused_with_the_platforms_named() {
    on_stage("platform", |stage| async move {
        registry::copy("drytrix/timetracker-other-platform", "1.0.0", &stage.image, "1.0.0").await;
        stage.create("TimeTrackerRelease", SITE, release(&stage)).await;
        let other = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };
        let what = "the platforms to be named";
        let status = status(&stage, "TimeTrackerRelease", SITE, what, DELIVERY, |status| says(status, other)).await;
        assert!(!is_true(&status, "Ready"), "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named_and_once_there_the_release_goes_on() {
    on_stage("secret", |stage| async move {
        stage.publish("1.0.0").await;
        let postgres = database(&stage).await;
        let mut spec = release(&stage);
        spec["database"] = json!({ "urlFrom": { "secretKeyRef": { "name": "absent", "key": "url" } } });
        stage.create("TimeTrackerRelease", SITE, spec).await;
        says_so(&stage, SITE, "absent").await;
        stage.apply(&secret("absent", &postgres));
        delivered(&stage, "1.0.0").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_database_password_is_said_and_once_right_the_release_goes_on() {
    on_stage("password", |stage| async move {
        stage.publish("1.0.0").await;
        let postgres = database(&stage).await;
        stage.apply(&secret("database", &postgres.replace("right", "wrong")));
        let mut spec = release(&stage);
        spec["database"] = json!({ "urlFrom": { "secretKeyRef": { "name": "database", "key": "url" } } });
        stage.create("TimeTrackerRelease", SITE, spec).await;
        says_so(&stage, SITE, "password").await;
        stage.apply(&secret("database", &postgres));
        delivered(&stage, "1.0.0").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_repository_is_said_and_the_first_tag_is_delivered() {
    on_stage("empty", |stage| async move {
        stage.create("TimeTrackerRelease", SITE, release(&stage)).await;
        let told = waits_for_a_person(&stage, "ImageNotFound", "does not exist").await;
        assert_eq!(condition(&told, "RegistryReachable")["reason"], "ImageNotFound", "{told:#}");
        // There is one, but none that is wanted.
        registry::copy("samples/timetracker", "1.0.0", &stage.image, "0.9.0").await;
        let told = waits_for_a_person(&stage, "NoMatchingTag", "none of the 1 tags of").await;
        assert!(is_true(&told, "RegistryReachable"), "{told:#}");
        stage.publish("1.0.0").await;
        delivered(&stage, "1.0.0").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_database_whose_first_start_is_cut_off_is_begun_anew() {
    on_stage("cut-off", |stage| async move {
        stage.publish("1.0.0").await;
        stage.create("TimeTrackerRelease", SITE, release(&stage)).await;
        let pod = format!("{SITE}-postgres-0");
        let mut uid = String::new();
        until("the database's pod", 60, || {
            let mut get = program("kubectl");
            get.args(["--namespace", &stage.namespace, "get", "pod", &pod, "--output=jsonpath={.metadata.uid}"]);
            try_output(&mut get).is_ok_and(|shown| {
                uid = shown;
                !uid.is_empty()
            })
        })
        .await;
        // As when its node goes down: nothing is ended in order. Servers that fill the folder are the image's script's children.
        until("the database to be half made, and that to be cut off", 120, || {
            !in_pod(&uid, "postgres").is_empty() && kill_in_pod(&uid, "docker-entrypoint.sh") > 0
        })
        .await;
        delivered(&stage, "1.0.0").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_while_it_is_read_and_migrated_is_waited_for() {
    on_stage("away", |stage| async move {
        stage.publish("1.0.0").await;
        let url = service(&stage);
        stage.apply(&secret("database", &url));
        let mut spec = release(&stage);
        spec["database"] = json!({ "urlFrom": { "secretKeyRef": { "name": "database", "key": "url" } } });
        spec["migration"] = json!({ "command": ["sh", "-c", "sleep 8; exec flask db upgrade heads"] });
        stage.create("TimeTrackerRelease", SITE, spec).await;

        // Not there yet while it is read.
        let reason = |status: &Value| condition(status, "UpdatePending")["reason"].clone();
        let waits = status(&stage, "TimeTrackerRelease", SITE, "the database to be missed", DELIVERY, |status| {
            status["candidate"]["step"] == "Inspect" && reason(status) == "DatabaseUnreachable"
        })
        .await;
        assert!(waits["quarantined"].is_null(), "{waits:#}");
        database(&stage).await;

        // Gone while it is migrated, and back.
        status(&stage, "TimeTrackerRelease", SITE, "the migration to run", DELIVERY, |status| {
            status["candidate"]["step"] == "Migrate"
        })
        .await;
        until("the command to run", 60, || asked(&stage, crate::releases::LEDGER).is_ok_and(|rows| rows == "1")).await;
        stage.kubectl(&["exec", "postgres", "--", "sh", "-c", "kill -INT 1"]);
        let again = status(&stage, "TimeTrackerRelease", SITE, "the migration to be tried again", DELIVERY, |status| {
            reason(status) == "MigrationRetried" || says(status, "(attempt 2)")
        })
        .await;
        assert!(again["quarantined"].is_null() && condition(&again, "Stalled").is_null(), "{again:#}");
        let status = delivered(&stage, "1.0.0").await;
        assert!(status["quarantined"].is_null(), "{status:#}");
        assert_eq!(status["current"]["revisions"], json!(["009_settings_invoice_numbering_tax_and_logo"]));
    })
    .await;
}

/// What that database answers.
fn asked(stage: &Stage, statement: &str) -> Result<String, String> {
    let mut psql = program("kubectl");
    psql.args(["--namespace", &stage.namespace, "exec", "postgres", "--", "psql", "-U", "app", "-d", "app"]);
    try_output(psql.args(["-XAtqc", statement])).map(|shown| shown.trim().to_owned())
}

/// The name under which the database is found, whether it is there or not: its URL.
fn service(stage: &Stage) -> String {
    stage.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "postgres" },
        "spec": { "selector": { "app": "postgres" }, "ports": [{ "port": 5432 }] },
    }));
    "postgresql://app:right@postgres:5432/app".to_owned()
}

/// A Postgres 16 that is nobody's, whose data outlives its process: its URL.
async fn database(stage: &Stage) -> String {
    stage.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "postgres", "labels": { "app": "postgres" } },
        "spec": {
            "containers": [{
                "name": "postgres", "image": "docker.io/library/postgres:16",
                "env": [
                    { "name": "POSTGRES_PASSWORD", "value": "right" },
                    { "name": "POSTGRES_USER", "value": "app" },
                    { "name": "POSTGRES_DB", "value": "app" },
                ],
                "ports": [{ "containerPort": 5432 }],
                "volumeMounts": [{ "name": "data", "mountPath": "/var/lib/postgresql/data" }],
                "readinessProbe": { "exec": { "command": ["pg_isready", "-h", "127.0.0.1", "-U", "app"] }, "periodSeconds": 1 },
            }],
            "volumes": [{ "name": "data", "emptyDir": {} }],
        },
    }));
    let url = service(stage);
    stage.kubectl(&["wait", "pod/postgres", "--for=condition=Ready", "--timeout=120s"]);
    url
}
