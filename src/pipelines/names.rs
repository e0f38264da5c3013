//! Names, labels and annotations of what a run makes: deterministic, so that nothing is ever made twice.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

pub use crate::api::marks::{EVENT_LABEL, RUN_LABEL};

use crate::api::run::PipelineRun;

/// Label: the pipeline's name.
pub const PIPELINE_LABEL: &str = "timetracker.dev/pipeline";
/// Label and annotation: the job's name in the pipeline.
pub const JOB_LABEL: &str = "timetracker.dev/job";
/// Label, set to `true` together with a Job's result, or a run's outcome: what no longer takes room.
pub const FINISHED_LABEL: &str = "timetracker.dev/finished";
/// Label of a run: the hash of its concurrency group.
pub const GROUP_LABEL: &str = "timetracker.dev/concurrency-group";
/// Annotation of a run: the newer one of its concurrency group for which it ends.
pub const SUPERSEDED_ANNOTATION: &str = "timetracker.dev/superseded-by";
/// Label of a run that waits for room for its Jobs.
pub const WAITING_LABEL: &str = "timetracker.dev/waiting";
/// Annotation of such a run: since when and for how many Jobs, as JSON.
pub const WAITING_ANNOTATION: &str = "timetracker.dev/waiting";
/// Annotation: the cell's full name.
pub const CELL_ANNOTATION: &str = "timetracker.dev/cell";
/// Annotation: which attempt, from 1.
pub const ATTEMPT_ANNOTATION: &str = "timetracker.dev/attempt";
/// Annotation on a pod: the script, which a downward API volume shows as a file (nothing expands it).
pub const SCRIPT_ANNOTATION: &str = "timetracker.dev/script";
/// Annotation on a Job (or a claim without one): how the attempt ended, as JSON. Written once.
pub const RESULT_ANNOTATION: &str = "timetracker.dev/result";
/// Annotation on a pod or a Job: why and when it was told to stop, as JSON.
pub const STOP_ANNOTATION: &str = "timetracker.dev/stop";
/// Annotation on a Job: how its pod is being taken away, as JSON. The pod takes that evidence with it.
pub const LOSS_ANNOTATION: &str = "timetracker.dev/loss";
/// Annotation on a Job whose pod has no agent in it.
pub const PLAIN_ANNOTATION: &str = "timetracker.dev/plain";
/// Annotation on a Job: why the log of its plain pod was not kept.
pub const LOG_ANNOTATION: &str = "timetracker.dev/log-not-kept";
/// Annotation on a run: the ControllerRevision it executes.
pub const REVISION_ANNOTATION: &str = "timetracker.dev/pipeline-revision";
/// Annotation on a run: when it began.
pub const STARTED_ANNOTATION: &str = "timetracker.dev/started";
/// Annotation on a run: how it ended, as JSON. A run that has it never does anything again.
pub const OUTCOME_ANNOTATION: &str = "timetracker.dev/outcome";
/// Prefix of annotations on a run, each named by a Job that can never be made: why.
const REFUSAL_PREFIX: &str = "refused.timetracker.dev/";
/// Annotation on a claim: the observation from which it was made.
pub const OBSERVATION_ANNOTATION: &str = "timetracker.dev/observation";
/// Finalizer of a run, only while it runs: pods end in order before the run goes.
pub const FINALIZER: &str = "timetracker.dev/end-pods";
/// The ConfigMap with the trusted CA bundle in each namespace with runs.
pub const TRUST_CONFIG_MAP: &str = "timetracker-trusted-ca";
/// The NetworkPolicy of job pods in each namespace with runs.
pub const NETWORK_POLICY: &str = "timetracker-pipeline-jobs";
/// The NetworkPolicy of job pods that may reach the API server.
pub const API_NETWORK_POLICY: &str = "timetracker-pipeline-jobs-api";
/// Label of job pods: whether they may reach the API server, because their job names a ServiceAccount.
pub const API_LABEL: &str = "timetracker.dev/api-server";
/// Annotation on [`TRUST_CONFIG_MAP`] and [`NETWORK_POLICY`]: the hash of what was applied.
pub const CONTENT_ANNOTATION: &str = "timetracker.dev/content";
/// The component label's value of job pods.
pub const COMPONENT: &str = "pipeline-job";
/// The managed-by label's value.
pub const MANAGED_BY: &str = "timetracker-operator";
/// Label of a Job that installs an environment and may publish it, or publishes it: which one. Annotation of any Job
/// that installs one: the same.
pub const ENVIRONMENT_LABEL: &str = "timetracker.dev/environment";
/// Annotation of a run that waits for an environment: the run that makes it.
pub const FOLLOWS_ANNOTATION: &str = "timetracker.dev/follows";
/// The pseudo job that reads a branch's or tag's commit; no job of a pipeline can have this name.
pub const RESOLVE: &str = "(revision)";

