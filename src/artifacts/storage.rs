//! What artifacts are kept in: a directory or a bucket. All that differs between the two is said here.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::Utc;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::bucket::{self, Bucket};
use super::refusal::Refusal;
use super::{ArtifactsArguments, ArtifactsError, sweep};

/// What is handed on to a file at once.
const CHUNK: usize = 256 << 10;
/// How soon a bucket or volume is looked at again that can't be used.
const AGAIN: Duration = Duration::from_secs(5);

/// Where artifacts are kept.
pub(super) struct Storage {
    store: Arc<dyn ObjectStore>,
    kind: Kind,
    ready: AtomicBool,
    /// Something has failed: whether it can still be used is looked at now and not later.
    failed: Notify,
}

enum Kind {
    Directory { path: PathBuf, reserve: u64 },
    Bucket(Box<Bucket>),
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Directory { path, .. } => write!(f, "directory {}", path.display()),
            Kind::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

impl Storage {
    /// Opens what the arguments name. Of a directory, what a process that has gone left unfinished is removed.
    ///
    /// # Errors
    /// When nothing is named, or the directory or a setting of the bucket can't be used. Whether the bucket can be is
    /// told by [`Self::watch`].
    pub(super) async fn open(arguments: &ArtifactsArguments) -> Result<Self, ArtifactsError> {
        let bucket = Bucket::open(&arguments.bucket, arguments.upload_timeout.length())?;
        let (store, kind) = match (bucket, arguments.directory.clone()) {
            (Some(bucket), _) => (bucket.store(), Kind::Bucket(Box::new(bucket))),
            (None, Some(path)) => {
                (directory(path.clone()).await?, Kind::Directory { path, reserve: arguments.reserve_bytes })
            }
            (None, None) => return Err(ArtifactsError::Nowhere),
        };
        Ok(Self { store, kind, ready: AtomicBool::new(false), failed: Notify::new() })
    }

    pub(super) fn store(&self) -> &dyn ObjectStore {
        &*self.store
    }

    /// How much of an upload is handed on at once, in bytes.
    pub(super) fn part(&self) -> usize {
        match &self.kind {
            Kind::Directory { .. } => CHUNK,
            Kind::Bucket(_) => bucket::PART,
        }
    }

    /// A volume that is filled to its end also stops others: something stays free.
    pub(super) fn check_volume(&self, length: u64) -> Result<(), Refusal> {
        let Kind::Directory { path, reserve } = &self.kind else { return Ok(()) };
        let volume = rustix::fs::statvfs(path).map_err(|error| {
            tracing::error!(%error, "the volume can't be used");
            Refusal::Volume
        })?;
        let free = volume.f_bavail.saturating_mul(volume.f_frsize);
        if free < reserve.saturating_add(length) { Err(Refusal::VolumeFull) } else { Ok(()) }
    }

    /// What a failure to read one artifact means for whom it is told to.
    pub(super) fn unread(&self, error: &object_store::Error) -> Refusal {
        if bucket::is_missing_artifact(error) { Refusal::NotFound } else { self.refusal(error) }
    }

    /// What any other failure means: nothing that is asked for can be missing.
    pub(super) fn refusal(&self, error: &object_store::Error) -> Refusal {
        self.failed.notify_one();
        match &self.kind {
            Kind::Directory { .. } => Refusal::of_volume(error),
            Kind::Bucket(bucket) => {
                tracing::error!("{}", bucket.trouble(error));
                Refusal::Bucket
            }
        }
    }

    /// Whether it could be used when it was last looked at.
    pub(super) fn ready(&self) -> Result<(), Refusal> {
        match (&self.kind, self.ready.load(Ordering::Relaxed)) {
            (_, true) => Ok(()),
            (Kind::Directory { .. }, false) => Err(Refusal::Volume),
            (Kind::Bucket(_), false) => Err(Refusal::Bucket),
        }
    }

    /// Looks again and again whether it can be used, and says when that changes.
    pub(super) async fn watch(&self, every: Duration) {
        let mut told = None;
        loop {
            let trouble = self.probe().await.err();
            self.ready.store(trouble.is_none(), Ordering::Relaxed);
            match (&trouble, &told) {
                (Some(trouble), told) if told.as_ref() != Some(trouble) => tracing::error!("{trouble}"),
                (None, Some(_)) => tracing::info!("artifacts can be kept again"),
                (Some(_) | None, _) => {}
            }
            told = trouble;
            if told.is_some() {
                sleep(AGAIN.min(every)).await;
            } else {
                // However many requests fail, it is not asked all the time.
                sleep(Duration::from_secs(1).min(every)).await;
                let _ = timeout(every, self.failed.notified()).await;
            }
        }
    }

    async fn probe(&self) -> Result<(), String> {
        match &self.kind {
            Kind::Directory { path, .. } => rustix::fs::statvfs(path)
                .map(|_| ())
                .map_err(|error| format!("the volume of {} can't be used: {error}", path.display())),
            Kind::Bucket(bucket) => bucket.probe().await.map_err(|trouble| trouble.to_string()),
        }
    }

    /// Removes what uploads left that nobody will end. In a directory there is nothing of the kind while one process
    /// has it for itself.
    pub(super) async fn remove_unfinished(&self) {
        let Kind::Bucket(bucket) = &self.kind else { return };
        match bucket.remove_unfinished(Utc::now()).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "uploads were removed that a store which has gone had begun"),
            Err(error) => tracing::warn!("unfinished uploads can't be removed: {error}"),
        }
    }
}

async fn directory(path: PathBuf) -> Result<Arc<dyn ObjectStore>, ArtifactsError> {
    let failed = |source| ArtifactsError::Directory { path: path.clone(), source };
    // Nothing is under way yet: what is unfinished is of a process that has gone.
    let unfinished = tokio::task::spawn_blocking({
        let path = path.clone();
        move || sweep::remove_unfinished(&path)
    });
    let removed = unfinished.await.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)?;
    if removed > 0 {
        tracing::info!(removed, "uploads were removed that a store which has gone had begun");
    }
    Ok(Arc::new(LocalFileSystem::new_with_prefix(&path)?.with_automatic_cleanup(true).with_fsync(true)))
}
