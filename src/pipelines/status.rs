//! The run's status: a projection of the world, bounded in size.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::definition::Definition;
use super::failure::percent;
use super::jobs::needs_agent;
use super::names::short_hash;
use super::observe::Observed;
use super::progress::CellView;
use super::result::{MAX_JOB_MESSAGE, Outcome};
use super::settings::Settings;
use super::steps::lowered;
use crate::agent::report::is_marker;
use crate::api::conditions::{Statement, Verdict, printable, restate, types};
use crate::api::names::CommitSha;
use crate::api::run::{CoverageStatus, FailureClass, JobPhase, JobStatus, RunStatus, TestStatus};

/// The most bytes of one job's entry as JSON.
pub const MAX_JOB_BYTES: usize = 300;
/// The most markers that a run's test counts are broken down by.
const MAX_MARKERS: usize = 40;
/// The longest address of artifacts, in bytes.
const MAX_ADDRESS: usize = 512;
/// The longest name that an entry shows, in bytes as JSON.
const MAX_NAME: usize = 100;

/// How the run stands as a whole.
#[derive(Debug, Clone, PartialEq)]
pub enum Situation {
    /// It has not begun.
    Waiting {
        /// A static word.
        reason: &'static str,
        /// What for, and what to do.
        message: String,
    },
    /// It is under way.
    Running {
        /// Why some of its jobs wait for room.
        waits: Option<String>,
    },
    /// It is over.
    Over(Outcome),
}

/// What the status is made of.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The situation.
    pub situation: Situation,
    /// All cells; empty before the run begins.
    pub cells: &'a [CellView],
    /// The ControllerRevision.
    pub revision: Option<String>,
    /// The commit.
    pub commit: Option<CommitSha>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// Where what its jobs leave is kept.
    pub artifacts: Option<String>,
}

/// Where what the run's jobs leave is kept: the address of its list in the store. `None`: they leave nothing, or there
/// is no store.
#[must_use]
pub fn kept_at(observed: &Observed, definition: &Definition, settings: &Settings) -> Option<String> {
    let store = settings.artifacts.as_ref()?;
    let mut jobs = definition.pipeline.jobs.iter().chain(&definition.pipeline.finally);
    if !jobs.any(|job| needs_agent(definition, &lowered(job))) {
        return None;
    }
    let (namespace, name) = (observed.run.namespace()?, observed.run.name_any());
    let address = format!("{}/v1/artifacts/{namespace}/{name}", store.url.trim_end_matches('/'));
    (address.len() <= MAX_ADDRESS).then_some(address)
}

/// The status, from the facts and what it said before.
#[must_use]
pub fn of(observed: &Observed, facts: Facts<'_>, now: Timestamp) -> RunStatus {
    let before = observed.run.status.clone().unwrap_or_default();
    let generation = observed.run.metadata.generation.unwrap_or_default();
    let jobs = jobs_of(facts.cells, &before.jobs);
    let finished = jobs.iter().filter(|job| job.phase.is_final()).count();
    let completed = match &facts.situation {
        Situation::Over(outcome) => Some(Time(outcome.completed)),
        Situation::Waiting { .. } | Situation::Running { .. } => None,
    };
    RunStatus {
        observed_generation: generation,
        conditions: restate(&before.conditions, statements(&facts.situation, facts.cells, finished), generation, now),
        pipeline_revision: facts.revision,
        short_commit: facts.commit.as_ref().map(|commit| commit.short().to_owned()),
        commit: facts.commit,
        start_time: facts.started.map(Time),
        completion_time: completed,
        progress: (!jobs.is_empty()).then(|| format!("{finished}/{}", jobs.len())),
        tests: tests_of(facts.cells).or(before.tests.filter(|_| facts.cells.is_empty())),
        coverage: coverage_of(facts.cells).or(before.coverage.filter(|_| facts.cells.is_empty())),
        artifacts: facts.artifacts.or(before.artifacts),
        jobs,
    }
}

/// The status as a merge patch: what it does not say any more is taken away.
#[must_use]
pub fn patch(status: &RunStatus) -> serde_json::Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        let optional = [
            "pipelineRevision",
            "commit",
            "shortCommit",
            "startTime",
            "completionTime",
            "progress",
            "jobs",
            "tests",
            "coverage",
            "artifacts",
        ];
        for name in optional {
            map.entry(name).or_insert(serde_json::Value::Null);
        }
    }
    value
}

