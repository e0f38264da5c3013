//! The queue of runs that wait for room: who of them gets it, in which order.
//!
//! The queue stands in the cluster: a run that waits says so itself, by a label and an annotation. Room goes to the
//! namespace with the fewest Jobs, and within it to the run that waits longest: nobody's hundred jobs keep another
//! namespace's one from its turn, and nobody is passed for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::names;
use super::result::annotation;
use crate::api::run::PipelineRun;
use crate::config::Limits;
use crate::workload::job_is_finished;

/// How often a run that waits says that it still does.
const RENEWAL: Duration = Duration::from_secs(300);
/// How long the room of a run that does not say so any more is kept for it.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a run that waits writes on itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Since when it waits.
    pub since: Timestamp,
    /// How many Jobs it would start.
    pub jobs: u32,
    /// When it last said so.
    pub seen: Timestamp,
}

impl Mark {
    /// Of a run; `None` when it does not wait.
    #[must_use]
    pub fn of(run: &PipelineRun) -> Option<Self> {
        annotation(&run.metadata, names::WAITING_ANNOTATION)
    }

    /// What a run that wants to start so many Jobs writes.
    #[must_use]
    pub fn renewed(before: Option<&Self>, jobs: u32, now: Timestamp) -> Self {
        let since = before.map_or(now, |mark| mark.since);
        let is_fresh = |mark: &&Self| !older(mark.seen, RENEWAL, now);
        let seen = before.filter(is_fresh).map_or(now, |mark| mark.seen);
        Self { since, jobs, seen }
    }
}

fn older(then: Timestamp, limit: Duration, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(then)).is_ok_and(|passed| passed >= limit)
}

/// A run that waits for room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it wrote.
    pub mark: Mark,
}

impl Waiting {
    /// Of a run that says that it waits, and is neither over nor being deleted.
    #[must_use]
    pub fn of(run: &PipelineRun) -> Option<Self> {
        let over = run.annotations().contains_key(names::OUTCOME_ANNOTATION);
        let mark = Mark::of(run).filter(|_| !over && run.metadata.deletion_timestamp.is_none())?;
        Some(Self { namespace: run.namespace().unwrap_or_default(), name: run.name_any(), mark })
    }
}

/// What takes room, and who waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// The names of the Jobs that take room, by namespace.
    pub busy: BTreeMap<String, BTreeSet<String>>,
    /// Runs that wait, in any order.
    pub waiting: Vec<Waiting>,
}

/// Whether a Job takes room: its end is neither recorded nor said by the Job controller.
///
/// Nobody records the end of a Job that a leader made whose lease was over: it must not take room for ever.
#[must_use]
pub fn takes_room(job: &Job) -> bool {
    !job.labels().contains_key(names::FINISHED_LABEL) && !job_is_finished(job)
}

/// What a run gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// How many Jobs it may start now.
    pub jobs: u32,
    /// How many runs are before it.
    pub ahead: usize,
    /// Whether its namespace is full, or all namespaces together.
    pub namespace_is_full: bool,
}

impl Queue {
    /// Every run's share of the room, until it is used up or `own` has what it wants: always one Job to the run whose
    /// turn it is. The end of the Jobs `freed`, of the namespace of `own`, is written down before anything is started: they
    /// take no room, if they still did.
    #[must_use]
    pub fn grant(&self, own: &Waiting, freed: &BTreeSet<String>, limits: &Limits, now: Timestamp) -> Grant {
        let others = self.waiting.iter().filter(|other| (&other.namespace, &other.name) != (&own.namespace, &own.name));
        let alive = others.filter(|other| !older(other.mark.seen, PATIENCE, now));
        let mut shares: Vec<(&Waiting, u32)> = alive.chain([own]).map(|one| (one, one.mark.jobs)).collect();
        let taken = |namespace: &str, jobs: &BTreeSet<String>| {
            let left = jobs.iter().filter(|job| namespace != own.namespace || !freed.contains(*job)).count();
            u32::try_from(left).unwrap_or(u32::MAX)
        };
        let mut busy: BTreeMap<&str, u32> =
            self.busy.iter().map(|(name, jobs)| (name.as_str(), taken(name, jobs))).collect();
        let turn = |busy: &BTreeMap<&str, u32>, one: &Waiting| {
            let served = busy.get(one.namespace.as_str()).copied().unwrap_or_default();
            (served, one.mark.since, one.namespace.clone(), one.name.clone())
        };
        let own_turn = turn(&busy, own);
        let ahead = shares.iter().filter(|(one, _)| turn(&busy, one) < own_turn).count();
        let mut free = limits.jobs.saturating_sub(busy.values().fold(0, |sum: u32, jobs| sum.saturating_add(*jobs)));
        let mut granted = 0;
        while free > 0 && granted < own.mark.jobs {
            let has_room = |one: &Waiting| {
                busy.get(one.namespace.as_str()).copied().unwrap_or_default() < limits.jobs_per_namespace
            };
            let next = shares
                .iter_mut()
                .filter(|(one, left)| *left > 0 && has_room(one))
                .min_by_key(|(one, _)| turn(&busy, one));
            let Some((one, left)) = next else { break };
            *left -= 1;
            free -= 1;
            granted += u32::from(std::ptr::eq(*one, own));
            *busy.entry(one.namespace.as_str()).or_default() += 1;
        }
        let here = busy.get(own.namespace.as_str()).copied().unwrap_or_default();
        Grant { jobs: granted, ahead, namespace_is_full: here >= limits.jobs_per_namespace }
    }
}

impl Grant {
    /// Why a run waits.
    #[must_use]
    pub fn why(&self, limits: &Limits) -> String {
        let limit = match self.namespace_is_full {
            true => format!("{} jobs at once in this namespace are the limit", limits.jobs_per_namespace),
            false => format!("{} jobs at once are the limit", limits.jobs),
        };
        match self.ahead {
            0 => format!("{limit}, next in the queue"),
            1 => format!("{limit}, 1 run is before it"),
            ahead => format!("{limit}, {ahead} runs are before it"),
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
