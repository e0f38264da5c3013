//! `Pipeline`: a workflow as data.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Period;
use super::job::{Environment, JobSpec, ServiceSpec};
use super::pod::{EnvironmentVariable, LocalName, PodOptions};

/// A workflow: jobs, what each needs, and what starts them. GitHub Actions' ideas, Kubernetes' spelling.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "timetracker.dev",
    version = "v1alpha1",
    kind = "Pipeline",
    plural = "pipelines",
    shortname = "pl",
    category = "timetracker",
    namespaced,
    derive = "PartialEq",
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.repositoryRef.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name: at most 40 characters, a letter first, then lower-case letters, digits and dashes")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.timeout) || (duration(self.timeout) >= duration('1s') && duration(self.timeout) <= duration('24h'))", "timeout is between 1s and 24h"))]
#[x_kube(validation = ("!has(self.finally) || self.finally.all(f, !self.jobs.exists(j, j.name == f.name))", "a job's name stands once, in jobs or in finally"))]
#[x_kube(validation = ("[self.jobs.map(j, j.name)].all(names, self.jobs.all(j, !has(j.needs) || j.needs.all(n, n in names)))", "needs names a job that the pipeline does not have"))]
#[x_kube(validation = ("self.jobs.all(j, !has(j.needs) || !(j.name in j.needs))", "a job can't need itself"))]
pub struct PipelineSpec {
    /// The SourceRepository that the jobs check out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_ref: Option<LocalName>,
    /// What starts a run by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggers: Option<Triggers>,
    /// Which runs exclude each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// What a run may be given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 32))]
    pub params: Vec<ParamSpec>,
    /// What the steps may do on GitHub and in the registry. Absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// How long a run may take in all, default `2h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// How many finished runs are kept of those that triggers or the plugin made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_limits: Option<HistoryLimits>,
    /// What jobs have unless they say otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defaults: Option<JobDefaults>,
    /// The jobs.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(min = 1, max = 128))]
    pub jobs: Vec<JobSpec>,
    /// Jobs that run at the end whatever happened; they may read every `needs[…].result`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 16))]
    pub finally: Vec<JobSpec>,
}

/// What starts a run by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Triggers {
    /// A push.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<PushTrigger>,
    /// A pull request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequestTrigger>,
    /// A GitHub release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseTrigger>,
    /// The clock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub schedule: Vec<ScheduleTrigger>,
}

/// A push. All given filters must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PushTrigger {
    /// Branch patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub branches: Vec<String>,
    /// Tag patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tags: Vec<String>,
    /// Path patterns of which one must fit a changed file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub paths: Vec<String>,
}

/// A pull request. All given filters must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PullRequestTrigger {
    /// Patterns of the base branch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub branches: Vec<String>,
    /// What happened to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub types: Vec<PullRequestAction>,
    /// Path patterns of which one must fit a changed file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub paths: Vec<String>,
}

/// What happened to a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullRequestAction {
    /// It was opened.
    Opened,
    /// Commits were pushed to it.
    Synchronize,
    /// It was opened again.
    Reopened,
    /// It is no draft any more.
    ReadyForReview,
}

/// A GitHub release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseTrigger {
    /// What happened to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub types: Vec<ReleaseAction>,
    /// Whether pre-releases count.
    pub prereleases: bool,
}

/// What happened to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReleaseAction {
    /// It was published.
    Published,
}

/// The clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleTrigger {
    /// Five fields: minute, hour, day of month, month, day of week.
    #[schemars(length(min = 9, max = 128))]
    pub cron: String,
    /// IANA name of the zone, default UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
}

/// Which runs exclude each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    /// CEL expression that gives the group's name.
    #[schemars(length(min = 1, max = 512))]
    pub group: String,
    /// Whether a new run cancels the one that is going, instead of waiting for it.
    #[serde(default)]
    pub cancel_in_progress: bool,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.type != 'Choice' || has(self.choices)", "a parameter of type Choice lists its choices"))]
pub struct ParamSpec {
    /// The name.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// The type.
    #[serde(rename = "type", default)]
    pub param_type: ParamType,
    /// The value when none is given; without a default the parameter is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub default: Option<String>,
    /// The values that a Choice may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub choices: Vec<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub description: Option<String>,
}

/// Types of parameters. Values are always written as strings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ParamType {
    /// Any text up to 8 KiB.
    #[default]
    String,
    /// `true` or `false`.
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// One of `choices`.
    Choice,
}

/// What steps may do, in GitHub's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Permissions {
    /// Commits, tags and releases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<Permission>,
    /// Images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages: Option<Permission>,
    /// Pull requests and their comments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_requests: Option<Permission>,
    /// GitHub Pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages: Option<Permission>,
}

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Permission {
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// How many finished runs are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryLimits {
    /// Succeeded runs, default 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 200))]
    pub succeeded: Option<i32>,
    /// Failed and cancelled runs, default 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 200))]
    pub failed: Option<i32>,
}

/// What jobs have unless they say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!(has(self.image) && has(self.environment))", "image and environment exclude each other"))]
pub struct JobDefaults {
    /// The image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Python with the packages of requirement files, instead of `image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// The time limit of a job's command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Requests and limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<EnvironmentVariable>,
    /// Services beside each job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 4))]
    pub services: Vec<ServiceSpec>,
    /// Settings of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
}

/// Names and values, ordered.
pub type Parameters = BTreeMap<String, String>;
