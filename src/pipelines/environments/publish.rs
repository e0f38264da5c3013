//! The job that makes an image of an environment, for later runs: a pod in which nothing but the agent runs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::super::failure::MAIN;
use super::super::graph::{Graph, Node};
use super::super::inputs;
use super::super::jobs::{RunContext, finish};
use super::super::pods;
use super::super::progress::CellView;
use super::build::folder;
use super::{DIRECTORY, IMAGE_OUTPUT, Role, STALE_OUTPUT, VOLUME, flight, image, images, store, stored};
use crate::workload::restricted_pod;

/// The archive, the layer made of it, and one layer of the image below.
const ROOM: &str = "3Gi";
const SCRATCH: &str = "/timetracker/scratch";
/// How long it may take.
pub const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Why this run publishes nothing.
#[must_use]
pub fn unpublished(graph: &Graph, node: &Node, run: &RunContext<'_>, before: &[CellView]) -> Option<String> {
    let Role::Publishes(place) = node.environment else { return None };
    if run.is_pull_request() {
        return Some("a pull request's run publishes no image".to_owned());
    }
    let view = maker(graph, place, before)?;
    if view.job.is_none() {
        return Some("this run has made no environment".to_owned());
    }
    let outputs = outputs(view);
    let is_fresh = outputs.contains_key(IMAGE_OUTPUT) && !outputs.contains_key(STALE_OUTPUT);
    is_fresh.then(|| "its image is there already".to_owned())
}

fn maker<'v>(graph: &Graph, place: usize, before: &'v [CellView]) -> Option<&'v CellView> {
    let maker = graph.node(place)?;
    before.iter().find(|view| view.name == maker.spec.name)
}

fn outputs(view: &CellView) -> BTreeMap<String, String> {
    view.result.as_ref().map(|result| result.outputs.clone()).unwrap_or_default()
}

/// The Job of one attempt.
#[must_use]
pub fn publish(
    run: &RunContext<'_>,
    graph: &Graph,
    node: &Node,
    attempt: u32,
    before: &[CellView],
    now: Timestamp,
) -> Job {
    let options = run.pod_options(&node.spec);
    let view = if let Role::Publishes(place) = node.environment { maker(graph, place, before) } else { None };
    let outputs = view.map(outputs).unwrap_or_default();
    let output = |name: &str| outputs.get(name).map(String::as_str).unwrap_or_default();
    let environment = node.spec.environment.clone().unwrap_or_default();
    let job = view.and_then(|view| view.job.clone()).unwrap_or_default();
    let mut command = vec![pods::AGENT.to_owned()];
    command.extend(pods::words(&["environment", "publish", "--hash", output("hash"), "--base", &image(&environment)]));
    command.extend(pods::words(&["--platform", output("platform"), "--place", DIRECTORY, "--scratch", SCRATCH]));
    command.extend(stored(run, &job));
    let mounts = vec![pods::mount(VOLUME, SCRATCH), inputs::token_mount()];
    let mut main: Container = pods::agent_container(MAIN, run.settings, command, Vec::new(), mounts, "256Mi");
    let mut volumes = vec![folder(ROOM)];
    inputs::add_token(&mut volumes);
    volumes.extend(pods::trust_volume(run.settings));
    let store = store(run);
    if let Some(store) = store {
        volumes.extend(images::open(&mut main, store, run.settings, now, false));
    }
    let pod = restricted_pod(
        PodSpec {
            containers: vec![main],
            volumes: Some(volumes),
            active_deadline_seconds: i64::try_from((TIMEOUT + pods::NET).as_secs()).ok(),
            termination_grace_period_seconds: Some(10),
            ..PodSpec::default()
        },
        Some(&options),
    );
    let mut job = finish(run, &node.spec.name, &node.spec.name, attempt, "", &options, pod);
    if let Some(store) = store {
        flight::mark_publication(&mut job, &flight::key(store, output("hash")));
    }
    job
}
