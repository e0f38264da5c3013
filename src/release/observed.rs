//! What a decision sees: the release and the world around it, in our own types.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use serde_json::Value;

use super::manifests::key_of;
use super::revision::{Revision, UnreadableRevision};
use super::values::ValuesError;
use crate::api::names::{Digest, Tag};
use crate::api::release::{DatabaseSpec, TimeTrackerRelease};
use crate::api::values::Values;
use crate::cluster::controlled_by;
use crate::config::Proxy;
use crate::schema::SchemaContract;
use crate::workload::PodPhase;

/// Annotation that lifts a quarantine. Its value is the digest; anything may follow after a comma, so that the same
/// digest can be asked for again.
pub const RETRY_ANNOTATION: &str = "timetracker.dev/retry";
/// Annotation that asks for a reconcile now.
pub const REQUESTED_AT_ANNOTATION: &str = "timetracker.dev/requestedAt";

/// The default of `spec.image.interval`.
pub const DEFAULT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(300);

/// Everything that one decision takes into account.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The resource.
    pub release: TimeTrackerRelease,
    /// What the operator's configuration says.
    pub settings: Settings,
    /// The values with everything from `valuesFrom` below them.
    pub values: Result<Values, ValuesError>,
    /// What the registry says.
    pub registry: RegistryView,
    /// The release's own revisions, oldest first.
    pub revisions: Vec<Revision>,
    /// Those of its own revisions that can't be read, oldest first.
    pub unreadable: Vec<UnreadableRevision>,
    /// The release's own Jobs.
    pub jobs: Vec<JobView>,
    /// Schema contracts by image digest, as far as the delivery under way needs them.
    pub contracts: BTreeMap<Digest, SchemaContract>,
    /// The objects with the release's labels.
    pub objects: BTreeMap<ObjectKey, LiveObject>,
    /// The application's pods: all that carry its labels. Listed after the objects.
    pub pods: Vec<AppPod>,
    /// The generated Secrets.
    pub secrets: GeneratedSecrets,
}

/// What releases take from the operator's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The agent's image.
    pub agent_image: String,
    /// Postgres 16.
    pub postgres_image: String,
    /// The PEM bundle that the pods of Jobs trust besides the public authorities.
    pub trusted_ca: Option<Arc<str>>,
    /// Proxy settings of the pods of Jobs.
    pub proxy: Proxy,
}

/// What the registry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryView {
    /// It was not asked: suspended, or the specification can't be read.
    Unasked,
    /// It could not be read.
    Failed(RegistryProblem),
    /// It answered.
    Seen(RegistrySeen),
}

/// Why a registry, or one image in it, could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryProblem {
    /// A static CamelCase word.
    pub reason: &'static str,
    /// A sentence for a condition.
    pub message: String,
    /// Whether it may pass by itself.
    pub transient: bool,
}

/// The registry's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrySeen {
    /// All tags; empty where the policy needs no list.
    pub tags: Vec<Tag>,
    /// Why the list has gaps.
    pub gap: Option<String>,
    /// What the tags that may be picked stand for, newest first as far as needed.
    pub images: BTreeMap<Tag, Result<Digest, RegistryProblem>>,
    /// What asking for the wanted digest brought.
    pub digest: Option<Result<Digest, RegistryProblem>>,
}

/// What a Job is for. Together with the attempt it gives the Job its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Dump the schema contract of an image.
    Contract(Digest),
    /// Read the database before a delivery.
    Inspect {
        /// The revision's number.
        revision: i64,
    },
    /// Migrate.
    Migrate {
        /// The revision's number.
        revision: i64,
    },
    /// Read the database before going back.
    InspectBack {
        /// The number of the revision that failed.
        revision: i64,
    },
}

impl Purpose {
    /// The purpose as it stands in an annotation.
    #[must_use]
    pub fn as_text(&self) -> String {
        match self {
            Self::Contract(digest) => format!("contract/{digest}"),
            Self::Inspect { revision } => format!("inspect/{revision}"),
            Self::Migrate { revision } => format!("migrate/{revision}"),
            Self::InspectBack { revision } => format!("inspect-back/{revision}"),
        }
    }

    /// Reads what [`as_text`](Self::as_text) wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (what, which) = text.split_once('/')?;
        match what {
            "contract" => Some(Self::Contract(which.parse().ok()?)),
            "inspect" => Some(Self::Inspect { revision: which.parse().ok()? }),
            "migrate" => Some(Self::Migrate { revision: which.parse().ok()? }),
            "inspect-back" => Some(Self::InspectBack { revision: which.parse().ok()? }),
            _ => None,
        }
    }

    /// The value of the component label.
    #[must_use]
    pub fn component(&self) -> &'static str {
        match self {
            Self::Contract(_) => "contract",
            Self::Inspect { .. } | Self::InspectBack { .. } => "inspect",
            Self::Migrate { .. } => "migrate",
        }
    }
}

/// One of the release's Jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Option<String>,
    /// What it is for.
    pub purpose: Purpose,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// How its pod stands.
    pub phase: PodPhase,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// The schema contract in its log (contract Jobs that ended well), or why it can't be read.
    pub contract: Option<Result<String, String>>,
}

