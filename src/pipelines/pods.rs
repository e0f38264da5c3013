//! The containers and volumes of job pods.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource, EnvVar, ObjectFieldSelector,
    ProjectedVolumeSource, ResourceRequirements, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::environment::{literal, network, secret};
use super::failure::{COLLECTOR, MAIN, SOURCE};
use super::jobs::{RunContext, needs_collector};
use super::names;
use super::services;
use super::settings::Settings;
use super::steps::Step;
use crate::api::job::{History, JobSpec, ReportKind, ServiceSpec};
use crate::api::marks::POD_NET_SECONDS;
use crate::api::pod::PodOptions;
use crate::workload::{self, escape_env, restricted_container};

/// The working directory.
pub const WORKSPACE: &str = "/workspace";
/// The resource that is the node's disk.
const DISK: &str = "ephemeral-storage";
/// How much of it a job asks for, and may use, if it does not say.
const DISK_REQUEST: &str = "64Mi";
const DISK_LIMIT: &str = "10Gi";
/// `HOME`.
pub const HOME: &str = "/timetracker/home";
/// `REPORTS`.
pub const REPORTS: &str = "/timetracker/reports";
/// `OUTPUTS`.
pub const OUTPUTS_FILE: &str = "/timetracker/outputs/outputs";
const OUTPUTS: &str = "/timetracker/outputs";
const LOGS: &str = "/timetracker/logs";
/// Where the agent puts its plugins for pytest, which tell the tests' markers and which tests failed.
const PYTEST_PLUGINS: &str = "/timetracker/home/.timetracker/pytest";
const BIN: &str = "/timetracker/bin";
/// The agent in pods of jobs, where [`source`] has put it.
const INSTALLED_AGENT: &str = "/timetracker/bin/timetracker-agent";
/// Where logs of services are kept, each in a folder of its name.
const SERVICE_LOGS: &str = "/timetracker/service-logs";
const SERVICE_LOGS_VOLUME: &str = "timetracker-service-logs";
/// Where the script is mounted.
pub const SCRIPT_DIRECTORY: &str = "/timetracker/script";
/// The script's file name.
pub const SCRIPT_FILE: &str = "run.sh";
const TOKEN_DIRECTORY: &str = "/timetracker/token";
/// What a pod may live longer than its command's timeout.
pub const NET: Duration = Duration::from_secs(POD_NET_SECONDS);
/// The agent in the agent's own image.
pub const AGENT: &str = "timetracker-agent";

/// Words of a command as kubelet must be told them.
#[must_use]
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| escape_env(word)).collect()
}

/// The command of a pod without the agent.
#[must_use]
pub fn plain_command() -> Vec<String> {
    words(&["/bin/sh", "-e", "/timetracker/script/run.sh"])
}

/// The command of a pod with the agent, which counts the timeout from the command's start.
#[must_use]
pub fn agent_command(timeout: Duration, job: &JobSpec) -> Vec<String> {
    let timeout = format!("{}s", timeout.as_secs().max(1));
    let mut command = words(&[INSTALLED_AGENT, "exec", "--timeout", &timeout, "--grace", "20s", "--log-dir", LOGS]);
    if job.reports.contains(&ReportKind::JUnit) {
        command.extend(words(&["--pytest-plugins", PYTEST_PLUGINS]));
        if job.test_reruns() > 0 {
            command.extend(words(&["--rerun-failed-tests", &job.test_reruns().to_string()]));
        }
    }
    command.extend(words(&["--", "/bin/sh", "-e", "/timetracker/script/run.sh"]));
    command
}

