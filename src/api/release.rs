//! `TimeTrackerRelease`: one TimeTracker site, which version it runs and how it gets the next.

use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Period;
use super::names::{Digest, Revisions, Tag};
use super::pod::{LocalName, PodOptions, SecretSource};
use super::values::Values;

/// One TimeTracker site: which version it runs, on which database, and how it gets the next version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "timetracker.dev",
    version = "v1alpha1",
    kind = "TimeTrackerRelease",
    plural = "timetrackerreleases",
    shortname = "ttr",
    category = "timetracker",
    namespaced,
    status = "ReleaseStatus",
    derive = "PartialEq",
    printcolumn(name = "Version", type_ = "string", json_path = ".status.current.version", description = "What runs"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.current.deployedTime", description = "When it was delivered"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether the desired state is reached"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.candidate.version", description = "What is coming"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.candidate.step", description = "How far it is"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", description = "The condition Ready in words"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.current.digest", priority = 1, description = "The digest that runs"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name: at most 40 characters, a letter first, then lower-case letters, digits and dashes: it becomes the name of Services")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(has(self.database) && has(self.database.urlFrom)) == (has(oldSelf.database) && has(oldSelf.database.urlFrom))",
    "a release never changes its kind of database (embedded or urlFrom): make a new release and move the data"))]
pub struct TimeTrackerReleaseSpec {
    /// Which image.
    pub image: ImageSpec,
    /// Which database. Absent: `embedded`, one Postgres 16 with its own volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseSpec>,
    /// The app's SECRET_KEY, at least 32 characters. Absent: generated once and never replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_from: Option<SecretSource>,
    /// How the database is migrated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationSpec>,
    /// How the new version is rolled out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
    /// Helm values of the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Values>,
    /// Helm values from ConfigMaps or Secrets of the same namespace, merged in order below `values`. Unknown keys are
    /// refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub values_from: Vec<ValuesReference>,
    /// Settings of the pods of the Jobs that the operator makes for this release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
    /// Keeps what runs (or goes to one digest and keeps that), still healing drift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldSpec>,
    /// What becomes of the database volume, the uploads and the generated Secrets when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Touch nothing at all.
    #[serde(default)]
    pub suspend: bool,
}

/// Which image: exactly one of `version`, `semver`, `channel`, `tag`, `digest`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.version), has(self.semver), has(self.channel), has(self.tag), has(self.digest)].filter(x, x).size() == 1",
    "exactly one of version, semver, channel, tag, digest says which image is wanted"))]
#[x_kube(validation = ("!has(self.repository) || self.repository == self.repository.lowerAscii()",
    "repository has upper-case letters: image repositories are lower case, for example ghcr.io/drytrix/timetracker"))]
#[x_kube(validation = ("!has(self.interval) || (duration(self.interval) >= duration('10s') && duration(self.interval) <= duration('24h'))",
    "interval is between 10s and 24h"))]
pub struct ImageSpec {
    /// Default `ghcr.io/drytrix/timetracker`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 255))]
    pub repository: Option<String>,
    /// Secret of type `kubernetes.io/dockerconfigjson` for a private registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<LocalName>,
    /// One version, for example `5.10.0`; tags with and without a leading `v` are found.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub version: Option<String>,
    /// A range in the grammar of Rust's semver, for example `>=5, <6`: the newest version in it is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub semver: Option<String>,
    /// A stream of builds: the newest is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    /// One tag, followed when it moves, for example `stable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"))]
    pub tag: Option<String>,
    /// One digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// How often the registry is asked, default `5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Period>,
    /// Whether an older version than the one that runs may be picked.
    #[serde(default)]
    pub allow_downgrade: bool,
}

/// Streams of builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Channel {
    /// Development builds: tags `dev-YYYYMMDD-HHMMSS`, the newest by that time.
    Development,
}

/// Which database: at most one of `embedded`, `urlFrom`; `embedded` when both are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!(has(self.embedded) && has(self.urlFrom))", "embedded and urlFrom exclude each other"))]
#[x_kube(validation = ("has(self.urlFrom) || !(has(self.migrationUrlFrom) || has(self.caFrom))", "migrationUrlFrom and caFrom need urlFrom"))]
pub struct DatabaseSpec {
    /// One Postgres 16 in a StatefulSet of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedDatabase>,
    /// A `postgresql://` URL in a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretSource>,
    /// The URL for migrations, when it differs: a direct connection where `urlFrom` goes through a transaction pooler, or
    /// one of the tables' owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration_url_from: Option<SecretSource>,
    /// A PEM bundle that signs the server's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_from: Option<SecretSource>,
}

/// One Postgres 16 in a StatefulSet of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EmbeddedDatabase {
    /// Its volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Requests and limits. Default: requests 100m and 256Mi, limit 1Gi memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.size) || !has(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0", "size only grows: volumes can't shrink"))]
pub struct StorageSpec {
    /// Default `10Gi`. Only grows, by patching the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^[0-9]+(\\.[0-9]+)?(Ki|Mi|Gi|Ti|K|M|G|T)?$"))]
    pub size: Option<String>,
    /// Name of a StorageClass; default is the cluster's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
}