/// The kind of event that made the run, as expressions see it.
#[must_use]
pub fn event(run: &PipelineRun) -> &str {
    let labelled = run.metadata.labels.as_ref().and_then(|labels| labels.get(EVENT_LABEL));
    let of_pull_request = run.spec.revision.as_ref().is_some_and(|revision| revision.pull_request.is_some());
    labelled.map_or(if of_pull_request { "PullRequest" } else { "Manual" }, String::as_str)
}

/// The pseudo job that names an environment before the job `cell` installs it; no job of a pipeline can have this name.
#[must_use]
pub fn identification(cell: &str) -> String {
    format!("({cell})")
}

/// Ten hexadecimal digits of the parts; no two lists of parts give the same text to the hash.
#[must_use]
pub fn short_hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize()).chars().take(10).collect()
}

/// The name of the Kubernetes Job of one attempt: `<run>-<hash>`, at most 51 characters.
#[must_use]
pub fn attempt_name(run: &str, run_uid: &str, cell: &str, attempt: u32) -> String {
    let stem: String = run.chars().take(40).collect();
    format!("{stem}-{}", short_hash(&[run_uid, cell, &attempt.to_string()]))
}

/// The annotation of a run that says why this Job of it can never be made.
#[must_use]
pub fn refusal_annotation(job: &str) -> String {
    format!("{REFUSAL_PREFIX}{job}")
}

/// The name of the ControllerRevision with this content.
#[must_use]
pub fn revision_name(pipeline: &str, content: &str) -> String {
    let stem: String = pipeline.chars().take(40).collect();
    format!("{stem}-{}", short_hash(&[content]))
}

/// The labels that everything made for a run carries.
#[must_use]
pub fn run_labels(run: &str, pipeline: &str) -> BTreeMap<String, String> {
    let label = |text: &str| text.chars().take(63).collect::<String>();
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "timetracker-pipelines".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), label(run)),
        ("app.kubernetes.io/component".to_owned(), COMPONENT.to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), MANAGED_BY.to_owned()),
        (RUN_LABEL.to_owned(), label(run)),
        (PIPELINE_LABEL.to_owned(), label(pipeline)),
    ])
}

/// Selects the children of one run.
#[must_use]
pub fn run_selector(run: &str) -> String {
    format!("app.kubernetes.io/managed-by={MANAGED_BY},{RUN_LABEL}={run}")
}

/// Above so many Jobs all pods are asked for: the selector would be longer than what it saves.
const MAX_JOBS_SELECTED: usize = 32;

/// Selects the pods of these Jobs of a run, and more than those when they are many.
pub fn pods_selector(run: &str, jobs: impl ExactSizeIterator<Item = String>) -> String {
    let all = run_selector(run);
    if jobs.len() > MAX_JOBS_SELECTED {
        return all;
    }
    format!("{all},batch.kubernetes.io/job-name in ({})", jobs.collect::<Vec<_>>().join(","))
}

/// Selects the children of all runs: what the controller watches.
pub const CHILD_SELECTOR: &str = "app.kubernetes.io/managed-by=timetracker-operator,timetracker.dev/run";

/// Selects Jobs that take room: those whose end is not recorded yet.
pub const BUSY_SELECTOR: &str = "app.kubernetes.io/managed-by=timetracker-operator,app.kubernetes.io/component=pipeline-job,!timetracker.dev/finished";

/// Selects the finished runs of a pipeline that triggers or the plugin made.
#[must_use]
pub fn history_selector(pipeline: &str) -> String {
    format!("{EVENT_LABEL},{FINISHED_LABEL}=true,{PIPELINE_LABEL}={pipeline}")
}

/// Selects the unfinished runs of one concurrency group.
#[must_use]
pub fn group_selector(hash: &str) -> String {
    format!("{GROUP_LABEL}={hash},!{FINISHED_LABEL}")
}

/// Selects the Jobs that install or publish this environment in runs that may publish it.
#[must_use]
pub fn environment_selector(key: &str) -> String {
    format!("app.kubernetes.io/managed-by={MANAGED_BY},{ENVIRONMENT_LABEL}={key}")
}

/// `name` as a part of an environment variable's name.
#[must_use]
pub fn variable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_name_depends_on_run_cell_and_attempt_and_fits() {
        let run = "r".repeat(60);
        let name = attempt_name(&run, "u", "unit (models)", 1);
        assert!(name.len() <= 51, "{name}");
        assert_eq!(name, attempt_name(&run, "u", "unit (models)", 1));
        assert_ne!(name, attempt_name(&run, "u", "unit (models)", 2));
        assert_ne!(name, attempt_name(&run, "other", "unit (models)", 1));
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(short_hash(&["ab", "c"]), short_hash(&["a", "bc"]));
    }
}
