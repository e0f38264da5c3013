//! Runs of pipelines against the same pods made by hand.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::by_hand::{self, exit_code};
use crate::graph::Graph;
use crate::operator::{Operator, Usage};
use crate::stage::{Stage, on_stage};
use crate::table::{Table, quantile, spread};

const PIPELINE: &str = "graph";
/// How long a run of trivial jobs may take before something is broken.
const LIMIT: Duration = Duration::from_secs(600);

/// Measures `together` runs of a graph at once, some rounds of it in turn with the same pods made by hand.
pub async fn against_hand(graph: &Graph, together: usize, rounds: usize, table: &mut Table) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let graph_here = graph.clone();
    on_stage("bench", move |stage| async move {
        let _ = sender.send(rounds_of(&stage, &graph_here, together, rounds).await);
    })
    .await;
    let measured = receiver.await.expect("the rounds ended");
    let name = if together == 1 { graph.name.clone() } else { format!("{together} × {} at once", graph.name) };
    let bound = match (together, graph.jobs.len()) {
        (1, 8) => "≤ 1.15 ×",
        (1, _) => "",
        (_, _) => "≤ 1.3 ×",
    };
    let is_bounded = !bound.is_empty();
    table.add(&format!("{name}: by the operator"), spread(&measured.operator, "s"), "");
    table.add(&format!("{name}: the same pods by hand"), spread(&measured.hand, "s"), "");
    let ratio = quantile(&measured.operator, 0.5) / quantile(&measured.hand, 0.5);
    table.add(&format!("{name}: ratio of the medians"), format!("{ratio:.2} ×"), bound);
    if together == 1 {
        let shown =
            |gaps: &[f64]| format!("p50 {:.0} ms, p99 {:.0} ms", quantile(gaps, 0.5) * 1e3, quantile(gaps, 0.99) * 1e3);
        let what = format!("{name}: end of what it needs seen → next pod made");
        table.add(&what, format!("{}; by hand {}", shown(&measured.gaps), shown(&measured.hand_gaps)), "");
    }
    let runs = (rounds * together) as f64;
    let used = measured.used;
    let wanted = |bound: &'static str| if is_bounded { bound } else { "" };
    let cpu = format!("{:.3} s", used.cpu_seconds / runs);
    table.add(&format!("{name}: operator CPU per run"), cpu, wanted("≤ 0.1 s"));
    table.add(&format!("{name}: reconciles per run"), format!("{:.1}", used.reconciles / runs), wanted("< 20"));
    let writes = used.writes / runs;
    let figure = format!("{writes:.1}, {:.1}", writes / graph.jobs.len() as f64);
    table.add(&format!("{name}: API writes per run, per job"), figure, "");
    table.add(&format!("{name}: operator's resident memory"), format!("{:.1} MiB", measured.resident), "≤ 50 MiB");
}

struct Measured {
    operator: Vec<f64>,
    hand: Vec<f64>,
    gaps: Vec<f64>,
    hand_gaps: Vec<f64>,
    /// By all runs together.
    used: Usage,
    resident: f64,
}

async fn rounds_of(stage: &Stage, graph: &Graph, together: usize, rounds: usize) -> Measured {
    let operator = Operator::find(&stage.client).await;
    stage.create("Pipeline", PIPELINE, graph.pipeline()).await;
    // The first of each kind fetches the image and fills caches: it does not count.
    let warm = stage_run(stage, graph, "warm").await;
    assert!(warm.whole < LIMIT);
    let pods = by_hand::templates(&stage.client, &stage.namespace, "warm").await;
    by_hand::run(&stage.client, &stage.namespace, graph, &pods, "warm-hand").await;
    quiet(&operator).await;
    let mut measured = Measured {
        operator: Vec::new(),
        hand: Vec::new(),
        gaps: Vec::new(),
        hand_gaps: Vec::new(),
        used: Usage::default(),
        resident: 0.0,
    };
    for round in 0..rounds {
        let before = operator.usage();
        let runs: Vec<String> = (0..together).map(|place| format!("round-{round}-{place}")).collect();
        let took = join_all(runs.iter().map(|run| stage_run(stage, graph, run))).await;
        measured.operator.push(took.iter().map(|took| took.whole.as_secs_f64()).fold(0.0, f64::max));
        measured.gaps.extend(took.iter().flat_map(|took| &took.gaps).map(Duration::as_secs_f64));
        quiet(&operator).await;
        measured.used.add(before, operator.usage());
        measured.resident = operator.resident();
        let (took, gaps) =
            hands(&stage.client, &stage.namespace, graph, &pods, &format!("hand-{round}"), together).await;
        measured.hand.push(took);
        measured.hand_gaps.extend(gaps);
        quiet(&operator).await;
    }
    measured
}

