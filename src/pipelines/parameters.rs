//! Whether a run fits its pipeline: parameters, and what this operator does not execute.

use std::collections::BTreeSet;

use super::concurrency;
use super::definition::Definition;
use super::environments;
use super::expressions::ExpressionError;
use super::failure::{COLLECTOR, ENVIRONMENT, FETCH, MAIN, SOURCE};
use super::gate::condition;
use super::graph::{Graph, GraphError};
use super::names;
use super::settings::Settings;
use super::steps::Step;
use crate::api::artifacts;
use crate::api::job::{JobSpec, ReportKind, ServiceSpec};
use crate::api::names::{GitRef, NameError};
use crate::api::pipeline::{ParamSpec, ParamType, Parameters};
use crate::api::pod::{EnvironmentVariable, PodVolume};
use crate::api::run::PipelineRunSpec;

/// The most bytes of one value.
const MAX_VALUE: usize = 8 * 1024;
/// The most bytes of all values.
const MAX_VALUES: usize = 64 * 1024;

/// Names of the operator's own containers in a job's pod.
const OWN_CONTAINERS: [&str; 5] = [MAIN, SOURCE, FETCH, ENVIRONMENT, COLLECTOR];

/// Why a run is refused before its first job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The pipeline never appeared.
    #[error("Pipeline {0} does not exist in this namespace; apply it, then make a new run")]
    PipelineNotFound(String),
    /// The repository never appeared.
    #[error(
        "SourceRepository {0}, which the pipeline names, does not exist in this namespace; apply it, then make a new run"
    )]
    RepositoryNotFound(String),
    /// The jobs are no graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A parameter does not fit.
    #[error("spec.params: `{name}`: {why}")]
    Parameter {
        /// Its name, shortened.
        name: String,
        /// Why, and what fits.
        why: String,
    },
    /// A branch or tag that Git does not take.
    #[error("spec.revision: {0}")]
    Revision(#[from] NameError),
    /// Code is wanted, but which is not said.
    #[error("{0}")]
    RevisionMissing(&'static str),
    /// A field whose meaning this version does not execute; it is never ignored silently.
    #[error("{field} is not supported by this version of the operator; remove it, then make a new run")]
    NotSupported {
        /// Its path.
        field: String,
    },
    /// A Secret in a pull request's run.
    #[error(
        "{field} takes a value from a Secret, which a pull request's run must not see; remove it or run the commit without spec.revision.pullRequest"
    )]
    SecretInPullRequest {
        /// Its path.
        field: String,
    },
    /// An expression that can't be used.
    #[error("{field}: {why}; correct it, then make a new run")]
    Expression {
        /// Its path.
        field: String,
        /// Why.
        why: ExpressionError,
    },
    /// A concurrency group without a name.
    #[error("Pipeline spec.concurrency.group: {why}; correct it, then make a new run")]
    Group {
        /// Why.
        why: String,
    },
    /// The earlier run never appeared.
    #[error("spec.rerunOf: run {0} does not exist in this namespace; make a run without rerunOf")]
    EarlierNotFound(String),
    /// The earlier run can't be repeated.
    #[error("spec.rerunOf: run {run} {why}")]
    Earlier {
        /// Its name.
        run: String,
        /// Why, and what to do.
        why: String,
    },
    /// A job that can't be built.
    #[error("{field}: {why}")]
    Job {
        /// Its path.
        field: String,
        /// Why, and what to write.
        why: String,
    },
    /// Pull requests from forks are never run.
    #[error("the commit comes from a fork, and the SourceRepository's forkPullRequests is Deny")]
    ForkDenied,
}

impl Refusal {
    /// A static word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PipelineNotFound(_) => "PipelineNotFound",
            Self::RepositoryNotFound(_) => "RepositoryNotFound",
            Self::Graph(_) => "InvalidGraph",
            Self::Parameter { .. } => "InvalidParameter",
            Self::Revision(_) => "InvalidRevision",
            Self::RevisionMissing(_) => "RevisionMissing",
            Self::NotSupported { .. } => "NotSupported",
            Self::SecretInPullRequest { .. } => "SecretInPullRequest",
            Self::Expression { .. } | Self::Group { .. } => "InvalidExpression",
            Self::EarlierNotFound(_) | Self::Earlier { .. } => "InvalidRerun",
            Self::Job { .. } => "InvalidJob",
            Self::ForkDenied => "ForkDenied",
        }
    }
}

