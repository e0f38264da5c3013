#![allow(clippy::unwrap_used)]

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use super::super::definition::{Definition, Source};
use super::super::settings::TrustedCa;
use super::*;
use crate::config::Artifacts;

struct Made {
    job: Job,
    text: String,
}

fn made(pipeline: Value, run: Value, settings: &Settings) -> Made {
    let source = Source {
        clone_url: "http://git.example.org/a$(b).git".to_owned(),
        token_secret: Some("git".to_owned()),
        environments: None,
    };
    let definition = Definition { pipeline: serde_json::from_value(pipeline).unwrap(), source: Some(source) };
    let spec: PipelineRunSpec = serde_json::from_value(run).unwrap();
    let parameters = spec.params.iter().map(|param| (param.name.clone(), param.value.clone())).collect();
    let commit = "a".repeat(40).parse().unwrap();
    let context = RunContext {
        name: "run",
        namespace: "ns",
        uid: "uid",
        spec: &spec,
        owner: None,
        definition: &definition,
        parameters: &parameters,
        event: "Manual",
        commit: Some(&commit),
        settings,
        reused: None,
    };
    let graph = Graph::of(&definition.pipeline).unwrap();
    let node = graph.node(0).unwrap();
    let job = job(&context, node, node.cells.first().unwrap(), 1, &Given::default());
    let text = serde_json::to_string(&job).unwrap();
    Made { job, text }
}

fn pod(made: &Made) -> &PodSpec {
    made.job.spec.as_ref().unwrap().template.spec.as_ref().unwrap()
}

fn names_of(containers: Option<&Vec<Container>>) -> Vec<&str> {
    containers.into_iter().flatten().map(|container| container.name.as_str()).collect()
}

const HOSTILE: &str = "x; $(id) $$ ${HOME} `id`\n\"'";

#[test]
fn a_job_that_asks_for_nothing_is_one_plain_container() {
    let pipeline = json!({"jobs": [{"name": "a", "image": "busybox", "run": "echo $(date)", "checkout": {"enabled": false}, "timeout": "90s"}]});
    let made = made(pipeline, json!({"pipelineRef": {"name": "p"}}), &Settings::default());
    let pod = pod(&made);
    assert!(pod.init_containers.is_none());
    assert_eq!(pod.active_deadline_seconds, Some(690));
    let template = made.job.spec.as_ref().unwrap().template.metadata.as_ref().unwrap();
    let script = template.annotations.as_ref().unwrap().get(names::SCRIPT_ANNOTATION).unwrap();
    assert_eq!(script, "echo $(date)", "the script is data that nothing expands");
    let command = pod.containers.first().unwrap().command.as_ref().unwrap();
    assert_eq!(command, &["/bin/sh", "-e", "/timetracker/script/run.sh"]);
}

