//! Observe: the reads of one reconcile. Nothing is decided here.

mod registry;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt;

use super::assemble::{self, Listed};
use super::names::{self, MAIN_CONTAINER};
use super::observed::{JobView, LiveObject, ObjectKey, ObjectKind, Observed, Purpose, RegistryView};

use super::values::{self, Layer, ValuesError};
use crate::agent::frame;
use crate::agent::report::ContractReport;
use crate::api::release::{TimeTrackerRelease, ValuesKind, ValuesReference};
use crate::api::values::Values;
use crate::cluster::{Cluster, ReadError, patience_left};
use crate::workload::{PodPhase, WaitCause, read_report};

pub use registry::Releases;

/// The most that is read of a contract Job's log: the frame with its base64, and what the app prints before it.
const LOG_LIMIT: u32 = 4 << 20;

/// Everything that one decision takes into account. `None`: the release does not exist (any more).
///
/// # Errors
/// When the API server can't be read. A registry that can't be read is part of the observation.
pub async fn observe(
    cluster: &Cluster,
    releases: &Releases,
    namespace: &str,
    name: &str,
    now: jiff::Timestamp,
) -> Result<Option<Observed>, ReadError> {
    let Some(release) = cluster.get::<TimeTrackerRelease>(namespace, name).await? else {
        return Ok(None);
    };
    let (uid, selector) = (release.uid().unwrap_or_default(), names::selector(name));
    let (revisions, jobs, listed) = futures::try_join!(
        cluster.list::<ControllerRevision>(namespace, &selector),
        cluster.list::<Job>(namespace, &selector),
        objects(cluster, namespace, &selector),
    )?;
    // After the Deployment: that it makes no pods any more must be true of all that is not in this list.
    let pods = cluster.list::<Pod>(namespace, &selector).await?;
    let (revisions, unreadable) = assemble::revisions(revisions, &uid);
    // After the claims: a volume that exists without its Secret must mean that the Secret is lost.
    let (database, key) = (names::postgres(name), names::secret_key(name));
    let (database, key) =
        futures::try_join!(cluster.get::<Secret>(namespace, &database), cluster.get::<Secret>(namespace, &key),)?;
    let mut config_maps = Vec::new();
    for digest in assemble::contracts_needed(&revisions) {
        config_maps.extend(cluster.get::<ConfigMap>(namespace, &names::contract(name, &digest)).await?);
    }
    let contracts = assemble::contracts(&config_maps, &uid);
    let mut views = assemble::jobs(&jobs, &pods, &uid);
    for view in &mut views {
        let known = matches!(&view.purpose, Purpose::Contract(digest) if contracts.contains_key(digest));
        if !known {
            view.contract = contract(cluster, namespace, view, &jobs, &pods).await;
        }
    }
    let mut app_pods = assemble::app_pods(&pods, name);
    for (pod, phase) in views
        .iter_mut()
        .filter_map(|view| {
            let job = jobs.iter().find(|job| job.name_any() == view.name)?;
            Some((assemble::pod_of(job, &pods)?, &mut view.phase))
        })
        .chain(app_pods.iter_mut().filter_map(|app| {
            let pod = pods.iter().find(|pod| pod.name_any() == app.name)?;
            Some((pod, &mut app.phase))
        }))
    {
        tell_what_is_lacking(cluster, namespace, pod, phase, now).await?;
    }
    let mut observed = Observed {
        values: read_values(cluster, namespace, &release).await?,
        settings: releases.settings().clone(),
        registry: RegistryView::Unasked,
        revisions,
        unreadable,
        jobs: views,
        contracts,
        objects: assemble::objects(&listed, &uid),
        pods: app_pods,
        secrets: assemble::secrets(&release, database.as_ref(), key.as_ref(), &uid),
        release,
    };
    for key in observed.unlisted() {
        if let Some(live) = by_name(cluster, namespace, &key, &uid).await? {
            observed.objects.insert(key, live);
        }
    }
    observed.registry = releases.look(cluster, &observed, now).await?;
    Ok(Some(observed))
}

/// Kubelet waits without a word for a Secret or ConfigMap that a volume names: it is looked up and told.
async fn tell_what_is_lacking(
    cluster: &Cluster,
    namespace: &str,
    pod: &Pod,
    phase: &mut PodPhase,
    now: jiff::Timestamp,
) -> Result<(), ReadError> {
    if let PodPhase::Waiting(waiting) = phase
        && waiting.cause == WaitCause::Starting
        && patience_left(waiting.since, now).is_zero()
        && let Some(lacks) = cluster.missing_reference(namespace, pod).await?
    {
        waiting.cause = WaitCause::MissingReference;
        waiting.message = lacks;
    }
    Ok(())
}

