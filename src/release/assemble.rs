//! From the API server's objects to what a decision sees. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use super::manifests::{CONTRACT_KEY, secret_state};
use super::names::{
    self, APP_COMPONENT, APP_CONTAINER, ATTEMPT_ANNOTATION, DATABASE_URL_KEY, DIGEST_ANNOTATION, JOB_NAME_LABEL,
    MAIN_CONTAINER, PASSWORD_KEY, PURPOSE_ANNOTATION, SECRET_KEY_KEY,
};
use super::observed::{
    AppPod, GeneratedSecrets, JobView, LiveObject, ObjectKey, ObjectKind, Purpose, SecretState, is_embedded,
};
use super::revision::{PROGRESS_ANNOTATION, Progress, Revision, RevisionData, UnreadableRevision};
use crate::api::conditions::printable;
use crate::api::names::Digest;
use crate::api::release::TimeTrackerRelease;
use crate::cluster::Manifest;
use crate::schema::SchemaContract;
use crate::workload::{PodPhase, pod_phase};

/// The objects with a release's labels, as they were listed.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// Deployments.
    pub deployments: Vec<Deployment>,
    /// StatefulSets.
    pub stateful_sets: Vec<StatefulSet>,
    /// Services.
    pub services: Vec<Service>,
    /// ServiceAccounts.
    pub service_accounts: Vec<ServiceAccount>,
    /// Claims.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Ingresses.
    pub ingresses: Vec<Ingress>,
}

/// Whether `object`'s controller is the release with this uid. A label alone proves nothing: anyone can set it.
pub fn is_owned<K: Resource>(object: &K, uid: &str) -> bool {
    object.meta().owner_references.iter().flatten().any(|owner| owner.uid == uid && owner.controller == Some(true))
}

/// The listed objects by kind and name.
#[must_use]
pub fn objects(listed: &Listed, uid: &str) -> BTreeMap<ObjectKey, LiveObject> {
    let mut found = BTreeMap::new();
    add(&mut found, ObjectKind::Deployment, &listed.deployments, uid);
    add(&mut found, ObjectKind::StatefulSet, &listed.stateful_sets, uid);
    add(&mut found, ObjectKind::Service, &listed.services, uid);
    add(&mut found, ObjectKind::ServiceAccount, &listed.service_accounts, uid);
    add(&mut found, ObjectKind::PersistentVolumeClaim, &listed.claims, uid);
    add(&mut found, ObjectKind::Ingress, &listed.ingresses, uid);
    found
}

fn add<K>(found: &mut BTreeMap<ObjectKey, LiveObject>, kind: ObjectKind, listed: &[K], uid: &str)
where
    K: Resource<DynamicType = ()> + Serialize,
{
    for object in listed {
        let Ok(manifest) = Manifest::of(object) else {
            continue;
        };
        let mut body = manifest.body;
        // A manifest has no status; an observation does.
        let status = serde_json::to_value(object).ok().and_then(|whole| whole.get("status").cloned());
        if let (Some(status), Some(map)) = (status, body.as_object_mut()) {
            map.insert("status".to_owned(), status);
        }
        let live = LiveObject { uid: object.meta().uid.clone(), owned: is_owned(object, uid), body };
        found.insert(ObjectKey { kind, name: object.name_any() }, live);
    }
}

/// The release's own revisions, those that can be read and those that can't, each oldest first.
#[must_use]
pub fn revisions(listed: Vec<ControllerRevision>, uid: &str) -> (Vec<Revision>, Vec<UnreadableRevision>) {
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for stored in listed.into_iter().filter(|stored| is_owned(stored, uid)) {
        match revision(stored) {
            Ok(revision) => found.push(revision),
            Err(revision) => unreadable.push(revision),
        }
    }
    found.sort_by_key(|revision| revision.number);
    unreadable.sort_by_key(|revision| revision.number);
    (found, unreadable)
}

/// A revision is made with its progress. One without lost it, and may have been delivered long ago.
fn revision(stored: ControllerRevision) -> Result<Revision, UnreadableRevision> {
    let unreadable = |cause: String, digest| UnreadableRevision {
        name: stored.name_any(),
        number: stored.revision,
        created: stored.metadata.creation_timestamp.as_ref().map(|time| time.0),
        cause: printable(&cause, 200),
        digest,
    };
    let held = stored.data.clone().map(|data| serde_json::from_value::<RevisionData>(data.0));
    let data = match held {
        Some(Ok(data)) => data,
        Some(Err(error)) => return Err(unreadable(format!("its data is of another form ({error})"), None)),
        None => return Err(unreadable("it has no data".to_owned(), None)),
    };
    let progress = match stored.annotations().get(PROGRESS_ANNOTATION).map(|text| serde_json::from_str(text)) {
        Some(Ok(progress)) => progress,
        Some(Err(error)) => {
            let cause = format!("its annotation {PROGRESS_ANNOTATION} is not known here ({error})");
            return Err(unreadable(cause, Some(data.target.digest)));
        }
        None => {
            return Err(unreadable(format!("it has no annotation {PROGRESS_ANNOTATION}"), Some(data.target.digest)));
        }
    };
    Ok(Revision {
        name: stored.name_any(),
        number: stored.revision,
        uid: stored.uid(),
        resource_version: stored.resource_version(),
        data,
        progress,
    })
}

/// The release's own Jobs with their pods.
#[must_use]
pub fn jobs(listed: &[Job], pods: &[Pod], uid: &str) -> Vec<JobView> {
    listed.iter().filter(|job| is_owned(*job, uid)).filter_map(|job| view(job, pods)).collect()
}