/// A run that may start.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The jobs.
    pub graph: Graph,
    /// All parameters with their values.
    pub parameters: Parameters,
}

/// Checks a run against its definition.
///
/// # Errors
/// The first thing that does not fit, named by its field.
pub fn accept(definition: &Definition, run: &PipelineRunSpec, settings: &Settings) -> Result<Accepted, Refusal> {
    let publishes = definition.source.as_ref().is_some_and(|source| source.environments.is_some());
    let graph = Graph::with(&definition.pipeline, publishes)?;
    let parameters = values(&definition.pipeline.params, run)?;
    let written: Vec<&JobSpec> = definition.pipeline.jobs.iter().chain(&definition.pipeline.finally).collect();
    for job in &written {
        environments::check(job, definition, settings).map_err(|(field, why)| Refusal::Job {
            field: format!("Pipeline job `{}`: {field}", job.name),
            why: why.to_owned(),
        })?;
    }
    revision(definition, run, &graph)?;
    let is_pull_request = run.revision.as_ref().is_some_and(|revision| revision.pull_request.is_some());
    let defaults = definition.pipeline.defaults.as_ref();
    if let Some(defaults) = defaults {
        if is_pull_request {
            no_secret("Pipeline spec.defaults", &defaults.env)?;
        }
        services("Pipeline spec.defaults", &defaults.services, is_pull_request, settings)?;
        if let Some(pod) = &defaults.pod {
            volumes("Pipeline spec.defaults.pod.volumes", &pod.volumes)?;
        }
    }
    let default_image = defaults.and_then(|defaults| defaults.image.as_deref());
    for node in graph.nodes().iter().filter(|node| node.environment.is_written()) {
        if let (Some(step), Some(written)) = (Step::of(&node.spec), written.get(node.position)) {
            let at = |field: &str| format!("Pipeline job `{}`: {field}", node.spec.name);
            let refuse = |(field, why): (&str, &str)| Refusal::Job { field: at(field), why: why.to_owned() };
            step.check(&graph, node, written).map_err(refuse)?;
            if step.reads().is_some() && settings.artifacts.is_none() {
                let why = "it reads artifacts of other jobs, but the operator has no artifact store (artifacts.url)";
                return Err(refuse((written.built_in().unwrap_or("run"), why)));
            }
        }
        job(&node.spec, default_image, is_pull_request, settings)?;
    }
    Ok(Accepted { graph, parameters })
}

/// Checks a run that has not begun: besides all else also its expressions, of which the definition then keeps the text.
///
/// # Errors
/// The first thing that does not fit, named by its field.
pub fn admit(definition: &Definition, run: &PipelineRunSpec, settings: &Settings) -> Result<Accepted, Refusal> {
    let accepted = accept(definition, run, settings)?;
    for node in accepted.graph.nodes() {
        let field = || format!("Pipeline job `{}`: when", node.spec.name);
        condition(&definition.pipeline.params, &accepted.graph, node)
            .transpose()
            .map_err(|why| Refusal::Expression { field: field(), why })?;
    }
    if let Some(concurrency) = &definition.pipeline.concurrency {
        let field = || "Pipeline spec.concurrency.group".to_owned();
        concurrency::check(concurrency, &definition.pipeline.params)
            .map_err(|why| Refusal::Expression { field: field(), why })?;
    }
    Ok(accepted)
}

