//! What environments save: the sample app's tests in jobs that each install their packages, in a run that makes an
//! environment of them, and in one that finds the environment's image.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::git;
use crate::stage::{Stage, on_stage};
use crate::table::{Table, quantile};

const PYTHON: &str = "docker.io/library/python:3.11-slim";
const REQUIREMENTS: &str = "requirements-test.txt";
/// The lanes of a run: by pytest's markers of the sample app.
const LANES: [&str; 4] = ["smoke", "models", "routes", "api"];
/// pip fetches from an index that others use too.
const LIMIT: Duration = Duration::from_secs(1200);

/// How long a run took, its `environment` job, and its lanes from their pods' making to their commands' ends, in seconds.
struct Took {
    whole: f64,
    environment: f64,
    lanes: Vec<f64>,
}

/// Measures the three.
pub async fn measure(table: &mut Table) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    on_stage("bench-environments", move |stage| async move {
        let spec = json!({ "cloneURL": git::server().clone_url(), "image": { "repository": stage.image_name() } });
        stage.create("SourceRepository", "timetracker", spec).await;
        stage.create("Pipeline", "installing", pipeline(false)).await;
        stage.create("Pipeline", "environment", pipeline(true)).await;
        // An environment of its own, however often this is measured: the hash is of the files' content.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let branch = format!("environments-{now}");
        let commit = git::server().edit(&branch, REQUIREMENTS, |text| format!("{text}# {now}\n"));
        // The first of these fetches Python's image and fills the index's caches: it does not count.
        run(&stage, "installing", "warm", &commit).await;
        let installing = run(&stage, "installing", "each", &commit).await;
        let first = run(&stage, "environment", "first", &commit).await;
        // The second one's node fetches the image, too: it does not count.
        run(&stage, "environment", "second", &commit).await;
        let later = run(&stage, "environment", "later", &commit).await;
        let _ = sender.send((installing, first, later));
    })
    .await;
    let (installing, first, later) = receiver.await.expect("all of them ended");
    let each = quantile(&installing.lanes, 0.5);
    for (what, took) in [
        ("each installing its packages", &installing),
        ("with a new environment", &first),
        ("with the environment's image", &later),
    ] {
        let lane = quantile(&took.lanes, 0.5);
        let made = match took.environment {
            0.0 => String::new(),
            seconds => format!(", of which {seconds:.0} s for `environment`"),
        };
        let saved = if took.whole < installing.whole || lane < each {
            format!("; {:.0} s saved per job", each - lane)
        } else {
            String::new()
        };
        let figure = format!("{:.0} s{made}; {lane:.0} s per job{saved}", took.whole);
        table.add(&format!("{} jobs of tests {what}", LANES.len()), figure, "");
    }
}

/// One job a lane, with an environment or installing what they need.
fn pipeline(environment: bool) -> Value {
    let tests = |lane: &str| format!("python -m pytest -m {lane} --no-cov -p no:cacheprovider");
    let job = |lane: &&str| {
        let install =
            format!("python -m venv /tmp/venv && . /tmp/venv/bin/activate && pip install --quiet -r {REQUIREMENTS}");
        let run = if environment { tests(lane) } else { format!("{install} && {}", tests(lane)) };
        json!({ "name": lane, "run": run, "timeout": "15m" })
    };
    let defaults = if environment {
        json!({ "environment": { "python": "3.11", "requirements": [REQUIREMENTS] } })
    } else {
        json!({ "image": PYTHON })
    };
    json!({
        "timeout": "20m", "repositoryRef": { "name": "timetracker" }, "defaults": defaults,
        "jobs": LANES.iter().map(job).collect::<Vec<_>>(),
    })
}

async fn run(stage: &Stage, pipeline: &str, name: &str, commit: &str) -> Took {
    let begun = Instant::now();
    let spec = json!({ "pipelineRef": { "name": pipeline }, "revision": { "commit": commit } });
    stage.create("PipelineRun", name, spec).await;
    let status = loop {
        assert!(begun.elapsed() < LIMIT, "{name} does not end");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let run = stage.api("PipelineRun").get(name).await.unwrap();
        if !run.data["status"]["completionTime"].is_null() {
            break run.data["status"].clone();
        }
    };
    let whole = begun.elapsed().as_secs_f64();
    let jobs = status["jobs"].as_array().unwrap();
    for lane in LANES {
        let job = jobs.iter().find(|job| job["name"] == lane).unwrap();
        assert_eq!(job["phase"], "Succeeded", "{status:#}");
    }
    let made = jobs.iter().find(|job| job["name"] == "environment");
    let environment = made.and_then(|job| job["seconds"].as_f64()).unwrap_or(0.0);
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let own = pods.list(&ListParams::default().labels(&format!("timetracker.dev/run={name}"))).await.unwrap();
    let lanes = own.iter().filter(|pod| {
        let job = pod.metadata.labels.as_ref().and_then(|labels| labels.get("timetracker.dev/job"));
        job.is_some_and(|job| LANES.contains(&job.as_str()))
    });
    Took { whole, environment, lanes: lanes.map(seconds).collect() }
}

/// From the pod's making to its command's end.
fn seconds(pod: &Pod) -> f64 {
    let status = pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap();
    let ended = status.iter().find(|container| container.name == "job").unwrap().state.as_ref().unwrap();
    let finished = ended.terminated.as_ref().unwrap().finished_at.as_ref().unwrap().0;
    finished.duration_since(pod.metadata.creation_timestamp.as_ref().unwrap().0).as_secs_f64()
}