impl JobView {
    /// When its end was seen, or else when it was made: what a pause before the next attempt counts from.
    #[must_use]
    pub fn ended(&self) -> Option<Timestamp> {
        match &self.phase {
            PodPhase::Ended(end) => end.finished.or(self.created),
            PodPhase::NoPod | PodPhase::Waiting(_) | PodPhase::Running { .. } | PodPhase::Lost(_) => self.created,
        }
    }
}

/// Kind and name of an object of the release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
}

/// The kinds of objects that a release is made of, in the order in which they are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// `v1` ServiceAccount.
    ServiceAccount,
    /// `v1` PersistentVolumeClaim.
    PersistentVolumeClaim,
    /// `v1` Service.
    Service,
    /// `networking.k8s.io/v1` Ingress.
    Ingress,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` Deployment.
    Deployment,
}

/// An object as the API server has it.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveObject {
    /// Its uid.
    pub uid: Option<String>,
    /// Whether its controller is this release.
    pub owned: bool,
    /// The whole object.
    pub body: Value,
}

/// One pod with the labels of the application's.
#[derive(Debug, Clone, PartialEq)]
pub struct AppPod {
    /// Its name.
    pub name: String,
    /// The digest it was made for.
    pub digest: Option<Digest>,
    /// The hash of the Deployment it was made for.
    pub content: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// The earliest start of its container that is known; none before its first one.
    pub started: Option<Timestamp>,
    /// How it stands.
    pub phase: PodPhase,
    /// Whether it is ready.
    pub ready: bool,
    /// How often its container was started again.
    pub restarts: i32,
    /// Why its container waits or ended, in kubelet's words.
    pub trouble: Option<String>,
    /// It is being deleted, and is to be gone by then.
    pub terminating: Option<Timestamp>,
    /// It is over: no container of it runs, or will.
    pub over: bool,
    /// A ReplicaSet made it. A label alone proves nothing: anyone can set it.
    pub controlled: bool,
}

/// Whether the generated Secrets are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GeneratedSecrets {
    /// That of the embedded database.
    pub database: SecretState,
    /// That with the app's SECRET_KEY.
    pub key: SecretState,
}

/// Whether one generated Secret is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SecretState {
    /// It is not needed.
    #[default]
    NotNeeded,
    /// It does not exist.
    Absent,
    /// It exists, without the keys that it must have.
    Incomplete,
    /// It exists.
    Present {
        /// Whether it goes with the release (has an ownerReference).
        owned: bool,
    },
}

impl Observed {
    /// The release's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.release.name_any()
    }

    /// The release's namespace.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.release.namespace().unwrap_or_default()
    }

    /// The release's uid.
    #[must_use]
    pub fn uid(&self) -> String {
        self.release.uid().unwrap_or_default()
    }

    /// The ownerReference of children.
    #[must_use]
    pub fn owner(&self) -> Option<OwnerReference> {
        controlled_by(&self.release)
    }

    /// The generation of the specification.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.release.metadata.generation.unwrap_or(0)
    }

    /// The value of the retry annotation.
    #[must_use]
    pub fn retry_annotation(&self) -> Option<&str> {
        self.release.annotations().get(RETRY_ANNOTATION).map(String::as_str)
    }

    /// Jobs of one purpose, first attempt first.
    #[must_use]
    pub fn attempts(&self, purpose: &Purpose) -> Vec<&JobView> {
        let mut found: Vec<&JobView> = self.jobs.iter().filter(|job| &job.purpose == purpose).collect();
        found.sort_by_key(|job| job.attempt);
        found
    }

    /// Objects that this release is to have and that were not found by its labels.
    #[must_use]
    pub fn unlisted(&self) -> Vec<ObjectKey> {
        let mut wanted: Vec<ObjectKey> = self
            .active()
            .or_else(|| self.in_progress())
            .into_iter()
            .flat_map(|revision| revision.data.manifests.iter().filter_map(key_of))
            .collect();
        if is_embedded(self.release.spec.database.as_ref()) {
            let name = super::names::postgres(&self.name());
            let kinds = [ObjectKind::Service, ObjectKind::StatefulSet];
            wanted.extend(kinds.map(|kind| ObjectKey { kind, name: name.clone() }));
        }
        wanted.retain(|key| !self.objects.contains_key(key));
        wanted
    }

    /// An object under a name of ours that this release does not own. It is never overwritten.
    #[must_use]
    pub fn foreign(&self) -> Option<&ObjectKey> {
        let postgres = super::names::postgres(&self.name());
        let inventory = self.active().or_else(|| self.in_progress());
        let is_ours = |key: &ObjectKey| {
            key.name == postgres
                || inventory.is_some_and(|revision| {
                    revision.data.manifests.iter().any(|body| key_of(body).as_ref() == Some(key))
                })
        };
        self.objects
            .iter()
            .find(|(key, live)| !live.owned && key.kind != ObjectKind::PersistentVolumeClaim && is_ours(key))
            .map(|(key, _)| key)
    }

    /// The object of that kind and name.
    #[must_use]
    pub fn object(&self, kind: ObjectKind, name: &str) -> Option<&LiveObject> {
        self.objects.get(&ObjectKey { kind, name: name.to_owned() })
    }
}

/// Whether the release's database is the embedded one.
#[must_use]
pub fn is_embedded(database: Option<&DatabaseSpec>) -> bool {
    database.is_none_or(|database| database.url_from.is_none())
}
