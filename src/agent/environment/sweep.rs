//! Deletes images of environments that no run uses any more, behind an image that was published.
//!
//! It is done where the credentials are anyway, and as rarely as images are made or given a week's tag. Deleted is only
//! what has nothing but tags of ours, all of them too old (`registry.rs`), and our annotation with the same hash in it:
//! what somebody else put into the repository stays, also under a tag that looks like ours, and so does what somebody
//! gave a further tag. From an incomplete list nothing is deleted. A registry that deletes nothing (GHCR) is asked once
//! and left.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use super::publish::HASH_ANNOTATION;
use super::registry::{Opened, RegistryOptions, Stamp};
use crate::agent::process::Terminate;
use crate::api::names::{Digest, ImageVersion, Repository, Tag};
use crate::registry::RegistryError;

/// How long it may take: less than the job has left when publishing took all its time.
const PATIENCE: Duration = Duration::from_secs(45);
/// The most images that go at once.
const MAX_REMOVED: usize = 20;
/// The most other tags whose images are looked at.
const MAX_OTHERS: usize = 300;

/// What became of old images.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Swept {
    /// How many were deleted.
    pub(super) removed: u32,
    /// Why not more.
    pub(super) problem: Option<String>,
}

/// Deletes what is too old.
pub(super) async fn sweep(options: &RegistryOptions, terminate: &mut Terminate) -> Swept {
    let mut swept = Swept::default();
    let why = tokio::select! {
        done = timeout(PATIENCE, old_images(options, &mut swept.removed)) => match done {
            Ok(done) => done.err(),
            Err(_) => Some("the registry is slow; the next run goes on".to_owned()),
        },
        () = terminate.asked() => Some("told to terminate".to_owned()),
    };
    swept.problem = why.map(|why| format!("old images stay: {why}"));
    swept
}

async fn old_images(options: &RegistryOptions, removed: &mut u32) -> Result<(), String> {
    let Some(repository) = options.repository() else { return Ok(()) };
    let opened = options.open(repository)?;
    let Opened { registry, access } = &opened;
    let list = registry.list_tags(repository, access).await.map_err(shown)?;
    list.require_complete(repository).map_err(shown)?;
    let (old, others): (Vec<Tag>, Vec<Tag>) =
        list.tags.into_iter().partition(|tag| Stamp::of(tag).is_some_and(|stamp| options.is_over(&stamp)));
    if old.is_empty() {
        return Ok(());
    }
    if others.len() > MAX_OTHERS {
        return Err(format!("{repository} has more than {MAX_OTHERS} other tags"));
    }
    let mut kept = BTreeSet::new();
    for tag in others {
        kept.extend(image(&opened, repository, tag).await?.map(|image| image.digest));
    }
    let mut old: Vec<Stamp> = old.iter().filter_map(Stamp::of).collect();
    old.sort_by_key(|stamp| stamp.week);
    for stamp in old {
        if usize::try_from(*removed).is_ok_and(|removed| removed >= MAX_REMOVED) {
            return Ok(());
        }
        let Some(image) = image(&opened, repository, stamp.tag()?).await? else { continue };
        // Once only: a digest goes with all its tags.
        if image.environment.as_ref() == Some(&stamp.hash) && kept.insert(image.digest.clone()) {
            let deleted = registry.writer(repository, access).delete(&image.digest).await;
            *removed = removed.saturating_add(u32::from(deleted.map_err(shown)?));
        }
    }
    Ok(())
}

/// What a tag stands for.
struct Image {
    digest: Digest,
    /// The hash in its annotation.
    environment: Option<Digest>,
}

#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// `None` when it stands for nothing any more, or for something that is no image.
async fn image(opened: &Opened, repository: &Repository, tag: Tag) -> Result<Option<Image>, String> {
    let found = opened.registry.manifest(repository, &ImageVersion::Tag(tag), &opened.access).await;
    match found {
        Ok(manifest) => {
            let annotated: Option<Annotated> = serde_json::from_slice(&manifest.body).ok();
            let hash = annotated.and_then(|annotated| annotated.annotations.get(HASH_ANNOTATION)?.parse().ok());
            Ok(Some(Image { digest: manifest.digest, environment: hash }))
        }
        Err(RegistryError::NotFound { .. } | RegistryError::InvalidResponse { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn shown(error: RegistryError) -> String {
    error.to_string()
}
