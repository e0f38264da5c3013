//! Everything that a release applies, built from typed objects: the application, the embedded database, the Jobs.

mod app;
mod database;
mod drained;
mod drift;
mod environment;
mod jobs;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::api::ApiResource;
use serde::Serialize;
use serde_json::Value;

pub use app::{TEMPLATE_ANNOTATION, application, deployment_replicas, environment_of, template_hash};
pub use database::{Generated, database, database_size, generated_secret, secret_state};
pub use drained::{DRAINED_ANNOTATION, drained, drained_replicas, pods_wanted};
pub use drift::{differs, hash_of, is_at_hash};
pub(super) use jobs::CONTRACT_KEY;
pub use jobs::{JobOrder, job, trust};

use super::names;
use super::observed::{ObjectKey, ObjectKind, Observed};
use crate::api::names::Digest;
use crate::api::release::{DeletionPolicy, TimeTrackerReleaseSpec};
use crate::cluster::{HASH_ANNOTATION, Manifest, ManifestError};

/// Whose objects are built.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The release's name.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its ownerReference.
    pub owner: Option<&'a OwnerReference>,
    /// Its specification.
    pub spec: &'a TimeTrackerReleaseSpec,
}

impl Site<'_> {
    fn metadata(&self, name: &str, component: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.to_owned()),
            labels: Some(names::labels(self.name, component)),
            owner_references: self.owner.cloned().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        }
    }

    /// Metadata of what holds data: under `Retain` it doesn't go with the release.
    fn data_metadata(&self, name: &str, component: &str) -> ObjectMeta {
        let owner_references = match self.spec.deletion_policy {
            DeletionPolicy::Retain => None,
            DeletionPolicy::Delete => self.owner.cloned().map(|owner| vec![owner]),
        };
        ObjectMeta { owner_references, ..self.metadata(name, component) }
    }
}

/// Lends what [`Site`] borrows.
#[derive(Debug, Clone)]
pub struct SiteParts {
    name: String,
    namespace: String,
    owner: Option<OwnerReference>,
}

impl SiteParts {
    /// The parts of the observed release.
    #[must_use]
    pub fn of(observed: &Observed) -> Self {
        Self { name: observed.name(), namespace: observed.namespace(), owner: observed.owner() }
    }

    /// The site.
    #[must_use]
    pub fn site<'a>(&'a self, spec: &'a TimeTrackerReleaseSpec) -> Site<'a> {
        Site { name: &self.name, namespace: &self.namespace, owner: self.owner.as_ref(), spec }
    }
}

impl ObjectKind {
    /// The word in `kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Service => "Service",
            Self::Ingress => "Ingress",
            Self::StatefulSet => "StatefulSet",
            Self::Deployment => "Deployment",
        }
    }

    /// The kind of an object's JSON.
    #[must_use]
    pub fn of(body: &Value) -> Option<Self> {
        let kinds = [
            Self::ServiceAccount,
            Self::PersistentVolumeClaim,
            Self::Service,
            Self::Ingress,
            Self::StatefulSet,
            Self::Deployment,
        ];
        let kind = body.get("kind")?.as_str()?;
        kinds.into_iter().find(|known| known.as_str() == kind)
    }

    /// Group, version, kind and plural.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        match self {
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::PersistentVolumeClaim => ApiResource::erase::<PersistentVolumeClaim>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::Ingress => ApiResource::erase::<Ingress>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
        }
    }
}

/// Kind and name of an object's JSON.
#[must_use]
pub fn key_of(body: &Value) -> Option<ObjectKey> {
    Some(ObjectKey { kind: ObjectKind::of(body)?, name: body.pointer("/metadata/name")?.as_str()?.to_owned() })
}

/// The manifest of an object's JSON, as a revision keeps it. `None`: it is of no kind that a release is made of.
#[must_use]
pub fn manifest_of(body: &Value) -> Option<Manifest> {
    let key = key_of(body)?;
    Some(Manifest {
        resource: key.kind.resource(),
        namespace: body.pointer("/metadata/namespace")?.as_str()?.to_owned(),
        name: key.name,
        body: body.clone(),
    })
}

/// The JSON of a typed object, with the hash of itself in an annotation.
fn hashed<K>(object: &K) -> Result<Value, ManifestError>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    Ok(rehashed(Manifest::of(object)?.body))
}

/// The same with the hash of itself instead of the one that it carried.
fn rehashed(mut body: Value) -> Value {
    let annotations = body.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    annotations.map(|annotations| annotations.remove(HASH_ANNOTATION));
    let hash = Digest::of(body.to_string().as_bytes());
    annotate(&mut body, HASH_ANNOTATION, hash.short());
    body
}

fn annotate(body: &mut Value, key: &str, value: &str) {
    let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(key.to_owned(), Value::String(value.to_owned()));
    }
}

fn non_empty(map: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then_some(map)
}
