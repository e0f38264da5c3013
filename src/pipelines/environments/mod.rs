//! Environments: Python packages that requirement files name, installed once in a run for all jobs that use them.
//!
//! Each different environment of a pipeline gets a job of its own in front of the jobs that use it (`build.rs`), which
//! leaves one archive in the artifact store; an init container of ours unpacks it in the pods of the others (`bring.rs`).
//! Where the repository has a registry, a further job makes an image of it (`publish.rs`), which later runs use as it is.
//! Then the job is two Kubernetes Jobs: one that names the environment and looks for its image, and one that installs it
//! should there be none; for what happens in between, the hash must be known (`flight.rs`).
//! The jobs that use it wait for it as for a need, yet it is none: no `when` reads it, no output of it arrives.

mod bring;
mod build;
pub mod flight;
mod images;
mod publish;

use std::collections::BTreeSet;
use std::time::Duration;

pub use bring::{Brought, search_paths};
pub use build::{identify, job};
pub use publish::{TIMEOUT as PUBLISH_TIMEOUT, publish, unpublished};

use super::definition::{Definition, ImageStore};
use super::graph::{MAX_ENVIRONMENTS, Node};
use super::jobs::RunContext;
use super::settings::Settings;
use super::{inputs, pods};
use crate::api::duration::Period;
use crate::api::job::{ArtifactSpec, Checkout, Environment, History, JobSpec};
use crate::api::pipeline::{JobDefaults, PipelineSpec};
use crate::api::pod::PodOptions;

/// Where it is, when it is made as when it is used: scripts name their place.
pub const DIRECTORY: &str = "/timetracker/environment";
const VOLUME: &str = "timetracker-environment";
/// The artifact.
const ARTIFACT: &str = "environment";
/// Its file below the working directory.
const ARCHIVE: &str = ".timetracker/environment.tar.gz";
/// What pip said when it failed.
pub const ERROR_OUTPUT: &str = "error";
/// The image that holds it, where there is one.
pub const IMAGE_OUTPUT: &str = "image";
/// That its image is to be given this week's tag.
pub const STALE_OUTPUT: &str = "stale";
/// How long naming an environment may take, with the registry's answer.
pub const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(3 * 60);
/// The name of the job, unless the pipeline has one of that name.
const NAME: &str = "environment";
/// How long pip may take.
const TIMEOUT: u64 = 30 * 60;
/// The longest path of a requirement file, in bytes.
const MAX_PATH: usize = 256;
/// The settings of pip that it gets of the pipeline's `defaults.env`: where from and which kind, never where to.
const VARIABLES: [&str; 11] = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_NO_BINARY",
    "PIP_ONLY_BINARY",
    "PIP_PREFER_BINARY",
    "PIP_PRE",
    "PIP_REQUIRE_HASHES",
    "PIP_TIMEOUT",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_RETRIES",
];

/// What a node of the graph has to do with environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing.
    None,
    /// It uses the one that the node at this place makes.
    Uses(usize),
    /// It makes one; no such job is written in the pipeline.
    Makes,
    /// It makes an image of the one that the node at this place makes; no such job is written in the pipeline either.
    Publishes(usize),
}

impl Role {
    /// Whether the node's job is written in the pipeline.
    #[must_use]
    pub fn is_written(self) -> bool {
        match self {
            Self::None | Self::Uses(_) => true,
            Self::Makes | Self::Publishes(_) => false,
        }
    }
}

/// Where images of the run's environments are.
#[must_use]
pub fn store<'a>(run: &RunContext<'a>) -> Option<&'a ImageStore> {
    run.definition.source.as_ref()?.environments.as_ref()
}

/// Whether the environment that the node makes is named by a Kubernetes Job of its own first.
#[must_use]
pub fn is_named_first(run: &RunContext<'_>, node: &Node) -> bool {
    node.environment == Role::Makes && store(run).is_some()
}

/// The image that the environment is for.
#[must_use]
pub fn image(environment: &Environment) -> String {
    format!("docker.io/library/python:{}-slim", environment.python)
}

/// The environment that the job uses: its own, or the default when it has no image either.
#[must_use]
pub fn used<'a>(job: &'a JobSpec, defaults: Option<&'a JobDefaults>) -> Option<&'a Environment> {
    // What the repository can change never stands beside the token of an upload.
    let default = defaults.and_then(|defaults| defaults.environment.as_ref()).filter(|_| job.codecov_upload.is_none());
    job.environment.as_ref().or(default.filter(|_| job.image.is_none()))
}