/// Containers that get anything of the Secret with the repository's token.
fn holders(made: &Made) -> Vec<&str> {
    let pod = pod(made);
    let all = pod.init_containers.iter().flatten().chain(&pod.containers);
    let of_repository = |container: &&Container| {
        let text = serde_json::to_string(container).unwrap();
        text.contains("SOURCE_TOKEN") || text.contains(r#""secretKeyRef":{"key":"token","name":"git""#)
    };
    all.filter(of_repository).map(|container| container.name.as_str()).collect()
}

#[test]
fn the_repositorys_token_reaches_only_the_container_that_fetches() {
    let pipeline = json!({"jobs": [{"name": "a", "image": "python:3.11-slim", "run": "pytest", "reports": ["JUnit"],
        "services": [{"name": "postgres", "postgres": {"version": "16"}}]}]});
    let made = made(pipeline, json!({"pipelineRef": {"name": "p"}}), &Settings::default());
    assert_eq!(holders(&made), ["source"]);
    let volumes = serde_json::to_string(&pod(&made).volumes).unwrap();
    assert!(!volumes.contains(r#""git""#), "{volumes}");
    let pipeline = json!({"jobs": [{"name": "a", "image": "busybox", "run": "true", "checkout": {"enabled": false}}]});
    let without = self::made(pipeline, json!({"pipelineRef": {"name": "p"}}), &Settings::default());
    assert!(holders(&without).is_empty(), "nothing is fetched");
}

#[test]
fn an_agent_pod_has_source_services_and_the_collector_last() {
    let pipeline = json!({"jobs": [{"name": "a", "image": "python:3.11-slim", "run": "pytest", "reports": ["JUnit"],
        "services": [{"name": "postgres", "postgres": {"version": "16"}}]}]});
    let made = made(pipeline, json!({"pipelineRef": {"name": "p"}}), &Settings::default());
    let pod = pod(&made);
    assert_eq!(names_of(pod.init_containers.as_ref()), ["source", "postgres", "collector"]);
    let sidecars: Vec<_> =
        pod.init_containers.iter().flatten().map(|container| container.restart_policy.as_deref()).collect();
    assert_eq!(sidecars, [None, Some("Always"), Some("Always")]);
    assert!(made.text.contains("postgresql://timetracker:timetracker@localhost:5432/timetracker"));
    let limit = &pod.init_containers.as_ref().unwrap().get(1).unwrap().resources.as_ref().unwrap().limits;
    assert_eq!(limit.as_ref().unwrap().get("memory").unwrap().0, (512u64 << 20).to_string());
}

fn with_a_store() -> Settings {
    let store = Artifacts { url: "http://store".to_owned(), token_file: None };
    Settings { artifacts: Some(store), ..Settings::default() }
}

fn command_of(pod: &PodSpec, name: &str) -> String {
    let mut all = pod.containers.iter().chain(pod.init_containers.iter().flatten());
    all.find(|container| container.name == name).unwrap().command.clone().unwrap_or_default().join(" ")
}

#[test]
fn the_log_of_every_pod_with_the_agent_is_kept_where_there_is_a_store() {
    let checked_out = json!({"jobs": [{"name": "a", "image": "x", "run": "flake8"}]});
    let run = json!({"pipelineRef": {"name": "p"}});
    let kept = made(checked_out.clone(), run.clone(), &with_a_store());
    assert_eq!(names_of(pod(&kept).init_containers.as_ref()), ["source", "collector"]);
    let collector = command_of(pod(&kept), "collector");
    assert!(collector.contains("--logs /timetracker/logs --store http://store"), "{collector}");
    assert!(!collector.contains("--reports") && !collector.contains("--outputs"), "{collector}");
    let lost = made(checked_out, run.clone(), &Settings::default());
    assert_eq!(names_of(pod(&lost).init_containers.as_ref()), ["source"]);
    let plain = json!({"jobs": [{"name": "a", "image": "x", "run": "true", "checkout": {"enabled": false}}]});
    let plain = made(plain, run, &with_a_store());
    assert!(pod(&plain).init_containers.is_none(), "a job that asks for nothing stays one plain container");
}

#[test]
fn the_log_of_a_postgres_is_kept_where_there_is_a_store() {
    let pipeline = json!({"jobs": [{"name": "a", "image": "x", "run": "pytest", "timeout": "90s", "services": [
        {"name": "db", "postgres": {"version": "16"}}, {"name": "redis", "image": "redis:7", "port": 6379}]}]});
    let run = json!({"pipelineRef": {"name": "p"}});
    let kept = made(pipeline.clone(), run.clone(), &with_a_store());
    let server = command_of(pod(&kept), "db");
    let agent = "/timetracker/bin/timetracker-agent --termination-message /dev/null exec --timeout 1290s --grace 20s \
                 --log-dir /timetracker/service-logs/db -- /bin/sh -c docker-entrypoint.sh postgres";
    assert!(server.starts_with(agent), "{server}");
    let collector = command_of(pod(&kept), "collector");
    assert_eq!(collector.matches("--service-log").count(), 1, "another image's command is not known");
    assert!(collector.contains("--service-log db=/timetracker/service-logs/db"), "{collector}");
    let sees = |container: &&Container| {
        container.volume_mounts.iter().flatten().any(|mount| mount.name == "timetracker-service-logs")
    };
    let containers = pod(&kept).containers.iter().chain(pod(&kept).init_containers.iter().flatten());
    let seeing: Vec<&str> = containers.filter(sees).map(|container| container.name.as_str()).collect();
    assert_eq!(seeing, ["db", "collector"], "the job's command can't change it");
    let lost = made(pipeline, run, &Settings::default());
    assert!(command_of(pod(&lost), "db").starts_with("/bin/sh -c docker-entrypoint.sh"));
}

#[test]
fn a_result_waits_for_the_collector_only_where_it_decides_something() {
    let pipeline = json!({"jobs": [{"name": "a", "image": "x", "run": "true"},
        {"name": "b", "image": "x", "run": "true", "reports": ["SARIF"]}]});
    let definition = Definition { pipeline: serde_json::from_value(pipeline).unwrap(), source: None };
    let spec: PipelineRunSpec = serde_json::from_value(json!({"pipelineRef": {"name": "p"}})).unwrap();
    let (parameters, settings) = (Parameters::new(), with_a_store());
    let context = RunContext {
        name: "run",
        namespace: "ns",
        uid: "uid",
        spec: &spec,
        owner: None,
        definition: &definition,
        parameters: &parameters,
        event: "Manual",
        commit: None,
        settings: &settings,
        reused: None,
    };
    let graph = Graph::of(&definition.pipeline).unwrap();
    let waits: Vec<bool> = [0, 1].map(|place| context.expectations(graph.node(place).unwrap()).collector).into();
    assert_eq!(waits, [false, true]);
}

#[test]
fn agent_and_collector_both_know_how_often_failed_tests_run_again() {
    let words = |retries: Value| {
        let pipeline =
            json!({"jobs": [{"name": "a", "image": "x", "run": "pytest", "reports": ["JUnit"], "retries": retries}]});
        let made = made(pipeline, json!({"pipelineRef": {"name": "p"}}), &Settings::default());
        let spec = pod(&made);
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        containers.flat_map(|container| container.command.clone().unwrap_or_default()).collect::<Vec<_>>().join(" ")
    };
    let twice = words(json!({"failedTests": 2}));
    assert!(twice.contains("--rerun-failed-tests 2 --") && twice.contains("--reruns 2"), "{twice}");
    let never = words(json!({"failure": 1}));
    assert!(!never.contains("rerun"), "{never}");
}

#[test]
fn hostile_values_reach_the_command_as_they_are() {
    let pipeline = json!({"params": [{"name": "branch"}], "jobs": [{"name": "a", "image": "x", "run": "true",
        "env": [{"name": "E", "value": HOSTILE}], "matrix": {"axes": [{"name": "m", "values": [HOSTILE]}]}}]});
    let run = json!({"pipelineRef": {"name": "p"}, "params": [{"name": "branch", "value": HOSTILE}]});
    let made = made(pipeline, run, &Settings::default());
    let env = pod(&made).containers.first().unwrap().env.as_ref().unwrap();
    for name in ["E", "MATRIX_M", "PARAM_BRANCH"] {
        let value = env.iter().find(|variable| variable.name == name).unwrap().value.as_ref().unwrap();
        assert_eq!(value.replace("$$", "$"), HOSTILE, "what kubelet makes of it");
    }
    for container in pod(&made).containers.iter().chain(pod(&made).init_containers.iter().flatten()) {
        for word in container.command.iter().chain(container.args.iter()).flatten() {
            assert!(!word.replace("$$", "").contains("$("), "kubelet would expand {word}");
        }
    }
}

#[test]
fn every_container_is_restricted_and_bounded() {
    let pipeline = json!({"jobs": [{"name": "a", "image": "x", "run": "true", "artifacts": [{"name": "o", "path": "out/"}],
        "services": [{"name": "redis", "image": "redis:7", "port": 6379}, {"name": "postgres", "postgres": {"version": "16"}}]}]});
    let made = made(pipeline, json!({"pipelineRef": {"name": "p"}}), &Settings::default());
    let pod = pod(&made);
    assert_eq!(pod.automount_service_account_token, Some(false));
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        let security = container.security_context.as_ref().unwrap();
        assert_eq!(security.allow_privilege_escalation, Some(false), "{}", container.name);
        let resources = container.resources.as_ref().unwrap();
        assert!(resources.requests.as_ref().unwrap().contains_key("memory"), "{}", container.name);
        assert!(resources.limits.as_ref().unwrap().contains_key("memory"), "{}", container.name);
        let disk = |given: &Option<BTreeMap<String, Quantity>>| given.as_ref()?.get("ephemeral-storage").cloned();
        if container.name == MAIN {
            assert_eq!(disk(&resources.requests), Some(Quantity("64Mi".to_owned())));
            assert_eq!(disk(&resources.limits), Some(Quantity("10Gi".to_owned())));
        }
    }
}

#[test]
fn only_the_collector_sees_the_stores_token() {
    let pipeline =
        json!({"jobs": [{"name": "a", "image": "x", "run": "true", "artifacts": [{"name": "o", "path": "out/"}]}]});
    let made = made(pipeline, json!({"pipelineRef": {"name": "p"}}), &with_a_store());
    let pod = pod(&made);
    let holders: Vec<&str> = pod
        .containers
        .iter()
        .chain(pod.init_containers.iter().flatten())
        .filter(|container| container.volume_mounts.iter().flatten().any(|mount| mount.name == "timetracker-token"))
        .map(|container| container.name.as_str())
        .collect();
    assert_eq!(holders, ["collector"]);
}

#[test]
fn a_pull_requests_pod_has_no_account_no_claims_and_no_secret_volumes() {
    let options = json!({"serviceAccountName": "deployer", "volumes": [
        {"name": "s", "mountPath": "/s", "secret": {"secretName": "s"}},
        {"name": "c", "mountPath": "/c", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "e", "mountPath": "/e", "emptyDir": {}}]});
    let pipeline = json!({"jobs": [{"name": "a", "image": "x", "run": "true", "pod": options}]});
    let run = json!({"pipelineRef": {"name": "p"},
        "revision": {"commit": "a".repeat(40), "pullRequest": {"number": 7, "base": "main"}}});
    let made = made(pipeline, run, &Settings::default());
    let pod = pod(&made);
    assert_eq!(pod.service_account_name, None);
    let kept: Vec<&str> = pod
        .volumes
        .iter()
        .flatten()
        .filter(|volume| volume.name.starts_with("user-"))
        .map(|volume| volume.name.as_str())
        .collect();
    assert_eq!(kept, ["user-e"]);
}

#[test]
fn the_trusted_authorities_reach_every_tool() {
    let settings = Settings { trusted_ca: Some(TrustedCa::of("pem".to_owned())), ..Settings::default() };
    let pipeline = json!({"jobs": [{"name": "a", "image": "x", "run": "true"}]});
    let made = made(pipeline, json!({"pipelineRef": {"name": "p"}}), &settings);
    for name in ["SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"] {
        assert!(made.text.contains(name), "{name}");
    }
    assert!(made.text.contains(names::TRUST_CONFIG_MAP));
}

#[test]
fn a_users_labels_do_not_win_over_the_operators() {
    let options =
        json!({"labels": {names::RUN_LABEL: "stolen", "team": "a"}, "annotations": {names::SCRIPT_ANNOTATION: "evil"}});
    let pipeline = json!({"jobs": [{"name": "a", "image": "x", "run": "true", "pod": options}]});
    let made = made(pipeline, json!({"pipelineRef": {"name": "p"}}), &Settings::default());
    let template = made.job.spec.as_ref().unwrap().template.metadata.as_ref().unwrap();
    assert_eq!(template.labels.as_ref().unwrap().get(names::RUN_LABEL).unwrap(), "run");
    assert_eq!(template.labels.as_ref().unwrap().get("team").unwrap(), "a");
    assert_eq!(template.annotations.as_ref().unwrap().get(names::SCRIPT_ANNOTATION).unwrap(), "true");
}

#[test]
fn pods_have_the_configured_priority_unless_the_pipeline_names_another() {
    let settings = Settings { priority_class_name: Some("timetracker-ci".to_owned()), ..Settings::default() };
    let made = |pod_options: Value, settings: &Settings| {
        let pipeline = json!({"jobs": [{"name": "a", "image": "x", "run": "true", "pod": pod_options}]});
        pod(&made(pipeline, json!({"pipelineRef": {"name": "p"}}), settings)).priority_class_name.clone()
    };
    assert_eq!(made(json!({}), &settings).as_deref(), Some("timetracker-ci"));
    assert_eq!(made(json!({"priorityClassName": "high"}), &settings).as_deref(), Some("high"));
    assert_eq!(made(json!({}), &Settings::default()), None);
}

#[test]
fn only_a_job_that_names_an_account_may_reach_the_api_server() {
    let label = |pod_options: Value| {
        let pipeline = json!({"jobs": [{"name": "a", "image": "x", "run": "true", "pod": pod_options}]});
        let made = made(pipeline, json!({"pipelineRef": {"name": "p"}}), &Settings::default());
        let template = made.job.spec.unwrap().template.metadata.unwrap();
        template.labels.unwrap().get(names::API_LABEL).cloned()
    };
    assert_eq!(label(json!({})).as_deref(), Some("false"));
    assert_eq!(label(json!({"labels": {names::API_LABEL: "true"}})).as_deref(), Some("false"));
    assert_eq!(label(json!({"serviceAccountName": "deployer"})).as_deref(), Some("true"));
}
