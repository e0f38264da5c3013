//! `collect`: the native sidecar that tells what a job has left: counts, outputs, logs, reports, artifacts.
//!
//! It waits to be told to stop, which kubelet does when the job's container has ended; until then it keeps what the log
//! is so far, should the pod be lost. It reports before it uploads
//! and again afterwards: an upload that outlives the pod's grace costs artifacts, never the result.

mod bounded;
mod cobertura;
pub(super) mod files;
mod logs;
mod markers;
mod outputs;
mod reports;
mod sarif;
pub(super) mod store;
mod tally;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::message::Secrets;
use super::process::Terminate;
use super::report::{CHECK_FILE, CheckReport, CollectReport, MAX_REPORT_BYTES};
use crate::api::artifacts;
use crate::api::names::Digest;
use files::Folder;
pub(crate) use logs::{Log, PART_BYTES};
use reports::Summary;
use store::Content;
pub(crate) use store::{Store, StoreError};

/// The longest `$OUTPUTS` file, in bytes.
const MAX_OUTPUTS_BYTES: u64 = 64 * 1024;
/// The longest problem in a report, in bytes.
const MAX_PROBLEM_BYTES: usize = 300;
/// How many flaky tests a report names, and how much of each name, in bytes.
const MAX_FLAKY: usize = 3;
const MAX_NAME_BYTES: usize = 100;

/// What is to be collected, and where it goes.
pub(super) struct CollectOptions {
    pub(super) reports: Option<PathBuf>,
    /// How many rounds may have followed the first.
    pub(super) reruns: u32,
    pub(super) outputs: Option<PathBuf>,
    /// Names of the outputs that the job declares; empty: all are taken.
    pub(super) declared: Vec<String>,
    pub(super) logs: PathBuf,
    /// Where logs of services are, by their names: kept of jobs that failed.
    pub(super) service_logs: Vec<(String, PathBuf)>,
    /// How often the log is kept while the job goes on.
    pub(super) snapshot_every: Duration,
    /// Artifacts by name, with their paths: relative to the workspace, or absolute and below it.
    pub(super) artifacts: Vec<(String, PathBuf)>,
    pub(super) workspace: PathBuf,
    /// Absent: nothing is uploaded.
    pub(super) destination: Option<Destination>,
    pub(super) upload_timeout: Duration,
}

/// The place of this job in the store.
pub(super) struct Destination {
    pub(super) store: String,
    pub(super) token_file: PathBuf,
    pub(super) namespace: String,
    pub(super) run: String,
    pub(super) job: String,
    /// The job's name in the pipeline.
    pub(super) job_name: String,
}

impl Destination {
    fn open(&self) -> Result<Store, StoreError> {
        Store::new(&self.store, [&self.namespace, &self.run, &self.job].map(String::as_str), &self.token_file)
    }
}

/// Keeps the log again and again, as long as it grows; for ever.
async fn snapshots(options: &CollectOptions) {
    let Some(Ok(store)) = options.destination.as_ref().map(Destination::open) else {
        return std::future::pending().await;
    };
    let mut kept = None;
    loop {
        sleep(options.snapshot_every).await;
        let Some(log) = Log::read(&options.logs).filter(|log| log.bytes() > kept) else { continue };
        kept = log.bytes();
        for (name, content) in log.artifacts(false) {
            // The next one may have more luck, and the last one tells what went wrong.
            if store.put(&name, &content).await.is_err() {
                kept = None;
                break;
            }
        }
    }
}

/// Waits for the end of the job, reads what it has left, tells `report` about it, uploads, and tells it again.
pub(super) async fn collect(
    options: &CollectOptions,
    terminate: &mut Terminate,
    secrets: &Secrets,
    report: impl Fn(&CollectReport),
) {
    tokio::select! {
        () = terminate.asked() => {}
        () = snapshots(options) => {}
    }
    let summary = options.reports.as_deref().map(|folder| reports::read(folder, options.reruns)).unwrap_or_default();
    let mut problems = summary.problems.clone();
    let mut collected = CollectReport {
        tests: summary.tests,
        flaky: summary
            .flaky
            .iter()
            .take(MAX_FLAKY)
            .map(|test| shortened(&secrets.scrub(&test.name), MAX_NAME_BYTES))
            .collect(),
        markers: summary.markers.clone(),
        findings: summary.finding_counts,
        finding: summary.findings.first().map(|finding| shortened(&secrets.scrub(&finding.told()), MAX_NAME_BYTES)),
        coverage: summary.coverage,
        coverage_data: options.reports.as_deref().map(coverage_data).unwrap_or_default(),
        migration: options.reports.as_deref().and_then(migration),
        ..CollectReport::default()
    };
    if let Some(file) = &options.outputs {
        let (outputs, refused) = read_outputs(file, &options.declared);
        collected.outputs = outputs;
        problems.extend(refused);
    }
    collected.problem = problem(&problems, secrets);
    report(&collected);
    upload(options, &summary, &mut collected, &mut problems).await;
    collected.problem = problem(&problems, secrets);
    report(&collected);
}

