//! Container registries: all tags of a repository, what a tag or digest stands for, and pushing one image.
//!
//! Everything a registry answers is hostile until it is checked: sizes, times and pages are bounded, content is hashed,
//! and credentials go only to the host they belong to (`challenge.rs`).
//!
//! The types of manifests, indexes and tag lists are those of `oci_distribution` (the maintained `oci-client`). Its HTTP
//! client is not used, because it can't be held to these rules: it reads bodies of any size, sends credentials to
//! whatever host `WWW-Authenticate` names, keeps the first credentials per host for ever, hides why a token was refused,
//! and sees neither `Link` nor `Retry-After`. `transport.rs` does that part on the same HTTP library, for pushing too.

mod address;
mod blob;
mod challenge;
mod config;
mod credentials;
mod error;
mod image;
mod lru;
mod platform;
mod push;
mod scan;
mod tags;
mod token;
mod transport;

use std::path::Path;
use std::sync::Arc;

pub use blob::{Blob, Content};
pub use config::{Limits, RegistryConfig, Timeouts};
pub use credentials::{Access, CredentialError, CredentialKey, Credentials};
pub use error::{RegistryConfigError, RegistryError};
pub use image::{ImageParts, RawManifest, ResolvedImage};
pub use platform::{Platform, PlatformError};
pub use push::Writer;
pub use scan::{Scan, Scanner};
pub use tags::{Gap, TagList};

use crate::api::names::{Digest, ImageVersion, Repository, Tag};
use image::Reader;
use transport::Transport;

/// Reads registries as one configuration says. Cheap to clone; clones share connections and tokens.
///
/// Tokens are kept per registry address, credentials and repository, so what one Secret may read is never read with
/// another's token. Nothing is retried here: the caller decides by [`RegistryError::is_transient`].
#[derive(Debug, Clone)]
pub struct Registry {
    transport: Arc<Transport>,
}

impl Registry {
    /// A reader with this configuration. Needs a Tokio runtime only when it is used.
    ///
    /// # Errors
    /// When an address, a limit, the proxy or the CA bundle in the configuration can't be used.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryConfigError> {
        Ok(Self { transport: Arc::new(Transport::new(config)?) })
    }

    /// All tags of `repository`, or as many as the limits allow; see [`TagList::gap`].
    ///
    /// # Errors
    /// When a page can't be read.
    pub async fn list_tags(&self, repository: &Repository, access: &Access) -> Result<TagList, RegistryError> {
        tags::list(&self.transport, repository, access).await
    }

    /// The digest that `tag` has now: one request, the content hashed here.
    ///
    /// # Errors
    /// When the tag can't be read, or is no image.
    pub async fn current_digest(
        &self,
        repository: &Repository,
        tag: &Tag,
        access: &Access,
    ) -> Result<Digest, RegistryError> {
        self.reader(repository, access).digest(&ImageVersion::Tag(tag.clone())).await
    }

    /// The image that `tag` stands for now, which must have a variant for `wanted`.
    ///
    /// # Errors
    /// When the image can't be read or checked, or does not run on `wanted`.
    pub async fn resolve(
        &self,
        repository: &Repository,
        tag: &Tag,
        access: &Access,
        wanted: &Platform,
    ) -> Result<ResolvedImage, RegistryError> {
        self.reader(repository, access).resolve(&ImageVersion::Tag(tag.clone()), wanted).await
    }

    /// The image with `digest`, which must have a variant for `wanted`.
    ///
    /// # Errors
    /// When the image can't be read or checked, or does not run on `wanted`.
    pub async fn resolve_digest(
        &self,
        repository: &Repository,
        digest: &Digest,
        access: &Access,
        wanted: &Platform,
    ) -> Result<ResolvedImage, RegistryError> {
        self.reader(repository, access).resolve(&ImageVersion::Digest(digest.clone()), wanted).await
    }

    /// The manifest or index that `version` stands for now, as it is.
    ///
    /// # Errors
    /// When it can't be read or is no image.
    pub async fn manifest(
        &self,
        repository: &Repository,
        version: &ImageVersion,
        access: &Access,
    ) -> Result<RawManifest, RegistryError> {
        self.reader(repository, access).raw(version).await
    }

    /// The parts of the variant for `wanted` of the image that `version` stands for now.
    ///
    /// # Errors
    /// When the image can't be read or checked, or does not run on `wanted`.
    pub async fn parts(
        &self,
        repository: &Repository,
        version: &ImageVersion,
        access: &Access,
        wanted: &Platform,
    ) -> Result<ImageParts, RegistryError> {
        self.reader(repository, access).parts(version, wanted).await
    }

    /// Brings a blob into a file.
    ///
    /// # Errors
    /// When it can't be read, is longer than said, or has another digest.
    pub async fn fetch_blob(
        &self,
        repository: &Repository,
        blob: &Blob,
        access: &Access,
        file: &Path,
    ) -> Result<(), RegistryError> {
        blob::fetch(&self.transport, repository, access, blob, file).await
    }

    /// What writes a repository.
    #[must_use]
    pub fn writer<'a>(&'a self, repository: &'a Repository, access: &'a Access) -> Writer<'a> {
        Writer { transport: &self.transport, repository, access }
    }

    fn reader<'a>(&'a self, repository: &'a Repository, access: &'a Access) -> Reader<'a> {
        Reader { transport: &self.transport, repository, access }
    }
}
