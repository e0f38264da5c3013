//! Effects as writes to the API server: the one place where both vocabularies meet.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::decide::Effect;
use super::manifests::{self, CONTRACT_KEY, Generated, SiteParts};
use super::names;
use super::observed::Observed;
use super::revision::{PROGRESS_ANNOTATION, Progress, RevisionData};
use crate::api::names::Digest;
use crate::api::release::ReleaseStatus;
use crate::cluster::{HASH_ANNOTATION, Manifest, ManifestError, Target, Write};

/// The annotation of a ControllerRevision that says in one word how its delivery ended.
pub const OUTCOME_ANNOTATION: &str = "timetracker.dev/outcome";

/// Why an effect can't be written.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// An object can't be written as JSON.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A progress or a revision can't be written as JSON.
    #[error("{what} can't be written as JSON: {source}")]
    Json {
        /// What.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A stored object is of a kind that a release is not made of.
    #[error("a stored manifest is of no known kind, or has no name and namespace")]
    UnknownObject,
}

impl LowerError {
    /// One static word for the condition's reason and the metric's label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Manifest(_) | Self::Json { .. } => "ManifestInvalid",
            Self::UnknownObject => "UnknownObject",
        }
    }
}

/// The writes that make up `effect`, in order. `entropy` is fresh randomness, used by generated Secrets alone.
///
/// # Errors
/// When something can't be written as JSON.
pub fn lower(effect: &Effect, observed: &Observed, entropy: &[u8; 32]) -> Result<Vec<Write>, LowerError> {
    let parts = SiteParts::of(observed);
    let site = parts.site(&observed.release.spec);
    let namespace = observed.namespace();
    let one = |write| Ok(vec![write]);
    match effect {
        Effect::Generate(which) => {
            one(Write::Create(Manifest::of(&manifests::generated_secret(&site, *which, entropy))?))
        }
        Effect::Own { which, owned } => {
            let name = match which {
                Generated::Database => names::postgres(&observed.name()),
                Generated::SecretKey => names::secret_key(&observed.name()),
            };
            let owners = observed.owner().filter(|_| *owned).map(|owner| vec![owner]);
            let patch = json!({ "metadata": { "ownerReferences": owners } });
            one(Write::Merge { target: Target::of::<Secret>(&namespace, &name), patch })
        }
        Effect::Pin { number, data } => {
            one(Write::Create(Manifest::of(&controller_revision(observed, *number, data)?)?))
        }
        Effect::Record { revision, resource_version, progress } => {
            let patch = record(resource_version.as_deref(), progress)?;
            one(Write::Merge { target: Target::of::<ControllerRevision>(&namespace, revision), patch })
        }
        Effect::Apply(body) => one(Write::Apply(manifests::manifest_of(body).ok_or(LowerError::UnknownObject)?)),
        Effect::KeepContract { digest, contract } => {
            one(Write::Create(Manifest::of(&contract_config_map(observed, digest, contract))?))
        }
        Effect::Start(order) => {
            let job = manifests::job(&site, &observed.uid(), &observed.settings, order);
            // With each Job, so that it is there and right whatever happened to it since the last one.
            let trust = manifests::trust(&site, &observed.settings);
            let trust = trust.map(|trust| Manifest::of(&trust)).transpose()?.map(Write::Apply);
            Ok(trust.into_iter().chain([Write::Create(Manifest::of(&job)?)]).collect())
        }
        Effect::Remove { key, uid } => {
            let target = Target { resource: key.kind.resource(), namespace, name: key.name.clone() };
            one(Write::Delete { target, uid: uid.clone() })
        }
        Effect::RemoveJob { name, uid } => {
            one(Write::Delete { target: Target::of::<Job>(&namespace, name), uid: uid.clone() })
        }
        Effect::RemoveRevision { name, uid, contract } => {
            let contract = contract.as_ref().map(|digest| Write::Delete {
                target: Target::of::<ConfigMap>(&namespace, &names::contract(&observed.name(), digest)),
                uid: None,
            });
            let revision =
                Write::Delete { target: Target::of::<ControllerRevision>(&namespace, name), uid: uid.clone() };
            Ok(contract.into_iter().chain([revision]).collect())
        }
        Effect::GrowClaim { name, size } => {
            let patch = json!({ "spec": { "resources": { "requests": { "storage": size } } } });
            one(Write::Merge { target: Target::of::<PersistentVolumeClaim>(&namespace, name), patch })
        }
    }
}

