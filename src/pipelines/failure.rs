//! What the end of a pod's containers means: success, or a class of failure with its evidence.

mod environments;

use k8s_openapi::api::core::v1::Pod;

use super::findings;
use super::images;
use super::result::{JobResult, Stop};
use super::steps::CoverageGoal;
use crate::agent::report::{
    CheckReport, CollectReport, DatabaseFailure, ExecReport, FetchFailure, FetchReport, ResolveReport, SourceFailure,
    SourceReport, TestCounts,
};
use crate::api::job::ReportKind;
pub use crate::api::marks::{
    COLLECTOR_CONTAINER as COLLECTOR, ENVIRONMENT_CONTAINER as ENVIRONMENT, FETCH_CONTAINER as FETCH,
    MAIN_CONTAINER as MAIN, SOURCE_CONTAINER as SOURCE,
};
use crate::api::run::FailureClass;
use crate::schema::check::Verdict;
use crate::workload::{ContainerEnd, Loss, Lost, container_end, read_report};
use environments::{is_known, of_environment, of_identifying, of_making, of_publishing};

/// What is expected of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectations {
    /// How long the command may take.
    pub timeout: std::time::Duration,
    /// Whether the agent watches the time itself.
    pub agent: bool,
    /// Whether a collector ends after the command.
    pub collector: bool,
    /// What the collector must have read.
    pub reports: Vec<ReportKind>,
    /// The outputs that the job declared: all others are dropped.
    pub outputs: Vec<String>,
    /// Whether the command answers which commit a ref names.
    pub resolves: bool,
    /// The coverage that must have been measured.
    pub coverage: Option<CoverageGoal>,
    /// Whether a migration check must have been made.
    pub migration: bool,
    /// Whether it makes an environment, which must have been kept.
    pub environment: bool,
    /// Whether the command names one, and answers how.
    pub identifies: bool,
    /// Whether the command makes an image of one, and answers which.
    pub publishes: bool,
}

impl Expectations {
    /// That the command ends within that time, and nothing else.
    #[must_use]
    pub fn within(timeout: std::time::Duration) -> Self {
        Self {
            timeout,
            agent: false,
            collector: false,
            reports: Vec::new(),
            outputs: Vec::new(),
            resolves: false,
            coverage: None,
            migration: false,
            environment: false,
            identifies: false,
            publishes: false,
        }
    }
}

/// Whether the container ended without a process.
#[must_use]
pub fn never_ran(end: &ContainerEnd) -> bool {
    ["StartError", "ContainerCannotRun"].contains(&end.reason.as_str())
}

/// The result of a main container that ended.
#[must_use]
pub fn of_end(end: &ContainerEnd, pod: &Pod, stop: Option<&Stop>, expected: &Expectations) -> JobResult {
    let exec: Option<ExecReport> = expected.agent.then(|| read_report(&end.message).ok()).flatten();
    let seconds = exec.as_ref().and_then(|exec| i64::try_from(exec.seconds).ok()).or_else(|| seconds_of(end));
    let collected = expected.collector.then(|| container_end(pod, COLLECTOR).map(|end| end.message));
    let report: Option<CollectReport> = collected.flatten().and_then(|message| read_report(&message).ok());
    let stopped = stop.filter(|stop| end.finished.is_none_or(|finished| finished.as_second() >= stop.at.as_second()));
    let result = match stopped {
        Some(stop) => stop.result(),
        // Whatever the command made of it: a script may trap TERM and end with 0.
        None if exec.as_ref().is_some_and(|exec| exec.terminated) => of_termination(end, pod, expected),
        None if expected.resolves => of_resolve(end),
        None if expected.identifies => of_identifying(end),
        None if expected.publishes => of_publishing(end),
        None if end.exit_code == 0 && expected.environment && is_known(pod) => JobResult::succeeded(),
        None if end.exit_code == 0 => of_success(report.as_ref(), expected),
        None => of_exit(end, exec.as_ref(), report.as_ref(), pod, expected),
    };
    let notes = without(pod).into_iter().chain(report.as_ref().filter(|_| counts_tests(expected)).and_then(of_flaky));
    let result = notes.fold(result, |result, note| result.noted(&note));
    let mut report = report.unwrap_or_default();
    report.outputs.retain(|name, _| expected.outputs.contains(name));
    let mut result = if expected.environment { of_making(result, pod, &mut report.outputs) } else { result };
    result.outputs.extend(report.outputs);
    // What only answers is no job of the pipeline: it runs in the agent's own image.
    let (image, services) = if expected.resolves || expected.identifies || expected.publishes {
        Default::default()
    } else {
        (images::ran(pod), images::services(pod))
    };
    JobResult { tests: report.tests, markers: report.markers, coverage: report.coverage, image, services, ..result }
        .ended(end.finished, seconds)
}

