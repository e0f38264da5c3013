//! The environment of a job's command. Values reach scripts only this way, and kubelet expands none of them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMapKeySelector, EnvVar, EnvVarSource, SecretKeySelector};

use super::environments;
use super::graph::Cell;
use super::inputs;
use super::jobs::{RunContext, needs_collector};
use super::names::variable;
use super::pods::{HOME, OUTPUTS_FILE, REPORTS, WORKSPACE};
use super::services;
use super::settings::Settings;
use super::steps::Step;
use crate::api::job::{JobSpec, ReportKind, ServiceSpec};
use crate::api::pod::{EnvironmentVariable, SecretKey};
use crate::workload::{escape_env, network_variables};

/// A variable with exactly this value.
#[must_use]
pub fn literal(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(escape_env(value)), value_from: None }
}

/// A variable with the value of a Secret's key.
#[must_use]
pub fn secret(name: &str, secret: &str, key: &str) -> EnvVar {
    let selector = SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: None };
    let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

/// A variable as a user writes it.
#[must_use]
pub fn given(written: &EnvironmentVariable) -> EnvVar {
    let source = written.value_from.as_ref();
    match (
        source.and_then(|from| from.secret_key_ref.as_ref()),
        source.and_then(|from| from.config_map_key_ref.as_ref()),
    ) {
        (Some(SecretKey { name, key }), _) => secret(&written.name, name, key),
        (None, Some(SecretKey { name, key })) => {
            let selector = ConfigMapKeySelector { name: name.clone(), key: key.clone(), optional: None };
            let source = EnvVarSource { config_map_key_ref: Some(selector), ..EnvVarSource::default() };
            EnvVar { name: written.name.clone(), value: None, value_from: Some(source) }
        }
        (None, None) => literal(&written.name, written.value.as_deref().unwrap_or_default()),
    }
}

/// Proxy and trusted authorities, in the spellings of the tools that jobs use.
#[must_use]
pub fn network(settings: &Settings) -> Vec<EnvVar> {
    network_variables(&settings.proxy, settings.trusted_ca.is_some())
}

/// All variables of a job's command. Of two with one name the later wins: the operator's network settings and facts,
/// then the pipeline's defaults, then the job's own.
#[must_use]
pub fn of_job(
    run: &RunContext<'_>,
    job: &JobSpec,
    cell: &Cell,
    beside: &[ServiceSpec],
    needs: &BTreeMap<String, String>,
) -> Vec<EnvVar> {
    let mut env = vec![literal("CI", "true"), literal("HOME", HOME), literal("RUN_NAME", run.name)];
    env.extend(network(run.settings));
    if run.definition.checks_out(job) {
        // The source container made the files, and git trusts only those of who calls it.
        env.extend([
            literal("GIT_CONFIG_COUNT", "1"),
            literal("GIT_CONFIG_KEY_0", "safe.directory"),
            literal("GIT_CONFIG_VALUE_0", WORKSPACE),
        ]);
    }
    if let Some(commit) = run.commit {
        env.push(literal("COMMIT", commit.as_str()));
    }
    if let Some(revision) = &run.spec.revision {
        env.extend(revision.branch.iter().map(|branch| literal("BRANCH", branch)));
        env.extend(revision.tag.iter().map(|tag| literal("TAG", tag)));
        if let Some(pull_request) = &revision.pull_request {
            env.push(literal("PULL_REQUEST", &pull_request.number.to_string()));
            env.push(literal("BASE_BRANCH", &pull_request.base));
        }
    }
    if needs_collector(job) {
        env.push(literal("REPORTS", REPORTS));
        env.push(literal("OUTPUTS", OUTPUTS_FILE));
    }
    if job.reports.contains(&ReportKind::Coverage) {
        // Where coverage and pytest-cov leave their raw data; from there the collector takes it.
        env.push(literal("COVERAGE_FILE", &format!("{REPORTS}/.coverage")));
    }
    if let Some(step) = Step::of(job) {
        if step.reads().is_some() {
            env.push(literal("INPUTS", inputs::DIRECTORY));
        }
        env.extend(step.variables(run, job));
    }
    env.extend(beside.iter().flat_map(services::variables));
    env.extend(run.parameters.iter().map(|(name, value)| literal(&format!("PARAM_{}", variable(name)), value)));
    env.extend(cell.values.iter().map(|(axis, value)| literal(&format!("MATRIX_{}", variable(axis)), value)));
    env.extend(needs.iter().map(|(name, value)| literal(name, value)));
    let defaults = run.definition.pipeline.defaults.iter().flat_map(|defaults| &defaults.env);
    env.extend(defaults.chain(&job.env).map(given));
    let mut env = last_of_each_name(env);
    if job.environment.is_some() {
        environments::search_paths(&mut env);
    }
    env
}

fn last_of_each_name(env: Vec<EnvVar>) -> Vec<EnvVar> {
    let mut kept: Vec<EnvVar> = Vec::with_capacity(env.len());
    for variable in env {
        match kept.iter_mut().find(|before| before.name == variable.name) {
            Some(before) => *before = variable,
            None => kept.push(variable),
        }
    }
    kept
}
