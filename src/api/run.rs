//! `PipelineRun`: one run of a pipeline on one commit.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Period;
use super::names::CommitSha;
use super::pod::LocalName;

/// One run of a Pipeline. Immutable but for `cancel` and `approvedCommit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "timetracker.dev",
    version = "v1alpha1",
    kind = "PipelineRun",
    plural = "pipelineruns",
    shortname = "plr",
    category = "timetracker",
    namespaced,
    status = "RunStatus",
    derive = "PartialEq",
    printcolumn(name = "Pipeline", type_ = "string", json_path = ".spec.pipelineRef.name"),
    printcolumn(name = "Commit", type_ = "string", json_path = ".status.shortCommit"),
    printcolumn(name = "Succeeded", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].reason"),
    printcolumn(name = "Jobs", type_ = "string", json_path = ".status.progress", description = "Finished jobs of all"),
    printcolumn(name = "Passed", type_ = "integer", json_path = ".status.tests.passed", description = "Tests"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.tests.failed", description = "Tests"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].message", priority = 1),
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startTime"),
    printcolumn(name = "Ended", type_ = "date", json_path = ".status.completionTime"),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name: at most 40 characters, a letter first, then lower-case letters, digits and dashes: it becomes a part of the names of Jobs")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.pipelineRef == oldSelf.pipelineRef && has(self.revision) == has(oldSelf.revision) && (!has(self.revision) || self.revision == oldSelf.revision) && has(self.params) == has(oldSelf.params) && (!has(self.params) || self.params == oldSelf.params) && has(self.rerunOf) == has(oldSelf.rerunOf) && (!has(self.rerunOf) || self.rerunOf == oldSelf.rerunOf) && has(self.ttl) == has(oldSelf.ttl) && (!has(self.ttl) || self.ttl == oldSelf.ttl)",
    "a run never changes but for cancel and approvedCommit: make a new one"))]
#[x_kube(validation = ("!(has(oldSelf.cancel) && oldSelf.cancel) || (has(self.cancel) && self.cancel)", "a cancelled run stays cancelled: make a new one"))]
pub struct PipelineRunSpec {
    /// Which pipeline.
    pub pipeline_ref: LocalName,
    /// Which commit. Absent: for pipelines that check nothing out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionSpec>,
    /// Values of the pipeline's parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 32))]
    pub params: Vec<Param>,
    /// Repeats only what failed in that run, and what depends on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<LocalName>,
    /// Stop: what runs gets TERM and its grace; nothing new is started but `finally`.
    #[serde(default)]
    pub cancel: bool,
    /// The exact commit of a fork's pull request that may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = "^[0-9a-f]{40}([0-9a-f]{24})?$"))]
    pub approved_commit: Option<String>,
    /// How long the finished run is kept, default `720h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Period>,
}

/// Which commit: exactly one of `commit`, `branch`, `tag`; a pull request names its `commit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.commit), has(self.branch), has(self.tag)].filter(x, x).size() == 1", "exactly one of commit, branch, tag"))]
#[x_kube(validation = ("!has(self.pullRequest) || has(self.commit)", "a pull request's run names its commit"))]
pub struct RevisionSpec {
    /// The full commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = "^[0-9a-f]{40}([0-9a-f]{24})?$"))]
    pub commit: Option<String>,
    /// A branch; its commit is read once, at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub branch: Option<String>,
    /// A tag; its commit is read once, at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub tag: Option<String>,
    /// The pull request that the commit belongs to: its code is hostile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequest>,
}

/// A pull request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullRequest {
    /// Its number.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub number: i64,
    /// The branch it wants to change.
    #[schemars(length(min = 1, max = 200))]
    pub base: String,
    /// Whether it comes from another repository.
    #[serde(default)]
    pub fork: bool,
}

/// A parameter's value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Param {
    /// The name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The value.
    #[schemars(length(max = 8192))]
    pub value: String,
}

/// What is observed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// The generation that this status speaks of; −1 before the first.
    #[serde(default)]
    pub observed_generation: i64,
    /// Succeeded, Ready, Reported; Reconciling and Stalled only while True.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The ControllerRevision with the pipeline as it was when the run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub pipeline_revision: Option<String>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitSha>,
    /// Its first seven digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12))]
    pub short_commit: Option<String>,
    /// When the first job was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the run became final. Wait for this field, then read Succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Finished jobs of all, for example `3/8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub progress: Option<String>,
    /// Each job (each cell of a matrix), in the pipeline's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 400))]
    pub jobs: Vec<JobStatus>,
    /// Test counts of all jobs together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestStatus>,
    /// Line coverage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<CoverageStatus>,
    /// Where reports, logs and artifacts are kept: the address of their list in the artifact store, which is reached by
    /// `kubectl timetracker artifacts` or through a forwarded port. Absent when no job leaves any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub artifacts: Option<String>,
}

