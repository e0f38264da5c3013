//! What the end of a container means that names, installs, brings or publishes an environment.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Pod;

use super::super::environments::{ERROR_OUTPUT, IMAGE_OUTPUT, STALE_OUTPUT};
use super::super::result::JobResult;
use super::ENVIRONMENT;
use crate::agent::report::{EnvironmentFailure, EnvironmentReport};
use crate::api::run::FailureClass;
use crate::workload::{ContainerEnd, container_end, read_report};

/// The result of making an environment, with what is known of it. Its outputs become what was read before foreign code
/// ran beside it.
pub(super) fn of_making(result: JobResult, pod: &Pod, outputs: &mut BTreeMap<String, String>) -> JobResult {
    let told = outputs.remove(ERROR_OUTPUT).filter(|told| !told.is_empty());
    outputs.clear();
    let result = match told.filter(|_| result.failure == Some(FailureClass::CommandFailure)) {
        Some(told) => result.noted(&told),
        None => result,
    };
    let identified = container_end(pod, ENVIRONMENT).and_then(|end| read_report(&end.message).ok());
    match identified {
        Some(report) => named(result, report),
        None => result,
    }
}

/// The result with what is known of the environment.
fn named(result: JobResult, report: EnvironmentReport) -> JobResult {
    let EnvironmentReport::Identified { hash, platform, image, stale, problem, .. } = report else { return result };
    let mut result = match problem {
        Some(problem) => result.noted(&problem),
        None => result,
    };
    result.outputs.insert("hash".to_owned(), hash.to_string());
    result.outputs.insert("platform".to_owned(), platform);
    result.outputs.extend(image.map(|image| (IMAGE_OUTPUT.to_owned(), image)));
    result.outputs.extend(stale.then(|| (STALE_OUTPUT.to_owned(), "true".to_owned())));
    result
}

/// The result of naming an environment before anything is installed.
pub(super) fn of_identifying(end: &ContainerEnd) -> JobResult {
    match read_report::<EnvironmentReport>(&end.message) {
        Ok(report @ EnvironmentReport::Identified { .. }) if end.exit_code == 0 => {
            named(JobResult::succeeded(), report)
        }
        other => without_result(
            other,
            format_args!("exit code {} without the environment's name: {}", end.exit_code, end.message),
        ),
    }
}

/// Whether there is an image of the environment, so that nothing had to be installed and kept.
pub(super) fn is_known(pod: &Pod) -> bool {
    let identified = container_end(pod, ENVIRONMENT).and_then(|end| read_report(&end.message).ok());
    matches!(identified, Some(EnvironmentReport::Identified { image: Some(_), .. }))
}

pub(super) fn of_publishing(end: &ContainerEnd) -> JobResult {
    match read_report::<EnvironmentReport>(&end.message) {
        Ok(EnvironmentReport::Published { removed, problem, .. }) if end.exit_code == 0 => {
            let removed = (removed > 0).then(|| format!("{removed} old images deleted"));
            removed.iter().chain(&problem).fold(JobResult::succeeded(), |result, note| result.noted(note))
        }
        other => without_result(other, format_args!("exit code {} without an image: {}", end.exit_code, end.message)),
    }
}

/// The result of what did not do its part: as it says itself, or else as `unknown` says.
fn without_result(told: Result<EnvironmentReport, serde_json::Error>, unknown: fmt::Arguments<'_>) -> JobResult {
    match told {
        Ok(EnvironmentReport::Failed { failure, message }) => of_environment_failure(failure, &message),
        Ok(
            EnvironmentReport::Identified { .. }
            | EnvironmentReport::Packed { .. }
            | EnvironmentReport::Unpacked { .. }
            | EnvironmentReport::Published { .. },
        )
        | Err(_) => JobResult::failed(FailureClass::Infrastructure, &unknown.to_string()),
    }
}

fn of_environment_failure(failure: EnvironmentFailure, message: &str) -> JobResult {
    let class = match failure {
        EnvironmentFailure::Requirements | EnvironmentFailure::Archive | EnvironmentFailure::Denied => {
            FailureClass::Configuration
        }
        EnvironmentFailure::Unreachable => FailureClass::Infrastructure,
    };
    JobResult::failed(class, &format!("environment: {message}"))
}

/// The result of a pod whose environment could not be named or brought; `None` when that did not fail.
pub(super) fn of_environment(pod: &Pod) -> Option<JobResult> {
    let end = container_end(pod, ENVIRONMENT).filter(|end| end.exit_code != 0)?;
    let words = if end.message.is_empty() { &end.reason } else { &end.message };
    let result = without_result(
        read_report(&end.message),
        format_args!("environment ended with exit code {}: {words}", end.exit_code),
    );
    Some(result.ended(end.finished, None))
}
