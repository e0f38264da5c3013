//! `fetch`: brings what a job reads of other jobs of its run, in an init container before it.
//!
//! The artifacts were made by jobs that may be hostile, and what reads them next is a foreign program: only regular
//! files with the wanted names are taken, under names of our own, and everything is bounded.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use flate2::read::GzDecoder;
use tokio::time::timeout;

use super::collect::store::{Store, StoreError};
use super::duration;
use super::message::Secrets;
use super::process::Terminate;
use super::report::{FetchFailure, FetchReport};

/// The longest artifact, compressed, in bytes.
const MAX_DOWNLOAD: u64 = 256 * 1024 * 1024;
/// The longest archive, unpacked, in bytes.
const MAX_ARCHIVE: u64 = 1024 * 1024 * 1024;
/// All files that are taken, in bytes. They and one download fit into the volume.
const MAX_TOTAL: u64 = 640 * 1024 * 1024;
/// How many files are taken in all.
const MAX_FILES: u32 = 5_000;
/// How many entries of one archive are looked at.
const MAX_ENTRIES: usize = 50_000;
/// How many jobs a message names.
const MAX_NAMED: usize = 8;

/// What is taken of the artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reads {
    /// Raw data of coverage.py: `.coverage*`, kept as `.coverage.<number>`.
    CoverageData,
    /// Cobertura XML: `coverage*.xml`, kept as `coverage-<number>.xml`.
    Cobertura,
}

/// What to fetch, and where to.
#[derive(Debug, Args)]
pub(super) struct FetchOptions {
    /// The artifact store, `http://host:port`.
    #[arg(long)]
    store: String,
    /// The file with the token for reading it.
    #[arg(long)]
    token_file: PathBuf,
    /// The run's namespace.
    #[arg(long)]
    namespace: String,
    /// The run.
    #[arg(long)]
    run: String,
    /// What is taken of the artifacts.
    #[arg(long, value_enum)]
    reads: Reads,
    /// An artifact: NAME=JOB/ARTIFACT, the job being the Kubernetes Job of the attempt.
    #[arg(long = "input", value_parser = input)]
    inputs: Vec<Input>,
    /// A job that was never started.
    #[arg(long)]
    missing: Vec<String>,
    /// Where the files go.
    #[arg(long = "dest")]
    destination: PathBuf,
    /// How long it may take.
    #[arg(long, default_value = "5m", value_parser = duration::parse)]
    timeout: Duration,
}

/// One artifact of another job.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Input {
    /// The job's name for people.
    name: String,
    /// The Kubernetes Job of its attempt.
    job: String,
    artifact: String,
}

fn input(text: &str) -> Result<Input, String> {
    // The name may hold any value of a matrix; the rest has neither `=` nor a second `/`.
    let (name, place) = text.rsplit_once('=').ok_or("expected NAME=JOB/ARTIFACT")?;
    let (job, artifact) = place.split_once('/').ok_or("expected NAME=JOB/ARTIFACT")?;
    Ok(Input { name: name.to_owned(), job: job.to_owned(), artifact: artifact.to_owned() })
}

/// Why an artifact could not be taken.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Disk(io::Error),
}

/// Fetches everything there is, and says what there is not.
pub(super) async fn fetch(options: &FetchOptions, terminate: &mut Terminate, secrets: &Secrets) -> FetchReport {
    let fetched = tokio::select! {
        fetched = timeout(options.timeout, all(options)) => fetched,
        () = terminate.asked() => {
            let message = "told to terminate".to_owned();
            return FetchReport::Failed { failure: FetchFailure::Unreachable, message };
        }
    };
    match fetched {
        Ok(Ok((files, missing))) => {
            let missing = told(options.reads, &missing);
            match missing {
                Some(missing) if files == 0 => {
                    let message = secrets.message(&format!("nothing to work with: {missing}"));
                    FetchReport::Failed { failure: FetchFailure::Nothing, message }
                }
                missing => FetchReport::Fetched { files, missing: missing.map(|missing| secrets.message(&missing)) },
            }
        }
        Ok(Err(error)) => {
            let message = secrets.message(&error.to_string());
            FetchReport::Failed { failure: FetchFailure::Unreachable, message }
        }
        Err(_) => {
            let message = format!("the store took longer than {} s", options.timeout.as_secs());
            FetchReport::Failed { failure: FetchFailure::Unreachable, message }
        }
    }
}