fn revision(definition: &Definition, run: &PipelineRunSpec, graph: &Graph) -> Result<(), Refusal> {
    let named = run.revision.as_ref();
    for name in named.iter().flat_map(|named| [named.branch.as_deref(), named.tag.as_deref()]).flatten() {
        name.parse::<GitRef>()?;
    }
    if let Some(commit) = named.and_then(|named| named.commit.as_deref()) {
        commit.parse::<crate::api::names::CommitSha>()?;
    }
    let checks_out = graph.nodes().iter().any(|node| definition.checks_out(&node.spec));
    match (&definition.source, named) {
        (None, _) if checks_out => Err(Refusal::RevisionMissing(
            "a job has checkout enabled, but the pipeline has no repositoryRef; add it or disable the checkout",
        )),
        (None, Some(named)) if named.commit.is_none() => Err(Refusal::RevisionMissing(
            "spec.revision names a branch or tag, but the pipeline has no repositoryRef that could say its commit; name the commit",
        )),
        (Some(_), None) if checks_out => Err(Refusal::RevisionMissing(
            "the pipeline checks code out, but the run names no revision; add spec.revision with commit, branch or tag",
        )),
        (None | Some(_), None | Some(_)) => Ok(()),
    }
}

fn job(job: &JobSpec, default_image: Option<&str>, is_pull_request: bool, settings: &Settings) -> Result<(), Refusal> {
    let at = |field: &str| format!("Pipeline job `{}`: {field}", job.name);
    let unsupported = |field: &str| Err(Refusal::NotSupported { field: at(field) });
    if let Some(step) = job.built_in().filter(|_| Step::of(job).is_none()) {
        return unsupported(step);
    }
    if job.test_reruns() > 0 && !job.reports.contains(&ReportKind::JUnit) {
        let why = "only reports: [JUnit] tell which tests failed; add them or remove the retries".to_owned();
        return Err(Refusal::Job { field: at("retries.failedTests"), why });
    }
    if let Some(name) = twice(job.outputs.iter().map(String::as_str)) {
        let why = format!("`{name}` and another one are one variable, $NEEDS_…_{}", names::variable(name));
        return Err(Refusal::Job { field: at("outputs"), why });
    }
    if job.script().is_none_or(str::is_empty) {
        return Err(Refusal::Job { field: at("run"), why: "is empty; write at least one command".to_owned() });
    }
    let image = job.image.as_deref().or(default_image);
    if image.is_none() && job.environment.is_none() {
        let why = "neither the job nor spec.defaults names an image or an environment".to_owned();
        return Err(Refusal::Job { field: at("image"), why });
    }
    if image.unwrap_or_default().chars().any(|c| c.is_whitespace() || c.is_control()) {
        let why = "an image's name has no white space".to_owned();
        return Err(Refusal::Job { field: at("image"), why });
    }
    if is_pull_request {
        no_secret(&at(""), &job.env)?;
    }
    let artifacts: BTreeSet<&str> = job.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    if artifacts.len() < job.artifacts.len() {
        return Err(Refusal::Job { field: at("artifacts"), why: "a name stands twice".to_owned() });
    }
    if let Some(artifact) = job.artifacts.iter().find(|artifact| artifacts::is_own(&artifact.name)) {
        let why = format!("`{}` is a name of the operator's own; give it another one", artifact.name);
        return Err(Refusal::Job { field: at("artifacts"), why });
    }
    let hostile = |path: &str| path.starts_with('/') || path.split('/').any(|part| part == "..");
    if let Some(artifact) = job.artifacts.iter().find(|artifact| hostile(&artifact.path)) {
        let why = format!("`{}` must be a path below the working directory", artifact.name);
        return Err(Refusal::Job { field: at("artifacts"), why });
    }
    if let Some(pod) = &job.pod {
        volumes(&at("pod.volumes"), &pod.volumes)?;
    }
    services(&at("services"), &job.services, is_pull_request, settings)
}

/// The first name that becomes the same variable as one before it.
fn twice<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut variables = BTreeSet::new();
    names.into_iter().find(|name| !variables.insert(names::variable(name)))
}

fn volumes(at: &str, volumes: &[PodVolume]) -> Result<(), Refusal> {
    let reserved = |path: &str| {
        let mut own = ["/timetracker", "/dev", "/workspace", "/proc"].iter();
        own.any(|own| path == *own || path.starts_with(&format!("{own}/")))
    };
    let Some(volume) = volumes.iter().find(|volume| reserved(&volume.mount_path)) else { return Ok(()) };
    let why = format!("volume `{}`: {} is the operator's own place", volume.name, volume.mount_path);
    Err(Refusal::Job { field: at.to_owned(), why })
}

