//! Pushing to a repository and deleting from it, with the same care as reading: only pods in which nothing but the agent
//! runs do so.

use bytes::Bytes;
use http::header::LOCATION;
use http::{Method, StatusCode};
use url::Url;

use super::blob::{Content, PATIENCE};
use super::challenge::{authority, same_origin};
use super::credentials::Access;
use super::error::RegistryError;
use super::token::Scope;
use super::transport::{Change, Question, Transport};
use crate::api::names::{Digest, Repository, Tag};

/// The longest address of an upload, in bytes.
const MAX_LOCATION: usize = 4 << 10;
const BINARY: &str = "application/octet-stream";

/// Writes one repository.
#[derive(Debug)]
pub struct Writer<'a> {
    pub(super) transport: &'a Transport,
    pub(super) repository: &'a Repository,
    pub(super) access: &'a Access,
}

impl Writer<'_> {
    /// Whether the repository has this blob.
    ///
    /// # Errors
    /// When the registry does not answer or refuses.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let question = self.question("the blob", "looking for a blob", Scope::Push);
        let url = self.transport.url(self.repository, &format!("blobs/{digest}"))?;
        let head = Change { method: Method::HEAD, url: &url, media_type: BINARY, content: &Content::None };
        let response = self.transport.change(question, &head).await?;
        // Some send readers of blobs elsewhere, even those who only want to know.
        if response.status() == StatusCode::NOT_FOUND || response.status().is_redirection() {
            return Ok(response.status().is_redirection());
        }
        self.transport.check(question, &response, &[StatusCode::OK])?;
        Ok(true)
    }

    /// Pushes a blob, unless the repository has it.
    ///
    /// # Errors
    /// When the registry does not answer, refuses, or wants it at another host.
    pub async fn push_blob(&self, digest: &Digest, content: &Content) -> Result<(), RegistryError> {
        if self.has_blob(digest).await? {
            return Ok(());
        }
        let question = self.question("the repository", "pushing", Scope::Push);
        let url = self.transport.url(self.repository, "blobs/uploads/")?;
        let begin = Change { method: Method::POST, url: &url, media_type: BINARY, content: &Content::None };
        let response = self.transport.change(question, &begin).await?;
        self.transport.check(question, &response, &[StatusCode::ACCEPTED])?;
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.filter(|location| location.len() <= MAX_LOCATION);
        let mut upload: Url = location
            .and_then(|location| url.join(location).ok())
            .ok_or_else(|| question.invalid("it begins an upload without a valid Location"))?;
        if !same_origin(&url, &upload) || !upload.username().is_empty() || upload.password().is_some() {
            let host = authority(&upload).unwrap_or_default().chars().take(120).collect();
            return Err(question.refused(host, "another address than the registry's, for what is pushed"));
        }
        upload.query_pairs_mut().append_pair("digest", digest.as_str());
        upload.set_fragment(None);
        let put = Change { method: Method::PUT, url: &upload, media_type: BINARY, content };
        let question = Question { patience: Some(PATIENCE), ..question };
        let response = self.transport.change(question, &put).await?;
        self.transport.check(question, &response, &[StatusCode::CREATED])
    }

    /// Pushes a manifest, or gives one a further tag.
    ///
    /// # Errors
    /// When the registry does not answer or refuses.
    pub async fn push_manifest(&self, tag: &Tag, media_type: &'static str, body: Bytes) -> Result<(), RegistryError> {
        let question = self.question("the repository", "pushing", Scope::Push);
        let url = self.transport.url(self.repository, &format!("manifests/{tag}"))?;
        let content = Content::Bytes(body);
        let put = Change { method: Method::PUT, url: &url, media_type, content: &content };
        let response = self.transport.change(question, &put).await?;
        self.transport.check(question, &response, &[StatusCode::CREATED, StatusCode::OK])
    }

    /// Deletes a manifest with all its tags; `false`: it was not there.
    ///
    /// # Errors
    /// When the registry does not answer, refuses, or deletes nothing at all ([`RegistryError::Unsupported`]).
    pub async fn delete(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let question = self.question("the image", "deleting images", Scope::Delete);
        let url = self.transport.url(self.repository, &format!("manifests/{digest}"))?;
        let delete = Change { method: Method::DELETE, url: &url, media_type: BINARY, content: &Content::None };
        let response = self.transport.change(question, &delete).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let done = [StatusCode::ACCEPTED, StatusCode::OK, StatusCode::NO_CONTENT];
        self.transport.check(question, &response, &done)?;
        Ok(true)
    }

    fn question<'q>(&'q self, subject: &'q str, what: &'static str, scope: Scope) -> Question<'q> {
        Question { repository: self.repository, access: self.access, subject, what, limit: 0, scope, patience: None }
    }
}
