//! The Kubernetes Job of one attempt: its name, labels and pod.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;

use super::definition::Definition;
use super::environment;
use super::environments::{Brought, Role};
use super::failure::{Expectations, MAIN};
use super::graph::{Cell, Graph, Node};
use super::images;
use super::inputs::Inputs;
use super::names;
use super::pods;
use super::reuse::{Execution, Reused};
use super::services;
use super::settings::Settings;
use super::steps::Step;
use crate::api::duration::Period;
use crate::api::job::{Effects, JobSpec, ServiceSpec};
use crate::api::names::CommitSha;
use crate::api::pipeline::Parameters;
use crate::api::pod::PodOptions;
use crate::api::run::PipelineRunSpec;
use crate::workload::{self, JobParts, restricted_container, restricted_pod};

/// What all jobs of a run share.
#[derive(Debug, Clone)]
pub struct RunContext<'a> {
    /// The run's name.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Its specification.
    pub spec: &'a PipelineRunSpec,
    /// The run as owner.
    pub owner: Option<OwnerReference>,
    /// What it executes.
    pub definition: &'a Definition,
    /// All parameters with their values.
    pub parameters: &'a Parameters,
    /// The kind of event that made the run.
    pub event: &'a str,
    /// The commit, as soon as it is known.
    pub commit: Option<&'a CommitSha>,
    /// The operator's configuration.
    pub settings: &'a Settings,
    /// What it took over from an earlier run.
    pub reused: Option<&'a Reused>,
}

impl RunContext<'_> {
    /// Whether the run's code is a pull request's: hostile.
    #[must_use]
    pub fn is_pull_request(&self) -> bool {
        self.spec.revision.as_ref().is_some_and(|revision| revision.pull_request.is_some())
    }

    /// The image that the reference means in this run: where something was taken over, the one in which that was done.
    #[must_use]
    pub fn image(&self, reference: String) -> String {
        match self.reused.and_then(|reused| reused.images.get(&reference)) {
            Some(digest) => images::at(&reference, digest),
            None => reference,
        }
    }

    /// What determines what its jobs do.
    #[must_use]
    pub fn execution<'a>(&'a self, graph: &'a Graph) -> Execution<'a> {
        Execution {
            definition: self.definition,
            graph,
            parameters: self.parameters,
            spec: self.spec,
            event: self.event,
            commit: self.commit,
            postgres: &self.settings.images.postgres,
        }
    }

    /// The services beside the job: its own before the defaults of the same name. A built-in step has none of these.
    #[must_use]
    pub fn services(&self, job: &JobSpec) -> Vec<ServiceSpec> {
        services_of(self.definition, job)
    }

    /// How long the command may take.
    #[must_use]
    pub fn timeout(&self, job: &JobSpec) -> Duration {
        let defaults = self.definition.pipeline.defaults.as_ref().and_then(|defaults| defaults.timeout.as_ref());
        job.timeout.as_ref().or(defaults).map_or(Duration::from_secs(15 * 60), Period::length)
    }

    /// Whether the pod needs the agent, or is one plain container.
    #[must_use]
    pub fn needs_agent(&self, job: &JobSpec) -> bool {
        needs_agent(self.definition, job)
    }

    /// Whether a sidecar keeps what the job leaves: its reports, artifacts and outputs, and where there is a store, the
    /// log of every pod with the agent.
    #[must_use]
    pub fn has_collector(&self, job: &JobSpec) -> bool {
        needs_collector(job) || (self.settings.artifacts.is_some() && self.needs_agent(job))
    }

    /// What is expected of the job's attempts.
    #[must_use]
    pub fn expectations(&self, node: &Node) -> Expectations {
        let job = &node.spec;
        let publishes = matches!(node.environment, Role::Publishes(_));
        Expectations {
            agent: self.needs_agent(job) && !publishes,
            collector: needs_collector(job),
            reports: job.reports.clone(),
            outputs: job.outputs.clone(),
            coverage: Step::of(job).and_then(Step::coverage_goal),
            migration: Step::of(job).is_some_and(Step::checks_migrations),
            environment: node.environment == Role::Makes,
            publishes,
            ..Expectations::within(self.timeout(job))
        }
    }

    /// The pod's settings: the job's before the defaults, without what a pull request must not have.
    #[must_use]
    pub fn pod_options(&self, job: &JobSpec) -> PodOptions {
        let defaults = self.definition.pipeline.defaults.as_ref().and_then(|defaults| defaults.pod.as_ref());
        let mut options = job.pod.as_ref().or(defaults).cloned().unwrap_or_default();
        options.priority_class_name = options.priority_class_name.or_else(|| self.settings.priority_class_name.clone());
        if self.is_pull_request() {
            options.service_account_name = None;
            options.volumes.retain(|volume| volume.secret.is_none() && volume.persistent_volume_claim.is_none());
        }
        options
    }

    /// What the pull request's run does without, as `job: field`.
    #[must_use]
    pub fn ignored_in_pull_request(&self, job: &JobSpec) -> Vec<String> {
        if !self.is_pull_request() {
            return Vec::new();
        }
        let defaults = self.definition.pipeline.defaults.as_ref().and_then(|defaults| defaults.pod.as_ref());
        let Some(options) = job.pod.as_ref().or(defaults) else {
            return Vec::new();
        };
        let account = options.service_account_name.iter().map(|_| format!("{}: pod.serviceAccountName", job.name));
        let volumes = options
            .volumes
            .iter()
            .filter(|volume| volume.secret.is_some() || volume.persistent_volume_claim.is_some())
            .map(|volume| format!("{}: pod.volumes.{}", job.name, volume.name));
        account.chain(volumes).collect()
    }
}