fn read_outputs(file: &Path, declared: &[String]) -> (std::collections::BTreeMap<String, String>, Vec<String>) {
    let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else { return Default::default() };
    match Folder::open(directory).and_then(|folder| folder.read(Path::new(name), MAX_OUTPUTS_BYTES)) {
        Ok(text) => outputs::parse(&text, declared),
        // A job need not write any.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Default::default(),
        Err(error) => (Default::default(), vec![format!("the outputs can't be read: {error}")]),
    }
}

fn problem(problems: &[String], secrets: &Secrets) -> Option<String> {
    let told = shortened(&secrets.message(&problems.join("; ")), MAX_PROBLEM_BYTES);
    Some(told).filter(|told| !told.is_empty())
}

fn shortened(text: &str, limit: usize) -> String {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

async fn upload(
    options: &CollectOptions,
    summary: &Summary,
    collected: &mut CollectReport,
    problems: &mut Vec<String>,
) {
    let Some(destination) = &options.destination else { return };
    let job_name = &destination.job_name;
    let store = match destination.open() {
        Ok(store) => store,
        Err(error) => return problems.push(error.to_string()),
    };
    let document = serde_json::to_vec(summary).unwrap_or_default();
    let digest = Digest::of(&document);
    // The small and telling things first.
    let mut pending = Vec::new();
    if options.reports.is_some() {
        pending.push((artifacts::SUMMARY.to_owned(), Content::Document(document)));
    }
    pending.extend(Log::read(&options.logs).map(|log| log.artifacts(true)).unwrap_or_default());
    let exec = logs::exec_report(&options.logs);
    let has_failed =
        logs::has_failed(exec.as_deref()) || summary.tests.is_some_and(|tests| tests.failed > 0 || tests.flaky > 0);
    pending.extend(exec.map(|report| (artifacts::EXEC.to_owned(), Content::Document(report))));
    if has_failed {
        let services = options.service_logs.iter().filter_map(|(name, path)| Some((name, Log::read(path)?)));
        pending.extend(services.map(|(name, log)| (artifacts::service_log(name), Content::Document(log.whole()))));
    }
    if let Some((below, path)) =
        options.reports.as_deref().and_then(|reports| reports.parent().zip(reports.file_name()))
    {
        let folder = |keep| Content::Path { below: below.to_owned(), path: path.into(), keep };
        pending.push((artifacts::test_results(job_name), folder(|path| !is_coverage_data(path))));
        if collected.coverage_data > 0 {
            pending.push((artifacts::coverage_data(job_name), folder(is_coverage_data)));
        }
    }
    for (name, path) in &options.artifacts {
        let path = path.strip_prefix(&options.workspace).unwrap_or(path);
        // The workspace itself has no name below itself.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        pending.push((
            name.clone(),
            Content::Path { below: options.workspace.clone(), path: path.to_owned(), keep: |_| true },
        ));
    }
    let deadline = Instant::now() + options.upload_timeout;
    for (name, content) in pending {
        match timeout_at(deadline, store.put(&name, &content)).await {
            Ok(Ok(())) => {
                collected.uploaded = collected.uploaded.saturating_add(1);
                if name == artifacts::SUMMARY {
                    collected.summary = Some(digest.clone());
                }
            }
            Ok(Err(error)) => problems.push(format!("`{name}` was not kept: {error}")),
            Err(_) => {
                problems.push(format!("`{name}` was not kept: no time left"));
                break;
            }
        }
    }
}

/// What `database check` left; a job that is none leaves none, and a text that is none is worth nothing.
fn migration(reports: &Path) -> Option<CheckReport> {
    let text = Folder::open(reports).ok()?.read(Path::new(CHECK_FILE), MAX_REPORT_BYTES as u64).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Raw data of coverage.py, as `COVERAGE_FILE` has it put at the top of the reports.
fn is_coverage_data(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with(".coverage") && !path.contains('/'))
}

/// How many files of it there are. A folder that can't be listed was told of with the reports.
fn coverage_data(reports: &Path) -> u32 {
    let files = Folder::open(reports).and_then(|folder| folder.files()).unwrap_or_default();
    let count = files.iter().filter(|found| is_coverage_data(&found.path)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}
