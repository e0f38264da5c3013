//! Takes uploads: bounded, into a file beside, moved into its place when it is whole.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, header};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::ArtifactsArguments;
use super::place::Place;
use super::refusal::Refusal;

/// How many uploads are taken at once; each holds a chunk in memory.
const MAX_UPLOADS: usize = 64;
/// How many artifacts one job may have.
const MAX_ARTIFACTS: usize = 256;
const CHUNK: usize = 256 << 10;

/// The uploads under way and their bounds.
pub(super) struct Uploads {
    store: Arc<dyn ObjectStore>,
    directory: PathBuf,
    max_artifact: u64,
    max_job: u64,
    reserve: u64,
    idle: Duration,
    whole: Duration,
    slots: Semaphore,
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
    pub(super) fn new(store: Arc<dyn ObjectStore>, arguments: &ArtifactsArguments) -> Self {
        Self {
            store,
            directory: arguments.directory.clone(),
            max_artifact: arguments.max_artifact_bytes,
            max_job: arguments.max_job_bytes,
            reserve: arguments.reserve_bytes,
            idle: arguments.idle_timeout.length(),
            whole: arguments.upload_timeout.length(),
            slots: Semaphore::new(MAX_UPLOADS),
            busy: Mutex::default(),
        }
    }

    /// Keeps the body there and returns its length in bytes. What was there before stays until the new one is whole.
    ///
    /// # Errors
    /// When it is too large, too slow, not what its digest says, or the volume can't take it.
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
        self.check_volume(announced.unwrap_or_default())?;
        let mut upload = self.store.put_multipart(&place.path()).await.map_err(|error| Refusal::of(&error))?;
        let received = match timeout(self.whole, self.receive(&mut *upload, room, body)).await {
            Ok(received) => received,
            Err(_) => Err(Refusal::TooSlow),
        };
        let checked = received.and_then(|(length, digest)| match expected {
            Some(expected) if expected != digest => Err(Refusal::Digest),
            Some(_) | None => Ok(length),
        });
        match checked {
            Ok(length) => {
                upload.complete().await.map_err(|error| Refusal::of(&error))?;
                Ok(length)
            }
            Err(refusal) => {
                if let Err(error) = upload.abort().await {
                    tracing::warn!(%error, "an unfinished upload can't be removed");
                }
                Err(refusal)
            }
        }
    }

    async fn receive(
        &self,
        upload: &mut dyn MultipartUpload,
        room: u64,
        body: Body,
    ) -> Result<(u64, Vec<u8>), Refusal> {
        let mut body = body.into_data_stream();
        let mut digest = Sha256::new();
        let mut length = 0_u64;
        let mut buffer = BytesMut::with_capacity(CHUNK);
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
            buffer.extend_from_slice(&chunk);
            if buffer.len() >= CHUNK {
                self.check_volume(buffer.len() as u64)?;
                write(upload, buffer.split().freeze()).await?;
            }
        }
        write(upload, buffer.freeze()).await?;
        Ok((length, digest.finalize().to_vec()))
    }

    fn turn(&self, place: &Place) -> Result<Turn<'_>, Refusal> {
        let folder = place.folder().to_string();
        let free = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.clone());
        if free { Ok(Turn { busy: &self.busy, folder }) } else { Err(Refusal::Busy) }
    }

    /// How much the job may still keep, in bytes; what the upload replaces is not counted.
    async fn room(&self, place: &Place) -> Result<u64, Refusal> {
        let kept: Vec<_> = self
            .store
            .list(Some(&place.folder()))
            .take(MAX_ARTIFACTS + 1)
            .try_collect()
            .await
            .map_err(|error| Refusal::of(&error))?;
        let others: Vec<u64> =
            kept.iter().filter(|object| object.location != place.path()).map(|object| object.size).collect();
        if others.len() >= MAX_ARTIFACTS {
            return Err(Refusal::JobFull);
        }
        Ok(self.max_job.saturating_sub(others.iter().sum()))
    }

    /// A volume that is filled to its end also stops others: something stays free.
    fn check_volume(&self, length: u64) -> Result<(), Refusal> {
        let volume = rustix::fs::statvfs(&self.directory).map_err(|error| {
            tracing::error!(%error, "the volume can't be used");
            Refusal::Volume
        })?;
        let free = volume.f_bavail.saturating_mul(volume.f_frsize);
        if free < self.reserve.saturating_add(length) { Err(Refusal::VolumeFull) } else { Ok(()) }
    }
}

async fn write(upload: &mut dyn MultipartUpload, chunk: Bytes) -> Result<(), Refusal> {
    upload.put_part(PutPayload::from_bytes(chunk)).await.map_err(|error| Refusal::of(&error))
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
