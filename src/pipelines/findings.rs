//! What SARIF reports decide: a finding of the level `error` fails its job whatever the command ended with, for many
//! scanners end with 0; and a scan of which nothing can be read has proved nothing.

use super::failure::Expectations;
use super::result::JobResult;
use crate::agent::report::CollectReport;
use crate::api::job::ReportKind;
use crate::api::run::FailureClass;

/// Whether the job promised such reports.
#[must_use]
pub fn are_expected(expected: &Expectations) -> bool {
    expected.reports.contains(&ReportKind::SARIF)
}

/// How the reports fail a job whose command ended with 0; `None` when they don't.
#[must_use]
pub fn of_success(report: &CollectReport) -> Option<JobResult> {
    let problem = |otherwise: &str| {
        let told = report.problem.as_deref().unwrap_or(otherwise);
        Some(JobResult::failed(FailureClass::CommandFailure, &format!("exit code 0, but: {told}")))
    };
    match report.findings {
        Some(findings) if findings.errors > 0 => {
            Some(JobResult::failed(FailureClass::VulnerabilitiesFound, &told(report)?))
        }
        Some(findings) if findings.unread > 0 => problem("a SARIF report can't be read"),
        Some(_) => None,
        None => problem("no SARIF report in $REPORTS; have the scanner write \"$REPORTS/scan.sarif\""),
    }
}

/// The result of a command that ended with another exit code and found something; `None` when it found nothing.
#[must_use]
pub fn of_exit(report: &CollectReport, exit_code: i32) -> Option<JobResult> {
    let told = told(report)?;
    Some(JobResult::failed(FailureClass::VulnerabilitiesFound, &format!("exit code {exit_code}, {told}")))
}

/// How many findings of which level, and the first of the most serious ones; `None`: there are none.
#[must_use]
pub fn told(report: &CollectReport) -> Option<String> {
    let findings = report.findings.filter(|findings| findings.any())?;
    Some(match &report.finding {
        Some(first) => format!("{findings}: {first}"),
        None => findings.to_string(),
    })
}

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;
