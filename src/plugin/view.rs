//! A run as it is shown: what its status says, and what the pods of its jobs are doing.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::steps::{StepView, limit_of, started_of, steps_of};
use super::text::seconds_between;
use crate::api::conditions::{find, types};
use crate::api::run::{FailureClass, JobPhase, JobStatus, PipelineRun, TestStatus};

/// The label by which Kubernetes' Job controller names the Job of a pod.
const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// An operator that works has looked at a run by then.
const UNSEEN_SECONDS: i64 = 10;
const UNSEEN: &str = "the operator has not looked at it yet: is it running, and does it watch this namespace?";

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// The operator has not said anything yet.
    Unseen,
    /// It waits for something before its first job.
    Waiting,
    /// It is under way.
    Going,
    /// It did what it should.
    Succeeded,
    /// It did not.
    Failed,
    /// It was stopped.
    Cancelled,
}

impl RunState {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Unseen | Self::Waiting | Self::Going => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }

    /// A word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Waiting => "waiting",
            Self::Going => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// Its name.
    pub name: String,
    /// Its pipeline.
    pub pipeline: String,
    /// The commit, or the branch or tag while that is not known.
    pub revision: Option<String>,
    /// How it stands.
    pub state: RunState,
    /// Whether it was asked to stop.
    pub cancelling: bool,
    /// The reason of its verdict.
    pub reason: String,
    /// The message of its verdict.
    pub message: String,
    /// Seconds since it was made, or that it took.
    pub seconds: i64,
    /// All jobs.
    pub jobs: Vec<JobView>,
    /// Test counts of all jobs together.
    pub tests: Option<TestStatus>,
    /// Percentage of covered lines.
    pub coverage: Option<String>,
}

/// One job, or one cell of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// Its name; a cell's is `job (value, value)`.
    pub name: String,
    /// How far it is, or how it ended.
    pub phase: JobPhase,
    /// The class of failure.
    pub failure: Option<FailureClass>,
    /// The evidence, or what it waits for.
    pub message: Option<String>,
    /// Which attempt.
    pub attempt: i32,
    /// Seconds since its pod was made, or that its command took.
    pub seconds: Option<i64>,
    /// Tests that failed, then passed when only the failed ones were run again.
    pub flaky: i64,
    /// Seconds that its command may take.
    pub limit: Option<i64>,
    /// What its pod does; empty before there is one and after it is gone.
    pub steps: Vec<StepView>,
}

impl RunView {
    /// The view of a run and its pods at that time.
    #[must_use]
    pub fn of<'a>(run: &PipelineRun, pods: impl IntoIterator<Item = &'a Pod> + Clone, now: Timestamp) -> Self {
        let status = run.status.clone().unwrap_or_default();
        let verdict = find(&status.conditions, types::SUCCEEDED);
        let created = run.creation_timestamp().map_or(now, |time| time.0);
        let until = status.completion_time.as_ref().map_or(now, |time| time.0);
        let named = run.spec.revision.as_ref().and_then(|revision| {
            let commit = revision.commit.as_ref().map(|commit| commit.chars().take(7).collect());
            commit.or_else(|| revision.branch.clone()).or_else(|| revision.tag.clone())
        });
        let state = match verdict {
            None => RunState::Unseen,
            Some(condition) => match (condition.status.as_str(), condition.reason.as_str()) {
                ("True", _) => RunState::Succeeded,
                ("False", "Cancelled") => RunState::Cancelled,
                ("False", _) => RunState::Failed,
                (_, _) if status.start_time.is_none() => RunState::Waiting,
                (_, _) => RunState::Going,
            },
        };
        let seconds = seconds_between(created, until);
        let message = match verdict {
            None if seconds >= UNSEEN_SECONDS => UNSEEN.to_owned(),
            None => String::new(),
            Some(condition) => condition.message.clone(),
        };
        Self {
            name: run.name_any(),
            pipeline: run.spec.pipeline_ref.name.clone(),
            revision: status.short_commit.clone().or(named),
            state,
            cancelling: run.spec.cancel,
            reason: verdict.map(|condition| condition.reason.clone()).unwrap_or_default(),
            message,
            seconds,
            jobs: status.jobs.iter().map(|job| JobView::of(job, pod_of(job, pods.clone()), now)).collect(),
            tests: status.tests,
            coverage: status.coverage.map(|coverage| coverage.percent),
        }
    }

    /// How many jobs are final.
    #[must_use]
    pub fn finished(&self) -> usize {
        self.jobs.iter().filter(|job| job.phase.is_final()).count()
    }

    /// The job of that name.
    #[must_use]
    pub fn job(&self, name: &str) -> Option<&JobView> {
        self.jobs.iter().find(|job| job.name == name)
    }
}

impl JobView {
    fn of(job: &JobStatus, pod: Option<&Pod>, now: Timestamp) -> Self {
        let steps = pod.map(|pod| steps_of(pod, now)).unwrap_or_default();
        let since = pod.and_then(started_of).map(|since| seconds_between(since, now));
        let active = matches!(job.phase, JobPhase::Starting | JobPhase::Running);
        Self {
            name: job.name.clone(),
            phase: job.phase,
            failure: job.failure,
            message: job.message.clone(),
            attempt: job.attempt.unwrap_or(1),
            seconds: job.seconds.or(since.filter(|_| active)),
            flaky: job.flaky.unwrap_or(0),
            limit: pod.and_then(limit_of),
            steps,
        }
    }

    /// The name of the job without the cell's values, and the values.
    #[must_use]
    pub fn parts(&self) -> (&str, Option<&str>) {
        match self.name.split_once(" (").and_then(|(job, cell)| Some((job, cell.strip_suffix(')')?))) {
            Some((job, cell)) => (job, Some(cell)),
            None => (&self.name, None),
        }
    }
}

/// The newest pod of the newest attempt.
fn pod_of<'a>(job: &JobStatus, pods: impl IntoIterator<Item = &'a Pod>) -> Option<&'a Pod> {
    let name = job.job.as_deref()?;
    let own = pods.into_iter().filter(|pod| pod.labels().get(JOB_NAME_LABEL).is_some_and(|label| label == name));
    own.max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// Selects the pods of a job of Kubernetes.
#[must_use]
pub fn pod_selector(job: &str) -> String {
    format!("{JOB_NAME_LABEL}={job}")
}
