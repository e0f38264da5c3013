//! Brings the environment that another job of the run has made, in an init container of ours.

use std::fs::{self, File};
use std::io::Seek;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use super::archive::{self, Extent, LIMITS};
use crate::agent::collect::store::{Store, StoreError};
use crate::agent::duration;
use crate::agent::message::Secrets;
use crate::agent::process::Terminate;
use crate::agent::report::{EnvironmentFailure, EnvironmentReport};

/// An environment of this run in the artifact store.
#[derive(Debug, Args)]
pub(super) struct StoreOptions {
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
    /// The Kubernetes Job of the attempt that made it.
    #[arg(long)]
    job: String,
    /// The artifact.
    #[arg(long)]
    artifact: String,
}

/// What is brought, and where to.
#[derive(Debug, Args)]
pub(super) struct UnpackOptions {
    #[command(flatten)]
    store: StoreOptions,
    /// An empty folder.
    #[arg(long = "dest")]
    destination: PathBuf,
    /// How long it may take.
    #[arg(long, default_value = "5m", value_parser = duration::parse)]
    timeout: Duration,
}

impl StoreOptions {
    /// Brings the archive into the file; `false`: there is none.
    ///
    /// # Errors
    /// When it is longer than `limit` bytes, the store does not answer or refuses, or the file can't be written.
    pub(super) async fn bring(&self, file: &mut File, limit: u64) -> Result<bool, StoreError> {
        let place = [self.namespace.as_str(), self.run.as_str(), self.job.as_str()];
        Store::new(&self.store, place, &self.token_file)?.get(&self.artifact, file, limit).await
    }
}

/// Brings and unpacks it.
pub(super) async fn unpack(options: &UnpackOptions, terminate: &mut Terminate, secrets: &Secrets) -> EnvironmentReport {
    let unpacked = tokio::select! {
        unpacked = timeout(options.timeout, brought(options)) => unpacked,
        () = terminate.asked() => Ok(Err((EnvironmentFailure::Unreachable, "told to terminate".to_owned()))),
    };
    match unpacked {
        Ok(Ok(Extent { files, bytes })) => EnvironmentReport::Unpacked { files, bytes },
        Ok(Err((failure, message))) => EnvironmentReport::Failed { failure, message: secrets.message(&message) },
        Err(_) => {
            let message = format!("the store took longer than {} s", options.timeout.as_secs());
            EnvironmentReport::Failed { failure: EnvironmentFailure::Unreachable, message }
        }
    }
}

async fn brought(options: &UnpackOptions) -> Result<Extent, (EnvironmentFailure, String)> {
    let unreachable = |error: &dyn std::fmt::Display| (EnvironmentFailure::Unreachable, error.to_string());
    let mut download = download(options).map_err(|error| unreachable(&error))?;
    let found = options.store.bring(&mut download, LIMITS.archive).await;
    if !found.map_err(|error| unreachable(&error))? {
        let message = format!("job {} has left no {}", options.store.job, options.store.artifact);
        return Err((EnvironmentFailure::Archive, message));
    }
    download.rewind().map_err(|error| unreachable(&error))?;
    let destination = options.destination.clone();
    // In a thread of its own, so that the agent still hears when it is told to stop.
    let unpacked = tokio::task::spawn_blocking(move || archive::unpack(download, &destination, LIMITS)).await;
    let unpacked = unpacked.map_err(|error| unreachable(&error))?;
    unpacked.map_err(|error| (EnvironmentFailure::Archive, format!("the archive can't be unpacked: {error}")))
}

/// A file without a name on the volume: it goes with the process.
fn download(options: &UnpackOptions) -> std::io::Result<File> {
    fs::create_dir_all(&options.destination)?;
    let path = options.destination.join(".download");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}