fn counts_tests(expected: &Expectations) -> bool {
    expected.reports.contains(&ReportKind::JUnit)
}

/// Which tests failed, then passed when only the failed ones were run again.
fn of_flaky(report: &CollectReport) -> Option<String> {
    let flaky = report.tests.map(|tests| tests.flaky).filter(|flaky| *flaky > 0)?;
    let more = usize::try_from(flaky).is_ok_and(|flaky| flaky > report.flaky.len());
    let named = report.flaky.join(", ");
    Some(format!("{flaky} flaky, passed when run again: {named}{}", if more { ", …" } else { "" }))
}

/// What the pod had to do without, of what it reads of other jobs.
fn without(pod: &Pod) -> Option<String> {
    match read_report(&container_end(pod, FETCH)?.message) {
        Ok(FetchReport::Fetched { missing, .. }) => missing,
        Ok(FetchReport::Failed { .. }) | Err(_) => None,
    }
}

fn seconds_of(end: &ContainerEnd) -> Option<i64> {
    Some(end.finished?.as_second().saturating_sub(end.started?.as_second()))
}

/// Exit code 0 is a success only if what was promised was delivered.
fn of_success(report: Option<&CollectReport>, expected: &Expectations) -> JobResult {
    if expected.migration {
        let result = of_check(report.and_then(|report| report.migration.as_ref()), 0);
        return match report.and_then(|report| report.problem.as_deref()) {
            Some(problem) => result.noted(problem),
            None => result,
        };
    }
    if expected.environment {
        let problem = match report {
            Some(report) => report.problem.as_deref(),
            None => Some("the collector left no report"),
        };
        return problem.map_or_else(JobResult::succeeded, |problem| {
            JobResult::failed(FailureClass::Infrastructure, &format!("the environment was not kept: {problem}"))
        });
    }
    let scans = findings::are_expected(expected);
    let must_report = counts_tests(expected) || scans || expected.coverage.is_some();
    let Some(report) = report else {
        return if must_report {
            JobResult::failed(
                FailureClass::Infrastructure,
                "the command ended with 0, but the collector left no report: what it had to report can't be proved",
            )
        } else {
            JobResult::succeeded()
        };
    };
    let tests = counts_tests(expected).then(|| of_reported_tests(report)).flatten();
    let scan = scans.then(|| findings::of_success(report)).flatten();
    let coverage = expected.coverage.and_then(|goal| of_coverage(report, goal));
    let unmeasured =
        expected.reports.contains(&ReportKind::Coverage) && report.coverage.is_none() && report.coverage_data == 0;
    tests.or(scan).or(coverage).unwrap_or_else(|| {
        let found = scans.then(|| findings::told(report)).flatten();
        let unmeasured = unmeasured.then_some("no coverage in $REPORTS; run the tests with --cov");
        let notes = found.as_deref().into_iter().chain(report.problem.as_deref().or(unmeasured));
        notes.fold(JobResult::succeeded(), |result, note| result.noted(note))
    })
}

/// How the reported tests fail the job; `None` when they don't.
fn of_reported_tests(report: &CollectReport) -> Option<JobResult> {
    match report.tests {
        Some(tests) if tests.failed > 0 => Some(of_tests(tests)),
        Some(tests) if tests.run() > 0 => None,
        Some(tests) => Some(JobResult::failed(
            FailureClass::NoTestsCollected,
            &format!("no test was run, {} skipped: check markers and paths", tests.skipped),
        )),
        None => {
            let problem = report
                .problem
                .as_deref()
                .unwrap_or("no JUnit report in $REPORTS; add --junitxml \"$REPORTS/junit.xml\"");
            Some(JobResult::failed(FailureClass::NoTestsCollected, &format!("exit code 0, but: {problem}")))
        }
    }
}