/// The init container that fetches the commit, or only brings the agent.
#[must_use]
pub fn source(run: &RunContext<'_>, job: &JobSpec) -> Container {
    let mut mounts = vec![mount("timetracker-bin", BIN), mount("timetracker-home", HOME)];
    let mut command = vec![AGENT.to_owned()];
    let mut env = vec![literal("HOME", HOME)];
    match (&run.definition.source, run.commit) {
        (Some(source), Some(commit)) if run.definition.checks_out(job) => {
            let history = job.checkout.as_ref().and_then(|checkout| checkout.history).unwrap_or_default();
            let history = match history {
                History::Commit => "commit",
                History::Full => "full",
            };
            command.extend(words(&["source", "--url", &source.clone_url, "--commit", commit.as_str()]));
            command.extend(words(&["--history", history, "--dest", WORKSPACE, "--install", BIN]));
            command.extend(Step::of(job).map(|step| step.source_arguments(run)).unwrap_or_default());
            env.extend(network(run.settings));
            env.extend(source.token_secret.as_ref().map(|name| secret("SOURCE_TOKEN", name, "token")));
            mounts.push(mount("timetracker-workspace", WORKSPACE));
            mounts.extend(trust_mount(run.settings));
        }
        (Some(_) | None, Some(_) | None) => command.extend(words(&["install", BIN])),
    }
    agent_container(SOURCE, run.settings, command, env, mounts, "512Mi")
}

/// The container that reads which commit a branch or tag names.
#[must_use]
pub fn resolver(run: &RunContext<'_>) -> Container {
    let mut command = vec![AGENT.to_owned()];
    let mut env = network(run.settings);
    if let Some(source) = &run.definition.source {
        command.extend(words(&["resolve", "--url", &source.clone_url]));
        env.extend(source.token_secret.as_ref().map(|name| secret("SOURCE_TOKEN", name, "token")));
    }
    if let Some(revision) = &run.spec.revision {
        for (option, value) in [("--branch", &revision.branch), ("--tag", &revision.tag)] {
            command.extend(value.iter().map(|value| escape_env(&format!("{option}={value}"))));
        }
    }
    let mounts = trust_mount(run.settings).into_iter().collect();
    agent_container(MAIN, run.settings, command, env, mounts, "256Mi")
}

/// The service's container, its command run by the agent, which keeps head and tail of what it prints.
#[must_use]
pub fn logged(service: Container, timeout: Duration) -> Container {
    // Its own end is the pod's: this only has to be later.
    let timeout = format!("{}s", (timeout + NET + NET).as_secs());
    let directory = format!("{SERVICE_LOGS}/{}", service.name);
    // No report of the agent's as its last words: kubelet then takes those of the log.
    let mut command = words(&[INSTALLED_AGENT, "--termination-message", "/dev/null", "exec", "--timeout", &timeout]);
    command.extend(words(&["--grace", "20s", "--log-dir", &directory, "--"]));
    command.extend(service.command.unwrap_or_default());
    let mut mounts = service.volume_mounts.unwrap_or_default();
    mounts.extend([read_only(mount("timetracker-bin", BIN)), mount(SERVICE_LOGS_VOLUME, SERVICE_LOGS)]);
    Container { command: Some(command), volume_mounts: Some(mounts), ..service }
}

/// The sidecar that reads reports, outputs and artifacts when the command has ended, and keeps its log.
///
/// `attempt` is the name of the Kubernetes Job: the store's paths are by it, so that no attempt overwrites another's.
#[must_use]
pub fn collector(run: &RunContext<'_>, job: &JobSpec, attempt: &str, beside: &[ServiceSpec]) -> Container {
    let mut command = vec![AGENT.to_owned()];
    command.extend(words(&["collect", "--logs", LOGS]));
    if needs_collector(job) {
        command.extend(words(&["--reports", REPORTS, "--outputs", OUTPUTS_FILE]));
    }
    if job.test_reruns() > 0 {
        command.extend(words(&["--reruns", &job.test_reruns().to_string()]));
    }
    for artifact in &job.artifacts {
        let path = format!("{}={WORKSPACE}/{}", artifact.name, artifact.path.trim_start_matches("./"));
        command.extend(words(&["--artifact", &path]));
    }
    for output in &job.outputs {
        command.extend(words(&["--output", output]));
    }
    let mut mounts = vec![
        read_only(mount("timetracker-reports", REPORTS)),
        read_only(mount("timetracker-outputs", OUTPUTS)),
        read_only(mount("timetracker-logs", LOGS)),
        read_only(mount("timetracker-workspace", WORKSPACE)),
    ];
    let mut env = Vec::new();
    if let Some(store) = &run.settings.artifacts {
        command.extend(words(&["--store", &store.url, "--token-file", "/timetracker/token/token"]));
        let place = ["--namespace", run.namespace, "--run", run.name, "--job", attempt, "--job-name", &job.name];
        command.extend(words(&place));
        mounts.push(read_only(mount("timetracker-token", TOKEN_DIRECTORY)));
        for service in beside.iter().filter(|service| services::keeps_log(service, run.settings)) {
            command.extend(words(&["--service-log", &format!("{0}={SERVICE_LOGS}/{0}", service.name)]));
        }
        if services::keep_logs(beside, run.settings) {
            mounts.push(read_only(mount(SERVICE_LOGS_VOLUME, SERVICE_LOGS)));
        }
        mounts.extend(trust_mount(run.settings));
        env = network(run.settings);
    }
    let container = agent_container(COLLECTOR, run.settings, command, env, mounts, "256Mi");
    Container { restart_policy: Some("Always".to_owned()), ..container }
}

