//! Takes uploads: bounded, and seen by nobody before they are whole.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::ArtifactsArguments;
use super::draft::Draft;
use super::place::Place;
use super::refusal::Refusal;
use super::storage::Storage;

/// How many uploads are taken at once, each with up to 256 KiB in memory.
const MAX_UPLOADS: usize = 64;
/// How many of them may hold a whole part in memory, which for a bucket is 5 MiB.
const MAX_LARGE: usize = 12;
/// How many artifacts one job may have.
const MAX_ARTIFACTS: usize = 256;

/// The uploads under way and their bounds.
pub(super) struct Uploads {
    storage: Arc<Storage>,
    max_artifact: u64,
    max_job: u64,
    idle: Duration,
    whole: Duration,
    slots: Semaphore,
    large: Semaphore,
    /// Folders that an upload goes to: one at a time, so that what a job holds together can be counted.
    busy: Mutex<HashSet<String>>,
}

/// A folder that is this upload's until it ends, however it ends.
struct Turn<'a> {
    busy: &'a Mutex<HashSet<String>>,
    folder: String,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.folder);
    }
}

impl Uploads {
    pub(super) fn new(storage: Arc<Storage>, arguments: &ArtifactsArguments) -> Self {
        Self {
            storage,
            max_artifact: arguments.max_artifact_bytes,
            max_job: arguments.max_job_bytes,
            idle: arguments.idle_timeout.length(),
            whole: arguments.upload_timeout.length(),
            slots: Semaphore::new(MAX_UPLOADS),
            large: Semaphore::new(MAX_LARGE),
            busy: Mutex::default(),
        }
    }

    /// Keeps the body there and returns its length in bytes. What was there before stays until the new one is whole.
    ///
    /// # Errors
    /// When it is too large, too slow, not what its digest says, or the volume or bucket can't take it.
    pub(super) async fn put(&self, place: &Place, headers: &HeaderMap, body: Body) -> Result<u64, Refusal> {
        let _slot = self.slots.try_acquire().map_err(|_| Refusal::Overloaded)?;
        let _turn = self.turn(place)?;
        let expected = announced_digest(headers)?;
        let announced = announced_length(headers);
        if announced.is_some_and(|length| length > self.max_artifact) {
            return Err(Refusal::TooLarge);
        }
        let room = self.room(place).await?;
        if announced.is_some_and(|length| length > room) {
            return Err(Refusal::JobFull);
        }
        self.storage.check_volume(announced.unwrap_or_default())?;
        let mut draft = Draft::new(&self.storage, place.path(), &self.large);
        let received = match timeout(self.whole, self.receive(&mut draft, room, body)).await {
            Ok(received) => received,
            Err(_) => Err(Refusal::TooSlow),
        };
        let checked = received.and_then(|(length, digest)| match expected {
            Some(expected) if expected != digest => Err(Refusal::Digest),
            Some(_) | None => Ok(length),
        });
        match checked {
            Ok(length) => draft.publish().await.map(|()| length),
            Err(refusal) => {
                draft.discard().await;
                Err(refusal)
            }
        }
    }

    async fn receive(&self, draft: &mut Draft<'_>, room: u64, body: Body) -> Result<(u64, Vec<u8>), Refusal> {
        let mut body = body.into_data_stream();
        let mut digest = Sha256::new();
        let mut length = 0_u64;
        while let Some(chunk) = timeout(self.idle, body.next()).await.map_err(|_| Refusal::TooSlow)? {
            let chunk: Bytes = chunk.map_err(|_| Refusal::BrokenOff)?;
            length = length.saturating_add(chunk.len() as u64);
            if length > self.max_artifact {
                return Err(Refusal::TooLarge);
            }
            if length > room {
                return Err(Refusal::JobFull);
            }
            digest.update(&chunk);
            draft.write(&chunk).await?;
        }
        Ok((length, digest.finalize().to_vec()))
    }

    fn turn(&self, place: &Place) -> Result<Turn<'_>, Refusal> {
        let folder = place.folder().to_string();
        let free = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.clone());
        if free { Ok(Turn { busy: &self.busy, folder }) } else { Err(Refusal::Busy) }
    }

    /// How much the job may still keep, in bytes; what the upload replaces is not counted.
    async fn room(&self, place: &Place) -> Result<u64, Refusal> {
        let listed = self.storage.store().list(Some(&place.folder())).take(MAX_ARTIFACTS + 1);
        let kept: Vec<_> = listed.try_collect().await.map_err(|error| self.storage.refusal(&error))?;
        let others: Vec<u64> =
            kept.iter().filter(|object| object.location != place.path()).map(|object| object.size).collect();
        if others.len() >= MAX_ARTIFACTS {
            return Err(Refusal::JobFull);
        }
        Ok(self.max_job.saturating_sub(others.iter().sum()))
    }
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The SHA-256 of the content as RFC 9530 writes it: `Content-Digest: sha-256=:<base64>:`. Other algorithms are none.
fn announced_digest(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Refusal> {
    let Some(value) = headers.get("content-digest") else { return Ok(None) };
    let value = value.to_str().map_err(|_| Refusal::DigestHeader)?;
    let Some(digest) = value.split(',').find_map(|item| item.trim().strip_prefix("sha-256=")) else { return Ok(None) };
    let encoded = digest.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).ok_or(Refusal::DigestHeader)?;
    let digest = STANDARD.decode(encoded).map_err(|_| Refusal::DigestHeader)?;
    if digest.len() == 32 { Ok(Some(digest)) } else { Err(Refusal::DigestHeader) }
}
