#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use k8s_openapi::api::core::v1::{Container, PodSpec};
use rstest::rstest;
use serde_json::{Value, json};

use super::super::definition::{Definition, ImageStore, Source};
use super::super::graph::{Graph, GraphError, Node};
use super::super::jobs::{self, Given, RunContext};
use super::super::parameters::{Refusal, accept};
use super::super::progress::CellView;
use super::super::result::JobResult;
use super::super::settings::Settings;
use super::*;
use crate::api::run::{JobPhase, PipelineRunSpec};
use crate::config::Artifacts;

const HASH: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn settings() -> Settings {
    let store = Artifacts { url: "http://store:8080".to_owned(), token_file: None };
    Settings { artifacts: Some(store), ..Settings::default() }
}

fn environment() -> Value {
    json!({"python": "3.11", "requirements": ["requirements.txt", "$(id).txt"]})
}

fn definition(pipeline: &Value) -> Definition {
    let source = Source {
        clone_url: "https://git.example.org/a.git".to_owned(),
        token_secret: Some("git".to_owned()),
        environments: None,
    };
    Definition { pipeline: serde_json::from_value(pipeline.clone()).unwrap(), source: Some(source) }
}

fn graph(pipeline: &Value) -> Graph {
    Graph::of(&definition(pipeline).pipeline).unwrap()
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes().iter().map(|node| node.spec.name.as_str()).collect()
}

fn node<'g>(graph: &'g Graph, name: &str) -> &'g Node {
    graph.nodes().iter().find(|node| node.spec.name == name).unwrap()
}

fn view(name: &str, outputs: &[(&str, &str)]) -> CellView {
    let outputs = outputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    CellView {
        name: name.to_owned(),
        position: 0,
        phase: JobPhase::Succeeded,
        message: None,
        job: Some(format!("run-{name}")),
        attempt: Some(1),
        result: Some(JobResult { outputs, ..JobResult::succeeded() }),
        forgiven: false,
        combines: false,
    }
}

/// The pod of the job of that name, when its environment was made for amd64.
fn pod(pipeline: &Value, name: &str) -> (PodSpec, String) {
    pod_with(pipeline, name, None, &[("platform", "amd64"), ("hash", HASH)])
}

/// The same in a repository whose images are there, when its environment has these outputs.
fn pod_with(pipeline: &Value, name: &str, images: Option<&str>, outputs: &[(&str, &str)]) -> (PodSpec, String) {
    let mut definition = definition(pipeline);
    if let (Some(images), Some(source)) = (images, &mut definition.source) {
        source.environments =
            Some(ImageStore { repository: images.to_owned(), secret: Some("push".to_owned()), retention: None });
    }
    let mut settings = settings();
    settings.registry.mirrors.insert("ghcr.io".to_owned(), "registry:5000".to_owned());
    settings.registry.plain_http.push("registry:5000".to_owned());
    let commit = "a".repeat(40).parse().unwrap();
    let run: PipelineRunSpec = serde_json::from_value(json!({"pipelineRef": {"name": "p"}})).unwrap();
    let parameters = std::collections::BTreeMap::new();
    let context = RunContext {
        event: "Manual",
        name: "run",
        namespace: "ns",
        uid: "uid",
        spec: &run,
        owner: None,
        definition: &definition,
        parameters: &parameters,
        commit: Some(&commit),
        settings: &settings,
        reused: None,
    };
    let graph = Graph::with(&definition.pipeline, images.is_some()).unwrap();
    let node = node(&graph, name);
    let before = [view("environment", outputs)];
    let now = "2026-11-23T15:00:00Z".parse().unwrap();
    let made = match node.environment {
        Role::Makes => job(&context, node, 1, None, now),
        Role::Publishes(_) => publish(&context, &graph, node, 1, &before, now),
        Role::None | Role::Uses(_) => {
            let given = Given { environment: Brought::of(&graph, node, &before), ..Given::default() };
            jobs::job(&context, node, node.cells.first().unwrap(), 1, &given)
        }
    };
    let text = serde_json::to_string(&made).unwrap();
    (made.spec.unwrap().template.spec.unwrap(), text)
}

fn containers(pod: &PodSpec) -> Vec<&Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers).collect()
}

fn variable<'c>(container: &'c Container, name: &str) -> Option<&'c str> {
    let found = container.env.iter().flatten().find(|variable| variable.name == name)?;
    found.value.as_deref()
}

fn holders(pod: &PodSpec, volume: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for container in containers(pod) {
        for mount in container.volume_mounts.iter().flatten().filter(|mount| mount.name == volume) {
            found.push((container.name.clone(), mount.read_only == Some(true)));
        }
    }
    found
}