/// A container of the agent's own image.
#[must_use]
pub fn agent_container(
    name: &str,
    settings: &Settings,
    command: Vec<String>,
    env: Vec<EnvVar>,
    mounts: Vec<VolumeMount>,
    memory: &str,
) -> Container {
    restricted_container(Container {
        name: name.to_owned(),
        image: Some(settings.images.agent.clone()),
        command: Some(command),
        env: (!env.is_empty()).then_some(env),
        resources: Some(resources(None, "10m", "16Mi", memory)),
        volume_mounts: Some(mounts),
        ..Container::default()
    })
}

/// Requests and limits: what is given, and defaults for cpu and memory where nothing is.
#[must_use]
pub fn resources(given: Option<&ResourceRequirements>, cpu: &str, memory: &str, limit: &str) -> ResourceRequirements {
    let mut resources = given.cloned().unwrap_or_default();
    let own = resources.limits.as_ref().and_then(|limits| limits.get("cpu").cloned());
    let requests = resources.requests.get_or_insert_default();
    requests.entry("cpu".to_owned()).or_insert_with(|| own.unwrap_or(Quantity(cpu.to_owned())));
    bound(&mut resources, "memory", memory, limit);
    resources
}

/// The same for the container with a job's command, with a bound for the node's disk too: kubelet evicts the pod that
/// fills it, and not its neighbours. It counts the whole pod: what containers write, their logs, and volumes that go
/// with it.
#[must_use]
pub fn job_resources(given: Option<&ResourceRequirements>) -> ResourceRequirements {
    let mut resources = resources(given, "50m", "64Mi", "1Gi");
    bound(&mut resources, DISK, DISK_REQUEST, DISK_LIMIT);
    resources
}

/// Fills request and limit of one resource in. One that is given stands for the other: a limit below the job's own request
/// would be refused.
fn bound(resources: &mut ResourceRequirements, name: &str, request: &str, limit: &str) {
    let (requests, limits) = (resources.requests.get_or_insert_default(), resources.limits.get_or_insert_default());
    let given = (requests.get(name).cloned(), limits.get(name).cloned());
    let (default_request, default_limit) = match given {
        (None, None) => (Quantity(request.to_owned()), Quantity(limit.to_owned())),
        (Some(own), _) | (None, Some(own)) => (own.clone(), own),
    };
    requests.entry(name.to_owned()).or_insert(default_request);
    limits.entry(name.to_owned()).or_insert(default_limit);
}

/// What the main container sees.
#[must_use]
pub fn main_mounts(agent: bool, settings: &Settings, options: &PodOptions) -> Vec<VolumeMount> {
    let mut mounts = vec![
        mount("timetracker-workspace", WORKSPACE),
        mount("timetracker-home", HOME),
        read_only(mount("timetracker-script", SCRIPT_DIRECTORY)),
    ];
    if agent {
        mounts.push(read_only(mount("timetracker-bin", BIN)));
        mounts.push(mount("timetracker-logs", LOGS));
        mounts.push(mount("timetracker-reports", REPORTS));
        mounts.push(mount("timetracker-outputs", OUTPUTS));
    }
    mounts.extend(trust_mount(settings));
    mounts.extend(options.volumes.iter().map(|volume| VolumeMount {
        read_only: volume.read_only.then_some(true),
        ..mount(&user_volume(&volume.name), &volume.mount_path)
    }));
    mounts
}

