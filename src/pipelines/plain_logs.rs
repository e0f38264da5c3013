//! Logs of plain pods: there is no agent in them that would keep what their command prints.
//!
//! What a command came to is recorded at once, and what needs it starts: a log must neither hold that up nor put it at risk.
//! Only the end of the run waits, until its logs are kept or it was tried often enough.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::attempt::{is_terminal, remaining};
use super::attempts::pod_of;
use super::effect::Effect;
use super::failure::{MAIN, never_ran};
use super::names;
use super::observe::Observed;
use crate::logs::{Look, Standing, Wanted};
use crate::plan::Next;
use crate::workload::{PodPhase, pod_phase};

/// How often the log is kept while its command runs.
const EVERY: Duration = Duration::from_secs(60);
/// How soon after a failure it is tried again.
const PAUSE: Duration = Duration::from_secs(5);
/// How often the log of a command that has ended is tried.
const TRIES: u32 = 3;
/// How soon it is looked whether an awaited log is kept, should nobody tell.
const AWAIT_INTERVAL: Duration = Duration::from_secs(5);

/// What is to be done about the logs of a run's plain pods.
#[derive(Debug, Default)]
pub struct PlainLogs {
    /// What to do.
    pub effects: Vec<Effect>,
    /// When to look again.
    pub next: Option<Duration>,
    /// Whether the log of a command whose end was seen may still be kept.
    pub pending: bool,
    /// The uids of those Jobs of which a log is being kept.
    pub under_way: Vec<String>,
}

impl PlainLogs {
    /// Of the run. None, when this operator keeps no logs.
    #[must_use]
    pub fn of(observed: &Observed, now: Timestamp) -> Self {
        let mut logs = Self::default();
        let Some(standing) = &observed.logs else { return logs };
        for job in &observed.jobs {
            let Some(pod) = pod_of(job, &observed.pods).filter(|_| is_plain(job) && given_up(job).is_none()) else {
                continue;
            };
            logs.pod(observed, job, pod, standing.get(&job.uid().unwrap_or_default()), now);
        }
        logs
    }

    /// When to look again.
    #[must_use]
    pub fn next(&self) -> Next {
        self.next.map_or(Next::OnChange, Next::After)
    }

    fn pod(&mut self, observed: &Observed, job: &Job, pod: &Pod, standing: Option<&Standing>, now: Timestamp) {
        let keep = |look| {
            Effect::KeepLog(Box::new(Wanted {
                namespace: observed.run.namespace().unwrap_or_default(),
                run: observed.run.name_any(),
                job: job.name_any(),
                pod: pod.name_any(),
                uid: job.uid().unwrap_or_default(),
                look,
            }))
        };
        match pod_phase(job, Some(pod), MAIN) {
            PodPhase::NoPod | PodPhase::Waiting(_) => {}
            PodPhase::Running { since } => match last_look(standing).or(since) {
                // How it ends is looked at then.
                _ if standing == Some(&Standing::UnderWay) => self.look_after(EVERY),
                last => {
                    let left = remaining(last, EVERY, now);
                    if left.is_zero() {
                        self.effects.push(keep(Look::Passing));
                    }
                    self.look_after(if left.is_zero() { EVERY } else { left });
                }
            },
            // It goes with its pod, sooner or later: this is the last look.
            PodPhase::Lost(_) => {
                let was_seen = matches!(
                    standing,
                    Some(
                        Standing::UnderWay
                            | Standing::Kept { look: Look::Parting | Look::Final, .. }
                            | Standing::Failed { look: Look::Parting | Look::Final, .. }
                    )
                );
                if !was_seen && (pod.metadata.deletion_timestamp.is_some() || is_terminal(pod)) {
                    self.effects.push(keep(Look::Parting));
                }
            }
            PodPhase::Ended(end) if never_ran(&end) => {}
            PodPhase::Ended(_) => self.ended(job, standing, keep(Look::Final), now),
        }
    }

    fn ended(&mut self, job: &Job, standing: Option<&Standing>, keep: Effect, now: Timestamp) {
        match standing {
            Some(Standing::Kept { look: Look::Final, .. }) => return,
            Some(Standing::Failed { look: Look::Final, tries, why, .. }) if *tries >= TRIES => {
                self.effects.push(Effect::GiveUpLog { job: job.name_any(), why: why.clone() });
                self.look_after(Duration::ZERO);
            }
            Some(Standing::Failed { look: Look::Final, at, .. }) => {
                let left = remaining(Some(*at), PAUSE, now);
                if left.is_zero() {
                    self.effects.push(keep);
                    self.wait(job);
                } else {
                    self.look_after(left);
                }
            }
            Some(Standing::UnderWay) => self.wait(job),
            Some(Standing::Kept { .. } | Standing::Failed { .. }) | None => {
                self.effects.push(keep);
                self.wait(job);
            }
        }
        self.pending = true;
    }

    fn wait(&mut self, job: &Job) {
        self.under_way.extend(job.uid());
        self.look_after(AWAIT_INTERVAL);
    }

    fn look_after(&mut self, left: Duration) {
        self.next = Some(self.next.map_or(left, |next| next.min(left)));
    }
}

fn last_look(standing: Option<&Standing>) -> Option<Timestamp> {
    match standing? {
        Standing::Kept { at, .. } | Standing::Failed { at, .. } => Some(*at),
        Standing::UnderWay => None,
    }
}

/// Whether a shell runs the job's script without the agent.
fn is_plain(job: &Job) -> bool {
    job.annotations().contains_key(names::PLAIN_ANNOTATION)
}

/// Whether the log of the Job's command is neither kept as it was at its end nor given up: its pod is still of use.
#[must_use]
pub fn owes_log(job: &Job, standing: Option<&BTreeMap<String, Standing>>) -> bool {
    let Some(standing) = standing.filter(|_| is_plain(job) && given_up(job).is_none()) else { return false };
    let found = standing.get(job.metadata.uid.as_deref().unwrap_or_default());
    !matches!(found, Some(Standing::Kept { look: Look::Final, .. }))
}

/// Why the log of the Job's command was not kept, once that is final.
#[must_use]
pub fn given_up(job: &Job) -> Option<&str> {
    job.metadata.annotations.as_ref()?.get(names::LOG_ANNOTATION).map(String::as_str)
}

#[cfg(test)]
#[path = "plain_logs_tests.rs"]
mod tests;
