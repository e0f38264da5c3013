//! `SourceRepository`: a GitHub repository and how to hear from it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Period;
use super::pod::LocalName;

/// A Git repository: where it is cloned from, and with which credentials. Its webhook and polling start runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "timetracker.dev",
    version = "v1alpha1",
    kind = "SourceRepository",
    plural = "sourcerepositories",
    shortname = "srcrepo",
    category = "timetracker",
    namespaced,
    status = "SourceRepositoryStatus",
    derive = "PartialEq",
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.github.owner"),
    printcolumn(name = "Name", type_ = "string", json_path = ".spec.github.name"),
    printcolumn(name = "Clone", type_ = "string", json_path = ".spec.cloneURL", priority = 1),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name: at most 40 characters, a letter first, then lower-case letters, digits and dashes")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.github) || has(self.cloneURL)", "github or cloneURL says where the repository is"))]
pub struct SourceRepositorySpec {
    /// The repository on GitHub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github: Option<GitHubRepository>,
    /// Where Git fetches from; derived from `github` when absent. Enough by itself for runs by hand.
    #[serde(rename = "cloneURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = "^(https?|ssh)://[^\\s@?#]+$"))]
    pub clone_url: Option<String>,
    /// Secret with `token`, or `appId`, `installationId` and `privateKey`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalName>,
    /// How GitHub's deliveries are verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
    /// Asking instead of being told; also the safety net for lost deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<PollSpec>,
    /// Where images of this repository are pushed; those of its pipelines' environments to `<repository>-environment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<SourceImage>,
    /// What becomes of pull requests from forks.
    #[serde(default)]
    pub fork_pull_requests: ForkPolicy,
    /// Ignore deliveries and don't poll.
    #[serde(default)]
    pub suspend: bool,
}

/// A repository on GitHub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitHubRepository {
    /// The user or organisation.
    #[schemars(length(min = 1, max = 39), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub owner: String,
    /// The repository's name.
    #[schemars(length(min = 1, max = 100), regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub name: String,
    /// Address of the API, default `https://api.github.com`.
    #[serde(rename = "apiURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^https?://[^\\s@?#]+$"))]
    pub api_url: Option<String>,
}

/// How deliveries are verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSpec {
    /// Secret whose key `secret` is shared with GitHub.
    pub secret_ref: LocalName,
}

/// Polling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("duration(self.interval) >= duration('10s') && duration(self.interval) <= duration('24h')", "interval is between 10s and 24h"))]
pub struct PollSpec {
    /// How often, default `60s`.
    pub interval: Period,
}

/// Where images are pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.repository == self.repository.lowerAscii()", "repository has upper-case letters: image repositories are lower case"))]
#[x_kube(validation = ("!has(self.environmentRetention) || (duration(self.environmentRetention) >= duration('168h') && duration(self.environmentRetention) <= duration('2160h'))", "environmentRetention is between 168h and 2160h"))]
pub struct SourceImage {
    /// The repository.
    #[schemars(length(min = 3, max = 255))]
    pub repository: String,
    /// Secret of type `kubernetes.io/dockerconfigjson` that may push.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push_secret_ref: Option<LocalName>,
    /// How long an environment's image is used after the week of its last use, default `336h` (14 days). One that no run
    /// has used for longer is deleted a week later, if the registry allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_retention: Option<Period>,
}

/// What becomes of pull requests from forks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ForkPolicy {
    /// They are never run.
    Deny,
    /// They wait for an approval bound to the exact commit.
    #[default]
    RequireApproval,
    /// They run at once, still without any credentials.
    Allow,
}

/// What is observed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceRepositoryStatus {
    /// The generation that this status speaks of; −1 before the first.
    #[serde(default)]
    pub observed_generation: i64,
    /// Ready.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// When a delivery was last taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivery: Option<Time>,
    /// When the repository was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_poll: Option<Time>,
    /// What GitHub allows still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitStatus>,
}

/// GitHub's rate limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitStatus {
    /// Requests left.
    pub remaining: i64,
    /// When the count starts again.
    pub reset_time: Time,
}

impl SourceRepositorySpec {
    /// Where Git fetches from.
    #[must_use]
    pub fn effective_clone_url(&self) -> Option<String> {
        self.clone_url.clone().or_else(|| {
            let github = self.github.as_ref()?;
            let api = github.api_url.as_deref().unwrap_or("https://api.github.com").trim_end_matches('/');
            let host = match api {
                "https://api.github.com" => "https://github.com",
                enterprise => enterprise.trim_end_matches("/api/v3"),
            };
            Some(format!("{host}/{}/{}.git", github.owner, github.name))
        })
    }
}
