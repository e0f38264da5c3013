//! `migrationCheck`: proves a commit's migrations on a Postgres of the pod's own, beside the tree of the commit before.
//!
//! What is checked and what it means is the agent's (`database check`); here is only the pod: the whole history, a
//! second tree, the service, and the report as an artifact.

use std::time::Duration;

use k8s_openapi::api::core::v1::EnvVar;

use super::super::environment::literal;
use super::super::jobs::RunContext;
use super::super::pods::{HOME, words};
use crate::api::duration::Period;
use crate::api::job::{ArtifactSpec, Checkout, History, JobSpec, PostgresService, ServiceSpec};
use crate::api::steps::MigrationCheck;
use crate::workload::escape_env;

const SCRIPT: &str = include_str!("migration-check.sh");
/// Name of the artifact, and of the folder in the working directory.
const REPORT: &str = "migration-report";
/// The version that the app runs on.
const POSTGRES: &str = "16";
/// What the check leaves of the job's timeout for telling what it has seen.
const TELLING: Duration = Duration::from_secs(30);
/// How long a lock counts as short if the step does not say.
const LOCK_LIMIT: &str = "5s";

pub(super) fn lower(job: &JobSpec) -> JobSpec {
    let postgres = PostgresService { version: POSTGRES.to_owned(), ..PostgresService::default() };
    let service = ServiceSpec { name: "postgres".to_owned(), postgres: Some(postgres), ..ServiceSpec::default() };
    JobSpec {
        run: Some(SCRIPT.to_owned()),
        checkout: Some(Checkout { enabled: Some(true), history: Some(History::Full) }),
        services: vec![service],
        artifacts: vec![ArtifactSpec { name: REPORT.to_owned(), path: REPORT.to_owned() }],
        ..job.clone()
    }
}

pub(super) fn variables(step: &MigrationCheck, run: &RunContext<'_>, job: &JobSpec) -> Vec<EnvVar> {
    let whole = run.timeout(job);
    let timeout = whole.saturating_sub(TELLING).max(whole / 2);
    let mut variables = vec![
        literal("MIGRATIONS", step.directory.as_deref().unwrap_or("migrations")),
        literal("MODELS", step.models.as_deref().unwrap_or("app/models")),
        literal("LOCK_LIMIT", &step.lock_limit.as_ref().map_or_else(|| LOCK_LIMIT.to_owned(), Period::to_string)),
        literal("CHECK_TIMEOUT", &format!("{}s", timeout.as_secs().max(1))),
    ];
    if job.environment.is_some() {
        variables.push(literal("OWN_PACKAGES", "yes"));
    }
    variables
}

/// Paths that lead out of the repository, or that a program would take for an option. The agent refuses them too.
pub(super) fn refuse_odd_paths(step: &MigrationCheck) -> Result<(), (&'static str, &'static str)> {
    let odd = |path: &Option<String>| {
        path.as_deref().is_some_and(|path| {
            path.starts_with(['-', '/']) || path.split('/').any(|part| part.is_empty() || matches!(part, "." | ".."))
        })
    };
    let why = "write a path inside the repository, such as app/models";
    match (odd(&step.directory), odd(&step.models)) {
        (true, _) => Err(("migrationCheck.directory", why)),
        (false, true) => Err(("migrationCheck.models", why)),
        (false, false) => Ok(()),
    }
}

/// Where the second tree goes: a folder that the job's container sees too.
pub(super) fn source_arguments(run: &RunContext<'_>) -> Vec<String> {
    let mut arguments = words(&["--base-dest", &format!("{HOME}/base")]);
    let pull_request = run.spec.revision.as_ref().and_then(|revision| revision.pull_request.as_ref());
    arguments.extend(pull_request.map(|pull_request| escape_env(&format!("--base-branch={}", pull_request.base))));
    arguments
}