#[test]
fn jobs_with_the_same_environment_share_one_job_in_front_of_them() {
    let other = json!({"python": "3.12", "requirements": ["requirements.txt"]});
    let pipeline = json!({
        "defaults": {"environment": environment()},
        "jobs": [
            {"name": "environment", "image": "x", "run": "true"},
            {"name": "unit", "run": "true", "needs": ["environment"],
             "matrix": {"axes": [{"name": "n", "values": ["1", "2"]}]}},
            {"name": "lint", "run": "true", "environment": environment()},
            {"name": "next", "run": "true", "environment": other},
        ],
        "finally": [{"name": "last", "run": "true"}],
    });
    let graph = graph(&pipeline);
    assert_eq!(names(&graph), ["environment-2", "environment-3", "environment", "unit", "lint", "next", "last"]);
    let role = |name: &str| node(&graph, name).environment;
    assert_eq!((role("environment"), role("environment-2")), (Role::None, Role::Makes));
    assert_eq!((role("unit"), role("lint"), role("last")), (Role::Uses(0), Role::Uses(0), Role::Uses(0)));
    assert_eq!(role("next"), Role::Uses(1));
    assert_eq!(node(&graph, "unit").needs, [2], "an environment is no need");
    assert_eq!(graph.cell_count(), 8);
}

#[test]
fn an_image_of_its_own_goes_before_the_default_environment() {
    let pipeline =
        json!({"defaults": {"environment": environment()}, "jobs": [{"name": "a", "image": "x", "run": "true"}]});
    assert_eq!(names(&graph(&pipeline)), ["a"]);
}

#[test]
fn an_environment_is_forgiven_only_if_all_that_use_it_are() {
    let job = |name: &str, forgiven: bool| json!({"name": name, "run": "true", "continueOnError": forgiven});
    for (jobs, forgiven) in [(json!([job("a", true), job("b", false)]), false), (json!([job("a", true)]), true)] {
        let graph = graph(&json!({"defaults": {"environment": environment()}, "jobs": jobs}));
        assert_eq!(graph.node(0).unwrap().spec.continue_on_error, forgiven);
    }
}

#[test]
fn environments_count_towards_no_limit_but_their_own() {
    let jobs: Vec<Value> =
        (0..128).map(|n| json!({"name": format!("j{n}"), "run": "true", "environment": environment()})).collect();
    assert_eq!(graph(&json!({ "jobs": jobs })).nodes().len(), 129);
    let jobs: Vec<Value> = (0..9)
        .map(|n| json!({"name": format!("j{n}"), "run": "true", "environment": {"python": "3.11", "requirements": [format!("r{n}.txt")]}}))
        .collect();
    let pipeline = definition(&json!({ "jobs": jobs })).pipeline;
    assert_eq!(Graph::of(&pipeline).unwrap_err(), GraphError::TooManyEnvironments);
}

