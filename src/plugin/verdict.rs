//! The end of a run: what success asks for, ticked; what failed, how to repeat it, and what to do next.

use super::failures::{FailedJob, FailedTest};
use super::line::{Line, Tone};
use super::text::{length, shell_word};
use super::tree::why;
use super::view::{JobView, RunState, RunView};
use crate::api::run::{FailureClass, JobPhase};

/// How many failed tests of a job are named.
const MAX_NAMED: usize = 20;

/// Whether a condition of success holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// It holds.
    Met,
    /// It does not.
    Unmet,
    /// Nothing was measured that it speaks of.
    NotMeasured,
}

/// One condition of success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Criterion {
    /// Whether it holds.
    pub tick: Tick,
    /// What it asks for, and what there is.
    pub text: String,
}

/// What success asks for. The run's own condition is the verdict; this says where it comes from.
#[must_use]
pub fn criteria(run: &RunView) -> Vec<Criterion> {
    vec![jobs(run), tests(run), coverage(run), scan(run)]
}

fn failed_by(run: &RunView, class: FailureClass) -> bool {
    run.jobs.iter().any(|job| job.phase == JobPhase::Failed && job.failure == Some(class))
}

fn jobs(run: &RunView) -> Criterion {
    let count = |phase| run.jobs.iter().filter(|job| job.phase == phase).count();
    let mut counted = format!("{} of {} succeeded", count(JobPhase::Succeeded), run.jobs.len());
    for (phase, word) in
        [(JobPhase::Failed, "failed"), (JobPhase::Cancelled, "cancelled"), (JobPhase::Skipped, "skipped")]
    {
        if count(phase) > 0 {
            counted.push_str(&format!(", {} {word}", count(phase)));
        }
    }
    if run.state == RunState::Succeeded && count(JobPhase::Failed) > 0 {
        counted.push_str(" (forgiven by continueOnError)");
    }
    let tick = if run.state == RunState::Succeeded { Tick::Met } else { Tick::Unmet };
    Criterion { tick, text: format!("every job succeeded, or was skipped by its own condition: {counted}") }
}

fn tests(run: &RunView) -> Criterion {
    let none = failed_by(run, FailureClass::NoTestsCollected);
    let Some(tests) = &run.tests else {
        let tick = if none { Tick::Unmet } else { Tick::NotMeasured };
        let text = if none { "tests really ran: none was collected" } else { "tests: no job reports any" };
        return Criterion { tick, text: text.to_owned() };
    };
    let mut text = format!(
        "tests really ran, none failed: {} passed, {} failed, {} skipped",
        tests.passed, tests.failed, tests.skipped
    );
    if tests.flaky > 0 {
        text.push_str(&format!(", {} flaky", tests.flaky));
    }
    for (marker, counts) in &tests.by_marker {
        text.push_str(&format!("; {marker} {counts}"));
    }
    let met = !none && tests.failed == 0 && tests.passed > 0;
    Criterion { tick: if met { Tick::Met } else { Tick::Unmet }, text }
}

fn coverage(run: &RunView) -> Criterion {
    let below = failed_by(run, FailureClass::CoverageBelowThreshold);
    let (tick, text) = match (&run.coverage, below) {
        (Some(percent), false) => (Tick::Met, format!("coverage not below a threshold: {percent} %")),
        (Some(percent), true) => (Tick::Unmet, format!("coverage not below a threshold: only {percent} %")),
        (None, true) => (Tick::Unmet, "coverage not below a threshold".to_owned()),
        (None, false) => (Tick::NotMeasured, "coverage: not measured".to_owned()),
    };
    Criterion { tick, text }
}

fn scan(run: &RunView) -> Criterion {
    let found = failed_by(run, FailureClass::VulnerabilitiesFound);
    let tick = if found { Tick::Unmet } else { Tick::NotMeasured };
    let text = if found { "no vulnerability at or above the threshold" } else { "vulnerabilities: none reported" };
    Criterion { tick, text: text.to_owned() }
}

/// How commands for this run are written: with the options that this one was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// For example ` --namespace ci`.
    pub options: String,
}

impl Invocation {
    /// With these options, for those that were given.
    #[must_use]
    pub fn of(namespace: Option<&str>, context: Option<&str>) -> Self {
        let option = |name: &str, value: Option<&str>| {
            value.and_then(shell_word).map(|value| format!(" --{name} {value}")).unwrap_or_default()
        };
        Self { options: format!("{}{}", option("namespace", namespace), option("context", context)) }
    }

    /// A command of this plugin.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> String {
        let words: Vec<String> = words.iter().filter_map(|word| shell_word(word)).collect();
        format!("kubectl timetracker{} {}", self.options, words.join(" "))
    }
}