/// The services beside the job: its own before the defaults of the same name. A built-in step has none of these.
#[must_use]
pub fn services_of(definition: &Definition, job: &JobSpec) -> Vec<ServiceSpec> {
    if job.built_in().is_some() {
        return job.services.clone();
    }
    let defaults = definition.pipeline.defaults.iter().flat_map(|defaults| &defaults.services);
    let missing = defaults.filter(|default| !job.services.iter().any(|own| own.name == default.name));
    job.services.iter().chain(missing).cloned().collect()
}

/// Whether the job's pod needs the agent; with a store, such a job leaves at least its log.
#[must_use]
pub fn needs_agent(definition: &Definition, job: &JobSpec) -> bool {
    definition.checks_out(job) || !services_of(definition, job).is_empty() || needs_collector(job)
}

/// Whether the job's result is final only when a sidecar has read what the job leaves behind.
#[must_use]
pub fn needs_collector(job: &JobSpec) -> bool {
    !job.reports.is_empty() || !job.artifacts.is_empty() || !job.outputs.is_empty()
}

/// The job's effects.
#[must_use]
pub fn effects(job: &JobSpec) -> Effects {
    job.effects.unwrap_or_default()
}

/// What a job is given of the jobs before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Outputs of the jobs it needs, as variables.
    pub outputs: BTreeMap<String, String>,
    /// Artifacts that it reads.
    pub inputs: Option<Inputs>,
    /// Its environment.
    pub environment: Option<Brought>,
}

/// The Job of one attempt at one cell of a job that the pipeline has.
#[must_use]
pub fn job(run: &RunContext<'_>, node: &Node, cell: &Cell, attempt: u32, given: &Given) -> Job {
    let spec = &node.spec;
    let options = run.pod_options(spec);
    let defaults = run.definition.pipeline.defaults.as_ref();
    let made = given.environment.as_ref().and_then(Brought::image).map(str::to_owned);
    let image = made.or_else(|| Some(run.image(images::written(run.definition, node)?)));
    let agent = run.needs_agent(spec);
    let beside = run.services(spec);
    let timeout = run.timeout(spec);
    let resources = options.resources.as_ref().or(defaults.and_then(|defaults| defaults.resources.as_ref()));
    let command = if agent { pods::agent_command(timeout, spec) } else { pods::plain_command() };
    let main = restricted_container(Container {
        name: MAIN.to_owned(),
        image,
        command: Some(command),
        working_dir: Some(pods::WORKSPACE.to_owned()),
        env: Some(environment::of_job(run, spec, cell, &beside, &given.outputs)),
        resources: Some(pods::job_resources(resources)),
        volume_mounts: Some(pods::main_mounts(agent, run.settings, &options)),
        ..Container::default()
    });
    let mut init = Vec::new();
    if agent {
        init.push(pods::source(run, spec));
        init.extend(beside.iter().map(|service| {
            let sidecar = services::sidecar(service, run.settings, timeout);
            Container { image: sidecar.image.map(|reference| run.image(reference)), ..sidecar }
        }));
    }
    let collector = run.has_collector(spec);
    if collector {
        init.push(pods::collector(run, spec, &names::attempt_name(run.name, run.uid, &cell.name, attempt), &beside));
    }
    let mut pod = restricted_pod(
        PodSpec {
            containers: vec![main],
            init_containers: (!init.is_empty()).then_some(init),
            volumes: Some(pods::volumes(agent, collector, &beside, run.settings, &options)),
            active_deadline_seconds: i64::try_from((timeout + pods::NET).as_secs()).ok(),
            // A shell as process 1 ignores TERM; with the agent the command gets 20 s and the collector the rest.
            termination_grace_period_seconds: Some(if agent { 120 } else { 20 }),
            ..PodSpec::default()
        },
        Some(&options),
    );
    if let Some(inputs) = &given.inputs {
        inputs.attach(&mut pod, run);
    }
    if let Some(environment) = &given.environment {
        environment.attach(&mut pod, run);
    }
    let mut job = finish(run, &spec.name, &cell.name, attempt, spec.script().unwrap_or_default(), &options, pod);
    if !agent {
        job.metadata.annotations.get_or_insert_default().insert(names::PLAIN_ANNOTATION.to_owned(), "true".to_owned());
    }
    job
}

