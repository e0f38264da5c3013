//! Single flight: of the runs of a namespace that need the same new environment, one installs it, and the others wait for
//! its image.
//!
//! There is no lock that could be left behind. Who makes an environment is read off the Jobs that do so, in the moment in
//! which another one is about to be started: that happens one run after the other (`Effect::needs_turn`), so each sees the
//! Jobs of the one before. An operator that dies leaves Jobs, from which its successor reads the same; a run that is over,
//! or was deleted, makes nothing any more. Should two leaders ever start one each, both make the same image: time is lost,
//! nothing else. It costs one list of the few Jobs with that label, and only a run that would install something.
//!
//! Only Jobs of runs that may publish carry the label: nobody waits for a pull request. One may wait itself, as every run
//! does: at most [`PATIENCE`], counted from the end of the job that named the environment, then it installs it. Which of
//! those that wait is next, should the one they wait for fail, makes no difference: all others go on waiting for that one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use super::super::definition::ImageStore;
use super::super::effect::Effect;
use super::super::names;
use super::super::result::{JobResult, annotation};
use super::IMAGE_OUTPUT;
use crate::api::run::{JobPhase, PipelineRun};

/// How long a run waits for what others make.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How soon it looks again, should it not be woken.
pub const LOOK: Duration = Duration::from_secs(60);

/// A run that makes an environment and its image now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight {
    /// The environment: [`key`].
    pub key: String,
    /// The run.
    pub run: String,
    /// Its uid.
    pub uid: String,
}

/// What the environment with this hash is called in labels: by where its image goes, too.
#[must_use]
pub fn key(store: &ImageStore, hash: &str) -> String {
    names::short_hash(&[&store.repository, hash])
}

/// Says on a Job which environment it installs.
pub fn mark_installation(job: &mut Job, key: &str, may_publish: bool) {
    job.annotations_mut().insert(names::ENVIRONMENT_LABEL.to_owned(), key.to_owned());
    if may_publish {
        mark_publication(job, key);
    }
}

/// Says on a Job of which environment it makes an image.
pub fn mark_publication(job: &mut Job, key: &str) {
    job.labels_mut().insert(names::ENVIRONMENT_LABEL.to_owned(), key.to_owned());
}

/// The environments that would be installed.
#[must_use]
pub fn wanted(effects: &[Effect]) -> BTreeSet<String> {
    let starts = effects.iter().filter_map(|effect| if let Effect::Start(job) = effect { Some(job) } else { None });
    starts.filter_map(|job| job.annotations().get(names::ENVIRONMENT_LABEL).cloned()).collect()
}

impl Flight {
    /// Who makes an environment, as far as the Jobs tell: of all runs but the one with this uid.
    #[must_use]
    pub fn among(jobs: &[Job], own_uid: &str) -> Vec<Self> {
        let mut found: BTreeMap<(String, String), (Self, Vec<&Job>)> = BTreeMap::new();
        for job in jobs {
            let owner = job.owner_references().iter().find(|owner| owner.controller == Some(true));
            let Some((key, owner)) = job.labels().get(names::ENVIRONMENT_LABEL).zip(owner) else { continue };
            if owner.kind == "PipelineRun" && owner.uid != own_uid {
                let flight = || Self { key: key.clone(), run: owner.name.clone(), uid: owner.uid.clone() };
                found.entry((key.clone(), owner.uid.clone())).or_insert_with(|| (flight(), Vec::new())).1.push(job);
            }
        }
        found.into_values().filter(|(_, jobs)| is_under_way(jobs)).map(|(flight, _)| flight).collect()
    }

    /// Whether that run, as it is now, goes on with it.
    #[must_use]
    pub fn goes_on(&self, run: Option<&PipelineRun>) -> bool {
        run.is_some_and(|run| {
            let revision = run.spec.revision.as_ref();
            let is_pull_request = revision.is_some_and(|revision| revision.pull_request.is_some());
            let is_over = run.annotations().contains_key(names::OUTCOME_ANNOTATION);
            run.metadata.uid.as_deref() == Some(self.uid.as_str()) && !is_pull_request && !is_over
        })
    }
}

/// Whether these Jobs of one run come to an image, as far as it is written down how they ended.
fn is_under_way(jobs: &[&Job]) -> bool {
    let installs = |job: &Job| job.annotations().contains_key(names::ENVIRONMENT_LABEL);
    let is_open = |job: &Job| !job.labels().contains_key(names::FINISHED_LABEL);
    if jobs.iter().any(|job| is_open(job)) {
        return true;
    }
    if jobs.iter().any(|job| !installs(job)) {
        return false;
    }
    // Installed, and not published yet: unless there was an image by then.
    jobs.iter()
        .filter_map(|job| annotation::<JobResult>(&job.metadata, names::RESULT_ANNOTATION))
        .any(|result| result.phase == JobPhase::Succeeded && !result.outputs.contains_key(IMAGE_OUTPUT))
}

/// Until when a run waits whose environment was named then.
#[must_use]
pub fn until(named: Option<Timestamp>, now: Timestamp) -> Timestamp {
    named.unwrap_or(now).checked_add(PATIENCE).unwrap_or(now)
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