/// An object that stands under a name of ours without our labels: somebody else's, or ours with its labels lost.
async fn by_name(
    cluster: &Cluster,
    namespace: &str,
    key: &ObjectKey,
    uid: &str,
) -> Result<Option<LiveObject>, ReadError> {
    let name = &key.name;
    let mut listed = Listed::default();
    match key.kind {
        ObjectKind::ServiceAccount => listed.service_accounts.extend(cluster.get(namespace, name).await?),
        ObjectKind::PersistentVolumeClaim => listed.claims.extend(cluster.get(namespace, name).await?),
        ObjectKind::Service => listed.services.extend(cluster.get(namespace, name).await?),
        ObjectKind::Ingress => listed.ingresses.extend(cluster.get(namespace, name).await?),
        ObjectKind::StatefulSet => listed.stateful_sets.extend(cluster.get(namespace, name).await?),
        ObjectKind::Deployment => listed.deployments.extend(cluster.get(namespace, name).await?),
    }
    Ok(assemble::objects(&listed, uid).remove(key))
}

async fn objects(cluster: &Cluster, namespace: &str, selector: &str) -> Result<Listed, ReadError> {
    let (deployments, stateful_sets, services, service_accounts, claims, ingresses) = futures::try_join!(
        cluster.list(namespace, selector),
        cluster.list(namespace, selector),
        cluster.list(namespace, selector),
        cluster.list(namespace, selector),
        cluster.list(namespace, selector),
        cluster.list(namespace, selector),
    )?;
    Ok(Listed { deployments, stateful_sets, services, service_accounts, claims, ingresses })
}

/// The contract in the log of a contract Job that says it printed one; the report names its digest.
async fn contract(
    cluster: &Cluster,
    namespace: &str,
    view: &JobView,
    jobs: &[Job],
    pods: &[Pod],
) -> Option<Result<String, String>> {
    let (Purpose::Contract(_), PodPhase::Ended(end)) = (&view.purpose, &view.phase) else {
        return None;
    };
    let Ok(ContractReport::Dumped { contract: announced, .. }) = read_report(&end.message) else {
        return None;
    };
    let job = jobs.iter().find(|job| job.name_any() == view.name)?;
    let pod = assemble::pod_of(job, pods)?.name_any();
    let log = match cluster.logs(namespace, &pod, MAIN_CONTAINER, LOG_LIMIT).await {
        Ok(log) => log,
        Err(error) => return Some(Err(error.to_string())),
    };
    Some(match frame::last_in(log.as_bytes(), frame::SCHEMA_CONTRACT) {
        Ok((digest, document)) if digest == announced => {
            String::from_utf8(document).map_err(|_| "the contract is not text".to_owned())
        }
        Ok(_) => Err("the log's contract is not the one that the report names".to_owned()),
        Err(error) => Err(error.to_string()),
    })
}

async fn read_values(
    cluster: &Cluster,
    namespace: &str,
    release: &TimeTrackerRelease,
) -> Result<Result<Values, ValuesError>, ReadError> {
    let mut layers = Vec::new();
    for reference in &release.spec.values_from {
        match layer(cluster, namespace, reference).await? {
            Ok(found) => layers.extend(found),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(values::merge(&layers, release.spec.values.as_ref()))
}

/// The document that a reference names: none when it is optional and missing.
async fn layer(
    cluster: &Cluster,
    namespace: &str,
    reference: &ValuesReference,
) -> Result<Result<Option<Layer>, ValuesError>, ReadError> {
    let key = reference.key.as_deref().unwrap_or("values.yaml");
    let (kind, text) = match reference.kind {
        ValuesKind::ConfigMap => {
            let object = cluster.get::<ConfigMap>(namespace, &reference.name).await?;
            ("ConfigMap", object.and_then(|object| object.data?.remove(key)))
        }
        ValuesKind::Secret => {
            let object = cluster.get::<Secret>(namespace, &reference.name).await?;
            let bytes = object.and_then(|object| object.data?.remove(key));
            ("Secret", bytes.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()))
        }
    };
    let source = format!("{kind} {}, key {key}", reference.name);
    Ok(match text {
        Some(text) => Ok(Some(Layer { source, text })),
        None if reference.optional => Ok(None),
        None => Err(ValuesError::Missing(source)),
    })
}
