//! `Pipeline`: a workflow as data.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Period;
use super::pod::{EnvironmentVariable, LocalName, PodOptions};
use super::steps::{
    BuildImage, Changelog, CodecovUpload, CoverageReport, DeployPages, GenerateManifests, GithubRelease,
    MigrationCheck, PullRequestComment, ScanImage,
};

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
    /// An image built from requirement files.
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

/// An image of exactly these dependencies, built once per content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// The Python version, for example `3.11`.
    #[schemars(regex(pattern = "^3\\.[0-9]{1,2}$"))]
    pub python: String,
    /// Requirement files in the repository.
    #[schemars(length(min = 1, max = 8))]
    pub requirements: Vec<String>,
}

/// One job: exactly one of `run` or a built-in step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.run), has(self.buildImage), has(self.scanImage), has(self.migrationCheck), has(self.coverageReport), has(self.codecovUpload), has(self.generateManifests), has(self.changelog), has(self.githubRelease), has(self.pullRequestComment), has(self.deployPages)].filter(x, x).size() == 1",
    "exactly one of run, buildImage, scanImage, migrationCheck, coverageReport, codecovUpload, generateManifests, changelog, githubRelease, pullRequestComment, deployPages"))]
#[x_kube(validation = ("!(has(self.image) && has(self.environment))", "image and environment exclude each other"))]
#[x_kube(validation = ("!has(self.timeout) || (duration(self.timeout) >= duration('1s') && duration(self.timeout) <= duration('24h'))", "timeout is between 1s and 24h"))]
#[x_kube(validation = ("!has(self.retries) || !has(self.effects) || self.effects == 'None' || self.effects == 'Idempotent' || !((has(self.retries.failure) && self.retries.failure > 0) || (has(self.retries.infrastructure) && self.retries.infrastructure > 0) || (has(self.retries.failedTests) && self.retries.failedTests > 0))", "a job with effects Once is never run again by itself: remove retries"))]
pub struct JobSpec {
    /// The name, unique in the pipeline.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Jobs that must be final first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub needs: Vec<String>,
    /// CEL over params, needs, revision, event and matrix: whether the job runs. Default: every need Succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub when: Option<String>,
    /// One cell per combination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Matrix>,
    /// Whether and how the commit is checked out into the working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkout: Option<Checkout>,
    /// The image in which `run` runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// An image built from requirement files, instead of `image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Environment variables. Secrets are refused in pull-request runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<EnvironmentVariable>,
    /// Services beside the job, ready before it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 4))]
    pub services: Vec<ServiceSpec>,
    /// What the collector reads in `$REPORTS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub reports: Vec<ReportKind>,
    /// Lines for `/bin/sh -e`. Values come as environment variables: `$MATRIX_<AXIS>`, `$PARAM_<NAME>`, `$COMMIT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32768))]
    pub run: Option<String>,
    /// How long the command may take, default `15m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// How often it is tried again, by class of failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// Whether it may be run again by itself, default `None`: it has none, so it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effects: Option<Effects>,
    /// Files and folders to keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 16))]
    pub artifacts: Vec<ArtifactSpec>,
    /// Names of values that the job writes as `name=value` lines to `$OUTPUTS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub outputs: Vec<String>,
    /// Whether a failure is reported yet does not fail the run.
    #[serde(default)]
    pub continue_on_error: bool,
    /// What the step may do; at most what the pipeline may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// Settings of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
    /// Builds an image from the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_image: Option<BuildImage>,
    /// Scans an image for vulnerabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scan_image: Option<ScanImage>,
    /// Proves migrations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration_check: Option<MigrationCheck>,
    /// Combines the coverage of the jobs it needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage_report: Option<CoverageReport>,
    /// Sends coverage to Codecov.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codecov_upload: Option<CodecovUpload>,
    /// Writes deployment manifests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate_manifests: Option<GenerateManifests>,
    /// Lists the commits since the last release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changelog: Option<Changelog>,
    /// Makes a GitHub release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github_release: Option<GithubRelease>,
    /// Keeps one comment on the pull request up to date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_request_comment: Option<PullRequestComment>,
    /// Publishes GitHub Pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy_pages: Option<DeployPages>,
}

