//! The names of what the agent's collector keeps of each job, besides the artifacts that the job itself declares.
//!
//! The collector writes them, later jobs and the plugin read them, and no job may declare an artifact of such a name.

/// What the reports say: counts, failures with their messages, flaky tests (JSON).
pub const SUMMARY: &str = "summary.json";
/// What the operator's agent saw of the command: exit code, seconds, memory (JSON).
pub const EXEC: &str = "exec.json";
/// How much was printed, and whether the command had ended when the log was kept (JSON).
pub const LOG_STATE: &str = "log.json";
/// How the log begins.
pub const LOG_HEAD: &str = "log-head.txt";
/// How the log ends.
pub const LOG_TAIL: &str = "log-tail.txt";

const FIXED: [&str; 5] = [SUMMARY, EXEC, LOG_STATE, LOG_HEAD, LOG_TAIL];

const TEST_RESULTS: &str = "test-results-";
const COVERAGE_DATA: &str = "coverage-data-";
const SERVICE_LOG: &str = "service-log-";

/// The reports of a job (a gzipped tar), by the job's name in the pipeline.
#[must_use]
pub fn test_results(job: &str) -> String {
    format!("{TEST_RESULTS}{job}")
}

/// The raw data of coverage.py of a job (a gzipped tar), by the job's name in the pipeline.
#[must_use]
pub fn coverage_data(job: &str) -> String {
    format!("{COVERAGE_DATA}{job}")
}

/// The log of one of a job's services, by the service's name.
#[must_use]
pub fn service_log(service: &str) -> String {
    format!("{SERVICE_LOG}{service}.txt")
}

/// Whether an artifact of this name is the collector's own.
#[must_use]
pub fn is_own(name: &str) -> bool {
    FIXED.contains(&name) || [TEST_RESULTS, COVERAGE_DATA, SERVICE_LOG].iter().any(|prefix| name.starts_with(prefix))
}
