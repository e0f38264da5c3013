//! The attempts at one cell: which were made, how they ended, and whether another one follows.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::attempt::{self, Judgement, judge};
use super::effect::Effect;
use super::failure::{self, Expectations};
use super::jobs::RunContext;
use super::names;
use super::observe::Observed;
use super::plain_logs::given_up;
use super::result::{JobResult, annotation};
use super::status::shown_name;
use crate::api::job::{Effects, JobSpec};
use crate::api::run::FailureClass;
use crate::plan::Next;
use crate::workload::{Loss, Lost};

/// How the attempts at one cell stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempts {
    /// The newest one, from 1; 0: none was made.
    pub number: u32,
    /// The newest one's Job.
    pub name: Option<String>,
    /// How the newest one stands.
    pub judgement: Option<Judgement>,
    /// How many failed by the infrastructure.
    pub infrastructure: u32,
    /// How many failed otherwise.
    pub other: u32,
}

impl Attempts {
    /// None of its own: an earlier run's result is as good.
    #[must_use]
    pub fn taken_over(result: JobResult) -> Self {
        let judgement = Some(Judgement::Over { result, recorded: true });
        Self { number: 0, name: None, judgement, infrastructure: 0, other: 0 }
    }

    /// The attempts at the cell, of which at most `most` are possible.
    #[must_use]
    pub fn at(
        run: &RunContext<'_>,
        observed: &Observed,
        cell: &str,
        expected: &Expectations,
        most: u32,
        effects: Effects,
        now: Timestamp,
    ) -> Self {
        let name_of = |attempt| names::attempt_name(run.name, run.uid, cell, attempt);
        let find = |name: &str| observed.jobs.iter().find(|job| job.name_any() == name);
        let is_known = |name: &str| find(name).is_some() || refusal(observed, name).is_some();
        let newest = (1..=most).rev().find(|attempt| is_known(&name_of(*attempt)));
        let hinted = hinted_attempt(run, observed, cell).filter(|attempt| *attempt <= most);
        let number = newest.max(hinted).unwrap_or(0);
        let claim = (effects == Effects::Once && number == 0).then(|| claim(observed, &name_of(1), now)).flatten();
        let mut attempts = Self { number, name: None, judgement: None, infrastructure: 0, other: 0 };
        if let Some(judgement) = claim {
            return Self { number: 1, name: Some(name_of(1)), judgement: Some(judgement), ..attempts };
        }
        for attempt in 1..=number {
            let name = name_of(attempt);
            let judgement = match find(&name) {
                Some(job) => {
                    let pod = pod_of(job, &observed.pods);
                    let lacks = pod.and_then(|pod| observed.lacking.get(&pod.name_any()));
                    let judged = attempt::lacking(judge(job, pod, expected, now), pod, lacks.map(String::as_str), now);
                    let unmade = observed.unmade.get(&name).filter(|_| pod.is_none());
                    attempt::unmade(judged, job, unmade.map(String::as_str), now)
                }
                None => {
                    // Else the Job was there and is not any more: so is its pod.
                    let result =
                        refusal(observed, &name).unwrap_or_else(|| failure::of_loss(&Lost::of(Loss::Deleted, None)));
                    Judgement::Over { result, recorded: true }
                }
            };
            let judgement = match (judgement, find(&name).and_then(given_up)) {
                (Judgement::Over { result, recorded: true }, Some(why)) => {
                    let result = result.noted(&format!("the log was not kept: {why}"));
                    Judgement::Over { result, recorded: true }
                }
                (judgement @ (Judgement::Over { .. } | Judgement::Going(_)), _) => judgement,
            };
            if let Judgement::Over { result, .. } = &judgement {
                match result.failure {
                    Some(class) if class.is_infrastructure() => attempts.infrastructure += 1,
                    Some(_) => attempts.other += 1,
                    None => {}
                }
            }
            attempts.name = Some(name);
            attempts.judgement = Some(judgement);
        }
        attempts
    }
}

/// The attempt that the run's status speaks of: it was started, so a Job that is not there was deleted.
fn hinted_attempt(run: &RunContext<'_>, observed: &Observed, cell: &str) -> Option<u32> {
    let shown = shown_name(cell);
    let jobs = observed.run.status.as_ref().map(|status| status.jobs.as_slice()).unwrap_or_default();
    let hint = jobs.iter().find(|job| job.name == shown)?;
    let attempt = hint.attempt.and_then(|attempt| u32::try_from(attempt).ok())?;
    let name = names::attempt_name(run.name, run.uid, cell, attempt);
    (hint.job.as_deref() == Some(name.as_str())).then_some(attempt)
}

/// The result of an attempt whose Job the API server refused to make for good.
fn refusal(observed: &Observed, name: &str) -> Option<JobResult> {
    let why = observed.run.metadata.annotations.as_ref()?.get(&names::refusal_annotation(name))?;
    Some(JobResult::failed(FailureClass::Configuration, &format!("its Job can't be made: {why}")))
}

/// A claim without its Job: it may have run, so it never runs again by itself.
fn claim(observed: &Observed, name: &str, now: Timestamp) -> Option<Judgement> {
    let claim = observed.claims.iter().find(|claim| claim.name_any() == name)?;
    let recorded = annotation::<JobResult>(&claim.metadata, names::RESULT_ANNOTATION);
    let text = "its Job vanished; it may have run (effects: Once): look, then make a new run";
    let is_recorded = recorded.is_some();
    let result = recorded.unwrap_or_else(|| JobResult::failed(FailureClass::PodDeleted, text).ended(Some(now), None));
    Some(Judgement::Over { result, recorded: is_recorded })
}

/// How often a job is tried again, by the kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// After failures of the infrastructure.
    pub infrastructure: u32,
    /// After others.
    pub other: u32,
}

impl Retries {
    /// As the job says.
    #[must_use]
    pub fn of(spec: &JobSpec) -> Self {
        let given = spec.retries.as_ref();
        let number = |value: Option<i32>, default| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default);
        Self {
            infrastructure: number(given.and_then(|given| given.infrastructure), 1),
            other: number(given.and_then(|given| given.failure), 0),
        }
    }

    /// The most attempts at one cell.
    #[must_use]
    pub fn most(self) -> u32 {
        self.infrastructure.saturating_add(self.other).saturating_add(1)
    }

    /// Whether another attempt follows the newest one, which ended so.
    #[must_use]
    pub fn allow(self, attempts: &Attempts, newest: &JobResult) -> bool {
        match newest.failure {
            None | Some(FailureClass::Cancelled) => false,
            Some(class) if class.is_infrastructure() => attempts.infrastructure <= self.infrastructure,
            Some(_) => attempts.other <= self.other,
        }
    }
}

/// The Job's pod. Should there ever be several, the one that counts is the first that was made.
#[must_use]
pub fn pod_of<'a>(job: &Job, pods: &'a [Pod]) -> Option<&'a Pod> {
    let uid = job.metadata.uid.as_deref()?;
    pods.iter()
        .filter(|pod| pod.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == uid))
        .min_by_key(|pod| (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.name_any()))
}

/// Ends what foreign containers keep alive after their command.
#[must_use]
pub fn linger(observed: &Observed, now: Timestamp) -> (Vec<Effect>, Next) {
    let mut effects = Vec::new();
    let mut next = Next::OnChange;
    for pod in &observed.pods {
        match attempt::lingers(pod, now) {
            Some(left) if left.is_zero() => effects.push(Effect::EndPod { pod: pod.name_any(), stop: None }),
            Some(left) => next = next.sooner(Next::After(left)),
            None => {}
        }
    }
    (effects, next)
}