fn services(at: &str, services: &[ServiceSpec], is_pull_request: bool, settings: &Settings) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::Job { field: at.to_owned(), why });
    let mut names = BTreeSet::new();
    for service in services {
        if !names.insert(&service.name) || OWN_CONTAINERS.contains(&service.name.as_str()) {
            return refuse(format!("the name `{}` stands twice or is the operator's own", service.name));
        }
        if let Some(postgres) = &service.postgres
            && !settings.images.postgres.contains_key(&postgres.version)
        {
            let known: Vec<&str> = settings.images.postgres.keys().map(String::as_str).collect();
            return refuse(format!(
                "`{}`: no image for Postgres {}; the operator's configuration has {}",
                service.name,
                postgres.version,
                known.join(", ")
            ));
        }
        if is_pull_request {
            no_secret(at, &service.env)?;
        }
    }
    if services.iter().filter(|service| service.postgres.is_some()).count() > 1 {
        return refuse("only one postgres is possible: both would listen on port 5432".to_owned());
    }
    Ok(())
}

fn no_secret(at: &str, env: &[EnvironmentVariable]) -> Result<(), Refusal> {
    let secret =
        env.iter().find(|variable| variable.value_from.as_ref().is_some_and(|source| source.secret_key_ref.is_some()));
    match secret {
        Some(variable) => Err(Refusal::SecretInPullRequest { field: format!("{at} env {}", variable.name) }),
        None => Ok(()),
    }
}

/// The values of all parameters: given or default, each of its type.
fn values(declared: &[ParamSpec], run: &PipelineRunSpec) -> Result<Parameters, Refusal> {
    let refuse = |name: &str, why: String| {
        let name = crate::api::conditions::printable(name, 64);
        Err(Refusal::Parameter { name, why })
    };
    let mut values = Parameters::new();
    for given in &run.params {
        if !declared.iter().any(|param| param.name == given.name) {
            let known: Vec<&str> = declared.iter().map(|param| param.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return refuse(&given.name, format!("the pipeline has no such parameter; it has: {known}"));
        }
        if values.insert(given.name.clone(), given.value.clone()).is_some() {
            return refuse(&given.name, "is given twice".to_owned());
        }
    }
    if let Some(name) = twice(declared.iter().map(|param| param.name.as_str())) {
        return refuse(
            name,
            format!("and another parameter are one variable, $PARAM_{}; rename one", names::variable(name)),
        );
    }
    for param in declared {
        let value = match (values.get(&param.name), &param.default) {
            (Some(value), _) => value.clone(),
            (None, Some(default)) => default.clone(),
            (None, None) => return refuse(&param.name, "has no default and must be given".to_owned()),
        };
        if let Err(why) = fits(param, &value) {
            return refuse(&param.name, why);
        }
        values.insert(param.name.clone(), value);
    }
    if values.values().map(String::len).sum::<usize>() > MAX_VALUES {
        return refuse("*", format!("all values together have more than {} KiB", MAX_VALUES / 1024));
    }
    Ok(values)
}

fn fits(param: &ParamSpec, value: &str) -> Result<(), String> {
    if value.len() > MAX_VALUE {
        return Err(format!("has {} bytes, at most {MAX_VALUE} are possible", value.len()));
    }
    if value.contains('\0') {
        return Err("contains a NUL character, which no environment variable can hold".to_owned());
    }
    match param.param_type {
        ParamType::String => Ok(()),
        ParamType::Boolean if ["true", "false"].contains(&value) => Ok(()),
        ParamType::Boolean => Err("must be `true` or `false`".to_owned()),
        ParamType::Integer if value.parse::<i64>().is_ok() => Ok(()),
        ParamType::Integer => Err("must be a whole number".to_owned()),
        ParamType::Choice if param.choices.iter().any(|choice| choice == value) => Ok(()),
        ParamType::Choice => Err(format!("must be one of: {}", param.choices.join(", "))),
    }
}

#[cfg(test)]
#[path = "parameters_tests.rs"]
mod tests;
