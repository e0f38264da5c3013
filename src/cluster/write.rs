//! What may be written to the API server: the only vocabulary that effects are lowered to.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ApiResource;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;

/// The field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "timetracker-operator";

/// An object as it is sent: its kind, its place and its JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The whole object, with apiVersion, kind and metadata.
    pub body: Value,
}

/// The place of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// A typed object that can't be written as JSON.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Serialisation failed.
    #[error("{kind} {name} can't be written as JSON: {source}")]
    Json {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl Manifest {
    /// The manifest of a typed object.
    ///
    /// # Errors
    /// When the object can't be serialised.
    pub fn of<K>(object: &K) -> Result<Self, ManifestError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let resource = ApiResource::erase::<K>(&());
        let name = object.name_any();
        let mut body = serde_json::to_value(object).map_err(|source| ManifestError::Json {
            kind: resource.kind.clone(),
            name: name.clone(),
            source,
        })?;
        if let Some(map) = body.as_object_mut() {
            map.insert("apiVersion".into(), resource.api_version.clone().into());
            map.insert("kind".into(), resource.kind.clone().into());
            map.remove("status");
        }
        Ok(Self { resource, namespace: object.namespace().unwrap_or_default(), name, body })
    }

    /// Where it is.
    #[must_use]
    pub fn target(&self) -> Target {
        Target { resource: self.resource.clone(), namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl Target {
    /// The place of an object of kind `K`.
    #[must_use]
    pub fn of<K>(namespace: &str, name: &str) -> Self
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Self { resource: ApiResource::erase::<K>(&()), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Server-side apply with force, strict about unknown fields.
    Apply(Manifest),
    /// Create; an object of that name that is ours (same owner uid, or same hash annotation) counts as done, a
    /// stranger's is an error.
    Create(Manifest),
    /// Delete with background propagation, only the object of that uid. Absent counts as done.
    Delete {
        /// Which.
        target: Target,
        /// The uid that was observed.
        uid: Option<String>,
    },
    /// JSON merge patch of a few fields, for example annotations. `resource_version` makes it conditional.
    Merge {
        /// Which.
        target: Target,
        /// The patch.
        patch: Value,
    },
    /// A merge patch of the status, with what it no longer says as null.
    ///
    /// Unconditional: only the leader writes it, for each object one reconcile at a time, and it only retells the world.
    /// Made conditional, it would conflict with the annotations that the same plan writes on the object.
    Status {
        /// Which.
        target: Target,
        /// The status.
        status: Value,
    },
}

/// The annotation with the hash of what was created: by it an answer that was lost is recognised as our own doing.
pub const HASH_ANNOTATION: &str = "timetracker.dev/spec-hash";

/// The controller's ownerReference on a child.
///
/// Without `blockOwnerDeletion`: that would need the right to change finalizers.
pub fn controlled_by<K>(owner: &K) -> Option<OwnerReference>
where
    K: Resource<DynamicType = ()>,
{
    let mut reference = owner.controller_owner_ref(&())?;
    reference.block_owner_deletion = None;
    Some(reference)
}