/// `no coverage data of a, b and 3 more`.
fn told(reads: Reads, missing: &[String]) -> Option<String> {
    let what = match reads {
        Reads::CoverageData => "coverage data",
        Reads::Cobertura => "coverage report",
    };
    let named = missing.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match missing.len().saturating_sub(MAX_NAMED) {
        _ if missing.is_empty() => None,
        0 => Some(format!("no {what} of {named}")),
        more => Some(format!("no {what} of {named} and {more} more")),
    }
}

async fn all(options: &FetchOptions) -> Result<(u32, Vec<String>), FetchError> {
    let mut taken = Taken { directory: options.destination.clone(), files: 0, bytes: 0 };
    let mut missing = Vec::new();
    let mut download = tempfile(&options.destination).map_err(FetchError::Disk)?;
    for Input { name, job, artifact } in &options.inputs {
        let place = [options.namespace.as_str(), options.run.as_str(), job.as_str()];
        let store = Store::new(&options.store, place, &options.token_file)?;
        if !store.get(artifact, &mut download, MAX_DOWNLOAD).await? {
            missing.push(name.clone());
            continue;
        }
        let before = taken.files;
        download.rewind().map_err(FetchError::Disk)?;
        if let Err(error) = taken.unpack(&download, options.reads) {
            missing.push(format!("{name} (unreadable: {error})"));
        } else if taken.files == before {
            missing.push(name.clone());
        }
    }
    missing.extend(options.missing.iter().map(|name| format!("{name} (not started)")));
    Ok((taken.files, missing))
}

/// A file without a name: it goes with the process.
fn tempfile(directory: &Path) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    let path = directory.join(".download");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// What was taken so far.
struct Taken {
    directory: PathBuf,
    files: u32,
    bytes: u64,
}

impl Taken {
    fn unpack(&mut self, archive: &File, reads: Reads) -> io::Result<()> {
        let mut archive = tar::Archive::new(GzDecoder::new(archive).take(MAX_ARCHIVE));
        // Raw: long names of the archive's own making are entries like others, and no memory is spent on them.
        for (number, entry) in archive.entries()?.raw(true).enumerate() {
            let entry = entry?;
            if number >= MAX_ENTRIES {
                return Err(io::Error::other(format!("it has more than {MAX_ENTRIES} entries")));
            }
            let path = entry.path()?;
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let wanted = match reads {
                Reads::CoverageData => name.starts_with(".coverage"),
                Reads::Cobertura => name.starts_with("coverage") && name.ends_with(".xml"),
            };
            if wanted && entry.header().entry_type().is_file() {
                self.keep(entry, reads)?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, content: impl Read, reads: Reads) -> io::Result<()> {
        let number = self.files.saturating_add(1);
        if number > MAX_FILES {
            return Err(io::Error::other(format!("there are more than {MAX_FILES} files")));
        }
        let name = match reads {
            Reads::CoverageData => format!(".coverage.{number}"),
            Reads::Cobertura => format!("coverage-{number}.xml"),
        };
        let path = self.directory.join(name);
        let room = MAX_TOTAL.saturating_sub(self.bytes);
        let mut file = File::create(&path)?;
        let written = io::copy(&mut content.take(room.saturating_add(1)), &mut file)?;
        if written > room {
            fs::remove_file(path)?;
            return Err(io::Error::other(format!("all files together are longer than {MAX_TOTAL} bytes")));
        }
        self.bytes = self.bytes.saturating_add(written);
        self.files = number;
        Ok(())
    }
}