#[test]
fn pip_runs_without_credentials_behind_the_container_that_names_its_work() {
    let secret = json!({"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
    let pipeline = json!({
        "defaults": {
            "environment": environment(),
            "env": [{"name": "PIP_INDEX_URL", "value": "https://pypi.example.org/$(x)"}, {"name": "PIP_TARGET", "value": "/x"},
                {"name": "FLASK_ENV", "value": "testing"}, secret,
                {"name": "PIP_EXTRA_INDEX_URL", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "services": [{"name": "db", "image": "db"}],
            "pod": {"serviceAccountName": "mighty", "nodeSelector": {"pool": "ci"},
                "volumes": [{"name": "v", "mountPath": "/v", "secret": {"secretName": "s"}}]},
        },
        "jobs": [{"name": "unit", "run": "true"}],
    });
    let (pod, text) = pod(&pipeline, "environment");
    let order: Vec<&str> = containers(&pod).into_iter().map(|container| container.name.as_str()).collect();
    assert_eq!(order, ["source", "environment", "collector", "job"]);
    let main = pod.containers.first().unwrap();
    assert_eq!(main.image.as_deref(), Some("docker.io/library/python:3.11-slim"));
    assert_eq!(variable(main, "REQUIREMENTS"), Some("requirements.txt\n$$(id).txt"));
    assert_eq!(variable(main, "PIP_INDEX_URL"), Some("https://pypi.example.org/$$(x)"));
    for absent in ["FLASK_ENV", "PIP_TARGET", "PIP_EXTRA_INDEX_URL", "TOKEN"] {
        assert_eq!(variable(main, absent), None, "{absent}");
    }
    assert!(main.env.iter().flatten().all(|variable| variable.value_from.is_none()));
    let identify = containers(&pod)[1].command.as_ref().unwrap().join(" ");
    assert!(identify.contains("--requirement=$$(id).txt --variable=PIP_INDEX_URL="), "{identify}");
    assert!(!text.contains("mighty") && !text.contains("\"secretName\"") && !text.contains("\"db\""), "{text}");
    assert_eq!(pod.node_selector.as_ref().unwrap()["pool"], "ci");
    assert_eq!(holders(&pod, VOLUME), [("environment".to_owned(), false), ("job".to_owned(), false)]);
    assert_eq!(holders(&pod, "timetracker-token"), [("collector".to_owned(), true)]);
    assert_eq!(holders(&pod, "timetracker-workspace")[1], ("environment".to_owned(), true));
}

#[test]
fn a_job_finds_its_environment_read_only_and_on_its_search_paths() {
    let pipeline = json!({
        "defaults": {"environment": environment(), "env": [{"name": "PYTHONPATH", "value": "src"}]},
        "jobs": [{"name": "unit", "run": "pytest"}],
    });
    let (pod, _) = pod(&pipeline, "unit");
    let order: Vec<&str> = containers(&pod).into_iter().map(|container| container.name.as_str()).collect();
    assert_eq!(order, ["source", "environment", "collector", "job"]);
    let main = pod.containers.first().unwrap();
    assert_eq!(main.image.as_deref(), Some("docker.io/library/python:3.11-slim"));
    assert_eq!(variable(main, "PYTHONPATH"), Some("src:/timetracker/environment"));
    let path = "/timetracker/environment/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(variable(main, "PATH"), Some(path));
    let bring = containers(&pod)[1].command.as_ref().unwrap().join(" ");
    assert!(bring.contains("unpack --dest /timetracker/environment --store http://store:8080"), "{bring}");
    assert!(bring.contains("--run run --job run-environment --artifact environment"), "{bring}");
    assert_eq!(holders(&pod, VOLUME), [("environment".to_owned(), false), ("job".to_owned(), true)]);
    assert_eq!(holders(&pod, "timetracker-read-token"), [("environment".to_owned(), true)]);
    assert_eq!(pod.node_selector.as_ref().unwrap()["kubernetes.io/arch"], "amd64");
}

#[test]
fn a_job_without_checkout_has_its_environment_too() {
    let pipeline =
        json!({"jobs": [{"name": "plain", "run": "x", "checkout": {"enabled": false}, "environment": environment()}]});
    let (pod, _) = pod(&pipeline, "plain");
    let order: Vec<&str> = containers(&pod).into_iter().map(|container| container.name.as_str()).collect();
    assert_eq!(order, ["environment", "job"]);
}

#[test]
fn a_step_that_reads_artifacts_shares_the_token_and_no_main_container_has_it() {
    let pipeline = json!({
        "defaults": {"environment": environment()},
        "jobs": [{"name": "unit", "run": "pytest", "reports": ["Coverage"]}],
        "finally": [{"name": "total", "coverageReport": {"threshold": 50}}],
    });
    let definition = definition(&pipeline);
    let run =
        serde_json::from_value(json!({"pipelineRef": {"name": "p"}, "revision": {"commit": "a".repeat(40)}})).unwrap();
    let accepted = accept(&definition, &run, &settings()).unwrap();
    assert_eq!(node(&accepted.graph, "total").environment, Role::Uses(0));
    let mut volumes = Vec::new();
    super::super::inputs::add_token(&mut volumes);
    super::super::inputs::add_token(&mut volumes);
    assert_eq!(volumes.len(), 1);
}

fn refused(pipeline: &Value, settings: &Settings, source: bool) -> Refusal {
    let mut definition = definition(pipeline);
    if !source {
        definition.source = None;
    }
    let run =
        serde_json::from_value(json!({"pipelineRef": {"name": "p"}, "revision": {"commit": "a".repeat(40)}})).unwrap();
    accept(&definition, &run, settings).unwrap_err()
}

#[test]
fn what_an_environment_needs_is_asked_for_before_the_first_job() {
    let pipeline = json!({"jobs": [{"name": "a", "run": "x", "environment": environment()}]});
    let storeless = refused(&pipeline, &Settings::default(), true).to_string();
    assert!(storeless.contains("`a`: environment") && storeless.contains("artifacts.url"), "{storeless}");
    let sourceless = refused(&pipeline, &settings(), false).to_string();
    assert!(sourceless.contains("no repositoryRef"), "{sourceless}");
    let pipeline = json!({"jobs": [{"name": "a", "run": "x", "environment": environment()}]});
    let definition = definition(&pipeline);
    let run = serde_json::from_value(json!({"pipelineRef": {"name": "p"}})).unwrap();
    let revision = accept(&definition, &run, &settings()).unwrap_err();
    assert_eq!(revision.reason(), "RevisionMissing");
}

#[rstest]
#[case(json!({"python": "3.11; rm", "requirements": ["a"]}), "environment.python")]
#[case(json!({"python": "2.7", "requirements": ["a"]}), "environment.python")]
#[case(json!({"python": "3.11", "requirements": []}), "environment.requirements")]
#[case(json!({"python": "3.11", "requirements": ["../../etc/passwd"]}), "inside the repository")]
#[case(json!({"python": "3.11", "requirements": ["/etc/passwd"]}), "inside the repository")]
#[case(json!({"python": "3.11", "requirements": ["-x"]}), "inside the repository")]
#[case(json!({"python": "3.11", "requirements": ["a\n--index-url=x"]}), "inside the repository")]
fn odd_environments_are_refused(#[case] environment: Value, #[case] why: &str) {
    let pipeline = json!({"jobs": [{"name": "a", "run": "x", "environment": environment}]});
    let error = refused(&pipeline, &settings(), true).to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn an_upload_with_a_token_never_runs_what_the_repository_names() {
    let upload = |environment: Value| {
        json!({"defaults": {"environment": environment}, "jobs": [
            {"name": "unit", "image": "x", "run": "x", "reports": ["Coverage"]},
            {"name": "upload", "needs": ["unit"], "codecovUpload": {}},
        ]})
    };
    let mut own = upload(Value::Null);
    own["jobs"][1]["environment"] = environment();
    assert!(refused(&own, &settings(), true).to_string().contains("must not see the token"));
    let inherited = refused(&upload(environment()), &settings(), true).to_string();
    assert!(inherited.contains("names an image"), "{inherited}");
}

const IMAGES: &str = "ghcr.io/o/app-environment";

fn simple() -> Value {
    json!({"defaults": {"environment": environment()}, "jobs": [{"name": "unit", "run": "pytest"}]})
}

#[test]
fn without_a_registry_nothing_is_published() {
    assert_eq!(names(&graph(&simple())), ["environment", "unit"]);
    let published = Graph::with(&definition(&simple()).pipeline, true).unwrap();
    assert_eq!(names(&published), ["environment", "unit", "environment-publish"]);
    let last = node(&published, "environment-publish");
    assert_eq!((last.environment, last.needs.as_slice()), (Role::Publishes(0), [0].as_slice()));
    assert!(last.spec.continue_on_error);
}

#[test]
fn the_credentials_of_the_registry_are_only_where_nothing_but_the_agent_runs() {
    let (pod, _) = pod_with(&simple(), "environment", Some(IMAGES), &[]);
    assert_eq!(holders(&pod, "timetracker-registry"), [("environment".to_owned(), true)]);
    let identify = containers(&pod)[1];
    let words = identify.command.as_ref().unwrap().join(" ");
    for part in [
        "--images=ghcr.io/o/app-environment --week=2968 --weeks=2",
        "--mirror=ghcr.io=registry:5000",
        "--plain-http=registry:5000",
        "--docker-config=/timetracker/registry/config.json",
        "--known /timetracker/environment/.known",
    ] {
        assert!(words.contains(part), "{words}");
    }
    let volume = pod.volumes.as_ref().unwrap().iter().find(|volume| volume.name == "timetracker-registry").unwrap();
    assert_eq!(volume.secret.as_ref().unwrap().optional, Some(true), "without it, it is installed");

    let outputs = [("platform", "arm64"), ("hash", HASH)];
    let (pod, text) = pod_with(&simple(), "environment-publish", Some(IMAGES), &outputs);
    assert!(pod.init_containers.is_none());
    let main = pod.containers.first().unwrap();
    assert_eq!(main.image.as_deref(), Some(Settings::default().images.agent.as_str()), "the agent's own image");
    let words = main.command.as_ref().unwrap().join(" ");
    for part in [
        "environment publish",
        HASH,
        "--platform arm64",
        "--base docker.io/library/python:3.11-slim",
        "--job run-environment --artifact environment",
    ] {
        assert!(words.contains(part), "{words}");
    }
    assert_eq!(holders(&pod, "timetracker-registry"), [("job".to_owned(), true)]);
    assert!(!text.contains("/bin/sh"), "{text}");
}

#[test]
fn an_image_that_is_there_is_used_as_it_is() {
    let image = format!("{IMAGES}@{HASH}");
    let outputs = [("platform", "amd64"), ("hash", HASH), ("image", image.as_str())];
    let (pod, _) = pod_with(&simple(), "unit", Some(IMAGES), &outputs);
    let order: Vec<&str> = containers(&pod).into_iter().map(|container| container.name.as_str()).collect();
    assert_eq!(order, ["source", "collector", "job"], "nothing is brought");
    let main = pod.containers.first().unwrap();
    assert_eq!(main.image.as_deref(), Some(image.as_str()));
    assert_eq!(variable(main, "PYTHONPATH"), Some("/timetracker/environment"));
    assert_eq!(pod.image_pull_secrets.as_ref().unwrap()[0].name, "push");
    assert_eq!(holders(&pod, "timetracker-registry"), []);
}