/// One job (one cell of a matrix), in at most 300 bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// The job's name; a cell's is `job (value, value)`.
    #[schemars(length(max = 100))]
    pub name: String,
    /// How far it is or how it ended.
    pub phase: JobPhase,
    /// The class of failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureClass>,
    /// The evidence: exit code, limit, missing object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 160))]
    pub message: Option<String>,
    /// The Kubernetes Job of the newest attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub job: Option<String>,
    /// Which attempt, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Seconds that the command took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
    /// Line coverage that the job measured, in percent with one decimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub coverage: Option<String>,
    /// Tests that failed, then passed when only the failed ones were run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaky: Option<i64>,
}

/// How far a job is, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum JobPhase {
    /// It waits for jobs that it needs.
    Waiting,
    /// It waits for room.
    Queued,
    /// Its pod is on its way.
    Starting,
    /// Its command runs.
    Running,
    /// It did what it should.
    Succeeded,
    /// It did not.
    Failed,
    /// Its condition was false, or a need was skipped or failed.
    Skipped,
    /// It was stopped.
    Cancelled,
}

impl JobPhase {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Waiting | Self::Queued | Self::Starting | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Skipped | Self::Cancelled => true,
        }
    }
}

/// Why a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FailureClass {
    /// The command ended with another exit code than 0, or left no SARIF report that can be read where it had to.
    CommandFailure,
    /// JUnit says that tests failed.
    TestFailure,
    /// No test was run.
    NoTestsCollected,
    /// Fewer lines covered than asked for.
    CoverageBelowThreshold,
    /// The image could not be built.
    BuildFailure,
    /// A scan found something: of the level `error` in a SARIF report, or of any level by a command that failed.
    VulnerabilitiesFound,
    /// The container used more memory than its limit.
    OutOfMemory,
    /// The command took longer than its timeout.
    DeadlineExceeded,
    /// The run was cancelled.
    Cancelled,
    /// A missing Secret or ConfigMap, a bad image name, an image that does not exist.
    Configuration,
    /// No node had room for 15 minutes, or the quota is used up.
    Unschedulable,
    /// The node evicted or preempted the pod.
    Evicted,
    /// The node is gone.
    NodeLost,
    /// The pod was deleted.
    PodDeleted,
    /// The registry did not answer, or too slowly.
    ImagePull,
    /// A service beside the job did not become ready.
    ServiceNotReady,
    /// Anything else around the job: source, agent, kubelet.
    Infrastructure,
}

impl FailureClass {
    /// Whether the infrastructure is to blame, so that the job is tried again by default.
    #[must_use]
    pub fn is_infrastructure(self) -> bool {
        match self {
            Self::Evicted
            | Self::NodeLost
            | Self::PodDeleted
            | Self::ImagePull
            | Self::ServiceNotReady
            | Self::Infrastructure => true,
            Self::CommandFailure
            | Self::TestFailure
            | Self::NoTestsCollected
            | Self::CoverageBelowThreshold
            | Self::BuildFailure
            | Self::VulnerabilitiesFound
            | Self::OutOfMemory
            | Self::DeadlineExceeded
            | Self::Cancelled
            | Self::Configuration
            | Self::Unschedulable => false,
        }
    }

    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CommandFailure => "CommandFailure",
            Self::TestFailure => "TestFailure",
            Self::NoTestsCollected => "NoTestsCollected",
            Self::CoverageBelowThreshold => "CoverageBelowThreshold",
            Self::BuildFailure => "BuildFailure",
            Self::VulnerabilitiesFound => "VulnerabilitiesFound",
            Self::OutOfMemory => "OutOfMemory",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Cancelled => "Cancelled",
            Self::Configuration => "Configuration",
            Self::Unschedulable => "Unschedulable",
            Self::Evicted => "Evicted",
            Self::NodeLost => "NodeLost",
            Self::PodDeleted => "PodDeleted",
            Self::ImagePull => "ImagePull",
            Self::ServiceNotReady => "ServiceNotReady",
            Self::Infrastructure => "Infrastructure",
        }
    }
}

/// Test counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestStatus {
    /// Passed.
    pub passed: i64,
    /// Failed.
    pub failed: i64,
    /// Skipped.
    pub skipped: i64,
    /// Failed, then passed when only the failed ones were run again.
    #[serde(default)]
    pub flaky: i64,
    /// Counts by pytest marker, as `passed/all`; the 40 with most tests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_marker: BTreeMap<String, String>,
}

/// Line coverage: of all jobs together where a `coverageReport` combined it, else of the last job that measured any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoverageStatus {
    /// With one decimal, for example `81.3`.
    #[schemars(length(max = 8))]
    pub percent: String,
}