fn statements(situation: &Situation, cells: &[CellView], finished: usize) -> Vec<Statement> {
    let both = |verdict, reason: &'static str, message: &str| {
        vec![
            Statement::new(types::SUCCEEDED, verdict, reason, message),
            Statement::new(types::READY, verdict, reason, message),
        ]
    };
    match situation {
        Situation::Waiting { reason, message } => {
            let mut statements = both(Verdict::Unknown, reason, message);
            statements.push(Statement::new(types::RECONCILING, Verdict::True, reason, message.clone()));
            statements
        }
        Situation::Running { waits } => {
            let going = |phase| cells.iter().filter(|cell| cell.phase == phase).count();
            let running = going(JobPhase::Running) + going(JobPhase::Starting);
            let queued = going(JobPhase::Queued);
            let reason = if running == 0 && (queued > 0 || waits.is_some()) { "Queued" } else { "Running" };
            let waits = waits.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
            let message =
                format!("{finished} of {} jobs finished, {running} running, {queued} queued{waits}", cells.len());
            let mut statements = both(Verdict::Unknown, reason, &message);
            statements.push(Statement::new(types::RECONCILING, Verdict::True, reason, message));
            statements
        }
        Situation::Over(outcome) => {
            let succeeded = outcome.phase == JobPhase::Succeeded;
            let reason = known_reason(&outcome.reason);
            let mut statements = both(Verdict::from(succeeded), reason, &outcome.message);
            if !succeeded {
                statements.push(Statement::new(types::STALLED, Verdict::True, reason, outcome.message.clone()));
            }
            statements
        }
    }
}

/// The reasons that an outcome may have, as static words: an annotation that somebody else wrote adds none.
fn known_reason(reason: &str) -> &'static str {
    const KNOWN: [&str; 34] = [
        "Succeeded",
        "Cancelled",
        "CommandFailure",
        "TestFailure",
        "NoTestsCollected",
        "CoverageBelowThreshold",
        "BuildFailure",
        "VulnerabilitiesFound",
        "OutOfMemory",
        "DeadlineExceeded",
        "Configuration",
        "Unschedulable",
        "Evicted",
        "NodeLost",
        "PodDeleted",
        "ImagePull",
        "ServiceNotReady",
        "Infrastructure",
        "PipelineNotFound",
        "RepositoryNotFound",
        "InvalidGraph",
        "InvalidParameter",
        "InvalidRevision",
        "RevisionMissing",
        "NotSupported",
        "SecretInPullRequest",
        "InvalidExpression",
        "InvalidJob",
        "InvalidRerun",
        "ForkDenied",
        "Superseded",
        "DefinitionLost",
        "Skipped",
        "Failed",
    ];
    KNOWN.into_iter().find(|known| *known == reason).unwrap_or("Failed")
}

/// Each cell's entry in the pipeline's order. A Job that is gone after the end keeps the entry it had.
fn jobs_of(cells: &[CellView], before: &[JobStatus]) -> Vec<JobStatus> {
    if cells.is_empty() {
        return before.to_vec();
    }
    let mut ordered: Vec<&CellView> = cells.iter().collect();
    ordered.sort_by_key(|cell| cell.position);
    ordered.into_iter().map(entry).collect()
}

fn entry(cell: &CellView) -> JobStatus {
    let result = cell.result.as_ref();
    let failure = result.and_then(|result| result.failure).filter(|_| cell.phase != JobPhase::Succeeded);
    let failure =
        if cell.phase == JobPhase::Cancelled && failure.is_some() { Some(FailureClass::Cancelled) } else { failure };
    bounded(JobStatus {
        name: shown_name(&cell.name),
        phase: cell.phase,
        failure,
        message: cell.message.as_deref().map(|message| printable(message, MAX_JOB_MESSAGE)),
        job: cell.job.clone(),
        attempt: cell.attempt.and_then(|attempt| i32::try_from(attempt).ok()),
        seconds: result.and_then(|result| result.seconds),
        coverage: result.and_then(|result| result.coverage).map(percent),
        flaky: result.and_then(|result| result.tests).map(|tests| i64::from(tests.flaky)).filter(|flaky| *flaky > 0),
    })
}

/// Shortens the message until the entry has at most [`MAX_JOB_BYTES`].
fn bounded(entry: JobStatus) -> JobStatus {
    let mut entry = entry;
    for keep in [120, 90, 60, 30, 0] {
        let size = serde_json::to_string(&entry).map(|text| text.len()).unwrap_or_default();
        if size <= MAX_JOB_BYTES {
            return entry;
        }
        entry.message = entry.message.as_deref().filter(|_| keep > 0).map(|message| printable(message, keep));
    }
    entry
}

/// A cell's name as the status shows it: long ones are cut, yet stay different from each other.
#[must_use]
pub fn shown_name(cell: &str) -> String {
    let clean: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().map(length_in_json).sum::<usize>() <= MAX_NAME && clean == cell {
        return clean;
    }
    let mut stem = String::new();
    let mut length = 0;
    for c in clean.chars() {
        length += length_in_json(c);
        if length > MAX_NAME - 14 {
            break;
        }
        stem.push(c);
    }
    format!("{stem}… {}", short_hash(&[cell]))
}

/// Bytes of a character that is no control character.
fn length_in_json(c: char) -> usize {
    if matches!(c, '"' | '\\') { 2 } else { c.len_utf8() }
}