/// The result of a migration check: the exit code says whether it passed, the report in which words.
///
/// The report stands where the migration's own code could write: it never makes a failure a success.
fn of_check(report: Option<&CheckReport>, exit_code: i32) -> JobResult {
    match (report, exit_code) {
        (Some(CheckReport::Checked { verdict: Verdict::Passed, .. }), 0) => JobResult::succeeded(),
        (Some(CheckReport::Checked { verdict: Verdict::Warning, warnings, message, .. }), 0) => {
            JobResult::succeeded().noted(&format!("{warnings} warning(s): {message}"))
        }
        (Some(CheckReport::Failed { failure, message }), 1..) => {
            let class = match failure {
                DatabaseFailure::Configuration
                | DatabaseFailure::AccessDenied
                | DatabaseFailure::TransactionPooler
                | DatabaseFailure::UnsupportedServer => FailureClass::Configuration,
                DatabaseFailure::Unreachable => FailureClass::ServiceNotReady,
                DatabaseFailure::LockTimeout
                | DatabaseFailure::UnknownRevision
                | DatabaseFailure::CommandFailed
                | DatabaseFailure::TimedOut
                | DatabaseFailure::RevisionsDiffer
                | DatabaseFailure::ContractBroken
                | DatabaseFailure::Interrupted
                | DatabaseFailure::Ambiguous => FailureClass::Infrastructure,
            };
            JobResult::failed(class, &format!("the check could not be made: {message}"))
        }
        (Some(CheckReport::Checked { verdict: Verdict::Failed, message, .. }), 1..) => {
            JobResult::failed(FailureClass::CommandFailure, message)
        }
        (_, 0) => JobResult::failed(
            FailureClass::Infrastructure,
            "the check ended with 0, but left no report that says so: nothing is proved",
        ),
        (_, code) => {
            JobResult::failed(FailureClass::CommandFailure, &format!("exit code {code}, and no report that says why"))
        }
    }
}

/// How the measured coverage fails the job; `None` when it doesn't.
fn of_coverage(report: &CollectReport, goal: CoverageGoal) -> Option<JobResult> {
    let class = FailureClass::CoverageBelowThreshold;
    match (report.coverage, goal.threshold) {
        (Some(covered), Some(threshold)) if covered < threshold => {
            let (percent, wanted) = (percent(covered), threshold / 100);
            Some(JobResult::failed(
                class,
                &format!("{percent} % of the lines are covered, at least {wanted} % must be"),
            ))
        }
        (Some(_), Some(_) | None) => None,
        (None, Some(_) | None) => {
            let problem = report.problem.as_deref().unwrap_or("no coverage.xml in $REPORTS");
            Some(JobResult::failed(class, &format!("nothing was measured: {problem}")))
        }
    }
}

/// Hundredths of a percent as text with one decimal, cut and not rounded: 49.99 % is not 50 %.
#[must_use]
pub fn percent(hundredths: u32) -> String {
    format!("{}.{}", hundredths / 100, hundredths % 100 / 10)
}

fn of_tests(tests: TestCounts) -> JobResult {
    JobResult::failed(FailureClass::TestFailure, &format!("{} of {} tests failed", tests.failed, tests.run()))
}

fn of_exit(
    end: &ContainerEnd,
    exec: Option<&ExecReport>,
    report: Option<&CollectReport>,
    pod: &Pod,
    expected: &Expectations,
) -> JobResult {
    if end.reason == "OOMKilled" {
        let peak = exec
            .and_then(|exec| exec.memory_peak)
            .map_or_else(String::new, |peak| format!(", peak {} MiB", peak >> 20));
        let limit = memory_limit(pod).unwrap_or_else(|| "none of its own".to_owned());
        let text = format!("used more memory than its limit ({limit}{peak}); raise resources.limits.memory");
        return JobResult::failed(FailureClass::OutOfMemory, &text);
    }
    if exec.is_some_and(|exec| exec.timed_out) || was_ended_by_deadline(end, exec, pod, expected) {
        return over_time(expected);
    }
    if end.reason == "ContainerStatusUnknown" {
        return JobResult::failed(FailureClass::NodeLost, "the node lost track of the container");
    }
    if never_ran(end) {
        let text = format!("the container could not start: {}", end.message);
        return JobResult::failed(FailureClass::Configuration, &text);
    }
    if expected.migration {
        return of_check(report.and_then(|report| report.migration.as_ref()), end.exit_code);
    }
    match report.and_then(|report| report.tests).filter(|_| counts_tests(expected)) {
        Some(tests) if tests.failed > 0 => of_tests(tests),
        Some(tests) if tests.run() == 0 => {
            let text = format!("no test was run, exit code {}: check markers and paths", end.exit_code);
            JobResult::failed(FailureClass::NoTestsCollected, &text)
        }
        Some(_) | None => report
            .filter(|_| findings::are_expected(expected))
            .and_then(|report| findings::of_exit(report, end.exit_code))
            .unwrap_or_else(|| {
                JobResult::failed(FailureClass::CommandFailure, &format!("exit code {}", end.exit_code))
            }),
    }
}

/// The result of a command whose agent was told to terminate, and not by the operator.
fn of_termination(end: &ContainerEnd, pod: &Pod, expected: &Expectations) -> JobResult {
    if pod.metadata.deletion_timestamp.is_some() {
        // Whatever the clocks say.
        return of_loss(&Lost::of(Loss::Deleted, Some(pod)));
    }
    if is_past_deadline(pod) {
        return over_time(expected);
    }
    let text = format!("told to terminate by someone else than the operator, exit code {}", end.exit_code);
    JobResult::failed(FailureClass::Infrastructure, &text)
}