/// How the database is migrated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.timeout) || (duration(self.timeout) >= duration('10s') && duration(self.timeout) <= duration('24h'))", "timeout is between 10s and 24h"))]
#[x_kube(validation = ("!has(self.lockTimeout) || (duration(self.lockTimeout) >= duration('100ms') && duration(self.lockTimeout) <= duration('10m'))", "lockTimeout is between 100ms and 10m"))]
pub struct MigrationSpec {
    /// The command and its arguments, run in the new image. Default `flask db upgrade heads`. No shell, no expansion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub command: Vec<String>,
    /// How long the command may take, default `30m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Postgres' `lock_timeout` for the migration, default `5s`: it gives way instead of queueing in front of users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_timeout: Option<Period>,
}

/// How the new version is rolled out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.timeout) || (duration(self.timeout) >= duration('10s') && duration(self.timeout) <= duration('24h'))", "timeout is between 10s and 24h"))]
#[x_kube(validation = ("!has(self.soak) || duration(self.soak) <= duration('1h')", "soak is at most 1h"))]
pub struct RolloutSpec {
    /// How long the new pods may take to become ready before the operator goes back, default `10m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// How long a new pod must be ready without a crash before it counts (`minReadySeconds`), default `1m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak: Option<Period>,
}

/// One source of Helm values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValuesReference {
    /// ConfigMap or Secret.
    pub kind: ValuesKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key with the YAML text, default `values.yaml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
    /// Whether it may be missing.
    #[serde(default)]
    pub optional: bool,
}

/// Kinds of objects that carry values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ValuesKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// Keeps one digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldSpec {
    /// Why, for whoever reads it next.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
    /// Go to this digest and keep it. Absent: keep what runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
}

/// What becomes of data when the release is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Volumes and generated Secrets stay and are adopted by a release of the same name.
    #[default]
    Retain,
    /// They are deleted with the release.
    Delete,
}

/// What is observed. A projection: deleted in any phase, it is rebuilt from the cluster and the database.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// The generation that this status speaks of; −1 before the first.
    #[serde(default)]
    pub observed_generation: i64,
    /// Ready, Available, RegistryReachable, UpdatePending, Quarantined; Reconciling and Stalled only while True.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// What runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<CurrentStatus>,
    /// What is coming.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateStatus>,
    /// The last ten deliveries, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<HistoryEntry>,
    /// Digests that are not picked again; annotation `timetracker.dev/retry=<digest>` lifts one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub quarantined: Vec<QuarantinedDigest>,
    /// What the registry said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryStatus>,
    /// The value of annotation `timetracker.dev/requestedAt` that was answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub last_handled_reconcile_at: Option<String>,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurrentStatus {
    /// The version, without a leading `v`; the tag where that is no version; the short digest where there is no tag.
    pub version: String,
    /// The tag it was picked by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// What is deployed.
    pub digest: Digest,
    /// The migration revisions that it brought the database to.
    #[serde(default)]
    pub revisions: Revisions,
    /// When it was delivered.
    pub deployed_time: Time,
}

/// What is coming.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateStatus {
    /// As in `current`.
    pub version: String,
    /// The tag it was picked by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// What will be deployed.
    pub digest: Digest,
    /// How far it is.
    pub step: ReleaseStep,
    /// What the steps so far found, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub verdict: Option<String>,
}

/// The steps of a delivery, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReleaseStep {
    /// A version is chosen and its digest pinned.
    Pick,
    /// The database server is made (embedded only).
    Database,
    /// The image's heads and schema contract are read, and the database's revisions and schema.
    Inspect,
    /// The migration is rehearsed on a copy.
    Rehearse,
    /// The database is backed up.
    BackUp,
    /// Old pods are stopped before a contracting migration.
    Drain,
    /// Production is migrated.
    Migrate,
    /// The Deployment goes to the new digest and soaks.
    RollOut,
    /// The previous digest is restored.
    GoBack,
}

/// One delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// As in `current`.
    pub version: String,
    /// The digest.
    pub digest: Digest,
    /// How it ended.
    pub outcome: Outcome,
    /// A sentence, when it did not go well.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub message: Option<String>,
    /// When it ended.
    pub time: Time,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// It runs, or ran until the next.
    Delivered,
    /// It was taken back.
    TakenBack,
    /// It failed before anything was changed.
    Refused,
}

/// A digest that is not picked again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuarantinedDigest {
    /// Which.
    pub digest: Digest,
    /// Its version.
    pub version: String,
    /// Why, in a sentence.
    #[schemars(length(max = 256))]
    pub reason: String,
    /// Since when.
    pub quarantined_time: Time,
}

/// What the registry said last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The newest tag that fits the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_seen: Option<Tag>,
    /// When that tag was first seen as the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_time: Option<Time>,
}

impl ImageSpec {
    /// The repository, with its default.
    #[must_use]
    pub fn repository_or_default(&self) -> &str {
        self.repository.as_deref().unwrap_or("ghcr.io/drytrix/timetracker")
    }
}

impl From<&LocalName> for LocalObjectReference {
    fn from(name: &LocalName) -> Self {
        Self { name: name.name.clone() }
    }
}
