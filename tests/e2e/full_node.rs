//! A node without room: told, waited for, and nobody is blamed.
//!
//! The room is a resource of the node that nothing else asks for, so that other tests don't notice.

use serde_json::{Value, json};

use crate::releases::{DELIVERY, SITE, delivered, release};
use crate::runs::{BOUND, RUN, begin, ended, pipeline};
use crate::stage::{Stage, on_stage, output, program};
use crate::waiting::{condition, is_true, says, status, until};

const ROOM_FOR_JOBS: &str = "timetracker.dev/room-for-jobs";
const ROOM_FOR_SITES: &str = "timetracker.dev/room-for-sites";

/// Gives the node one of each.
async fn make_room() {
    let node = output(program("kubectl").args(["get", "nodes", "--output=jsonpath={.items[0].metadata.name}"]));
    let room = json!({ ROOM_FOR_JOBS: "1", ROOM_FOR_SITES: "1" });
    let patch = json!({ "status": { "capacity": room, "allocatable": room } }).to_string();
    let patching = ["patch", "node", &node, "--subresource=status", "--type=merge", "--patch", &patch];
    output(program("kubectl").args(patching));
    until("the node to offer the room", 90, || {
        let shown = output(program("kubectl").args(["get", "node", &node, "--output=jsonpath={.status.allocatable}"]));
        shown.contains(ROOM_FOR_JOBS) && shown.contains(ROOM_FOR_SITES)
    })
    .await;
}

fn asks(room: &str) -> Value {
    json!({ "requests": { room: "1" }, "limits": { room: "1", "memory": "512Mi" } })
}

/// A pod that takes the room.
fn fill(stage: &Stage, name: &str, room: &str) {
    stage.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "filler", "image": crate::runs::PYTHON, "command": ["sleep", "3600"], "resources": asks(room),
            }],
        },
    }));
}

fn empty(stage: &Stage, name: &str) {
    stage.kubectl(&["delete", "pod", name, "--wait=true"]);
}

/// Waits until the status says that nothing fits.
async fn unschedulable(stage: &Stage, step: &str) -> Value {
    let what = format!("{step} to find no room");
    let status = status(stage, "TimeTrackerRelease", SITE, &what, DELIVERY, |status| {
        status["candidate"]["step"] == step && says(status, "Insufficient timetracker.dev/room")
    })
    .await;
    assert_eq!(condition(&status, "UpdatePending")["reason"], "Unschedulable", "{status:#}");
    assert!(status["quarantined"].is_null(), "{status:#}");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_is_waited_for_and_no_digest_is_quarantined() {
    on_stage("full", |stage| async move {
        make_room().await;
        fill(&stage, "filler-of-jobs", ROOM_FOR_JOBS);
        fill(&stage, "filler-of-sites", ROOM_FOR_SITES);
        stage.kubectl(&["wait", "pods", "--all", "--for=condition=Ready", "--timeout=120s"]);

        stage.publish("1.0.0").await;
        let mut spec = release(&stage);
        spec["pod"] = json!({ "resources": asks(ROOM_FOR_JOBS) });
        spec["values"] = json!({ "resources": asks(ROOM_FOR_SITES) });
        spec["rollout"] = json!({ "timeout": "10s", "soak": "1s" });
        stage.create("TimeTrackerRelease", SITE, spec).await;
        let mut job = json!({ "name": "job", "run": "true" });
        job["pod"] = json!({ "resources": asks(ROOM_FOR_JOBS) });
        begin(&stage, pipeline(json!([job])), json!({})).await;

        unschedulable(&stage, "Inspect").await;
        status(&stage, "PipelineRun", RUN, "the run to find no room", BOUND, |status| {
            status["jobs"].to_string().contains("Insufficient timetracker.dev/room") && !is_true(status, "Stalled")
        })
        .await;
        empty(&stage, "filler-of-jobs");
        let run = ended(&stage).await;
        assert!(is_true(&run, "Succeeded"), "{run:#}");

        // No room for the site itself: longer than its rollout may take.
        let waits = unschedulable(&stage, "RollOut").await;
        assert!(condition(&waits, "Stalled").is_null(), "{waits:#}");
        until("the rollout's deadline to pass", 60, || {
            let deployment = stage.kubectl(&["get", "deployment", SITE, "--output=jsonpath={.status.conditions}"]);
            deployment.contains("ProgressDeadlineExceeded")
        })
        .await;
        unschedulable(&stage, "RollOut").await;
        empty(&stage, "filler-of-sites");
        let status = delivered(&stage, "1.0.0").await;
        assert!(status["quarantined"].is_null(), "{status:#}");
        assert_eq!(status["history"].as_array().map(Vec::len), Some(1), "{status:#}");
    })
    .await;
}
