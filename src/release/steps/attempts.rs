//! Attempts at a Job: started one after the other under names that follow from their number, with growing pauses.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::release::ReleaseStep;
use crate::release::decide::{Effect, Step};
use crate::release::manifests::{JobOrder, environment_of};
use crate::release::observed::{JobView, Observed, Purpose};
use crate::release::revision::Revision;
use crate::release::status::Situation;
use crate::workload::{ContainerEnd, PodPhase, WaitCause, Waiting};

const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A Job without a pod, or with one that waits, is looked at again after this time: quotas have no event.
const GLANCE: Duration = Duration::from_secs(30);
/// A pod that starts is looked at again after this time.
const STARTING: Duration = Duration::from_secs(8);

/// How the newest attempt stands.
pub(super) enum Newest<'a> {
    /// There is none.
    None,
    /// It goes on; this is what there is to say.
    Open(Step),
    /// Its container ended.
    Ended(&'a JobView, &'a ContainerEnd),
    /// It is over and proves nothing.
    Lost(&'a JobView, String),
}

/// Where a Job stands in its delivery.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    /// The step it is for.
    pub(super) step: ReleaseStep,
    /// Whether what runs is being changed meanwhile.
    pub(super) changing: bool,
}

impl Stage {
    /// What there is to say while all goes as it should.
    pub(super) fn progressing(self, message: String) -> Situation {
        if self.changing {
            Situation::Changing { step: self.step, reason: crate::release::status::step_reason(self.step), message }
        } else {
            Situation::Preparing { step: self.step, message }
        }
    }

    /// What there is to say while something that may pass is in the way.
    pub(super) fn hindered(self, reason: &'static str, message: String) -> Situation {
        if self.changing {
            Situation::Changing { step: self.step, reason, message }
        } else {
            Situation::Waiting { step: self.step, reason, message }
        }
    }

    /// What there is to say while a person must do something, after which it goes on by itself.
    pub(super) fn needs_person(self, reason: &'static str, message: String) -> Situation {
        if self.changing {
            Situation::Changing { step: self.step, reason, message }
        } else {
            Situation::NeedsPerson { reason, message }
        }
    }
}

/// The newest attempt at `purpose`.
pub(super) fn newest<'a>(observed: &'a Observed, purpose: &Purpose, stage: Stage) -> Newest<'a> {
    let Some(job) = observed.attempts(purpose).pop() else {
        return Newest::None;
    };
    match &job.phase {
        PodPhase::NoPod => Newest::Open(
            Step::stand(stage.hindered("NoPod", format!("Job {} has no pod yet (quota, admission?)", job.name)))
                .again_after(GLANCE),
        ),
        PodPhase::Waiting(waiting) if waiting.cause == WaitCause::InitFailed => {
            Newest::Lost(job, format!("its pod could not start: {}", waiting.message))
        }
        PodPhase::Waiting(waiting) => {
            // Nothing tells of a volume's missing Secret: a pod that does not start is looked at again soon.
            let pause = if waiting.cause == WaitCause::Starting { STARTING } else { GLANCE };
            Newest::Open(Step::stand(blocked(&job.name, waiting, stage)).again_after(pause))
        }
        PodPhase::Running { .. } => {
            Newest::Open(Step::stand(stage.progressing(format!("Job {} runs (attempt {})", job.name, job.attempt))))
        }
        PodPhase::Ended(end) => Newest::Ended(job, end),
        PodPhase::Lost(loss) => Newest::Lost(job, format!("its pod was lost ({loss:?})")),
    }
}

/// What a waiting pod says.
fn blocked(name: &str, waiting: &Waiting, stage: Stage) -> Situation {
    let message = format!("pod of Job {name} waits: {}", waiting.message);
    match waiting.cause {
        WaitCause::Starting | WaitCause::InitFailed => stage.progressing(format!("Job {name} starts")),
        WaitCause::Unschedulable => stage.hindered("Unschedulable", message),
        WaitCause::ImagePull => stage.hindered("ImagePull", message),
        WaitCause::ImageMissing => stage.needs_person("ImageMissing", message),
        WaitCause::MissingReference => stage.needs_person("MissingReference", message),
    }
}

/// Starts the attempt after `last`, once the pause since its end is over.
pub(super) fn again(last: &JobView, order: JobOrder, situation: Situation, now: Timestamp) -> Step {
    let pause = pause_after(last.attempt);
    let over = last.ended().map_or(Duration::ZERO, |ended| {
        let passed = Duration::try_from(now.duration_since(ended)).unwrap_or_default();
        pause.saturating_sub(passed)
    });
    if over.is_zero() {
        let order = JobOrder { attempt: last.attempt.saturating_add(1), ..order };
        Step::stand(situation).with(Effect::Start(Box::new(order)))
    } else {
        Step::stand(situation).again_after(over)
    }
}

fn pause_after(attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(10);
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_PAUSE)
}

/// The order for the first attempt at `purpose` on behalf of `revision`.
pub(super) fn order(revision: &Revision, purpose: Purpose, contracts: Vec<crate::api::names::Digest>) -> JobOrder {
    JobOrder {
        purpose,
        attempt: 1,
        target: revision.data.target.clone(),
        contracts,
        environment: environment_of(&revision.data.manifests),
    }
}