/// Names of users' volumes can't meet ours.
fn user_volume(name: &str) -> String {
    format!("user-{name}")
}

/// All volumes of a job's pod.
#[must_use]
pub fn volumes(
    agent: bool,
    collector: bool,
    beside: &[ServiceSpec],
    settings: &Settings,
    options: &PodOptions,
) -> Vec<Volume> {
    let mut volumes = vec![scratch("timetracker-workspace"), scratch("timetracker-home"), script_volume()];
    if agent {
        let own = ["timetracker-bin", "timetracker-logs", "timetracker-reports", "timetracker-outputs"];
        volumes.extend(own.iter().map(|name| scratch(name)));
    }
    volumes.extend(services::volumes(beside));
    volumes.extend(services::keep_logs(beside, settings).then(|| scratch(SERVICE_LOGS_VOLUME)));
    volumes.extend(trust_volume(settings));
    if collector && settings.artifacts.is_some() {
        volumes.push(token_volume());
    }
    volumes.extend(options.volumes.iter().map(|volume| Volume {
        name: user_volume(&volume.name),
        empty_dir: volume.empty_dir.clone(),
        config_map: volume.config_map.clone(),
        secret: volume.secret.clone(),
        persistent_volume_claim: volume.persistent_volume_claim.clone(),
        ..Volume::default()
    }));
    volumes
}

/// The script as a file that the pod's own annotation fills: no further object, and nothing expands it.
fn script_volume() -> Volume {
    let field = ObjectFieldSelector {
        field_path: format!("metadata.annotations['{}']", names::SCRIPT_ANNOTATION),
        ..ObjectFieldSelector::default()
    };
    let file = DownwardAPIVolumeFile {
        path: SCRIPT_FILE.to_owned(),
        field_ref: Some(field),
        ..DownwardAPIVolumeFile::default()
    };
    let source = DownwardAPIVolumeSource { items: Some(vec![file]), ..DownwardAPIVolumeSource::default() };
    Volume { name: "timetracker-script".to_owned(), downward_api: Some(source), ..Volume::default() }
}

/// A token that only the artifact store accepts; only the collector sees it.
fn token_volume() -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some("timetracker-artifacts".to_owned()),
        expiration_seconds: Some(3600),
        path: "token".to_owned(),
    };
    let source = VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() };
    let projected = ProjectedVolumeSource { sources: Some(vec![source]), ..ProjectedVolumeSource::default() };
    Volume { name: "timetracker-token".to_owned(), projected: Some(projected), ..Volume::default() }
}

/// The volume with the trusted authorities.
#[must_use]
pub fn trust_volume(settings: &Settings) -> Option<Volume> {
    settings.trusted_ca.as_ref()?;
    Some(workload::trust_volume(names::TRUST_CONFIG_MAP))
}

/// Where [`trust_volume`] is mounted.
#[must_use]
pub fn trust_mount(settings: &Settings) -> Option<VolumeMount> {
    settings.trusted_ca.as_ref()?;
    Some(workload::trust_mount())
}

/// A writable folder that goes with the pod.
#[must_use]
pub fn scratch(name: &str) -> Volume {
    Volume { name: name.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

/// A mount.
#[must_use]
pub fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

/// The same, read-only.
#[must_use]
pub fn read_only(mount: VolumeMount) -> VolumeMount {
    VolumeMount { read_only: Some(true), ..mount }
}

/// Labels that select job pods.
#[must_use]
pub fn pod_selector() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/managed-by".to_owned(), names::MANAGED_BY.to_owned()),
        ("app.kubernetes.io/component".to_owned(), names::COMPONENT.to_owned()),
    ])
}
