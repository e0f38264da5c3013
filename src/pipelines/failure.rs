//! What the end of a pod's containers means: success, or a class of failure with its evidence.

use k8s_openapi::api::core::v1::Pod;

use super::result::{JobResult, Stop};
use crate::agent::report::{CollectReport, ExecReport, ResolveReport, SourceFailure, SourceReport, TestCounts};
use crate::api::job::ReportKind;
use crate::api::run::FailureClass;
use crate::workload::{ContainerEnd, Loss, container_end, read_report};

/// Name of the container with the command.
pub const MAIN: &str = "job";
/// Name of the init container that fetches the commit.
pub const SOURCE: &str = "source";
/// Name of the sidecar that reads reports.
pub const COLLECTOR: &str = "collector";

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
        None if expected.resolves => of_resolve(end),
        None if end.exit_code == 0 => of_success(report.as_ref(), expected),
        None => of_exit(end, exec.as_ref(), report.as_ref(), pod, expected),
    };
    let mut report = report.unwrap_or_default();
    report.outputs.retain(|name, _| expected.outputs.contains(name));
    JobResult { tests: report.tests, coverage: report.coverage, outputs: report.outputs, ..result }
        .ended(end.finished, seconds)
}

fn seconds_of(end: &ContainerEnd) -> Option<i64> {
    Some(end.finished?.as_second().saturating_sub(end.started?.as_second()))
}

/// Exit code 0 is a success only if what was promised was delivered.
fn of_success(report: Option<&CollectReport>, expected: &Expectations) -> JobResult {
    if !expected.reports.contains(&ReportKind::JUnit) {
        return JobResult::succeeded();
    }
    let Some(report) = report else {
        return JobResult::failed(
            FailureClass::Infrastructure,
            "the command ended with 0, but the collector left no report: its tests can't be proved",
        );
    };
    match report.tests {
        Some(tests) if tests.failed > 0 => of_tests(tests),
        Some(tests) if tests.run() > 0 => JobResult::succeeded(),
        Some(tests) => JobResult::failed(
            FailureClass::NoTestsCollected,
            &format!("no test was run, {} skipped: check markers and paths", tests.skipped),
        ),
        None => {
            let problem = report
                .problem
                .as_deref()
                .unwrap_or("no JUnit report in $REPORTS; add --junitxml \"$REPORTS/junit.xml\"");
            JobResult::failed(FailureClass::NoTestsCollected, &format!("exit code 0, but: {problem}"))
        }
    }
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
    let pod_reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
    if exec.is_some_and(|exec| exec.timed_out) || pod_reason == Some("DeadlineExceeded") {
        let text = format!("stopped after its timeout of {} s; raise timeout", expected.timeout.as_secs());
        return JobResult::failed(FailureClass::DeadlineExceeded, &text);
    }
    if end.reason == "ContainerStatusUnknown" {
        return JobResult::failed(FailureClass::NodeLost, "the node lost track of the container");
    }
    if ["StartError", "ContainerCannotRun"].contains(&end.reason.as_str()) {
        let text = format!("the container could not start: {}", end.message);
        return JobResult::failed(FailureClass::Configuration, &text);
    }
    if exec.is_some_and(|exec| exec.terminated) {
        let text = format!("told to terminate by someone else than the operator, exit code {}", end.exit_code);
        return JobResult::failed(FailureClass::Infrastructure, &text);
    }
    match report.and_then(|report| report.tests).filter(|_| expected.reports.contains(&ReportKind::JUnit)) {
        Some(tests) if tests.failed > 0 => of_tests(tests),
        Some(tests) if tests.run() == 0 => {
            let text = format!("no test was run, exit code {}: check markers and paths", end.exit_code);
            JobResult::failed(FailureClass::NoTestsCollected, &text)
        }
        Some(_) | None => JobResult::failed(FailureClass::CommandFailure, &format!("exit code {}", end.exit_code)),
    }
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

/// The result of a pod whose init container `source` failed; `None` when it did not.
#[must_use]
pub fn of_source(pod: &Pod) -> Option<JobResult> {
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
pub fn of_loss(loss: Loss) -> JobResult {
    match loss {
        Loss::Deleted => {
            JobResult::failed(FailureClass::PodDeleted, "the pod was deleted before its command's end was seen")
        }
        Loss::Evicted => JobResult::failed(FailureClass::Evicted, "the node evicted or preempted the pod"),
        Loss::NodeLost => JobResult::failed(FailureClass::NodeLost, "the pod's node is gone"),
    }
}

fn memory_limit(pod: &Pod) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    let main = containers.iter().find(|container| container.name == MAIN)?;
    Some(main.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.clone())
}