fn tests_of(cells: &[CellView]) -> Option<TestStatus> {
    let counts = cells.iter().filter_map(|cell| cell.result.as_ref()?.tests);
    let sum = counts.fold(None, |sum: Option<TestStatus>, count| {
        let sum = sum.unwrap_or_default();
        Some(TestStatus {
            passed: sum.passed + i64::from(count.passed),
            failed: sum.failed + i64::from(count.failed),
            skipped: sum.skipped + i64::from(count.skipped),
            flaky: sum.flaky + i64::from(count.flaky),
            ..sum
        })
    })?;
    Some(TestStatus { by_marker: markers_of(cells), ..sum })
}

/// `passed/all` by marker, of all cells together: the markers with most tests.
fn markers_of(cells: &[CellView]) -> BTreeMap<String, String> {
    let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (name, counts) in cells.iter().filter_map(|cell| cell.result.as_ref()).flat_map(|result| &result.markers) {
        let (passed, all) = sums.entry(name).or_default();
        *passed += u64::from(counts.passed());
        *all += u64::from(counts.all());
    }
    let mut ordered: Vec<(&str, (u64, u64))> = sums.into_iter().filter(|(name, _)| is_marker(name)).collect();
    ordered.sort_by_key(|(name, (_, all))| (std::cmp::Reverse(*all), *name));
    ordered.truncate(MAX_MARKERS);
    ordered.into_iter().map(|(name, (passed, all))| (name.to_owned(), format!("{passed}/{all}"))).collect()
}

/// The coverage of several jobs together, if a step combined it; else that of the last job that measured any.
fn coverage_of(cells: &[CellView]) -> Option<CoverageStatus> {
    let measured = |cell: &CellView| cell.result.as_ref()?.coverage;
    let combined = cells.iter().rev().filter(|cell| cell.combines).find_map(measured);
    // Where the combining step failed, no single job's coverage is told as that of the run.
    let combines = cells.iter().any(|cell| cell.combines);
    let last = || cells.iter().rev().find_map(measured).filter(|_| !combines);
    combined.or_else(last).map(|hundredths| CoverageStatus { percent: percent(hundredths) })
}

/// How the run ended, once every cell is final.
#[must_use]
pub fn outcome(cells: &[CellView], cancelled: bool, now: Timestamp) -> Outcome {
    let completed = cells.iter().filter_map(|cell| cell.result.as_ref()?.finished).max().unwrap_or(now);
    let mut ordered: Vec<&CellView> = cells.iter().collect();
    ordered.sort_by_key(|cell| cell.position);
    let failed: Vec<&&CellView> =
        ordered.iter().filter(|cell| cell.phase == JobPhase::Failed && !cell.forgiven).collect();
    let was_cancelled = ordered.iter().any(|cell| cell.phase == JobPhase::Cancelled);
    match failed.first() {
        Some(first) if !cancelled => {
            let class = first.result.as_ref().and_then(|result| result.failure).unwrap_or(FailureClass::Infrastructure);
            let more = match failed.len() {
                1 => String::new(),
                count => format!(" ({} further jobs failed)", count - 1),
            };
            let message = first.message.as_deref().unwrap_or("no details");
            let name = shown_name(&first.name);
            let text = format!("job {name}: {}: {message}{more}. {}", class.as_str(), next_step(class, first));
            Outcome { phase: JobPhase::Failed, reason: class.as_str().to_owned(), message: text, completed }
        }
        Some(_) | None if cancelled || was_cancelled => Outcome {
            phase: JobPhase::Cancelled,
            reason: "Cancelled".to_owned(),
            message: "the run was stopped before all its jobs had ended; make a new run to repeat it".to_owned(),
            completed,
        },
        Some(_) | None => {
            let count = cells.iter().filter(|cell| cell.phase == JobPhase::Succeeded).count();
            let message = format!("{count} of {} jobs succeeded, none failed", cells.len());
            Outcome { phase: JobPhase::Succeeded, reason: "Succeeded".to_owned(), message, completed }
        }
    }
}

fn next_step(class: FailureClass, cell: &CellView) -> String {
    let job = cell.job.as_deref().unwrap_or("<job>");
    match class {
        FailureClass::CommandFailure
        | FailureClass::TestFailure
        | FailureClass::NoTestsCollected
        | FailureClass::CoverageBelowThreshold
        | FailureClass::BuildFailure
        | FailureClass::VulnerabilitiesFound
        | FailureClass::OutOfMemory
        | FailureClass::DeadlineExceeded => format!("Read `kubectl logs job/{job} -c job`"),
        FailureClass::ServiceNotReady => format!("Read `kubectl logs job/{job} --all-containers`"),
        FailureClass::Cancelled => "Make a new run".to_owned(),
        FailureClass::Configuration => "Correct the pipeline, the Secret or the image, then make a new run".to_owned(),
        FailureClass::Unschedulable => "Add room or lower resources.requests, then make a new run".to_owned(),
        FailureClass::Evicted
        | FailureClass::NodeLost
        | FailureClass::PodDeleted
        | FailureClass::ImagePull
        | FailureClass::Infrastructure => format!("Read `kubectl describe job/{job}`, then make a new run"),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
