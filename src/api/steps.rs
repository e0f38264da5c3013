//! Built-in steps of pipelines: what each may be told. `kubectl explain pipeline.spec.jobs` shows them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Period;

/// Builds an image from the repository's Dockerfile; a second Job pushes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildImage {
    /// For example `linux/amd64`.
    #[schemars(length(min = 1, max = 4))]
    pub platforms: Vec<String>,
    /// Path of the Dockerfile, default `Dockerfile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub dockerfile: Option<String>,
    /// Tags for the pushed image; CEL expressions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tags: Vec<String>,
}

/// Scans an image with Trivy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScanImage {
    /// The job that built the image.
    #[schemars(length(min = 1, max = 40))]
    pub from_job: String,
    /// The lowest severity that fails the step, default `High`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Severity>,
}

/// Severities of vulnerabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

/// Proves migrations on Postgres 16: up over existing rows, down, up again, schema compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.lockLimit) || (duration(self.lockLimit) >= duration('1ms') && duration(self.lockLimit) <= duration('10m'))", "lockLimit is between 1ms and 10m"))]
pub struct MigrationCheck {
    /// The folder of the migrations, default `migrations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub directory: Option<String>,
    /// The folder of the models, default `app/models`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub models: Option<String>,
    /// How long a lock that stops readers or writers counts as short, default `5s`. Longer ones leave the checklist's item
    /// open, and fail nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_limit: Option<Period>,
}

/// Combines the raw coverage data of the jobs it needs; in `finally` without `needs`, that of all jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoverageReport {
    /// The least percentage of covered lines, default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub threshold: Option<i32>,
}

/// Sends coverage to Codecov with its own command-line program; skipped in pull requests of forks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CodecovUpload {
    /// Secret whose key `token` authorises the upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<super::pod::LocalName>,
    /// Codecov's flags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_./-]+$")))]
    pub flags: Vec<String>,
    /// Whether an upload that fails also fails the run, default false: it is reported.
    #[serde(default)]
    pub fail_on_error: bool,
}

/// Writes the deployment manifests of a version as artifacts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenerateManifests {
    /// The job whose image the manifests name.
    #[schemars(length(min = 1, max = 40))]
    pub from_job: String,
}

/// Lists the commits since the last tag that fits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Changelog {
    /// Pattern of the tags that count, for example `v*`.
    #[schemars(length(min = 1, max = 128))]
    pub since: String,
}

/// Makes a GitHub release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GithubRelease {
    /// CEL expression for the tag.
    #[schemars(length(min = 1, max = 512))]
    pub tag: String,
    /// CEL expression for the title.
    #[schemars(length(min = 1, max = 512))]
    pub name: String,
    /// Whether it is a pre-release.
    #[serde(default)]
    pub prerelease: bool,
    /// Artifacts that become assets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub assets: Vec<String>,
}

/// Keeps one comment on the pull request up to date.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullRequestComment {
    /// What it reports.
    pub report: CommentReport,
}

/// What a comment reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CommentReport {
    /// Results of all jobs.
    #[default]
    Results,
    /// Coverage.
    Coverage,
    /// The migration check.
    Migration,
}

/// Publishes GitHub Pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployPages {
    /// The artifact with the site, default `github-pages`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub artifact: Option<String>,
}
