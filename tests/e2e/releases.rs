//! Releases: what is delivered, what is taken back, and that the site answers afterwards.

use serde_json::{Value, json};

use crate::registry;
use crate::stage::{Stage, on_stage};
use crate::waiting::{condition, is_true, says, status};
use crate::witness::Witness;

/// Name of every test's release.
pub const SITE: &str = "site";
/// How long a delivery may take on a busy machine.
pub const DELIVERY: u64 = 240;
/// How many migrations the ledger has.
pub const LEDGER: &str = "select count(*) from timetracker_delivery.ledger";

/// A release of everything that the test publishes.
pub fn release(stage: &Stage) -> Value {
    json!({
        "image": { "repository": stage.image_name(), "semver": ">=1, <2", "interval": "10s" },
        "database": { "embedded": { "storage": { "size": "1Gi" } } },
        "rollout": { "timeout": "40s", "soak": "2s" },
        "deletionPolicy": "Delete",
    })
}

/// Waits until a version runs and nothing is under way.
pub async fn delivered(stage: &Stage, version: &str) -> Value {
    let what = format!("{version} to be delivered");
    status(stage, "TimeTrackerRelease", SITE, &what, DELIVERY, |status| {
        status["current"]["version"] == version && is_true(status, "Ready") && status["candidate"].is_null()
    })
    .await
}

/// Waits until a version is quarantined while another one runs.
async fn quarantined(stage: &Stage, bad: &str, good: &str) -> Value {
    let what = format!("{bad} to be quarantined");
    status(stage, "TimeTrackerRelease", SITE, &what, DELIVERY, |status| {
        let quarantined = status["quarantined"].as_array().into_iter().flatten().any(|entry| entry["version"] == bad);
        quarantined && status["current"]["version"] == good && is_true(status, "Ready") && is_true(status, "Available")
    })
    .await
}

