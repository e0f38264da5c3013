//! `coverageReport`: one report of the raw coverage data of several jobs.
//!
//! `coverage` itself combines and reports, in the job's image and on the checked-out commit. The percentage that counts
//! is the one that the collector counts from the XML, so that it is held against the threshold outside of the pod.

use super::CoverageGoal;
use crate::api::job::{ArtifactSpec, JobSpec, ReportKind};
use crate::api::steps::CoverageReport;

const SCRIPT: &str = include_str!("coverage-report.sh");
/// Name of the artifact, and of the folder in the working directory.
const HTML: &str = "coverage-html";

pub(super) fn lower(job: &JobSpec) -> JobSpec {
    JobSpec {
        run: Some(SCRIPT.to_owned()),
        reports: vec![ReportKind::Coverage],
        artifacts: vec![ArtifactSpec { name: HTML.to_owned(), path: HTML.to_owned() }],
        ..job.clone()
    }
}

pub(super) fn goal(step: &CoverageReport) -> CoverageGoal {
    let percent = step.threshold.and_then(|percent| u32::try_from(percent).ok());
    CoverageGoal { threshold: percent.map(|percent| percent.saturating_mul(100)) }
}
