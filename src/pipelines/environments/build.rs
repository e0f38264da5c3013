//! The job that makes an environment: `environment` names it by its content, pip installs it, the collector keeps it.
//!
//! Where there may be an image of it, another Job names it before: a pod of the agent's alone, which is all that a run
//! needs whose image is there. What installs it names it once more: another run may have been faster.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, EnvVar, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::environment::{literal, network};
use super::super::failure::{ENVIRONMENT, MAIN};
use super::super::graph::Node;
use super::super::jobs::{RunContext, finish};
use super::super::names;
use super::super::pods::{self, HOME, OUTPUTS_FILE, WORKSPACE};
use super::{ARCHIVE, DIRECTORY, IDENTIFY_TIMEOUT, VOLUME, flight, images, pip_settings, store};
use crate::api::job::{Environment, JobSpec};
use crate::workload::{escape_env, restricted_container, restricted_pod};

/// What is installed, and what pip needs meanwhile.
const ROOM: &str = "4Gi";

/// The Job of one attempt at naming it, and at finding its image.
#[must_use]
pub fn identify(run: &RunContext<'_>, node: &Node, attempt: u32, now: Timestamp) -> Job {
    let spec = &node.spec;
    let environment = spec.environment.clone().unwrap_or_default();
    let options = run.pod_options(spec);
    let mut main = identifier(MAIN, run, &environment);
    let mut volumes: Vec<Volume> =
        ["timetracker-workspace", "timetracker-home", "timetracker-bin"].map(pods::scratch).into();
    volumes.extend(pods::trust_volume(run.settings));
    if let Some(store) = store(run) {
        volumes.extend(images::open(&mut main, store, run.settings, now, true));
    }
    let pod = restricted_pod(
        PodSpec {
            containers: vec![main],
            init_containers: Some(vec![pods::source(run, spec)]),
            volumes: Some(volumes),
            active_deadline_seconds: i64::try_from((IDENTIFY_TIMEOUT + pods::NET).as_secs()).ok(),
            termination_grace_period_seconds: Some(10),
            ..PodSpec::default()
        },
        Some(&options),
    );
    finish(run, &spec.name, &names::identification(&spec.name), attempt, "", &options, pod)
}

/// The Job of one attempt at installing it; `key` is what the environment is called, where it has been named before.
#[must_use]
pub fn job(run: &RunContext<'_>, node: &Node, attempt: u32, key: Option<&str>, now: Timestamp) -> Job {
    let spec = &node.spec;
    let environment = spec.environment.clone().unwrap_or_default();
    let options = run.pod_options(spec);
    let timeout = run.timeout(spec);
    let defaults = run.definition.pipeline.defaults.as_ref();
    let resources = options.resources.as_ref().or(defaults.and_then(|defaults| defaults.resources.as_ref()));
    let mut mounts = pods::main_mounts(true, run.settings, &options);
    mounts.push(pods::mount(VOLUME, DIRECTORY));
    let main = restricted_container(Container {
        name: MAIN.to_owned(),
        image: spec.image.clone().map(|reference| run.image(reference)),
        command: Some(pods::agent_command(timeout, spec)),
        working_dir: Some(WORKSPACE.to_owned()),
        env: Some(variables(run, &environment)),
        resources: Some(pods::job_resources(resources)),
        volume_mounts: Some(mounts),
        ..Container::default()
    });
    let name = names::attempt_name(run.name, run.uid, &spec.name, attempt);
    let mut volumes = pods::volumes(true, true, &[], run.settings, &options);
    volumes.push(folder(ROOM));
    let mut identifier = identifier(ENVIRONMENT, run, &environment);
    identifier.command.get_or_insert_default().extend(pods::words(&["--known", &known()]));
    identifier.volume_mounts.get_or_insert_default().push(pods::mount(VOLUME, DIRECTORY));
    if let Some(store) = store(run) {
        // Without the Secret, or the registry, it is installed.
        volumes.extend(images::open(&mut identifier, store, run.settings, now, true));
    }
    let init = vec![pods::source(run, spec), identifier, pods::collector(run, spec, &name, &[])];
    let pod = restricted_pod(
        PodSpec {
            containers: vec![main],
            init_containers: Some(init),
            volumes: Some(volumes),
            active_deadline_seconds: i64::try_from((timeout + pods::NET).as_secs()).ok(),
            termination_grace_period_seconds: Some(120),
            ..PodSpec::default()
        },
        Some(&options),
    );
    let mut job = finish(run, &spec.name, &spec.name, attempt, script(spec), &options, pod);
    if let Some(key) = key {
        flight::mark_installation(&mut job, key, !run.is_pull_request());
    }
    job
}

fn script(spec: &JobSpec) -> &str {
    spec.script().unwrap_or_default()
}

/// Reads the requirement files before foreign code runs beside them: what it says of them is true.
fn identifier(name: &str, run: &RunContext<'_>, environment: &Environment) -> Container {
    let mut command = vec![pods::AGENT.to_owned()];
    command.extend(pods::words(&["environment", "identify", "--workspace", WORKSPACE]));
    command.extend(pods::words(&["--python", &environment.python]));
    command.extend(run.commit.map(|commit| format!("--commit={}", commit.as_str())));
    let requirements = environment.requirements.iter().map(|path| format!("--requirement={path}"));
    let settings = pip_settings(run.definition.pipeline.defaults.as_ref()).into_iter();
    let settings = settings.map(|(name, value)| format!("--variable={name}={value}"));
    command.extend(requirements.chain(settings).map(|word| escape_env(&word)));
    let workspace = pods::read_only(pods::mount("timetracker-workspace", WORKSPACE));
    let mounts = vec![workspace];
    pods::agent_container(name, run.settings, command, Vec::new(), mounts, "256Mi")
}

/// A file that says that there is nothing to be installed.
fn known() -> String {
    format!("{DIRECTORY}/.known")
}

fn variables(run: &RunContext<'_>, environment: &Environment) -> Vec<EnvVar> {
    let mut env = vec![literal("CI", "true"), literal("HOME", HOME), literal("RUN_NAME", run.name)];
    env.extend(network(run.settings));
    env.extend(run.commit.map(|commit| literal("COMMIT", commit.as_str())));
    env.push(literal("OUTPUTS", OUTPUTS_FILE));
    env.push(literal("ENVIRONMENT", DIRECTORY));
    env.push(literal("ARCHIVE", &format!("{WORKSPACE}/{ARCHIVE}")));
    env.push(literal("KNOWN", &known()));
    env.push(literal("REQUIREMENTS", &environment.requirements.join("\n")));
    let settings = pip_settings(run.definition.pipeline.defaults.as_ref());
    env.extend(settings.into_iter().map(|(name, value)| literal(name, value)));
    env
}

/// The folder of an environment.
pub(super) fn folder(room: &str) -> Volume {
    let bounded = EmptyDirVolumeSource { size_limit: Some(Quantity(room.to_owned())), medium: None };
    Volume { name: VOLUME.to_owned(), empty_dir: Some(bounded), ..Volume::default() }
}
