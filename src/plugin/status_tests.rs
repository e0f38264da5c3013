#![allow(clippy::unwrap_used)]

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::*;

fn told(status: Value) -> String {
    let release: TimeTrackerRelease = serde_json::from_value(json!({
        "apiVersion": "timetracker.dev/v1alpha1", "kind": "TimeTrackerRelease", "metadata": {"name": "site"},
        "spec": {"image": {"semver": ">=1"}}, "status": status,
    }))
    .unwrap();
    paint(&of_release(&release, "2026-01-04T10:00:00Z".parse().unwrap()), false)
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn current() -> Value {
    json!({"version": "1.0.1", "digest": format!("sha256:{}", "a".repeat(64)), "deployedTime": "2026-01-01T08:00:00Z"})
}

#[test]
fn a_release_under_way_says_what_runs_what_is_coming_and_how_far_it_is() {
    assert_snapshot!(told(json!({
        "observedGeneration": 1, "current": current(),
        "candidate": {"version": "1.1.0", "digest": format!("sha256:{}", "b".repeat(64)), "step": "Migrate", "verdict": "expand: 1.0.1 runs on it"},
        "conditions": [
            condition("Ready", "Unknown", "Migrating", "1.1.0: attempt 1 of 3"),
            condition("UpdatePending", "True", "Migrating", "1.1.0: attempt 1 of 3")],
    })), @r"
    site  under way
      runs      1.0.1 (aaaaaaaaaaaa) since 2026-01-01 08:00 UTC, for 3 d 2 h
      coming    1.1.0 (bbbbbbbbbbbb), the database is migrated
                expand: 1.0.1 runs on it
      because   Migrating: 1.1.0: attempt 1 of 3
    ");
}

#[test]
fn a_release_that_waits_says_why_and_what_it_avoids() {
    assert_snapshot!(told(json!({
        "observedGeneration": 1, "current": current(),
        "conditions": [
            condition("Ready", "True", "Delivered", "1.0.1 runs"),
            condition("UpdatePending", "True", "DatabaseUnreachable", "1.1.0 waits: connection refused\u{1b}[2J"),
            condition("Available", "True", "Answers", "1 of 1 pods answer"),
            condition("RegistryReachable", "False", "Unauthorized", "ghcr.io refuses the credentials"),
            condition("Quarantined", "True", "Quarantined", "1.0.2 is not picked again")],
    })), @r"
    site  ready
      runs      1.0.1 (aaaaaaaaaaaa) since 2026-01-01 08:00 UTC, for 3 d 2 h
      because   DatabaseUnreachable: 1.1.0 waits: connection refused\x1b[2J
      registry  Unauthorized: ghcr.io refuses the credentials
      avoids    Quarantined: 1.0.2 is not picked again
    ");
}

#[test]
fn a_release_that_is_settled_needs_two_lines() {
    assert_snapshot!(told(json!({
        "observedGeneration": 1, "current": current(),
        "conditions": [
            condition("Ready", "True", "Delivered", "1.0.1 runs"),
            condition("UpdatePending", "False", "UpToDate", "no other version is on its way")],
    })), @r"
    site  ready
      runs      1.0.1 (aaaaaaaaaaaa) since 2026-01-01 08:00 UTC, for 3 d 2 h
    ");
}

#[test]
fn a_release_that_stalled_says_so_once() {
    let text = told(json!({
        "observedGeneration": 1,
        "conditions": [
            condition("Ready", "False", "MigrationFailed", "set the retry annotation"),
            condition("Stalled", "True", "MigrationFailed", "set the retry annotation")],
    }));
    assert_eq!(text.matches("set the retry annotation").count(), 1, "{text}");
    assert!(text.starts_with("site  not ready\n  runs      nothing yet\n"), "{text}");
}

#[test]
fn a_release_that_nobody_looks_at_says_so() {
    assert!(told(json!({"observedGeneration": -1})).contains("does it watch this namespace?"));
}

#[test]
fn the_newest_runs_stand_below_each_other() {
    let run = |name: &str, status: Value| -> PipelineRun {
        serde_json::from_value(json!({
            "apiVersion": "timetracker.dev/v1alpha1", "kind": "PipelineRun",
            "metadata": {"name": name, "creationTimestamp": "2026-01-04T09:00:00Z"},
            "spec": {"pipelineRef": {"name": "ci"}, "revision": {"branch": "evil\u{1b}[2J"}}, "status": status,
        }))
        .unwrap()
    };
    let failed = json!({
        "observedGeneration": 1, "completionTime": "2026-01-04T09:02:10Z", "shortCommit": "1a2b3c4",
        "jobs": [{"name": "a", "phase": "Succeeded"}, {"name": "b", "phase": "Failed"}],
        "conditions": [condition("Succeeded", "False", "TestFailure", "m")],
    });
    let runs = [run("ci-1", failed), run("ci-2", Value::Null)];
    assert_snapshot!(table_of_runs(runs.iter(), "2026-01-04T10:00:00Z".parse().unwrap()), @r"
    RUN   PIPELINE  REVISION     STATE        JOBS  TOOK        AGO
    ci-1  ci        1a2b3c4      TestFailure  2/2   2 min 10 s  1 h
    ci-2  ci        evil\x1b[2J  unseen             1 h         1 h
    ");
}