/// Delivers 1.1.0, offers `bad`, and expects it to be refused or taken back for this reason while the site goes on.
async fn survives(stage: Stage, bad: &str, reason: &str) {
    stage.publish("1.1.0").await;
    stage.create("TimeTrackerRelease", SITE, release(&stage)).await;
    delivered(&stage, "1.1.0").await;
    stage.publish(bad).await;
    let status = quarantined(&stage, bad, "1.1.0").await;
    assert!(is_true(&status, "Quarantined"), "{status:#}");
    assert_eq!(condition(&status, "Quarantined")["reason"], reason, "{status:#}");
    stage.ask(SITE, "/_ready").expect("the site answers after the bad version was taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_comes_up_from_one_object_and_follows_a_new_tag() {
    on_stage("happy", |stage| async move {
        let witness = Witness::of(&stage);
        stage.publish("1.0.0").await;
        stage.create("TimeTrackerRelease", SITE, release(&stage)).await;
        let first = delivered(&stage, "1.0.0").await;
        assert_eq!(first["observedGeneration"], 1);
        assert!(stage.ask(SITE, "/_ready").unwrap().contains("ready"));
        stage.publish("1.1.0").await;
        let second = delivered(&stage, "1.1.0").await;
        assert_eq!(second["current"]["revisions"], json!(["010_vat_numbers_and_holidays"]));
        assert_eq!(stage.sql(SITE, LEDGER), "2");
        assert_eq!(stage.sql(SITE, "select version_num from alembic_version"), "010_vat_numbers_and_holidays");
        let served = witness.sites_at("migrate/2");
        let old = first["current"]["digest"].as_str().unwrap();
        assert!(
            served.len() == 1 && served[0].ends_with(old),
            "1.0.0 serves while an expansion is migrated: {served:?}"
        );
        stage.publish("1.8.0").await;
        let third = delivered(&stage, "1.8.0").await;
        assert_eq!(third["current"]["revisions"], second["current"]["revisions"], "only the image is new");
        assert_eq!(stage.sql(SITE, LEDGER), "2");
    })
    .await;
}

/// The notes of events with this reason.
fn told(stage: &Stage, reason: &str) -> Vec<String> {
    let events = stage.kubectl(&["get", "events", "--no-headers", "--output=custom-columns=:reason,:message"]);
    events.lines().filter_map(|line| line.strip_prefix(reason)).map(|note| note.trim().to_owned()).collect()
}

/// The Deployment asks for this many pods and says nothing of having been stopped.
fn serves_again(stage: &Stage) {
    let shown = "--output=jsonpath={.spec.replicas}{.metadata.annotations.timetracker\\.dev/drained-replicas}";
    assert_eq!(stage.kubectl(&["get", "deployment", SITE, shown]), "1");
    stage.ask(SITE, "/_ready").expect("the site answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_schema_the_old_one_can_t_use_is_migrated_to_once_no_pod_of_that_is_left() {
    on_stage("contracting", |stage| async move {
        let witness = Witness::of(&stage);
        stage.publish("1.1.0").await;
        stage.create("TimeTrackerRelease", SITE, release(&stage)).await;
        delivered(&stage, "1.1.0").await;
        stage.publish("1.2.0").await;
        let status = delivered(&stage, "1.2.0").await;
        assert_eq!(status["current"]["revisions"], json!(["011_contact_names"]));
        assert_eq!(witness.sites_at("migrate/2"), Vec::<String>::new(), "1.1.0 was stopped first");
        let notes = told(&stage, "Draining");
        assert!(notes.len() == 1 && notes[0].contains("missing columns: clients.contact"), "{notes:?}");
        serves_again(&stage);
        stage.publish("1.3.0").await;
        let status = delivered(&stage, "1.3.0").await;
        assert_eq!(status["current"]["revisions"], json!(["012_billing_codes"]));
        assert_eq!(witness.sites_at("migrate/3"), Vec::<String>::new(), "1.2.0 could make no project any more");
        let required = "required columns unknown to the code: projects.billing_code";
        assert!(told(&stage, "Draining").iter().any(|note| note.contains(required)), "{status:#}");
        serves_again(&stage);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stopped_for_a_migration_that_fails_cleanly_serves_again() {
    on_stage("drained-back", |stage| async move {
        let witness = Witness::of(&stage);
        stage.publish("1.1.0").await;
        stage.create("TimeTrackerRelease", SITE, release(&stage)).await;
        let old = delivered(&stage, "1.1.0").await["current"]["digest"].as_str().unwrap().to_owned();
        let patch = json!({ "spec": { "migration": { "command": ["sh", "-c", "exit 3"] } } }).to_string();
        stage.kubectl(&["patch", "timetrackerrelease", SITE, "--type=merge", "--patch", &patch]);
        stage.publish("1.2.0").await;
        let status = quarantined(&stage, "1.2.0", "1.1.0").await;
        assert_eq!(condition(&status, "Quarantined")["reason"], "MigrationFailed", "{status:#}");
        assert_eq!(witness.sites_at("migrate/2"), Vec::<String>::new(), "1.1.0 was stopped first");
        assert_eq!(witness.pods_of(&old), 2, "and started once more");
        serves_again(&stage);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_with_two_heads_leaves_two_revisions() {
    on_stage("two-heads", |stage| async move {
        stage.publish("1.6.0").await;
        stage.create("TimeTrackerRelease", SITE, release(&stage)).await;
        let status = delivered(&stage, "1.6.0").await;
        assert_eq!(status["current"]["revisions"], json!(["011_task_colors", "011_user_phones"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_half_way_quarantines_its_version_and_the_old_one_runs_on() {
    on_stage("broken-halfway", |stage| async move {
        survives(stage.clone(), "1.4.0", "MigrationFailed").await;
        assert_eq!(stage.sql(SITE, "select version_num from alembic_version"), "010_vat_numbers_and_holidays");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_swallowed_an_error_is_found_by_the_schema_contract() {
    on_stage("swallowed", |stage| async move {
        survives(stage.clone(), "1.5.0", "MigrationFailed").await;
        let quarantined = status(&stage, "TimeTrackerRelease", SITE, "the reason", 5, |_| true).await;
        assert!(
            says(&quarantined, "the command ended with 0") && says(&quarantined, "missing tables: reminders"),
            "{quarantined:#}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_never_becomes_ready_is_taken_back() {
    on_stage("never-ready", |stage| survives(stage, "1.7.0", "NotReady")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_a_way_back_stops_with_what_is_missing_and_the_next_one_is_delivered() {
    on_stage("no-way-back", |stage| async move {
        let witness = Witness::of(&stage);
        stage.publish("1.1.0").await;
        stage.create("TimeTrackerRelease", SITE, release(&stage)).await;
        let old = delivered(&stage, "1.1.0").await["current"]["digest"].as_str().unwrap().to_owned();
        stage.publish("1.9.0").await;
        let what = "1.9.0 to be given up";
        let stuck =
            status(&stage, "TimeTrackerRelease", SITE, what, DELIVERY, |status| is_true(status, "Stalled")).await;
        assert_eq!(condition(&stuck, "Stalled")["reason"], "NoWayBack", "{stuck:#}");
        let ready = condition(&stuck, "Ready");
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("NoWayBack")), "{stuck:#}");
        for words in ["of 1.9.0 is not ready", "1.1.0 can't run on the schema", "clients.contact", "Publish a version"]
        {
            assert!(ready["message"].as_str().unwrap().contains(words), "{words:?} is not in {ready:#}");
        }
        assert!(condition(&stuck, "Reconciling").is_null() && !is_true(&stuck, "Available"), "{stuck:#}");
        assert_eq!(stuck["current"]["version"], "1.1.0", "{stuck:#}");
        assert_eq!(stuck["candidate"]["step"], "GoBack", "{stuck:#}");
        assert_eq!(stage.sql(SITE, "select version_num from alembic_version"), "011_contact_names");
        let events = stage.kubectl(&["get", "events", "--no-headers", "--output=custom-columns=:reason,:message"]);
        assert!(
            events.lines().any(|line| line.starts_with("Stalled ") && line.contains("clients.contact")),
            "{events}"
        );

        // What works on the schema as it is: the code of 1.2.0 under a newer name.
        registry::copy("samples/timetracker", "1.2.0", &stage.image, "1.9.1").await;
        let status = delivered(&stage, "1.9.1").await;
        assert_eq!(status["quarantined"][0]["version"], "1.9.0", "{status:#}");
        assert!(condition(&status, "Stalled").is_null() && is_true(&status, "Available"), "{status:#}");
        assert_eq!(stage.sql(SITE, LEDGER), "2", "1.9.1 needs no migration");
        assert_eq!(witness.pods_of(&old), 1, "1.1.0 was started before the migration and never again");
        stage.ask(SITE, "/_ready").expect("the site answers");
    })
    .await;
}
