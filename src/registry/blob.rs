//! Content of any length: files that are sent and received piece by piece.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use reqwest::Body;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use super::credentials::Access;
use super::error::RegistryError;
use super::token::Scope;
use super::transport::{Question, Transport};
use crate::api::names::{Digest, Repository};

/// How long one blob may be on its way.
pub(super) const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// What is sent. It can be sent again, should the first answer be a challenge.
#[derive(Debug, Clone)]
pub enum Content {
    /// Nothing.
    None,
    /// These bytes.
    Bytes(Bytes),
    /// A file.
    File {
        /// Where it is.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
    },
}

impl Content {
    /// How many bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::File { size, .. } => *size,
        }
    }

    pub(super) async fn body(&self) -> io::Result<Option<Body>> {
        Ok(match self {
            Self::None => None,
            Self::Bytes(bytes) => Some(bytes.clone().into()),
            Self::File { path, .. } => Some(Body::wrap_stream(ReaderStream::new(File::open(path).await?))),
        })
    }
}

/// A blob as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Writes the blob into the file, which then has this digest and length.
pub(super) async fn fetch(
    transport: &Transport,
    repository: &Repository,
    access: &Access,
    blob: &Blob,
    file: &Path,
) -> Result<(), RegistryError> {
    let subject = format!("the layer {}", blob.digest);
    let limit = usize::try_from(blob.size).unwrap_or(usize::MAX);
    let question = Question {
        repository,
        access,
        subject: &subject,
        what: "the layer",
        limit,
        scope: Scope::Pull,
        patience: Some(PATIENCE),
    };
    let url = transport.url(repository, &format!("blobs/{}", blob.digest))?;
    let mut response = transport.open(question, &url, "*/*").await?;
    transport.check(question, &response, &[StatusCode::OK])?;
    let mut file = File::create(file).await.map_err(|error| question.unreadable(&error))?;
    let (mut hash, mut length) = (Sha256::new(), 0_usize);
    while let Some(chunk) = response.chunk().await.map_err(|error| transport.failed(question, error))? {
        length = length.saturating_add(chunk.len());
        if length > limit {
            return Err(RegistryError::TooLarge { repository: repository.to_string(), what: question.what, limit });
        }
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(|error| question.unreadable(&error))?;
    }
    file.flush().await.map_err(|error| question.unreadable(&error))?;
    let actual = format!("sha256:{}", hex::encode(hash.finalize()));
    if actual != blob.digest.as_str() {
        let (repository, expected) = (repository.to_string(), blob.digest.to_string());
        return Err(RegistryError::DigestMismatch { repository, expected, actual });
    }
    Ok(())
}