/// The jobs that make the pipeline's environments, in the order in which these are first used, each with the one that
/// makes an image of it.
#[must_use]
pub fn jobs_of(pipeline: &PipelineSpec) -> Vec<(JobSpec, JobSpec)> {
    let defaults = pipeline.defaults.as_ref();
    let written: Vec<&JobSpec> = pipeline.jobs.iter().chain(&pipeline.finally).collect();
    let mut taken: BTreeSet<String> = written.iter().map(|job| job.name.clone()).collect();
    let mut made: Vec<(JobSpec, JobSpec)> = Vec::new();
    for environment in written.iter().filter_map(|job| used(job, defaults)) {
        // One more than allowed is enough to refuse the pipeline.
        if made.len() > MAX_ENVIRONMENTS || made.iter().any(|(job, _)| job.environment.as_ref() == Some(environment)) {
            continue;
        }
        let name = free_name(NAME, &mut taken);
        let publisher = free_name(&format!("{name}-publish"), &mut taken);
        let mut users = written.iter().filter(|job| used(job, defaults) == Some(environment));
        let forgiven = users.all(|job| job.continue_on_error);
        let maker = job_of(name, environment, forgiven, defaults);
        // This run has its environment without it.
        let publisher = JobSpec {
            name: publisher,
            environment: maker.environment.clone(),
            checkout: Some(Checkout { enabled: Some(false), history: None }),
            timeout: Some(Period::seconds(PUBLISH_TIMEOUT.as_secs())),
            continue_on_error: true,
            pod: maker.pod.clone(),
            ..JobSpec::default()
        };
        made.push((maker, publisher));
    }
    made
}

/// The name, or the first of `name-2`, `name-3`, … that no job has.
fn free_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(free.clone());
    free
}

/// Words for the agent: where the archive is that this Kubernetes Job has left.
fn stored(run: &RunContext<'_>, job: &str) -> Vec<String> {
    let url = run.settings.artifacts.as_ref().map(|store| store.url.as_str()).unwrap_or_default();
    let token = inputs::token_file();
    let mut words = pods::words(&["--store", url, "--token-file", &token, "--namespace", run.namespace]);
    words.extend(pods::words(&["--run", run.name, "--job", job, "--artifact", ARTIFACT]));
    words
}

fn job_of(name: String, environment: &Environment, forgiven: bool, defaults: Option<&JobDefaults>) -> JobSpec {
    // Where it runs, the pipeline says; what else its pods have is not for foreign build code.
    let pod = defaults.and_then(|defaults| defaults.pod.clone()).unwrap_or_default();
    let pod = PodOptions { service_account_name: None, volumes: Vec::new(), ..pod };
    JobSpec {
        name,
        image: Some(image(environment)),
        environment: Some(environment.clone()),
        checkout: Some(Checkout { enabled: Some(true), history: Some(History::Commit) }),
        run: Some(include_str!("install.sh").to_owned()),
        timeout: Some(Period::seconds(TIMEOUT)),
        artifacts: vec![ArtifactSpec { name: ARTIFACT.to_owned(), path: ARCHIVE.to_owned() }],
        outputs: vec![ERROR_OUTPUT.to_owned()],
        continue_on_error: forgiven,
        pod: Some(pod),
        ..JobSpec::default()
    }
}

/// The settings of pip that the pipeline's defaults have. Values of Secrets are none.
fn pip_settings(defaults: Option<&JobDefaults>) -> Vec<(&str, &str)> {
    let given = defaults.iter().flat_map(|defaults| &defaults.env);
    let mut settings: Vec<(&str, &str)> = given
        .filter(|variable| VARIABLES.contains(&variable.name.as_str()) && variable.value_from.is_none())
        .map(|variable| (variable.name.as_str(), variable.value.as_deref().unwrap_or_default()))
        .collect();
    settings.sort_unstable();
    settings
}

/// Why the job can't use its environment: the field and what to write.
///
/// # Errors
/// The first reason.
pub fn check(job: &JobSpec, definition: &Definition, settings: &Settings) -> Result<(), (&'static str, &'static str)> {
    let defaults = definition.pipeline.defaults.as_ref();
    if job.image.is_some() && job.environment.is_some() {
        return Err(("environment", "image and environment exclude each other; remove one"));
    }
    if job.codecov_upload.is_some() && job.environment.is_some() {
        return Err((
            "environment",
            "what the repository names must not see the token of an upload; name an image with codecovcli",
        ));
    }
    let Some(environment) = used(job, defaults) else { return Ok(()) };
    if job.environment.is_none() && defaults.is_some_and(|defaults| defaults.image.is_some()) {
        return Err(("environment", "spec.defaults has both image and environment; remove one"));
    }
    let minor = environment.python.strip_prefix("3.").unwrap_or_default();
    if !(1..=2).contains(&minor.len()) || !minor.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(("environment.python", "write a version such as \"3.11\""));
    }
    if environment.requirements.is_empty() || environment.requirements.len() > 8 {
        return Err(("environment.requirements", "name 1 to 8 requirement files"));
    }
    if environment.requirements.iter().any(|path| is_odd(path)) {
        return Err(("environment.requirements", "write paths inside the repository, such as requirements.txt"));
    }
    if definition.source.is_none() {
        return Err((
            "environment",
            "its requirement files are in a repository, but the pipeline has no repositoryRef",
        ));
    }
    if settings.artifacts.is_none() {
        return Err((
            "environment",
            "it is kept in the artifact store, but the operator has none (artifacts.url); name an image",
        ));
    }
    Ok(())
}

/// Whether the path leads out of the repository, or a program would take it for something else.
fn is_odd(path: &str) -> bool {
    path.len() > MAX_PATH
        || path.starts_with(['-', '/'])
        || path.chars().any(char::is_control)
        || path.split('/').any(|part| part.is_empty() || matches!(part, "." | ".."))
}

#[cfg(test)]
#[path = "../environments_tests.rs"]
mod tests;