fn is_past_deadline(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("DeadlineExceeded")
}

fn over_time(expected: &Expectations) -> JobResult {
    let text = format!("stopped after its timeout of {} s; raise timeout", expected.timeout.as_secs());
    JobResult::failed(FailureClass::DeadlineExceeded, &text)
}

/// Whether the pod's own deadline ended the command. It also ends what outlives the command: then the end is the command's.
fn was_ended_by_deadline(end: &ContainerEnd, exec: Option<&ExecReport>, pod: &Pod, expected: &Expectations) -> bool {
    let took = seconds_of(end).and_then(|seconds| u64::try_from(seconds).ok());
    let was_killed = exec.is_none() && [137, 143].contains(&end.exit_code);
    is_past_deadline(pod) && (was_killed || took.is_none_or(|took| took >= expected.timeout.as_secs()))
}

fn of_resolve(end: &ContainerEnd) -> JobResult {
    match read_report::<ResolveReport>(&end.message) {
        Ok(ResolveReport::Resolved { commit }) if end.exit_code == 0 => {
            JobResult { commit: Some(commit), ..JobResult::succeeded() }
        }
        Ok(ResolveReport::Failed { failure, message }) => of_source_failure(failure, &message),
        Ok(ResolveReport::Resolved { .. }) | Err(_) => JobResult::failed(
            FailureClass::Infrastructure,
            &format!("exit code {} without a commit: {}", end.exit_code, end.message),
        ),
    }
}

fn of_source_failure(failure: SourceFailure, message: &str) -> JobResult {
    let class = match failure {
        SourceFailure::AccessDenied | SourceFailure::NotFound => FailureClass::Configuration,
        SourceFailure::Unreachable | SourceFailure::Failed => FailureClass::Infrastructure,
    };
    JobResult::failed(class, &format!("source: {message}"))
}

/// The result of a pod of which an init container of ours failed; `None` when none did.
#[must_use]
pub fn of_init(pod: &Pod) -> Option<JobResult> {
    of_source(pod).or_else(|| of_fetch(pod)).or_else(|| of_environment(pod))
}

fn of_fetch(pod: &Pod) -> Option<JobResult> {
    let end = container_end(pod, FETCH).filter(|end| end.exit_code != 0)?;
    let result = match read_report::<FetchReport>(&end.message) {
        Ok(FetchReport::Failed { failure: FetchFailure::Nothing, message }) => {
            JobResult::failed(FailureClass::CoverageBelowThreshold, &message)
        }
        Ok(FetchReport::Failed { failure: FetchFailure::Unreachable, message }) => {
            JobResult::failed(FailureClass::Infrastructure, &format!("fetch: {message}"))
        }
        Ok(FetchReport::Fetched { .. }) | Err(_) => {
            let words = if end.message.is_empty() { &end.reason } else { &end.message };
            let text = format!("fetch ended with exit code {}: {words}", end.exit_code);
            JobResult::failed(FailureClass::Infrastructure, &text)
        }
    };
    Some(result.ended(end.finished, None))
}

fn of_source(pod: &Pod) -> Option<JobResult> {
    let end = container_end(pod, SOURCE).filter(|end| end.exit_code != 0)?;
    let result = match read_report::<SourceReport>(&end.message) {
        Ok(SourceReport::Failed { failure, message }) => of_source_failure(failure, &message),
        Ok(SourceReport::Fetched { .. }) | Err(_) => {
            let words = if end.message.is_empty() { &end.reason } else { &end.message };
            let text = format!("source ended with exit code {}: {words}", end.exit_code);
            JobResult::failed(FailureClass::Infrastructure, &text)
        }
    };
    Some(result.ended(end.finished, None))
}

/// The result of a pod that vanished: never a success.
#[must_use]
pub fn of_loss(loss: &Lost) -> JobResult {
    let result = match loss.how {
        Loss::Deleted => {
            JobResult::failed(FailureClass::PodDeleted, "the pod was deleted before its command's end was seen")
        }
        Loss::Evicted => JobResult::failed(FailureClass::Evicted, "the node evicted or preempted the pod"),
        Loss::NodeLost => JobResult::failed(FailureClass::NodeLost, "the pod's node is gone"),
    };
    if loss.words.is_empty() { result } else { result.noted(&loss.words) }
}

fn memory_limit(pod: &Pod) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    let main = containers.iter().find(|container| container.name == MAIN)?;
    Some(main.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.clone())
}