async fn hands(
    client: &Client,
    namespace: &str,
    graph: &Graph,
    pods: &BTreeMap<String, Pod>,
    round: &str,
    together: usize,
) -> (f64, Vec<f64>) {
    let rounds: Vec<String> = (0..together).map(|place| format!("{round}-{place}")).collect();
    let took = join_all(rounds.iter().map(|round| by_hand::run(client, namespace, graph, pods, round))).await;
    let whole = took.iter().map(|took| took.whole.as_secs_f64()).fold(0.0, f64::max);
    (whole, took.iter().flat_map(|took| &took.gaps).map(Duration::as_secs_f64).collect())
}

/// Makes a run and waits for its end, as somebody who watches would see it.
async fn stage_run(stage: &Stage, graph: &Graph, name: &str) -> by_hand::Took {
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let config = watcher::Config::default().labels(&format!("timetracker.dev/run={name}"));
    let mut pods = watcher(pods, config).applied_objects().boxed();
    let api = stage.api("PipelineRun");
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut run = watcher(api.clone(), config).applied_objects().boxed();
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "timetracker.dev/v1alpha1", "kind": "PipelineRun",
        "metadata": {"name": name}, "spec": {"pipelineRef": {"name": PIPELINE}},
    }))
    .unwrap();
    let begun = Instant::now();
    api.create(&PostParams::default(), &object).await.unwrap();
    let mut made: BTreeMap<String, Instant> = BTreeMap::new();
    let mut ended: BTreeMap<String, Instant> = BTreeMap::new();
    let whole = loop {
        assert!(begun.elapsed() < LIMIT, "{name} does not end");
        tokio::select! {
            pod = pods.try_next() => {
                let pod = pod.unwrap().expect("the watch goes on");
                let job = pod.labels()["timetracker.dev/job"].clone();
                made.entry(job.clone()).or_insert_with(Instant::now);
                if exit_code(&pod).is_some() {
                    ended.entry(job).or_insert_with(Instant::now);
                }
            }
            object = run.try_next() => {
                let status: Value = object.unwrap().expect("the watch goes on").data["status"].clone();
                if !status["completionTime"].is_null() {
                    let whole = begun.elapsed();
                    let succeeded = status["conditions"].as_array().into_iter().flatten();
                    let is_good = |condition: &Value| condition["type"] == "Succeeded" && condition["status"] == "True";
                    assert!(succeeded.into_iter().any(is_good), "{name}: {status:#}");
                    break whole;
                }
            }
        }
    };
    let gap = |job: &String| {
        let needed = graph.needs(job).iter().filter_map(|need| ended.get(need)).max()?;
        Some(made.get(job)?.saturating_duration_since(*needed))
    };
    by_hand::Took { whole, gaps: graph.jobs.iter().filter_map(|(job, _)| gap(job)).collect() }
}

/// Waits until the operator has stopped reconciling: what it does for a run after its end counts as that run's.
async fn quiet(operator: &Operator) {
    let mut before = operator.usage().reconciles;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = operator.usage().reconciles;
        if (now - before).abs() < f64::EPSILON {
            return;
        }
        before = now;
    }
}

/// The operator's memory while many finished runs are kept.
pub async fn kept(runs: usize, table: &mut Table) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    on_stage("bench-kept", move |stage| async move {
        let operator = Operator::find(&stage.client).await;
        let graph = Graph::chain(1);
        stage.create("Pipeline", PIPELINE, graph.pipeline()).await;
        let before = operator.resident();
        let names: Vec<String> = (0..runs).map(|number| format!("kept-{number}")).collect();
        for some in names.chunks(10) {
            join_all(some.iter().map(|name| stage_run(&stage, &graph, name))).await;
        }
        quiet(&operator).await;
        let _ = sender.send((before, operator.resident()));
    })
    .await;
    let (before, after) = receiver.await.expect("the runs ended");
    table.add(
        &format!("operator's resident memory with {runs} finished runs kept"),
        format!("{after:.1} MiB ({before:.1} MiB before them)"),
        "≤ 50 MiB",
    );
}
