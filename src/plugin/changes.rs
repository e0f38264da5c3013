//! What is new about a run, in plain lines: for logs, and wherever there is no terminal.

use super::steps::StepState;
use super::text::length;
use super::tree::{why, word};
use super::view::{JobView, RunState, RunView};
use crate::api::run::JobPhase;

/// One line for each change, each with the time since the run was made. They can hold what jobs wrote: show, don't print.
#[must_use]
pub fn changes(before: Option<&RunView>, after: &RunView) -> Vec<String> {
    let mut told = Vec::new();
    if before.is_none_or(|before| (before.state, before.cancelling) != (after.state, after.cancelling)) {
        told.extend(of_run(after));
    } else if before.is_some_and(|before| before.message != after.message)
        && matches!(after.state, RunState::Waiting | RunState::Unseen)
    {
        told.push(format!("waiting: {}", after.message));
    }
    for job in &after.jobs {
        let earlier = before.and_then(|before| before.job(&job.name));
        told.extend(of_job(earlier, job).into_iter().map(|change| format!("{}: {change}", job.name)));
    }
    // A run ends when its last command did, which is a little before that is known.
    let now = before.map_or(after.seconds, |before| before.seconds.max(after.seconds));
    told.into_iter().map(|change| format!("[{}] {change}", clock(now))).collect()
}

/// Minutes and seconds, so that lines stand below each other.
fn clock(seconds: i64) -> String {
    format!("{:>3}:{:02}", seconds / 60, seconds % 60)
}

fn of_run(run: &RunView) -> Option<String> {
    let at = run.revision.as_ref().map(|revision| format!(" at {revision}")).unwrap_or_default();
    match run.state {
        RunState::Unseen => None,
        _ if run.cancelling && !run.state.is_final() => Some("being cancelled".to_owned()),
        RunState::Waiting => Some(format!("waiting: {}", run.message)),
        RunState::Going => Some(format!("{} of {}{at} runs, {} jobs", run.name, run.pipeline, run.jobs.len())),
        // The verdict follows the last change, and says it.
        RunState::Succeeded | RunState::Failed | RunState::Cancelled => None,
    }
}

fn of_job(before: Option<&JobView>, job: &JobView) -> Vec<String> {
    let mut told = Vec::new();
    if job.attempt > 1 && before.is_none_or(|before| before.attempt != job.attempt) {
        told.push(format!("attempt {}", job.attempt));
    }
    // Steps first: what has ended is said before what begins.
    let same = before.filter(|before| before.attempt == job.attempt);
    for step in job.steps.iter().filter(|step| !step.command) {
        let earlier = same.and_then(|before| before.steps.iter().find(|earlier| earlier.name == step.name));
        if earlier.is_some_and(|earlier| earlier.state == step.state) {
            continue;
        }
        let took = step.seconds.map(|seconds| format!(" in {}", length(seconds))).unwrap_or_default();
        match step.state {
            StepState::Waiting => {}
            StepState::Going => told.push(format!("{} …", step.name)),
            StepState::Done => told.push(format!("{} done{took}", step.name)),
            StepState::Failed => told.push(format!("{} failed{took}", step.name)),
        }
    }
    let moved = same.is_none_or(|before| before.phase != job.phase);
    let said_more = same.is_some_and(|before| before.message != job.message);
    match job.phase {
        // Everything begins so.
        JobPhase::Waiting => {}
        JobPhase::Running if moved => told.push(word(job.phase).to_owned()),
        // What it then waits for, its steps tell.
        JobPhase::Running => {}
        JobPhase::Starting | JobPhase::Queued => {
            if moved {
                told.push(word(job.phase).to_owned());
            }
            told.extend(job.message.clone().filter(|_| moved || said_more).map(|message| format!("waits: {message}")));
        }
        JobPhase::Succeeded | JobPhase::Skipped | JobPhase::Cancelled | JobPhase::Failed if moved => {
            told.push(ending(job));
        }
        JobPhase::Succeeded | JobPhase::Skipped | JobPhase::Cancelled | JobPhase::Failed => {}
    }
    told
}

fn ending(job: &JobView) -> String {
    let took = job.seconds.map(|seconds| format!(" after {}", length(seconds))).unwrap_or_default();
    let said = job.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    match job.phase {
        JobPhase::Failed => format!("failed{took}: {}", why(job)),
        JobPhase::Skipped => format!("skipped{said}"),
        JobPhase::Succeeded => format!("succeeded{took}"),
        JobPhase::Cancelled => format!("cancelled{took}"),
        JobPhase::Waiting | JobPhase::Queued | JobPhase::Starting | JobPhase::Running => word(job.phase).to_owned(),
    }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