/// Everything there is to say at the end.
#[must_use]
pub fn report(run: &RunView, failed: &[FailedJob], invocation: &Invocation) -> Vec<Line> {
    let (tone, word) = match run.state {
        RunState::Succeeded => (Tone::Good, "succeeded"),
        RunState::Failed => (Tone::Bad, "failed"),
        RunState::Cancelled => (Tone::Bad, "cancelled"),
        RunState::Unseen | RunState::Waiting | RunState::Going => return Vec::new(),
    };
    let mut lines = vec![
        Line::default(),
        Line::of(tone, &format!("{} {word}", run.name))
            .with(Tone::Plain, &format!(" after {}: {}", length(run.seconds), run.message)),
        Line::default(),
    ];
    // A run that was refused has nothing that could be ticked.
    if !run.jobs.is_empty() {
        lines.extend(criteria(run).iter().map(tick_line));
    }
    let failed_jobs = run.jobs.iter().filter(|job| job.phase == JobPhase::Failed);
    // The verdict's own message names the first.
    if failed_jobs.clone().count() > 1 {
        lines.push(Line::default());
        lines.extend(failed_jobs.map(failed_line));
    }
    for job in failed {
        lines.extend(tests_of(job));
    }
    let next = next_steps(run, invocation);
    if !next.is_empty() {
        lines.push(Line::default());
    }
    for (at, step) in next.iter().enumerate() {
        lines.push(Line::of(Tone::Strong, if at == 0 { "next  " } else { "      " }).with(Tone::Plain, step));
    }
    lines
}

fn tick_line(criterion: &Criterion) -> Line {
    let (tone, sign) = match criterion.tick {
        Tick::Met => (Tone::Good, "✓"),
        Tick::Unmet => (Tone::Bad, "✗"),
        Tick::NotMeasured => (Tone::Faint, "–"),
    };
    let text = if criterion.tick == Tick::NotMeasured { Tone::Faint } else { Tone::Plain };
    Line::of(tone, &format!("  {sign} ")).with(text, &criterion.text)
}

fn failed_line(job: &JobView) -> Line {
    Line::of(Tone::Bad, "  ✗ ").with(Tone::Strong, &job.name).with(Tone::Plain, &format!("  {}", why(job)))
}

fn tests_of(job: &FailedJob) -> Vec<Line> {
    let mut lines = vec![Line::default()];
    match &job.tests {
        Err(why) => {
            lines.push(Line::of(Tone::Faint, &format!("the failed tests of {} are not at hand: {why}", job.name)));
        }
        Ok(tests) => {
            if !job.flaky.is_empty() {
                let told = format!("flaky tests of {}: they failed, and passed when run again", job.name);
                lines.push(Line::of(Tone::Strong, &told));
                lines.extend(named(&job.flaky, Tone::Busy));
            }
            if !job.flaky.is_empty() && !tests.is_empty() {
                lines.push(Line::default());
            }
            if !tests.is_empty() || job.flaky.is_empty() {
                lines.push(Line::of(Tone::Strong, &format!("failed tests of {}", job.name)));
            }
            lines.extend(named(tests, Tone::Bad));
            if let Some(command) = job.repeat_command() {
                lines.push(Line::of(Tone::Strong, "repeat them here"));
                lines.push(Line::of(Tone::Plain, &format!("  {command}")));
            }
        }
    }
    lines
}

/// Tests with the first line of what each says.
fn named(tests: &[FailedTest], tone: Tone) -> Vec<Line> {
    let mut lines = Vec::new();
    for test in tests.iter().take(MAX_NAMED) {
        let first = test.message.lines().next().unwrap_or_default();
        lines.push(Line::of(tone, "  ").with(tone, &test.title()));
        if !first.is_empty() {
            lines.push(Line::of(Tone::Faint, &format!("      {first}")));
        }
    }
    if tests.len() > MAX_NAMED {
        lines.push(Line::of(Tone::Faint, &format!("  … and {} more", tests.len() - MAX_NAMED)));
    }
    lines
}

fn next_steps(run: &RunView, invocation: &Invocation) -> Vec<String> {
    let mut steps = Vec::new();
    if run.state == RunState::Succeeded {
        return steps;
    }
    let failed = run.jobs.iter().find(|job| job.phase == JobPhase::Failed);
    if let Some(job) = failed.filter(|job| shell_word(&job.name).is_some()) {
        steps.push(invocation.command(&["logs", &run.name, &job.name]));
    }
    if failed.is_some() {
        steps.push(invocation.command(&["artifacts", &run.name]));
        steps.push(format!("{}  # only what failed", invocation.command(&["rerun", &run.name, "--failed"])));
    } else if run.state == RunState::Cancelled {
        steps.push(invocation.command(&["rerun", &run.name]));
    }
    steps
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