/// The status as a merge patch takes it: what is absent is removed.
#[must_use]
pub fn status_body(status: &ReleaseStatus) -> Value {
    let mut body = json!({
        "current": null, "candidate": null, "history": null, "quarantined": null, "registry": null,
        "lastHandledReconcileAt": null,
    });
    if let (Some(body), Ok(Value::Object(stated))) = (body.as_object_mut(), serde_json::to_value(status)) {
        body.extend(stated);
    }
    // Merged mappings keep the keys that the new ones lack: an optional key of a mapping is named as well.
    for (mapping, keys) in
        [("current", &["tag"][..]), ("candidate", &["tag", "verdict"]), ("registry", &["newestSeen", "seenTime"])]
    {
        if let Some(map) = body.get_mut(mapping).and_then(Value::as_object_mut) {
            for key in keys {
                map.entry((*key).to_owned()).or_insert(Value::Null);
            }
        }
    }
    body
}

/// The word for people who read the ControllerRevision itself.
fn outcome(progress: &Progress) -> &'static str {
    match progress {
        Progress::Pinned | Progress::Inspected { .. } | Progress::Migrated { .. } => "UnderWay",
        Progress::Delivered { .. } => "Delivered",
        Progress::Failed { .. } | Progress::Returning { .. } => "GoingBack",
        Progress::Ended { outcome, .. } => match outcome {
            crate::api::release::Outcome::Delivered => "Delivered",
            crate::api::release::Outcome::TakenBack => "TakenBack",
            crate::api::release::Outcome::Refused => "Refused",
        },
        Progress::Stuck { .. } => "Stalled",
        Progress::Superseded { .. } => "Superseded",
    }
}

fn progress_annotations(progress: &Progress) -> Result<BTreeMap<String, String>, LowerError> {
    let text =
        serde_json::to_string(progress).map_err(|source| LowerError::Json { what: "a revision's progress", source })?;
    let annotations = [(PROGRESS_ANNOTATION, text), (OUTCOME_ANNOTATION, outcome(progress).to_owned())];
    Ok(annotations.map(|(key, value)| (key.to_owned(), value)).into())
}

fn record(resource_version: Option<&str>, progress: &Progress) -> Result<Value, LowerError> {
    let mut metadata = json!({ "annotations": progress_annotations(progress)? });
    // Makes the patch conditional: onto anything else than what was seen, nothing is recorded.
    if let (Some(version), Some(metadata)) = (resource_version, metadata.as_object_mut()) {
        metadata.insert("resourceVersion".to_owned(), Value::String(version.to_owned()));
    }
    Ok(json!({ "metadata": metadata }))
}

fn controller_revision(
    observed: &Observed,
    number: i64,
    data: &RevisionData,
) -> Result<ControllerRevision, LowerError> {
    let value = serde_json::to_value(data).map_err(|source| LowerError::Json { what: "a revision", source })?;
    let mut annotations = progress_annotations(&Progress::Pinned)?;
    annotations.insert(HASH_ANNOTATION.to_owned(), data.content.short().to_owned());
    Ok(ControllerRevision {
        metadata: ObjectMeta {
            name: Some(names::revision(&observed.name(), number)),
            namespace: Some(observed.namespace()),
            labels: Some(names::labels(&observed.name(), "revision")),
            annotations: Some(annotations),
            owner_references: observed.owner().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(k8s_openapi::apimachinery::pkg::runtime::RawExtension(value)),
        revision: number,
    })
}

fn contract_config_map(observed: &Observed, digest: &Digest, contract: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::contract(&observed.name(), digest)),
            namespace: Some(observed.namespace()),
            labels: Some(names::labels(&observed.name(), "contract")),
            annotations: Some(BTreeMap::from([
                (names::DIGEST_ANNOTATION.to_owned(), digest.to_string()),
                (HASH_ANNOTATION.to_owned(), Digest::of(contract.as_bytes()).short().to_owned()),
            ])),
            owner_references: observed.owner().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(CONTRACT_KEY.to_owned(), contract.to_owned())])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}
