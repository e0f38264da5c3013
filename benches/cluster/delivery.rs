//! From a tag in the registry to a new pod that is ready, without the time until the next poll.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};

use crate::stage::{Stage, on_stage};
use crate::table::Table;

const SITE: &str = "site";
const LIMIT: Duration = Duration::from_secs(300);

/// Delivers a version without and one with a migration, each pushed while its predecessor runs.
pub async fn measure(table: &mut Table) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    on_stage("bench-delivery", move |stage| async move {
        let begun = Instant::now();
        stage.publish("1.0.0").await;
        let release = json!({
            "image": {"repository": stage.image_name(), "semver": ">=1, <2", "interval": "1h"},
            "database": {"embedded": {"storage": {"size": "1Gi"}}},
            "rollout": {"soak": "1s"},
            "deletionPolicy": "Delete",
        });
        stage.create("TimeTrackerRelease", SITE, release).await;
        settled(&stage, "1.0.0").await;
        let first = begun.elapsed();
        let plain = pushed(&stage, "1.0.1").await;
        let migrated = pushed(&stage, "1.1.0").await;
        let _ = sender.send((first, plain, migrated));
    })
    .await;
    let (first, plain, migrated) = receiver.await.expect("all versions were delivered");
    let seconds = |took: Duration| format!("{:.1} s", took.as_secs_f64());
    table.add("a site from nothing to Ready (Postgres, 9 migrations, 1 s soak)", seconds(first), "");
    table.add("tag pushed → new pod ready, no migration", seconds(plain), "");
    table.add("tag pushed → new pod ready, one additive migration", seconds(migrated), "");
}

/// Pushes a version, asks for a look at the registry now, and waits for its pod to be ready.
async fn pushed(stage: &Stage, version: &str) -> Duration {
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let selector = format!("app.kubernetes.io/instance={SITE},app.kubernetes.io/component=app");
    let mut pods = watcher(pods, watcher::Config::default().labels(&selector)).applied_objects().boxed();
    let old: Pod = pods.try_next().await.unwrap().expect("the site runs");
    stage.publish(version).await;
    let begun = Instant::now();
    let ask = json!({"metadata": {"annotations": {"timetracker.dev/requestedAt": format!("bench-{version}")}}});
    stage.api("TimeTrackerRelease").patch(SITE, &PatchParams::default(), &Patch::Merge(&ask)).await.unwrap();
    loop {
        assert!(begun.elapsed() < LIMIT, "{version} does not come up");
        let pod = pods.try_next().await.unwrap().expect("the watch goes on");
        if pod.uid() != old.uid() && is_ready(&pod) {
            break;
        }
    }
    let took = begun.elapsed();
    settled(stage, version).await;
    took
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Waits until a version runs and is Ready.
async fn settled(stage: &Stage, version: &str) {
    let config = watcher::Config::default().fields(&format!("metadata.name={SITE}"));
    let mut releases = watcher(stage.api("TimeTrackerRelease"), config).applied_objects().boxed();
    let deadline = Instant::now() + LIMIT;
    loop {
        let release = releases.try_next().await.unwrap().expect("the watch goes on");
        let status: &Value = &release.data["status"];
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        let is_ready = conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        if status["current"]["version"] == version && is_ready && status["candidate"].is_null() {
            return;
        }
        assert!(Instant::now() < deadline, "{version}: {status:#}");
    }
}
