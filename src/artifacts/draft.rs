//! An artifact while it is received: nobody sees any of it before it is whole.

use bytes::BytesMut;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::refusal::Refusal;
use super::storage::Storage;

/// What every draft may hold in memory, in bytes.
const SMALL: usize = 256 << 10;

/// The bytes so far. What is not longer than a part is kept in one step; of what is longer, parts are handed on.
pub(super) struct Draft<'a> {
    storage: &'a Storage,
    path: Path,
    buffer: BytesMut,
    parts: Option<Box<dyn MultipartUpload>>,
    /// How many drafts may be large at once; the others wait with reading.
    large: &'a Semaphore,
    permit: Option<SemaphorePermit<'a>>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(storage: &'a Storage, path: Path, large: &'a Semaphore) -> Self {
        Self { storage, path, buffer: BytesMut::new(), parts: None, large, permit: None }
    }

    /// # Errors
    /// When a part can't be handed on.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let length = self.buffer.len().saturating_add(bytes.len());
        if self.permit.is_none() && length > SMALL && self.storage.part() > SMALL {
            self.permit = Some(self.large.acquire().await.map_err(|_| Refusal::Overloaded)?);
            self.buffer.reserve(self.storage.part().saturating_sub(self.buffer.len()).saturating_add(bytes.len()));
        }
        self.buffer.extend_from_slice(bytes);
        // One byte stays back: what is exactly a part long needs no parts.
        while self.buffer.len() > self.storage.part() {
            let part = self.buffer.split_to(self.storage.part()).freeze();
            self.hand_on(part.into()).await?;
        }
        Ok(())
    }

    /// Lets it appear in its place.
    ///
    /// # Errors
    /// When it can't; whether it appears all the same is then unknown, so it is sent again.
    pub(super) async fn publish(mut self) -> Result<(), Refusal> {
        let rest = PutPayload::from_bytes(std::mem::take(&mut self.buffer).freeze());
        if self.parts.is_none() {
            self.storage.check_volume(u64::try_from(rest.content_length()).unwrap_or(u64::MAX))?;
            let kept = self.storage.store().put(&self.path, rest).await;
            return kept.map(|_| ()).map_err(|error| self.storage.refusal(&error));
        }
        let published = match self.hand_on(rest).await {
            Ok(()) => self.complete().await,
            Err(refusal) => Err(refusal),
        };
        if published.is_err() {
            self.discard().await;
        }
        published
    }

    /// Removes what was handed on.
    pub(super) async fn discard(mut self) {
        if let Some(parts) = self.parts.take() {
            abort(parts).await;
        }
    }

    async fn complete(&mut self) -> Result<(), Refusal> {
        let Some(parts) = &mut self.parts else { return Ok(()) };
        parts.complete().await.map_err(|error| self.storage.refusal(&error))?;
        self.parts = None;
        Ok(())
    }

    async fn hand_on(&mut self, part: PutPayload) -> Result<(), Refusal> {
        self.storage.check_volume(u64::try_from(part.content_length()).unwrap_or(u64::MAX))?;
        let failed = |error| self.storage.refusal(&error);
        let parts = match &mut self.parts {
            Some(parts) => parts,
            None => {
                let begun = self.storage.store().put_multipart(&self.path).await.map_err(failed)?;
                self.parts.insert(begun)
            }
        };
        parts.put_part(part).await.map_err(failed)
    }
}

/// When whoever sent it has gone, its request ends in the middle of whatever it waited for.
impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let (Some(parts), Ok(runtime)) = (self.parts.take(), Handle::try_current()) {
            runtime.spawn(abort(parts));
        }
    }
}

async fn abort(mut parts: Box<dyn MultipartUpload>) {
    if let Err(error) = parts.abort().await {
        // Removed later, as what a killed process leaves.
        tracing::debug!(%error, "an unfinished upload can't be removed now");
    }
}
