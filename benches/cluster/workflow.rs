//! `comprehensive-ci` on the sample app, against the same commands one after another in one pod made by hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use serde_json::{Value, json};

use crate::by_hand;
use crate::git;
use crate::stage::{Stage, on_stage, repository};
use crate::table::Table;

const PIPELINE: &str = "comprehensive-ci";
const LIMIT: Duration = Duration::from_secs(1800);
/// The lane whose pod has all that any lane needs: the commit and a Postgres.
const WIDEST: &str = "database-tests";
const SCRIPT: &str = "timetracker.dev/script";
/// What a line begins with that tells how long a lane took by hand.
const MARK: &str = "LANE";

/// How long a workflow took, and each of its lanes, in seconds.
struct Took {
    whole: f64,
    lanes: BTreeMap<String, f64>,
}

/// Runs it twice by the operator, then once by hand.
pub async fn measure(table: &mut Table) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    on_stage("bench-workflow", move |stage| async move {
        let definition = shipped();
        stage.create("SourceRepository", "timetracker", json!({ "cloneURL": git::server().clone_url() })).await;
        stage.create("Pipeline", PIPELINE, definition.clone()).await;
        let first = by_operator(&stage, "first").await;
        let second = by_operator(&stage, "second").await;
        let hand = by_hand(&stage, &definition).await;
        let _ = sender.send((first, second, hand));
    })
    .await;
    let (first, second, hand) = receiver.await.expect("all of them ended");
    let whole = |took: &Took| format!("{:.0} s", took.whole);
    table.add("comprehensive-ci, first run in a namespace", whole(&first), "");
    table.add("comprehensive-ci, second run", whole(&second), "");
    table.add("the same commands one after another in one pod by hand", whole(&hand), "");
    table.add("ratio of the second run to by hand", format!("{:.2} ×", second.whole / hand.whole), "");
    for (lane, by_hand) in &hand.lanes {
        let of = |took: &Took| took.lanes.get(lane).map_or("none".to_owned(), |seconds| format!("{seconds:.0} s"));
        let figure = format!("{}, then {}; by hand {by_hand:.0} s", of(&first), of(&second));
        table.add(&format!("comprehensive-ci, command of {lane}"), figure, "");
    }
}

fn shipped() -> Value {
    let path = repository().join(format!("config/pipelines/{PIPELINE}.yaml"));
    let object: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    object["spec"].clone()
}

async fn by_operator(stage: &Stage, name: &str) -> Took {
    let begun = Instant::now();
    let commit = git::server().commit("v1.1.0");
    let spec = json!({ "pipelineRef": { "name": PIPELINE }, "revision": { "commit": commit } });
    stage.create("PipelineRun", name, spec).await;
    loop {
        assert!(begun.elapsed() < LIMIT, "{name} does not end");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let run = stage.api("PipelineRun").get(name).await.unwrap();
        let status = &run.data["status"];
        if !status["completionTime"].is_null() {
            assert_eq!(status["tests"]["passed"], 137, "{status:#}");
            let jobs = status["jobs"].as_array().unwrap().iter();
            let lanes =
                jobs.map(|job| (job["name"].as_str().unwrap().to_owned(), job["seconds"].as_f64().unwrap_or(0.0)));
            return Took { whole: begun.elapsed().as_secs_f64(), lanes: lanes.collect() };
        }
    }
}

async fn by_hand(stage: &Stage, definition: &Value) -> Took {
    let mut pod = by_hand::templates(&stage.client, &stage.namespace, "first").await.remove(WIDEST).unwrap();
    let mut annotations = pod.metadata.annotations.take().unwrap();
    annotations.insert(SCRIPT.to_owned(), script(definition));
    pod.metadata =
        ObjectMeta { name: Some("by-hand".to_owned()), annotations: Some(annotations), ..ObjectMeta::default() };
    // What it would bring to the store is of no run.
    pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap().retain(|container| container.name != "collector");
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let begun = Instant::now();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    while by_hand::exit_code(&pods.get("by-hand").await.unwrap()).is_none() {
        assert!(begun.elapsed() < LIMIT, "the pod by hand does not end");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let whole = begun.elapsed().as_secs_f64();
    let log = stage.kubectl(&["logs", "by-hand", "--container=job"]);
    let lanes = log.lines().filter_map(|line| {
        let (seconds, name) = line.strip_prefix(MARK)?.trim().split_once(' ')?;
        Some((name.to_owned(), seconds.parse().ok()?))
    });
    Took { whole, lanes: lanes.collect() }
}

/// Every lane's commands, one after another, with the time that each took.
fn script(definition: &Value) -> String {
    let mut script = String::new();
    for job in definition["jobs"].as_array().unwrap() {
        let name = job["name"].as_str().unwrap();
        let axis = &job["matrix"]["axes"][0];
        let single = vec![Value::Null];
        for value in axis["values"].as_array().unwrap_or(&single) {
            let value = value.as_str();
            let lane = value.map_or(name.to_owned(), |value| format!("{name} ({value})"));
            let variable = axis["name"].as_str().zip(value);
            let export = variable.map(|(axis, value)| format!("export MATRIX_{}={value}\n", axis.to_uppercase()));
            // Without a Postgres of its own, a lane takes the app's default, a file.
            let database = if job["services"].is_array() { "" } else { "unset DATABASE_URL\n" };
            let commands = job["run"].as_str().unwrap();
            let _ = write!(
                script,
                "began=$(date +%s)\n(\n{}{database}{commands}\n) || true\necho \"{MARK} $(($(date +%s) - began)) {lane}\"\n",
                export.unwrap_or_default()
            );
        }
    }
    script
}
