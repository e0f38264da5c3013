//! Removes what is old, and what a process that has gone left unfinished.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use object_store::ObjectStore;
use tokio::time::interval;

use super::place::{Place, RunPlace, is_resource_name};
use super::storage::Storage;

/// How many artifacts one sweep removes at most; the next one goes on.
const MAX_REMOVED: usize = 50_000;
/// Namespace, run, job: files lie below these.
const DEPTH: usize = 3;

/// Removes old runs again and again.
pub(super) async fn forever(storage: &Storage, retention: Duration, every: Duration) {
    let mut ticks = interval(every);
    loop {
        ticks.tick().await;
        match sweep(storage.store(), retention, Utc::now(), MAX_REMOVED).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "old artifacts were removed"),
            Err(error) => tracing::warn!(refusal = %storage.refusal(&error), "old artifacts can't be removed"),
        }
        storage.remove_unfinished().await;
    }
}

/// Removes the runs whose newest artifact is older than that; returns how many artifacts went. What is no artifact
/// stays, and keeps nothing else from going.
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
    for run in old_runs(store, oldest, most).await? {
        removed += remove_run(store, &run, oldest, most.saturating_sub(removed)).await?;
        if removed >= most {
            break;
        }
    }
    Ok(removed)
}

/// The runs of which one pass over everything shows only what is old. A list has what begins alike together, so it
/// takes one run after the other; asking for each by itself would cost a bucket's owner a request for each.
async fn old_runs(
    store: &dyn ObjectStore,
    oldest: DateTime<Utc>,
    most: usize,
) -> Result<Vec<RunPlace>, object_store::Error> {
    let mut found = Vec::new();
    for namespace in store.list_with_delimiter(None).await?.common_prefixes {
        // A volume has folders of its own, `lost+found` for example, which nobody may read.
        if !is_resource_name(namespace.as_ref()) {
            continue;
        }
        let mut last: Option<(RunPlace, bool)> = None;
        let mut objects = store.list(Some(&namespace));
        while let Some(object) = objects.next().await {
            let object = object?;
            let Some(place) = Place::of(&object.location) else { continue };
            let is_old = object.last_modified < oldest;
            match &mut last {
                Some((run, all_old)) if *run == place.run => *all_old &= is_old,
                Some(_) | None => found.extend(last.replace((place.run, is_old)).and_then(old)),
            }
            if found.len() >= most {
                return Ok(found);
            }
        }
        found.extend(last.and_then(old));
    }
    Ok(found)
}

fn old((run, all_old): (RunPlace, bool)) -> Option<RunPlace> {
    all_old.then_some(run)
}

/// Removes so many artifacts of the run at most, unless one has come meanwhile; returns how many went.
async fn remove_run(
    store: &dyn ObjectStore,
    run: &RunPlace,
    oldest: DateTime<Utc>,
    most: usize,
) -> Result<usize, object_store::Error> {
    let mut objects = store.list(Some(&run.path()));
    let mut locations = Vec::new();
    while let Some(object) = objects.next().await {
        let object = object?;
        if Place::of(&object.location).is_none() {
            continue;
        }
        if object.last_modified >= oldest {
            return Ok(0);
        }
        if locations.len() < most {
            locations.push(Ok(object.location));
        }
    }
    let mut removed = 0;
    let mut deleted = store.delete_stream(stream::iter(locations).boxed());
    while let Some(location) = deleted.next().await {
        location?;
        removed += 1;
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

    use object_store::ObjectStoreExt;
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
    async fn what_is_no_artifact_stays_however_old_it_is() {
        let volume = volume();
        let foreign = volume.keep("ci/run-1/backup").await;
        let artifact = volume.keep("ci/run-1/job/log").await;
        let later = Utc::now() + chrono::Duration::days(2);
        assert_eq!(sweep(&volume.store, Duration::from_secs(1), later, 10).await.unwrap(), 1);
        assert!(foreign.exists() && !artifact.exists());
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