fn view(job: &Job, pods: &[Pod]) -> Option<JobView> {
    let name = job.name_any();
    let purpose = Purpose::parse(job.annotations().get(PURPOSE_ANNOTATION)?)?;
    let attempt = job.annotations().get(ATTEMPT_ANNOTATION)?.parse().ok()?;
    let pod = pod_of(job, pods);
    Some(JobView {
        purpose,
        attempt,
        phase: pod_phase(job, pod, MAIN_CONTAINER),
        created: job.metadata.creation_timestamp.as_ref().map(|time| time.0),
        uid: job.uid(),
        contract: None,
        name,
    })
}

/// The pod of a Job: one with its label and its uid as controller.
#[must_use]
pub fn pod_of<'a>(job: &Job, pods: &'a [Pod]) -> Option<&'a Pod> {
    let (name, uid) = (job.name_any(), job.uid()?);
    pods.iter().find(|pod| pod.labels().get(JOB_NAME_LABEL) == Some(&name) && is_owned(*pod, &uid))
}

/// The pods with the labels of the application's.
#[must_use]
pub fn app_pods(pods: &[Pod], release: &str) -> Vec<AppPod> {
    let wanted = names::pod_labels(release, APP_COMPONENT);
    let is_app = |pod: &&Pod| {
        let labels = pod.labels();
        wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    pods.iter().filter(is_app).map(app_pod).collect()
}

fn app_pod(pod: &Pod) -> AppPod {
    let container = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .find(|container| container.name == APP_CONTAINER);
    let trouble = container.and_then(|container| {
        let waits = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let ended = ended.map(|ended| {
            let words = ended.message.as_deref().or(ended.reason.as_deref()).unwrap_or_default();
            format!("exit code {}: {}", ended.exit_code, crate::api::conditions::printable(words, 200))
        });
        ended.or_else(|| waits.and_then(|waits| waits.message.clone().or_else(|| waits.reason.clone())))
    });
    // Time without a node or an image is not the digest's: what it takes to get ready counts from its container's start.
    let started = container.and_then(|container| {
        let state = container.state.as_ref();
        let runs = state.and_then(|state| state.running.as_ref()?.started_at.as_ref());
        let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref()?.started_at.as_ref());
        let ended = state.and_then(|state| state.terminated.as_ref()?.started_at.as_ref());
        [runs, last, ended].into_iter().flatten().map(|time| time.0).min()
    });
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    let is_replica_set = |owner: &OwnerReference| owner.kind == "ReplicaSet" && owner.controller == Some(true);
    AppPod {
        name: pod.name_any(),
        digest: pod.annotations().get(DIGEST_ANNOTATION).and_then(|digest| digest.parse().ok()),
        content: pod.annotations().get(super::manifests::TEMPLATE_ANNOTATION).cloned(),
        created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        started,
        phase: app_phase(pod),
        ready: container.is_some_and(|container| container.ready),
        restarts: container.map_or(0, |container| container.restart_count),
        trouble,
        terminating: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        // Evicted pods stay as objects: nothing waits for those.
        over: matches!(phase.as_deref(), Some("Succeeded" | "Failed")),
        controlled: pod.owner_references().iter().any(is_replica_set),
    }
}

fn app_phase(pod: &Pod) -> PodPhase {
    pod_phase(&Job::default(), Some(pod), APP_CONTAINER)
}

/// The contracts in these ConfigMaps, by image. Only the release's own count.
#[must_use]
pub fn contracts(config_maps: &[ConfigMap], uid: &str) -> BTreeMap<Digest, SchemaContract> {
    let read = |config_map: &ConfigMap| {
        let digest = config_map.annotations().get(DIGEST_ANNOTATION)?.parse().ok()?;
        let text = config_map.data.as_ref()?.get(CONTRACT_KEY)?;
        Some((digest, serde_json::from_str(text).ok()?))
    };
    config_maps.iter().filter(|config_map| is_owned(*config_map, uid)).filter_map(read).collect()
}

/// The images whose contracts the delivery under way needs: its own, that of what runs, and those it may go back to.
#[must_use]
pub fn contracts_needed(revisions: &[Revision]) -> BTreeSet<Digest> {
    let Some(under_way) = revisions.iter().rev().find(|revision| revision.progress.is_under_way()) else {
        return BTreeSet::new();
    };
    let delivered = revisions
        .iter()
        .rev()
        .filter(|revision| matches!(revision.progress, Progress::Delivered { .. }))
        .take(2)
        .map(|revision| revision.data.target.digest.clone());
    let rolled_out = |revision: &&Revision| matches!(revision.progress, Progress::Superseded { rolled_out: true, .. });
    let superseded = revisions.iter().rev().find(rolled_out).map(|revision| revision.data.target.digest.clone());
    delivered.chain(superseded).chain([under_way.data.target.digest.clone()]).collect()
}

/// Which generated Secrets the release needs.
#[must_use]
pub fn secrets_needed(release: &TimeTrackerRelease) -> (bool, bool) {
    (is_embedded(release.spec.database.as_ref()), release.spec.secret_key_from.is_none())
}

/// How the generated Secrets stand.
#[must_use]
pub fn secrets(
    release: &TimeTrackerRelease,
    database: Option<&Secret>,
    key: Option<&Secret>,
    uid: &str,
) -> GeneratedSecrets {
    let (needs_database, needs_key) = secrets_needed(release);
    GeneratedSecrets {
        database: if needs_database {
            secret_state(database, &[PASSWORD_KEY, DATABASE_URL_KEY], uid)
        } else {
            SecretState::NotNeeded
        },
        key: if needs_key { secret_state(key, &[SECRET_KEY_KEY], uid) } else { SecretState::NotNeeded },
    }
}