/// One cell per combination of the axes' values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Matrix {
    /// The axes.
    #[schemars(length(min = 1, max = 4))]
    pub axes: Vec<Axis>,
    /// How many cells at once; default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub max_parallel: Option<i32>,
    /// Whether one failed cell stops the others, default true as on GitHub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_fast: Option<bool>,
}

/// One axis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Axis {
    /// Its name: the job sees `$MATRIX_<NAME>` in upper case.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its values.
    #[schemars(length(min = 1, max = 256))]
    pub values: Vec<String>,
}

/// How the commit is checked out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checkout {
    /// Default: when the pipeline has a repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How much of the history, default `Commit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// How much of the history is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum History {
    /// The commit alone.
    #[default]
    Commit,
    /// Everything, with tags.
    Full,
}

/// A service beside the job: `postgres`, or an image of your own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.postgres) != has(self.image)", "exactly one of postgres, image"))]
pub struct ServiceSpec {
    /// The name.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Postgres on `localhost:5432`; sets `DATABASE_URL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresService>,
    /// Any other image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub env: Vec<EnvironmentVariable>,
    /// The TCP port that it opens when ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// A command that ends with 0 when it is ready; default: `port` accepts connections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub readiness: Vec<String>,
}

/// A Postgres in memory, for one job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresService {
    /// The major version; the operator's configuration names its image.
    #[schemars(regex(pattern = "^[0-9]{2}$"))]
    pub version: String,
    /// Room for its data in memory, default `256Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^[0-9]+(Ki|Mi|Gi)?$"))]
    pub size: Option<String>,
}

/// Kinds of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ReportKind {
    /// `*.xml` of pytest's `--junitxml`.
    JUnit,
    /// `coverage*.xml` in Cobertura's format, and raw coverage data.
    Coverage,
    /// `*.sarif`.
    SARIF,
}

/// How often a job is tried again, by class of failure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// After a failure of the infrastructure, default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 5))]
    pub infrastructure: Option<i32>,
    /// After any other failure, default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 5))]
    pub failure: Option<i32>,
    /// Only the failed tests again, default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3))]
    pub failed_tests: Option<i32>,
}

/// Whether a job may be run again by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Effects {
    /// It changes nothing outside its pod: it may.
    #[default]
    None,
    /// It may, a second time changes nothing.
    Idempotent,
    /// Never: when it vanishes, a person decides.
    Once,
}

/// Something to keep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactSpec {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A file or folder below the working directory.
    #[schemars(length(min = 1, max = 512))]
    pub path: String,
}

impl JobSpec {
    /// The command's script, unless the job is a built-in step.
    #[must_use]
    pub fn script(&self) -> Option<&str> {
        self.run.as_deref()
    }

    /// The built-in step's name as in the schema, unless the job is a `run`.
    #[must_use]
    pub fn built_in(&self) -> Option<&'static str> {
        let steps = [
            (self.build_image.is_some(), "buildImage"),
            (self.scan_image.is_some(), "scanImage"),
            (self.migration_check.is_some(), "migrationCheck"),
            (self.coverage_report.is_some(), "coverageReport"),
            (self.codecov_upload.is_some(), "codecovUpload"),
            (self.generate_manifests.is_some(), "generateManifests"),
            (self.changelog.is_some(), "changelog"),
            (self.github_release.is_some(), "githubRelease"),
            (self.pull_request_comment.is_some(), "pullRequestComment"),
            (self.deploy_pages.is_some(), "deployPages"),
        ];
        steps.into_iter().find_map(|(given, name)| given.then_some(name))
    }
}

/// Names and values, ordered.
pub type Parameters = BTreeMap<String, String>;
