//! The same pods made by hand: a client that watches them and makes the next ones as soon as those they need have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::core::ObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt};

use crate::graph::Graph;

const ROUND: &str = "bench.timetracker.dev/round";
const JOB: &str = "timetracker.dev/job";

/// The pods that the operator made for a graph, without what ties them to it.
pub async fn templates(client: &Client, namespace: &str, run: &str) -> BTreeMap<String, Pod> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let jobs = jobs.list(&ListParams::default().labels(&format!("timetracker.dev/run={run}"))).await.unwrap();
    let templates = jobs.items.into_iter().map(|job| {
        let name = job.labels()[JOB].clone();
        let template = job.spec.unwrap().template;
        let annotations = template.metadata.unwrap_or_default().annotations;
        let metadata = ObjectMeta { annotations, ..ObjectMeta::default() };
        (name, Pod { metadata, spec: template.spec, status: None })
    });
    templates.collect()
}

/// How long the graph took, and how long after the end of what it needed each job's pod was made.
pub struct Took {
    /// From the first request to the end of the last container that was seen.
    pub whole: Duration,
    /// One per job that needs another.
    pub gaps: Vec<Duration>,
}

/// Runs the graph once. `round` is a name that no other round has.
pub async fn run(client: &Client, namespace: &str, graph: &Graph, pods: &BTreeMap<String, Pod>, round: &str) -> Took {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().labels(&format!("{ROUND}={round}"));
    let mut events = watcher(api.clone(), config).applied_objects().boxed();
    let begun = Instant::now();
    let mut made: BTreeSet<String> = BTreeSet::new();
    let mut ended: BTreeMap<String, Instant> = BTreeMap::new();
    let mut gaps = Vec::new();
    loop {
        let ready: Vec<&String> = graph
            .jobs
            .iter()
            .filter(|(job, needs)| !made.contains(job) && needs.iter().all(|need| ended.contains_key(need)))
            .map(|(job, _)| job)
            .collect();
        for job in ready {
            api.create(&PostParams::default(), &named(&pods[job], round, job)).await.unwrap();
            let needed = graph.needs(job).iter().map(|need| ended[need]).max();
            gaps.extend(needed.map(|needed| needed.elapsed()));
            made.insert(job.clone());
        }
        if ended.len() == graph.jobs.len() {
            break;
        }
        let pod = events.try_next().await.unwrap().expect("the watch goes on");
        if let Some(code) = exit_code(&pod) {
            assert_eq!(code, 0, "{}", pod.name_any());
            ended.entry(pod.labels()[JOB].clone()).or_insert_with(Instant::now);
        }
    }
    let whole = begun.elapsed();
    let all = ListParams::default().labels(&format!("{ROUND}={round}"));
    api.delete_collection(&DeleteParams::default(), &all).await.unwrap();
    Took { whole, gaps }
}

fn named(pod: &Pod, round: &str, job: &str) -> Pod {
    let mut pod = pod.clone();
    pod.metadata.name = Some(format!("{round}-{job}"));
    let labels = [(ROUND, round), (JOB, job)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    pod.metadata.labels = Some(labels.into());
    pod
}

/// The exit code of the pod's only container, once it has ended.
pub fn exit_code(pod: &Pod) -> Option<i32> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    Some(container.state.as_ref()?.terminated.as_ref()?.exit_code)
}
