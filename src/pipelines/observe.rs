//! Reads everything that a decision about one run needs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::core::ObjectMeta;

use super::definition::Definition;
use super::settings::Settings;
use super::{begin, names, surroundings};
use crate::api::job::Effects;
use crate::api::pipeline::Pipeline;
use crate::api::run::PipelineRun;
use crate::api::source::SourceRepository;
use crate::cluster::{Cluster, ReadError, patience_left};

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
    /// The pods of those Jobs.
    pub pods: Vec<Pod>,
    /// What pods that don't start lack, by the pods' names.
    pub lacking: BTreeMap<String, String>,
    /// The claims that the run controls.
    pub claims: Vec<ConfigMap>,
    /// The hash of the trusted authorities in the namespace.
    pub trust: Option<String>,
    /// The hash of the NetworkPolicy in the namespace.
    pub policy: Option<String>,
    /// Room for Jobs.
    pub room: Room,
}

/// How many Jobs may still be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Unfinished Jobs of all runs in the namespace.
    pub in_namespace: u32,
    /// Unfinished Jobs of all runs everywhere.
    pub everywhere: u32,
}

impl Observed {
    /// Reads the world around a run; `None` when there is no such run.
    ///
    /// # Errors
    /// When the API server refuses or does not answer. Then nothing is decided.
    pub async fn read(
        cluster: &Cluster,
        settings: &Settings,
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
        if let Some(revision) = &begun {
            observed.revision = cluster.get(namespace, revision).await?;
        }
        // A run that has begun executes its revision; only should that be lost is the pipeline asked again.
        if observed.revision.is_none() && !is_over {
            observed.read_definition(cluster, namespace).await?;
        }
        if begun.is_none() {
            if !is_over {
                observed.read_surroundings(cluster, namespace).await?;
            }
            return Ok(Some(observed));
        }
        observed.read_children(cluster, namespace, name).await?;
        if !is_over {
            observed.ask_what_is_lacking(cluster, namespace, now).await?;
            observed.room = busy(cluster, settings, namespace).await?;
        }
        Ok(Some(observed))
    }

    /// The run alone, before anything around it was read.
    fn alone(run: PipelineRun) -> Self {
        Self {
            run,
            pipeline: None,
            repository: None,
            revision: None,
            jobs: Vec::new(),
            pods: Vec::new(),
            lacking: BTreeMap::new(),
            claims: Vec::new(),
            trust: None,
            policy: None,
            room: Room { in_namespace: 0, everywhere: 0 },
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
        let trust: Option<ConfigMap> = cluster.get(namespace, names::TRUST_CONFIG_MAP).await?;
        let policy: Option<NetworkPolicy> = cluster.get(namespace, names::NETWORK_POLICY).await?;
        self.trust = trust.and_then(|found| surroundings::content(&found.metadata).map(str::to_owned));
        self.policy = policy.and_then(|found| surroundings::content(&found.metadata).map(str::to_owned));
        Ok(())
    }

    /// Pods that should have started by now are asked for the objects that their volumes name.
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
        Ok(())
    }

    /// Jobs before pods: the order that makes the absence of a pod mean something.
    async fn read_children(&mut self, cluster: &Cluster, namespace: &str, name: &str) -> Result<(), ReadError> {
        let selector = names::run_selector(name);
        let uid = self.run.metadata.uid.clone().unwrap_or_default();
        self.jobs = cluster.list::<Job>(namespace, &selector).await?;
        self.jobs.retain(|job| is_owned(&job.metadata, &uid));
        let jobs: Vec<String> = self.jobs.iter().filter_map(|job| job.metadata.uid.clone()).collect();
        self.pods = cluster.list::<Pod>(namespace, &selector).await?;
        self.pods.retain(|pod| jobs.iter().any(|job| is_owned(&pod.metadata, job)));
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

/// How many Jobs take room now. With `watchNamespaces` only those count: no others can be read.
async fn busy(cluster: &Cluster, settings: &Settings, namespace: &str) -> Result<Room, ReadError> {
    let count = |jobs: &[Job]| u32::try_from(jobs.len()).unwrap_or(u32::MAX);
    if settings.watch_namespaces.is_empty() {
        let all = cluster.list_everywhere::<Job>(names::BUSY_SELECTOR).await?;
        let here: Vec<Job> =
            all.iter().filter(|job| job.metadata.namespace.as_deref() == Some(namespace)).cloned().collect();
        return Ok(Room { in_namespace: count(&here), everywhere: count(&all) });
    }
    let own = count(&cluster.list::<Job>(namespace, names::BUSY_SELECTOR).await?);
    let mut everywhere = own;
    for other in settings.watch_namespaces.iter().filter(|other| other.as_str() != namespace) {
        let found = cluster.list::<Job>(other, names::BUSY_SELECTOR).await?;
        everywhere = everywhere.saturating_add(count(&found));
    }
    Ok(Room { in_namespace: own, everywhere })
}
