//! From a tag to what is deployed: digest, platforms and labels, each byte checked against its digest.

use std::collections::BTreeMap;

use bytes::Bytes;
use oci_distribution::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE,
    ImageIndexEntry, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageIndex, OciImageManifest,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::blob::Blob;
use super::credentials::Access;
use super::error::RegistryError;
use super::platform::{Platform, is_platform_word};
use super::token::Scope;
use super::transport::{Answer, Question, Transport};
use crate::api::names::{CommitSha, Digest, ImageVersion, Repository};

/// Indexes inside an index that are read; real ones hold none.
const MAX_NESTED_INDEXES: usize = 8;
const MAX_LABEL: usize = 256;
const VERSION_LABEL: &str = "org.opencontainers.image.version";
const REVISION_LABEL: &str = "org.opencontainers.image.revision";

/// One image, found by tag or digest and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The digest to deploy: that of the index, or of the manifest when there is no index.
    pub digest: Digest,
    /// What the image runs on, sorted.
    pub platforms: Vec<Platform>,
    /// The label `org.opencontainers.image.version` of the variant asked for: printable, at most 256 bytes.
    pub version: Option<String>,
    /// The label `org.opencontainers.image.revision`, when it is a full commit id.
    pub revision: Option<CommitSha>,
    /// When the variant asked for was built, by its own account.
    pub created: Option<jiff::Timestamp>,
}

impl ResolvedImage {
    /// Whether the image has a variant for `wanted`.
    #[must_use]
    pub fn supports(&self, wanted: &Platform) -> bool {
        self.platforms.iter().any(|platform| platform.serves(wanted))
    }
}

/// The parts of one variant of an image, from which another one can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageParts {
    /// Its layers, the lowest first.
    pub layers: Vec<Blob>,
    /// Its configuration as JSON.
    pub config: Bytes,
}

/// A manifest or an index as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes: JSON.
    pub body: Bytes,
}

/// What an answer says about itself, before it is read as one or the other.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u8,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
}

/// The part of an image configuration that matters here. Read leniently: builders fill the rest in many ways.
#[derive(Deserialize)]
struct ImageConfig {
    os: String,
    architecture: String,
    variant: Option<String>,
    created: Option<String>,
    config: Option<ContainerConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerConfig {
    labels: Option<BTreeMap<String, String>>,
}

enum Content {
    Manifest(Box<OciImageManifest>),
    Index(OciImageIndex),
}

/// A leaf of an index.
struct Variant {
    /// Unknown when the index does not say; then its configuration does.
    platform: Option<Platform>,
    digest: Digest,
}

/// Reads images of one repository.
pub(super) struct Reader<'a> {
    pub(super) transport: &'a Transport,
    pub(super) repository: &'a Repository,
    pub(super) access: &'a Access,
}