/// The Job that reads which commit the run's branch or tag names.
#[must_use]
pub fn resolve_job(run: &RunContext<'_>, attempt: u32) -> Job {
    let timeout = RESOLVE_TIMEOUT;
    let options = PodOptions { priority_class_name: run.settings.priority_class_name.clone(), ..PodOptions::default() };
    let pod = restricted_pod(
        PodSpec {
            containers: vec![pods::resolver(run)],
            volumes: Some(pods::trust_volume(run.settings).into_iter().collect()),
            active_deadline_seconds: i64::try_from((timeout + pods::NET).as_secs()).ok(),
            termination_grace_period_seconds: Some(10),
            ..PodSpec::default()
        },
        Some(&options),
    );
    finish(run, "resolve", names::RESOLVE, attempt, "", &options, pod)
}

/// How long a git server may take to name a commit.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(60);

/// The Job around the pod.
#[must_use]
pub fn finish(
    run: &RunContext<'_>,
    job_name: &str,
    cell: &str,
    attempt: u32,
    script: &str,
    options: &PodOptions,
    pod: PodSpec,
) -> Job {
    let mut labels = names::run_labels(run.name, &run.spec.pipeline_ref.name);
    labels.insert(names::JOB_LABEL.to_owned(), job_name.to_owned());
    let annotations = BTreeMap::from([
        (names::CELL_ANNOTATION.to_owned(), cell.to_owned()),
        (names::ATTEMPT_ANNOTATION.to_owned(), attempt.to_string()),
    ]);
    let mut job = workload::job(JobParts {
        name: names::attempt_name(run.name, run.uid, cell, attempt),
        namespace: run.namespace.to_owned(),
        labels: labels.clone(),
        annotations: annotations.clone(),
        owner: run.owner.clone(),
        pod,
    });
    if let Some(template) = job.spec.as_mut().and_then(|spec| spec.template.metadata.as_mut()) {
        // The operator's own win over the user's. The script stands in the pod alone: the Job need not hold it twice.
        let mut pod_labels = options.labels.clone();
        pod_labels.extend(labels);
        // Whoever names an account is meant to use it.
        let uses_api = options.service_account_name.is_some();
        pod_labels.insert(names::API_LABEL.to_owned(), uses_api.to_string());
        let mut pod_annotations = options.annotations.clone();
        pod_annotations.extend(annotations);
        if !script.is_empty() {
            pod_annotations.insert(names::SCRIPT_ANNOTATION.to_owned(), script.to_owned());
        }
        template.labels = Some(pod_labels);
        template.annotations = Some(pod_annotations);
    }
    job
}

/// The claim of a job with `effects: Once`: made before its Job, so that a Job that vanished is never made again.
///
/// Its owner does not control it, and it holds what was observed: so a claim that another operator made from another
/// observation is a stranger's, not an answer that was lost, and its Job is not made a second time.
#[must_use]
pub fn claim(run: &RunContext<'_>, job_name: &str, cell: &str, observation: &str) -> ConfigMap {
    let mut labels = names::run_labels(run.name, &run.spec.pipeline_ref.name);
    labels.insert(names::JOB_LABEL.to_owned(), job_name.to_owned());
    let owner = run.owner.clone().map(|owner| OwnerReference { controller: None, ..owner });
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::attempt_name(run.name, run.uid, cell, 1)),
            namespace: Some(run.namespace.to_owned()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([
                (names::CELL_ANNOTATION.to_owned(), cell.to_owned()),
                (names::OBSERVATION_ANNOTATION.to_owned(), observation.to_owned()),
            ])),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
