//! Reads everything that a decision about one run needs.

use std::collections::{BTreeMap, BTreeSet};

use futures::try_join;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::{Resource as _, ResourceExt};

use super::attempts::pod_of;
use super::concurrency::Rival;
use super::definition::Definition;
use super::environments::flight::Flight;
use super::history::Finished;
use super::outline::{OfJob, OfPod};
use super::plain_logs::owes_log;
use super::queue::{Queue, Waiting, takes_room};
use super::reuse::Reused;
use super::revisions::Revisions;
use super::settings::Settings;
use super::{begin, names, surroundings};
use crate::api::job::Effects;
use crate::api::pipeline::Pipeline;
use crate::api::run::PipelineRun;
use crate::api::source::SourceRepository;
use crate::cluster::{Cluster, ReadError, patience_left};
use crate::logs::{Keeper, Standing};
use crate::workload::job_is_finished;

/// The world around one run.
///
/// The run is read first, then Jobs, then pods: a Job that the run's status names and that is not listed was deleted,
/// and a finished Job whose pod is not listed lost it.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The run.
    pub run: PipelineRun,
    /// Its pipeline, read only as long as the run has not begun.
    pub pipeline: Option<Pipeline>,
    /// The pipeline's repository, read only as long as the run has not begun.
    pub repository: Option<SourceRepository>,
    /// The revision that the run executes, or would execute.
    pub revision: Option<ControllerRevision>,
    /// The Jobs that the run controls.
    pub jobs: Vec<Job>,
    /// The pods of those Jobs that are not told by [`is_told`].
    pub pods: Vec<Pod>,
    /// What pods that don't start lack, by the pods' names.
    pub lacking: BTreeMap<String, String>,
    /// Why the Job controller makes no pod, by the names of Jobs that wait for one.
    pub unmade: BTreeMap<String, String>,
    /// Why a quota refused the Jobs of these names just now: they are not tried again in this decision.
    pub held: BTreeMap<String, String>,
    /// The claims that the run controls.
    pub claims: Vec<ConfigMap>,
    /// The hash of the trusted authorities in the namespace.
    pub trust: Option<String>,
    /// The hash of the NetworkPolicy in the namespace.
    pub policy: Option<String>,
    /// What takes room and who waits for it, read only when the run's turn to start Jobs has come.
    pub queue: Option<Queue>,
    /// Other runs that make an environment which this one would install, read only when its turn to do so has come.
    pub flights: Option<Vec<Flight>>,
    /// Finished runs of the pipeline that may be too many, read only when this one ends.
    pub history: Option<Vec<Finished>>,
    /// What the run took over from an earlier one, once that is written down.
    pub reused: Option<Reused>,
    /// The earlier run, read only until what is taken over is written down.
    pub earlier: Option<Box<Self>>,
    /// The other unfinished runs of its concurrency group, read only as long as the run has not begun.
    pub rivals: Vec<Rival>,
    /// How the logs of plain pods stand, by the uids of their Jobs; `None`: this operator keeps none.
    pub logs: Option<BTreeMap<String, Standing>>,
}