impl Reader<'_> {
    /// The digest that `version` has now, from the content itself.
    pub(super) async fn digest(&self, version: &ImageVersion) -> Result<Digest, RegistryError> {
        Ok(self.content(version).await?.0)
    }

    /// Everything about the image `version`, of which a variant must serve `wanted`.
    pub(super) async fn resolve(
        &self,
        version: &ImageVersion,
        wanted: &Platform,
    ) -> Result<ResolvedImage, RegistryError> {
        let (digest, manifest, mut platforms) = self.variant(version, wanted).await?;
        let (_, config) = self.config(&manifest).await?;
        let own = Platform { os: config.os, architecture: config.architecture, variant: config.variant };
        if !own.serves(wanted) {
            return Err(self.no_such_platform(wanted, &[own]));
        }
        if platforms.is_empty() {
            platforms.push(own);
        }
        platforms.sort();
        platforms.dedup();
        let labels = config.config.and_then(|config| config.labels).unwrap_or_default();
        Ok(ResolvedImage {
            digest,
            platforms,
            version: labels.get(VERSION_LABEL).filter(|text| is_printable(text)).cloned(),
            revision: labels.get(REVISION_LABEL).and_then(|text| text.parse().ok()),
            created: config.created.and_then(|text| text.parse().ok()),
        })
    }

    /// The manifest or index `version`, unread but for its shape.
    pub(super) async fn raw(&self, version: &ImageVersion) -> Result<RawManifest, RegistryError> {
        let (digest, answer) = self.fetched(version).await?;
        self.parse(&answer)?;
        Ok(RawManifest { digest, body: answer.body })
    }

    /// The parts of the variant of the image `version` that serves `wanted`.
    pub(super) async fn parts(&self, version: &ImageVersion, wanted: &Platform) -> Result<ImageParts, RegistryError> {
        let (_, manifest, _) = self.variant(version, wanted).await?;
        let (body, config) = self.config(&manifest).await?;
        let own = Platform { os: config.os, architecture: config.architecture, variant: config.variant };
        if !own.serves(wanted) {
            return Err(self.no_such_platform(wanted, &[own]));
        }
        let layer = |of: &OciDescriptor| {
            let digest =
                of.digest.parse().map_err(|_| self.invalid("its manifest holds a digest that is not sha256"))?;
            let size =
                u64::try_from(of.size).map_err(|_| self.invalid("its manifest holds a layer of a size below 0"))?;
            Ok(Blob { media_type: of.media_type.clone(), digest, size })
        };
        Ok(ImageParts { layers: manifest.layers.iter().map(layer).collect::<Result<_, _>>()?, config: body })
    }

    /// The digest of the image `version`, the manifest of its variant that should serve `wanted`, and all platforms that
    /// its index names.
    async fn variant(
        &self,
        version: &ImageVersion,
        wanted: &Platform,
    ) -> Result<(Digest, Box<OciImageManifest>, Vec<Platform>), RegistryError> {
        let (digest, content) = self.content(version).await?;
        let (manifest, platforms) = match content {
            Content::Manifest(manifest) => (manifest, Vec::new()),
            Content::Index(index) => {
                let variants = self.variants(index).await?;
                let fits = |variant: &&Variant| variant.platform.as_ref().is_some_and(|own| own.serves(wanted));
                let platforms: Vec<Platform> = variants.iter().filter_map(|variant| variant.platform.clone()).collect();
                let chosen = match (variants.iter().find(fits), variants.as_slice()) {
                    (Some(variant), _) => variant,
                    (None, [only]) if only.platform.is_none() => only,
                    (None, _) => return Err(self.no_such_platform(wanted, &platforms)),
                };
                match self.content(&ImageVersion::Digest(chosen.digest.clone())).await?.1 {
                    Content::Manifest(manifest) => (manifest, platforms),
                    Content::Index(_) => return Err(self.invalid("its index names an index as a manifest")),
                }
            }
        };
        Ok((digest, manifest, platforms))
    }

    /// The leaves of an index whose indexes are nested at most one level.
    async fn variants(&self, index: OciImageIndex) -> Result<Vec<Variant>, RegistryError> {
        let mut variants = Vec::new();
        let mut nested = Vec::new();
        self.sort_entries(index.manifests, &mut variants, &mut nested)?;
        if nested.len() > MAX_NESTED_INDEXES {
            return Err(self.invalid("its index holds more than 8 indexes"));
        }
        for digest in nested {
            let Content::Index(inner) = self.content(&ImageVersion::Digest(digest)).await?.1 else {
                return Err(self.invalid("its index names a manifest as an index"));
            };
            let mut deeper = Vec::new();
            self.sort_entries(inner.manifests, &mut variants, &mut deeper)?;
            if !deeper.is_empty() {
                return Err(self.invalid("its indexes are nested deeper than 2"));
            }
        }
        Ok(variants)
    }

    fn sort_entries(
        &self,
        entries: Vec<ImageIndexEntry>,
        variants: &mut Vec<Variant>,
        nested: &mut Vec<Digest>,
    ) -> Result<(), RegistryError> {
        if variants.len() + nested.len() + entries.len() > self.transport.config.limits.index_entries {
            return Err(self.invalid("its index holds more manifests than the limit"));
        }
        for entry in entries {
            let digest = || {
                entry.digest.parse::<Digest>().map_err(|_| self.invalid("its index holds a digest that is not sha256"))
            };
            match entry.media_type.as_str() {
                OCI_IMAGE_INDEX_MEDIA_TYPE | IMAGE_MANIFEST_LIST_MEDIA_TYPE => nested.push(digest()?),
                OCI_IMAGE_MEDIA_TYPE | IMAGE_MANIFEST_MEDIA_TYPE => {
                    let platform = entry.platform.as_ref().map(|platform| {
                        format!("{}/{}", platform.os, platform.architecture)
                            + &platform.variant.as_ref().map_or_else(String::new, |variant| format!("/{variant}"))
                    });
                    match platform {
                        // Attestations stand in an index as images for `unknown/unknown`.
                        Some(text) if text.starts_with("unknown/") => {}
                        // A platform that is written strangely is none that we could ask for.
                        Some(text) => {
                            if let Ok(platform) = text.parse() {
                                variants.push(Variant { platform: Some(platform), digest: digest()? });
                            }
                        }
                        None => variants.push(Variant { platform: None, digest: digest()? }),
                    }
                }
                // Other content may stand beside images (artifacts, signatures).
                _ => {}
            }
        }
        Ok(())
    }

    /// GETs a manifest or index and checks its digest and shape.
    async fn content(&self, version: &ImageVersion) -> Result<(Digest, Content), RegistryError> {
        let (digest, answer) = self.fetched(version).await?;
        Ok((digest, self.parse(&answer)?))
    }

    /// GETs a manifest or index and checks its digest.
    async fn fetched(&self, version: &ImageVersion) -> Result<(Digest, Answer), RegistryError> {
        let (name, subject) = match version {
            ImageVersion::Tag(tag) => (tag.to_string(), format!("the tag `{tag}`")),
            ImageVersion::Digest(digest) => (digest.to_string(), format!("the digest {digest}")),
        };
        let url = self.transport.url(self.repository, &format!("manifests/{name}"))?;
        let accept = [
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
            OCI_IMAGE_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
        ]
        .join(", ");
        let limit = self.transport.config.limits.manifest_bytes;
        let question = self.question(&subject, "the manifest", limit);
        let answer = self.transport.get(question, &url, &accept).await?;
        let digest =
            self.check_digest(&answer, if let ImageVersion::Digest(asked) = version { Some(asked) } else { None })?;
        Ok((digest, answer))
    }

    fn check_digest(&self, answer: &Answer, asked: Option<&Digest>) -> Result<Digest, RegistryError> {
        let actual = Digest::of(&answer.body);
        let announced = answer.headers.get("docker-content-digest").and_then(|header| header.to_str().ok());
        // Digests of other algorithms are allowed in the header and say nothing about ours.
        let announced = announced.filter(|text| text.starts_with("sha256:"));
        for expected in announced.into_iter().chain(asked.map(Digest::as_str)) {
            if expected != actual.as_str() {
                return Err(RegistryError::DigestMismatch {
                    repository: self.repository.to_string(),
                    expected: expected.chars().take(80).collect(),
                    actual: actual.to_string(),
                });
            }
        }
        Ok(actual)
    }

    fn parse(&self, answer: &Answer) -> Result<Content, RegistryError> {
        let shape: Shape = serde_json::from_slice(&answer.body).map_err(|_| {
            let is_html = answer.body.trim_ascii_start().starts_with(b"<");
            self.invalid(if is_html { "a web page (HTML) instead of a manifest" } else { "it is no image manifest" })
        })?;
        if shape.schema_version != 2 {
            return Err(self.invalid("its manifest is of the abandoned schema 1"));
        }
        let announced = answer
            .headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|header| header.to_str().ok())
            .map(|text| text.split(';').next().unwrap_or_default().trim());
        let media_type = match (shape.media_type.as_deref(), announced) {
            (Some(own), Some(announced)) if own != announced => {
                return Err(self.invalid("its manifest says another media type than its Content-Type"));
            }
            (Some(own), _) => own,
            (None, announced) => announced.unwrap_or_default(),
        };
        let has_parts = shape.layers.is_some() || shape.config.is_some();
        match (media_type, shape.manifests.is_some(), has_parts) {
            (_, true, true) => Err(self.invalid("its manifest is both an image and an index")),
            (OCI_IMAGE_INDEX_MEDIA_TYPE | IMAGE_MANIFEST_LIST_MEDIA_TYPE, true, false) => {
                let index = serde_json::from_slice(&answer.body);
                Ok(Content::Index(index.map_err(|_| self.invalid("its index is malformed"))?))
            }
            (OCI_IMAGE_MEDIA_TYPE | IMAGE_MANIFEST_MEDIA_TYPE, false, true) => {
                let manifest = serde_json::from_slice(&answer.body);
                Ok(Content::Manifest(Box::new(manifest.map_err(|_| self.invalid("its manifest is malformed"))?)))
            }
            _ => Err(self.invalid("its manifest's media type is none of an image, or does not fit its content")),
        }
    }

    async fn config(&self, manifest: &OciImageManifest) -> Result<(Bytes, ImageConfig), RegistryError> {
        if !matches!(manifest.config.media_type.as_str(), IMAGE_CONFIG_MEDIA_TYPE | IMAGE_DOCKER_CONFIG_MEDIA_TYPE) {
            return Err(self.invalid("it is an artifact (a chart, a signature), not a container image"));
        }
        let digest: Digest = manifest
            .config
            .digest
            .parse()
            .map_err(|_| self.invalid("its manifest holds a digest that is not sha256"))?;
        let url = self.transport.url(self.repository, &format!("blobs/{digest}"))?;
        let limit = self.transport.config.limits.config_bytes;
        let question = self.question("the image's configuration", "the image's configuration", limit);
        let answer = self.transport.get(question, &url, "*/*").await?;
        self.check_digest(&answer, Some(&digest))?;
        let config: ImageConfig =
            serde_json::from_slice(&answer.body).map_err(|_| self.invalid("its image configuration is malformed"))?;
        let words = [Some(&config.os), Some(&config.architecture), config.variant.as_ref().filter(|v| !v.is_empty())];
        if words.into_iter().flatten().all(|word| is_platform_word(word)) {
            let variant = config.variant.filter(|variant| !variant.is_empty());
            Ok((answer.body, ImageConfig { variant, ..config }))
        } else {
            Err(self.invalid("its image configuration names no valid platform"))
        }
    }

    fn question<'q>(&'q self, subject: &'q str, what: &'static str, limit: usize) -> Question<'q> {
        Question {
            repository: self.repository,
            access: self.access,
            subject,
            what,
            limit,
            scope: Scope::Pull,
            patience: None,
        }
    }

    fn invalid(&self, cause: &str) -> RegistryError {
        RegistryError::InvalidResponse { repository: self.repository.to_string(), cause: cause.to_owned() }
    }

    fn no_such_platform(&self, wanted: &Platform, available: &[Platform]) -> RegistryError {
        let shown: Vec<String> = available.iter().take(8).map(Platform::to_string).collect();
        let available = if shown.is_empty() { "none that is named".to_owned() } else { shown.join(", ") };
        RegistryError::NoSuchPlatform { repository: self.repository.to_string(), wanted: wanted.to_string(), available }
    }
}

fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_LABEL && !text.chars().any(char::is_control)
}
