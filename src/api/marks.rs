//! By what the pods of a run, and runs themselves, are known: part of the API, as others select by it.

/// Label: the run's name.
pub const RUN_LABEL: &str = "timetracker.dev/run";
/// Label of runs that a trigger or the plugin made: only these may be removed by age or number.
pub const EVENT_LABEL: &str = "timetracker.dev/event";
/// The value of [`EVENT_LABEL`] of a run that a person made with the plugin.
pub const EVENT_MANUAL: &str = "Manual";
/// Name of the container with a job's command.
pub const MAIN_CONTAINER: &str = "job";
/// Name of the init container that fetches the commit.
pub const SOURCE_CONTAINER: &str = "source";
/// Name of the init container that fetches artifacts of other jobs.
pub const FETCH_CONTAINER: &str = "fetch";
/// Name of the init container that names an environment, or brings it.
pub const ENVIRONMENT_CONTAINER: &str = "environment";
/// Name of the sidecar that reads reports.
pub const COLLECTOR_CONTAINER: &str = "collector";
/// What a job's pod may live longer than its command's timeout, in seconds.
pub const POD_NET_SECONDS: u64 = 600;
