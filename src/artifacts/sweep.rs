//! Removes what is old, and what a process that has gone left unfinished.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::time::interval;

/// How many artifacts one sweep removes at most; the next one goes on.
const MAX_REMOVED: usize = 50_000;
/// Namespace, run, job: files lie below these.
const DEPTH: usize = 3;

/// Removes old runs again and again.
pub(super) async fn forever(store: &dyn ObjectStore, retention: Duration, every: Duration) {
    let mut ticks = interval(every);
    loop {
        ticks.tick().await;
        match sweep(store, retention, Utc::now(), MAX_REMOVED).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "old artifacts were removed"),
            Err(error) => tracing::warn!(%error, "old artifacts can't be removed"),
        }
    }
}

/// Removes the runs whose newest artifact is older than that; returns how many artifacts went.
async fn sweep(
    store: &dyn ObjectStore,
    retention: Duration,
    now: DateTime<Utc>,
    most: usize,
) -> Result<usize, object_store::Error> {
    let Some(oldest) = chrono::Duration::from_std(retention).ok().and_then(|age| now.checked_sub_signed(age)) else {
        return Ok(0);
    };
    let mut removed = 0;
    for namespace in store.list_with_delimiter(None).await?.common_prefixes {
        for run in store.list_with_delimiter(Some(&namespace)).await?.common_prefixes {
            let mut objects = store.list(Some(&run));
            let mut old = Vec::new();
            let mut is_old = true;
            while let Some(object) = objects.next().await {
                let object = object?;
                is_old = object.last_modified < oldest;
                if !is_old {
                    break;
                }
                if old.len() < most {
                    old.push(object.location);
                }
            }
            if !is_old {
                continue;
            }
            for location in old {
                if removed >= most {
                    return Ok(removed);
                }
                store.delete(&location).await?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Removes the files of uploads that never ended (`name#number`); returns how many. Links are not followed.
pub(super) fn remove_unfinished(directory: &Path) -> io::Result<usize> {
    fs::create_dir_all(directory)?;
    remove_below(directory, DEPTH)
}

fn remove_below(directory: &Path, depth: usize) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let path = entry.path();
        if kind.is_dir() && depth > 0 {
            // A volume has folders of its own, `lost+found` for example, which nobody may read.
            removed += match remove_below(&path, depth - 1) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => 0,
                result => result?,
            };
        } else if kind.is_file() && depth == 0 && entry.file_name().to_string_lossy().contains('#') {
            fs::remove_file(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use object_store::local::LocalFileSystem;
    use object_store::path::Path as Location;

    use super::*;

    struct Volume {
        directory: tempfile::TempDir,
        store: LocalFileSystem,
    }

    fn volume() -> Volume {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalFileSystem::new_with_prefix(directory.path()).unwrap().with_automatic_cleanup(true);
        Volume { directory, store }
    }

    impl Volume {
        async fn keep(&self, location: &str) -> PathBuf {
            self.store.put(&Location::from(location), "content".into()).await.unwrap();
            self.directory.path().join(location)
        }
    }

    #[tokio::test]
    async fn a_run_goes_with_its_folders_when_all_of_it_is_old() {
        let volume = volume();
        let file = volume.keep("ci/run-1/job/log").await;
        let (day, later) = (Duration::from_secs(86400), Utc::now() + chrono::Duration::days(2));
        assert_eq!(sweep(&volume.store, day, Utc::now(), 10).await.unwrap(), 0);
        assert!(file.exists());
        assert_eq!(sweep(&volume.store, day, later, 10).await.unwrap(), 1);
        assert!(!volume.directory.path().join("ci").exists());
        assert!(volume.directory.path().exists());
    }

    #[tokio::test]
    async fn a_run_stays_whole_while_part_of_it_is_young() {
        let volume = volume();
        let old = volume.keep("ci/run-1/a/log").await;
        volume.keep("ci/run-1/b/log").await;
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(7 * 86400);
        fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(sweep(&volume.store, Duration::from_secs(86400), Utc::now(), 10).await.unwrap(), 0);
        assert!(old.exists());
    }

    #[tokio::test]
    async fn one_sweep_is_bounded_and_the_next_goes_on() {
        let volume = volume();
        for name in ["a", "b", "c"] {
            volume.keep(&format!("ci/run-1/job/{name}")).await;
        }
        let later = Utc::now() + chrono::Duration::days(2);
        assert_eq!(sweep(&volume.store, Duration::from_secs(1), later, 2).await.unwrap(), 2);
        assert_eq!(sweep(&volume.store, Duration::from_secs(1), later, 2).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn unfinished_uploads_of_a_process_that_has_gone_are_removed() {
        let volume = volume();
        let whole = volume.keep("ci/run-1/job/log").await;
        let unfinished = whole.with_file_name("log#1");
        fs::write(&unfinished, "half").unwrap();
        assert_eq!(remove_unfinished(volume.directory.path()).unwrap(), 1);
        assert!(whole.exists() && !unfinished.exists());
    }
}
