//! How many finished runs of a pipeline are kept.
//!
//! Only runs that a trigger or the plugin made are ever deleted: one that somebody applied would be made again by the
//! tool that applied it. The newest run of each event and ref stays in any case: by it triggers know what they did.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::ResourceExt;

use super::names;
use super::result::{Outcome, annotation};
use crate::api::pipeline::HistoryLimits;
use crate::api::run::{JobPhase, PipelineRun, RevisionSpec};

/// How many succeeded runs are kept by default.
const SUCCEEDED: usize = 10;
/// How many failed and cancelled runs are kept by default.
const FAILED: usize = 20;

/// A finished run that may be deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finished {
    /// When it was created.
    pub created: Timestamp,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Option<String>,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// The kind of event and the ref.
    pub cause: (String, String),
}

impl Finished {
    /// Of a run; `None` when it is not over, is going already, or was made by a person.
    #[must_use]
    pub fn of(run: &PipelineRun) -> Option<Self> {
        let outcome: Outcome = annotation(&run.metadata, names::OUTCOME_ANNOTATION)?;
        Self::ended(run, &outcome)
    }

    /// Of a run that ends so.
    #[must_use]
    pub fn ended(run: &PipelineRun, outcome: &Outcome) -> Option<Self> {
        let event = run.labels().get(names::EVENT_LABEL).filter(|_| run.metadata.deletion_timestamp.is_none())?;
        Some(Self {
            created: run.creation_timestamp().map_or(Timestamp::MIN, |time| time.0),
            name: run.name_any(),
            uid: run.uid(),
            succeeded: outcome.phase == JobPhase::Succeeded,
            cause: (event.clone(), run.spec.revision.as_ref().map(reference).unwrap_or_default()),
        })
    }
}

/// What a run is about: a pull request, a branch, a tag, or a commit alone.
fn reference(revision: &RevisionSpec) -> String {
    let pull_request = revision.pull_request.as_ref();
    let named = [
        pull_request.map(|request| format!("pull request {} to {}", request.number, request.base)),
        revision.branch.as_ref().map(|branch| format!("branch {branch}")),
        revision.tag.as_ref().map(|tag| format!("tag {tag}")),
        revision.commit.clone(),
    ];
    named.into_iter().flatten().next().unwrap_or_default()
}

/// The runs that are too many, oldest first.
#[must_use]
pub fn too_many(all: &[Finished], limits: Option<&HistoryLimits>) -> Vec<Finished> {
    let number = |given: Option<i32>, default| given.and_then(|given| usize::try_from(given).ok()).unwrap_or(default);
    let succeeded = number(limits.and_then(|limits| limits.succeeded), SUCCEEDED);
    let failed = number(limits.and_then(|limits| limits.failed), FAILED);
    let mut newest_first: Vec<&Finished> = all.iter().collect();
    newest_first.sort_by(|a, b| b.cmp(a));
    let mut causes = BTreeSet::new();
    let (mut kept_succeeded, mut kept_failed) = (0, 0);
    let mut expendable = Vec::new();
    for run in newest_first {
        let is_newest = causes.insert(&run.cause);
        let (kept, limit) = if run.succeeded { (&mut kept_succeeded, succeeded) } else { (&mut kept_failed, failed) };
        if is_newest || *kept < limit {
            *kept += 1;
        } else {
            expendable.push(run.clone());
        }
    }
    expendable.reverse();
    expendable
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn finished(second: i64, succeeded: bool, branch: &str) -> Finished {
        let created = Timestamp::from_second(1_767_225_600 + second).unwrap();
        let cause = ("Push".to_owned(), branch.to_owned());
        Finished { created, name: format!("r-{second}"), uid: None, succeeded, cause }
    }

    fn names(runs: &[Finished]) -> Vec<&str> {
        runs.iter().map(|run| run.name.as_str()).collect()
    }

    #[test]
    fn the_oldest_go_by_their_own_kind_of_end() {
        let limits = HistoryLimits { succeeded: Some(2), failed: Some(1) };
        let all: Vec<_> = (0..8).map(|second| finished(second, second % 2 == 0, "main")).collect();
        assert_eq!(names(&too_many(&all, Some(&limits))), ["r-0", "r-1", "r-2", "r-3", "r-5"]);
    }

    #[test]
    fn the_newest_of_each_ref_stays() {
        let limits = HistoryLimits { succeeded: Some(0), failed: Some(0) };
        let all = [finished(0, true, "old"), finished(1, false, "main"), finished(2, true, "main")];
        assert_eq!(names(&too_many(&all, Some(&limits))), ["r-1"]);
    }

    #[test]
    fn by_default_ten_succeeded_and_twenty_others_are_kept() {
        let all: Vec<_> = (0..60).map(|second| finished(second, second < 30, "main")).collect();
        let gone = too_many(&all, None);
        assert_eq!(gone.iter().filter(|run| run.succeeded).count(), 20);
        assert_eq!(gone.iter().filter(|run| !run.succeeded).count(), 10);
    }

    #[test]
    fn a_run_that_somebody_applied_is_never_counted() {
        let outcome =
            json!({"phase": "Succeeded", "reason": "Succeeded", "message": "", "completed": "2026-01-01T00:00:00Z"});
        let run = |labels: serde_json::Value| -> PipelineRun {
            let metadata =
                json!({"name": "r", "labels": labels, "annotations": {names::OUTCOME_ANNOTATION: outcome.to_string()}});
            serde_json::from_value(json!({"metadata": metadata, "spec": {"pipelineRef": {"name": "p"},
                "revision": {"branch": "main"}}}))
            .unwrap()
        };
        assert_eq!(Finished::of(&run(json!({}))), None);
        let labelled = Finished::of(&run(json!({names::EVENT_LABEL: "Push"}))).unwrap();
        assert_eq!(labelled.cause, ("Push".to_owned(), "branch main".to_owned()));
    }
}
