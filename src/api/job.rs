//! The jobs of a `Pipeline`: what each runs, beside what, and what is kept of it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Period;
use super::pipeline::Permissions;
use super::pod::{EnvironmentVariable, PodOptions};
use super::steps::{
    BuildImage, Changelog, CodecovUpload, CoverageReport, DeployPages, GenerateManifests, GithubRelease,
    MigrationCheck, PullRequestComment, ScanImage,
};

/// Python with the packages of these requirement files, installed once for all jobs of a run that name the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// The Python version, for example `3.11`.
    #[schemars(regex(pattern = "^3\\.[0-9]{1,2}$"))]
    pub python: String,
    /// Requirement files in the repository, in pip's order. What they include must be in the repository too.
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
#[x_kube(validation = ("!has(self.retries) || !has(self.retries.failedTests) || self.retries.failedTests == 0 || (has(self.run) && has(self.reports) && self.reports.exists(report, report == 'JUnit'))", "retries.failedTests needs run and reports: [JUnit], which tell which tests failed"))]
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
    /// Python with the packages of requirement files, instead of `image`. Wants `repositoryRef` and an artifact store.
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
    /// `*.sarif` and `*.sarif.json` of scanners, SARIF 2.1.0.
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
    /// Only the tests of pytest that failed, in the same pod and within the same timeout, default 0. One that then passes
    /// is flaky. Needs `reports: [JUnit]`; more than 100 failed tests are not run again.
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

    /// How often tests that failed are run again in the job's pod.
    #[must_use]
    pub fn test_reruns(&self) -> u32 {
        let given = self.retries.as_ref().and_then(|retries| retries.failed_tests);
        given.and_then(|times| u32::try_from(times).ok()).unwrap_or(0)
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
