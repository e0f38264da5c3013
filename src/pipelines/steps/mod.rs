//! Built-in steps: each is lowered to what its job's pod runs, a fixed script of ours and what belongs to it.
//!
//! A step is lowered when the graph is made. From then on its job is one like any other, but for what is asked here:
//! variables that depend on the run, artifacts of other jobs that it reads, what it must reach, and in which runs it
//! has no place. A new step gets its module, its variant and its arms below; what is no variant is refused by name.

mod codecov;
mod coverage;
mod migration_check;

use k8s_openapi::api::core::v1::EnvVar;

use super::graph::{Graph, Node};
use super::jobs::RunContext;
use crate::api::artifacts;
use crate::api::job::{JobSpec, ReportKind};
use crate::api::steps::{CodecovUpload, CoverageReport, MigrationCheck};

/// A built-in step that this version executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Combines the raw coverage data of other jobs.
    CoverageReport(&'a CoverageReport),
    /// Sends coverage to Codecov.
    CodecovUpload(&'a CodecovUpload),
    /// Proves migrations.
    MigrationCheck(&'a MigrationCheck),
}

/// What a step reads of other jobs' artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Raw coverage data: the artifact `coverage-data-<job>`.
    CoverageData,
    /// Cobertura XML among the reports: the artifact `test-results-<job>`.
    Cobertura,
}

impl Reads {
    /// The word for it on the agent's command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CoverageData => "coverage-data",
            Self::Cobertura => "cobertura",
        }
    }

    /// The artifact in which a job of that name leaves it.
    #[must_use]
    pub fn artifact(self, job: &str) -> String {
        match self {
            Self::CoverageData => artifacts::coverage_data(job),
            Self::Cobertura => artifacts::test_results(job),
        }
    }
}

impl<'a> Step<'a> {
    /// The job's step; `None` when it has none, or one that this version does not execute.
    #[must_use]
    pub fn of(job: &'a JobSpec) -> Option<Self> {
        let coverage = job.coverage_report.as_ref().map(Self::CoverageReport);
        let upload = || job.codecov_upload.as_ref().map(Self::CodecovUpload);
        coverage.or_else(upload).or_else(|| job.migration_check.as_ref().map(Self::MigrationCheck))
    }

    fn lower(self, job: &JobSpec) -> JobSpec {
        match self {
            Self::CoverageReport(_) => coverage::lower(job),
            Self::CodecovUpload(step) => codecov::lower(step, job),
            Self::MigrationCheck(_) => migration_check::lower(job),
        }
    }

    /// Variables of its script that depend on the run.
    #[must_use]
    pub fn variables(self, run: &RunContext<'_>, job: &JobSpec) -> Vec<EnvVar> {
        match self {
            Self::CoverageReport(_) => Vec::new(),
            Self::CodecovUpload(step) => codecov::variables(step, run),
            Self::MigrationCheck(step) => migration_check::variables(step, run, job),
        }
    }

    /// What it reads of other jobs.
    #[must_use]
    pub fn reads(self) -> Option<Reads> {
        match self {
            Self::CoverageReport(_) => Some(Reads::CoverageData),
            Self::CodecovUpload(_) => Some(Reads::Cobertura),
            Self::MigrationCheck(_) => None,
        }
    }

    /// Why the step has no place in this run: it is then skipped, and says so.
    #[must_use]
    pub fn absent_from(self, run: &RunContext<'_>) -> Option<String> {
        match self {
            Self::CoverageReport(_) | Self::MigrationCheck(_) => None,
            Self::CodecovUpload(_) => codecov::absent_from(run),
        }
    }

    /// More words for the container that fetches the commit.
    #[must_use]
    pub fn source_arguments(self, run: &RunContext<'_>) -> Vec<String> {
        match self {
            Self::CoverageReport(_) | Self::CodecovUpload(_) => Vec::new(),
            Self::MigrationCheck(_) => migration_check::source_arguments(run),
        }
    }

    /// Whether its collector must have found the report of a migration check.
    #[must_use]
    pub fn checks_migrations(self) -> bool {
        match self {
            Self::CoverageReport(_) | Self::CodecovUpload(_) => false,
            Self::MigrationCheck(_) => true,
        }
    }

    /// The coverage that its job must have measured, when it measures any.
    #[must_use]
    pub fn coverage_goal(self) -> Option<CoverageGoal> {
        match self {
            Self::CoverageReport(step) => Some(coverage::goal(step)),
            Self::CodecovUpload(_) | Self::MigrationCheck(_) => None,
        }
    }

    /// Why the job can't be such a step.
    ///
    /// # Errors
    /// The field and what to write instead.
    pub fn check(self, graph: &Graph, node: &Node, written: &JobSpec) -> Result<(), (&'static str, &'static str)> {
        let own = "the step decides that itself; remove it";
        if !written.reports.is_empty() {
            return Err(("reports", own));
        }
        if !written.artifacts.is_empty() || !written.outputs.is_empty() {
            return Err(("artifacts, outputs", own));
        }
        if !written.services.is_empty() {
            return Err(("services", own));
        }
        if written.test_reruns() > 0 {
            return Err(("retries.failedTests", "a built-in step tells of no tests; remove it"));
        }
        if written.matrix.is_some() {
            return Err(("matrix", "a built-in step runs once; remove it"));
        }
        match self {
            Self::CoverageReport(_) | Self::CodecovUpload(_) => {
                if written.needs.is_empty() && !node.is_finally {
                    return Err(("needs", "name the jobs whose coverage it takes, or put the job into finally"));
                }
                if read_by(graph, node).is_empty() {
                    return Err(("needs", "no job before it has reports: [Coverage]"));
                }
                Ok(())
            }
            Self::MigrationCheck(step) => migration_check::refuse_odd_paths(step),
        }
    }
}

/// What a coverage report must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoverageGoal {
    /// The least coverage in hundredths of a percent.
    pub threshold: Option<u32>,
}

/// The job as it is run: a built-in step as its script, any other as it is written.
#[must_use]
pub fn lowered(job: &JobSpec) -> JobSpec {
    Step::of(job).map_or_else(|| job.clone(), |step| step.lower(job))
}

/// The jobs whose artifacts a step reads: those it needs, in `finally` without needs all of the run.
#[must_use]
pub fn read_by<'g>(graph: &'g Graph, node: &Node) -> Vec<&'g Node> {
    let before: Vec<&Node> = if node.needs.is_empty() {
        graph.nodes().iter().filter(|other| !other.is_finally).collect()
    } else {
        node.needs.iter().filter_map(|place| graph.node(*place)).collect()
    };
    let combined = |other: &Node| other.spec.coverage_report.is_some();
    let measures = |other: &&Node| other.spec.reports.contains(&ReportKind::Coverage) && !combined(other);
    let takes_combined = match Step::of(&node.spec) {
        Some(Step::CodecovUpload(_)) => before.iter().any(|other| combined(other)),
        Some(Step::CoverageReport(_)) => false,
        Some(Step::MigrationCheck(_)) | None => return Vec::new(),
    };
    before.into_iter().filter(|other| if takes_combined { combined(other) } else { measures(other) }).collect()
}

#[cfg(test)]
#[path = "../steps_tests.rs"]
mod tests;