impl Observed {
    /// Reads the world around a run; `None` when there is no such run.
    ///
    /// # Errors
    /// When the API server refuses or does not answer. Then nothing is decided.
    pub async fn read(
        cluster: &Cluster,
        revisions: &Revisions,
        logs: Option<&Keeper>,
        namespace: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Option<Self>, ReadError> {
        let Some(run) = cluster.get::<PipelineRun>(namespace, name).await? else {
            return Ok(None);
        };
        let mut observed = Self::alone(run);
        let is_over = observed.marked(names::OUTCOME_ANNOTATION).is_some();
        let begun = observed.marked(names::REVISION_ANNOTATION);
        observed.read_reused(cluster, namespace).await?;
        if let Some(revision) = &begun {
            observed.read_revision(cluster, revisions, namespace, revision).await?;
        }
        // A run that has begun executes its revision; only should that be lost is the pipeline asked again.
        if observed.revision.is_none() && !is_over {
            observed.read_definition(cluster, namespace).await?;
        }
        if begun.is_none() {
            if !is_over {
                observed.read_surroundings(cluster, namespace).await?;
                observed.read_rivals(cluster, namespace).await?;
                observed.read_earlier(cluster, namespace).await?;
            }
            return Ok(Some(observed));
        }
        observed.read_children(cluster, logs, namespace, name).await?;
        if !is_over {
            observed.ask_what_is_lacking(cluster, namespace, now).await?;
        }
        Ok(Some(observed))
    }

    /// Reads what other runs may have changed while this one waited for its turn. `environments` are those that it would
    /// install.
    ///
    /// # Errors
    /// When the API server refuses or does not answer. Then nothing is decided.
    pub async fn take_turn(
        &mut self,
        cluster: &Cluster,
        settings: &Settings,
        environments: &BTreeSet<String>,
    ) -> Result<(), ReadError> {
        let namespace = self.run.metadata.namespace.clone().unwrap_or_default();
        if self.marked(names::REVISION_ANNOTATION).is_some() {
            self.queue = Some(queue(cluster, settings).await?);
            return self.read_flights(cluster, &namespace, environments).await;
        }
        self.read_rivals(cluster, &namespace).await
    }

    async fn read_flights(
        &mut self,
        cluster: &Cluster,
        namespace: &str,
        environments: &BTreeSet<String>,
    ) -> Result<(), ReadError> {
        let own = self.run.metadata.uid.clone().unwrap_or_default();
        let mut flights = Vec::new();
        for key in environments {
            let jobs = cluster.list_lean::<Job, OfJob>(namespace, &names::environment_selector(key)).await?;
            for flight in Flight::among(&jobs, &own) {
                let run = cluster.get::<PipelineRun>(namespace, &flight.run).await?;
                if flight.goes_on(run.as_ref()) {
                    flights.push(flight);
                }
            }
        }
        self.flights = Some(flights);
        Ok(())
    }

    /// Reads which finished runs of the pipeline there are, if this one counts among them.
    ///
    /// # Errors
    /// When the API server refuses or does not answer. Then nothing is decided.
    pub async fn read_history(&mut self, cluster: &Cluster) -> Result<(), ReadError> {
        let labels = self.run.metadata.labels.as_ref();
        if labels.is_some_and(|labels| labels.contains_key(names::EVENT_LABEL)) {
            let namespace = self.run.metadata.namespace.clone().unwrap_or_default();
            let selector = names::history_selector(&self.run.spec.pipeline_ref.name);
            let runs = cluster.list_guarded::<PipelineRun>(Some(&namespace), &selector).await?;
            // What can't be read is never deleted.
            self.history = Some(runs.iter().filter_map(|run| Finished::of(run.0.as_ref().ok()?)).collect());
        }
        Ok(())
    }

    async fn read_revision(
        &mut self,
        cluster: &Cluster,
        revisions: &Revisions,
        namespace: &str,
        name: &str,
    ) -> Result<(), ReadError> {
        let run = self.run.metadata.uid.as_deref().unwrap_or_default();
        self.revision = revisions.get(run, name);
        if self.marked(names::OUTCOME_ANNOTATION).is_some() {
            revisions.forget(run);
        }
        if self.revision.is_none() {
            self.revision = cluster.get(namespace, name).await?;
            if let Some(revision) = self.revision.as_ref().filter(|_| self.marked(names::OUTCOME_ANNOTATION).is_none())
            {
                revisions.remember(run, revision);
            }
        }
        Ok(())
    }

    async fn read_reused(&mut self, cluster: &Cluster, namespace: &str) -> Result<(), ReadError> {
        if self.run.spec.rerun_of.is_some() {
            let kept: Option<ConfigMap> = cluster.get(namespace, &Reused::name(&self.run)).await?;
            self.reused = kept.and_then(|kept| Reused::read(&kept, &self.run));
        }
        Ok(())
    }

    /// The earlier run with all that tells how its jobs ended.
    async fn read_earlier(&mut self, cluster: &Cluster, namespace: &str) -> Result<(), ReadError> {
        let Some(reference) = self.run.spec.rerun_of.as_ref().filter(|_| self.reused.is_none()) else {
            return Ok(());
        };
        let Some(run) = cluster.get::<PipelineRun>(namespace, &reference.name).await? else {
            return Ok(());
        };
        let mut earlier = Self::alone(run);
        if let Some(revision) = earlier.marked(names::REVISION_ANNOTATION) {
            earlier.revision = cluster.get(namespace, &revision).await?;
            earlier.read_reused(cluster, namespace).await?;
            earlier.read_children(cluster, None, namespace, &reference.name).await?;
        }
        self.earlier = Some(Box::new(earlier));
        Ok(())
    }

    async fn read_rivals(&mut self, cluster: &Cluster, namespace: &str) -> Result<(), ReadError> {
        let labels = self.run.metadata.labels.as_ref();
        let Some(group) = labels.and_then(|labels| labels.get(names::GROUP_LABEL)) else {
            return Ok(());
        };
        let runs = cluster.list_guarded::<PipelineRun>(Some(namespace), &names::group_selector(group)).await?;
        let others = runs.iter().filter(|run| run.meta().uid != self.run.metadata.uid);
        let rivals = others.filter_map(|run| Some((run.0.is_ok(), Rival::of(run)?)));
        // One that can't be decoded never begins, so nobody waits for it. When it has begun, its Jobs may run.
        self.rivals = rivals.filter(|(readable, rival)| *readable || rival.begun).map(|(_, rival)| rival).collect();
        Ok(())
    }

    /// The run alone, before anything around it was read.
    #[must_use]
    pub fn alone(run: PipelineRun) -> Self {
        Self {
            run,
            pipeline: None,
            repository: None,
            revision: None,
            jobs: Vec::new(),
            pods: Vec::new(),
            lacking: BTreeMap::new(),
            unmade: BTreeMap::new(),
            held: BTreeMap::new(),
            claims: Vec::new(),
            trust: None,
            policy: None,
            queue: None,
            flights: None,
            history: None,
            reused: None,
            earlier: None,
            rivals: Vec::new(),
            logs: None,
        }
    }

    fn marked(&self, annotation: &str) -> Option<String> {
        self.run.metadata.annotations.as_ref()?.get(annotation).cloned()
    }

    async fn read_definition(&mut self, cluster: &Cluster, namespace: &str) -> Result<(), ReadError> {
        self.pipeline = cluster.get(namespace, &self.run.spec.pipeline_ref.name).await?;
        let reference = self.pipeline.as_ref().and_then(|pipeline| pipeline.spec.repository_ref.as_ref());
        if let Some(reference) = reference {
            self.repository = cluster.get(namespace, &reference.name).await?;
        }
        if let Some(name) = begin::revision_wanted(self) {
            self.revision = cluster.get(namespace, &name).await?;
        }
        Ok(())
    }

    async fn read_surroundings(&mut self, cluster: &Cluster, namespace: &str) -> Result<(), ReadError> {
        let trust = cluster.metadata::<ConfigMap>(namespace, names::TRUST_CONFIG_MAP).await?;
        let policy = cluster.metadata::<NetworkPolicy>(namespace, names::NETWORK_POLICY).await?;
        self.trust = trust.and_then(|found| surroundings::content(&found).map(str::to_owned));
        self.policy = policy.and_then(|found| surroundings::content(&found).map(str::to_owned));
        Ok(())
    }

    /// Pods that should have started by now are asked for the objects that their volumes name, Jobs that should have a pod
    /// for the reason that they have none.
    async fn ask_what_is_lacking(
        &mut self,
        cluster: &Cluster,
        namespace: &str,
        now: Timestamp,
    ) -> Result<(), ReadError> {
        for pod in self.pods.iter().filter(|pod| is_starting(pod)) {
            let since = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            if !patience_left(since, now).is_zero() {
                continue;
            }
            if let Some(lacks) = cluster.missing_reference(namespace, pod).await? {
                self.lacking.insert(pod.name_any(), lacks);
            }
        }
        for job in self.jobs.iter().filter(|job| takes_room(job) && pod_of(job, &self.pods).is_none()) {
            let since = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
            if !patience_left(since, now).is_zero() {
                continue;
            }
            if let Some(why) = cluster.why_unmade(job).await? {
                self.unmade.insert(job.name_any(), why);
            }
        }
        Ok(())
    }

    /// Only of Jobs of which not everything is known or kept: in the course of a long run they become few.
    async fn read_pods(&mut self, cluster: &Cluster, namespace: &str, name: &str) -> Result<(), ReadError> {
        let open: Vec<&Job> =
            self.jobs.iter().filter(|job| !is_told(job) || owes_log(job, self.logs.as_ref())).collect();
        if open.is_empty() {
            return Ok(());
        }
        let selector = names::pods_selector(name, open.iter().map(|job| job.name_any()));
        let mut pods = cluster.list_lean::<Pod, OfPod>(namespace, &selector).await?;
        let uids: Vec<&str> = open.iter().filter_map(|job| job.metadata.uid.as_deref()).collect();
        pods.retain(|pod| uids.iter().any(|uid| is_owned(&pod.metadata, uid)));
        self.pods = pods;
        Ok(())
    }

    /// Jobs before pods: the order that makes the absence of a pod mean something.
    async fn read_children(
        &mut self,
        cluster: &Cluster,
        logs: Option<&Keeper>,
        namespace: &str,
        name: &str,
    ) -> Result<(), ReadError> {
        let selector = names::run_selector(name);
        let uid = self.run.metadata.uid.clone().unwrap_or_default();
        self.jobs = cluster.list_lean::<Job, OfJob>(namespace, &selector).await?;
        self.jobs.retain(|job| is_owned(&job.metadata, &uid));
        self.logs = logs.map(|logs| logs.standing(self.jobs.iter().filter_map(|job| job.metadata.uid.as_deref())));
        self.read_pods(cluster, namespace, name).await?;
        let definition = self.revision.as_ref().and_then(|revision| Definition::read(revision).ok());
        let claims = definition.is_none_or(|definition| {
            let pipeline = definition.pipeline;
            pipeline.jobs.iter().chain(&pipeline.finally).any(|job| job.effects == Some(Effects::Once))
        });
        if claims {
            self.claims = cluster.list::<ConfigMap>(namespace, &selector).await?;
            self.claims.retain(|claim| is_owned(&claim.metadata, &uid));
        }
        Ok(())
    }
}

/// Whether the Job's pod can tell nothing more: its result is written down, and no container of it runs.
#[must_use]
pub fn is_told(job: &Job) -> bool {
    job.annotations().contains_key(names::RESULT_ANNOTATION) && job_is_finished(job)
}

/// Whether the pod has a node, and none of its containers has been made yet.
fn is_starting(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let pending = status.and_then(|status| status.phase.as_deref()) == Some("Pending");
    let on_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    pending && on_node && pod.metadata.deletion_timestamp.is_none()
}

/// Whether an owner is the object of that uid: what a user made with our labels is not ours.
fn is_owned(metadata: &ObjectMeta, uid: &str) -> bool {
    metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

/// What takes room now, and who waits for it. With `watchNamespaces` only those count: no others can be read.
async fn queue(cluster: &Cluster, settings: &Settings) -> Result<Queue, ReadError> {
    let (mut jobs, mut runs): (Vec<Job>, Vec<DeserializeGuard<PipelineRun>>) = (Vec::new(), Vec::new());
    if settings.watch_namespaces.is_empty() {
        (jobs, runs) = try_join!(
            cluster.list_everywhere::<Job, OfJob>(names::BUSY_SELECTOR),
            cluster.list_guarded(None, names::WAITING_LABEL)
        )?;
    }
    for namespace in &settings.watch_namespaces {
        let (here, waiting) = try_join!(
            cluster.list_lean::<Job, OfJob>(namespace, names::BUSY_SELECTOR),
            cluster.list_guarded(Some(namespace), names::WAITING_LABEL)
        )?;
        jobs.extend(here);
        runs.extend(waiting);
    }
    // One that can't be decoded starts nothing, so it keeps no place.
    let waiting = runs.iter().filter_map(|run| Waiting::of(run.0.as_ref().ok()?)).collect();
    let mut queue = Queue { waiting, ..Queue::default() };
    for job in jobs.into_iter().filter(takes_room) {
        let name = job.name_any();
        queue.busy.entry(job.metadata.namespace.unwrap_or_default()).or_default().insert(name);
    }
    Ok(queue)
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
