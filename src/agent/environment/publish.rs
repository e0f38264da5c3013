//! Makes the image of an environment: one layer on top of Python's own image, pushed under the hash.
//!
//! The credentials that may push are in this container alone, and nothing of the repository or of the packages is run
//! in it: they are a folder of files that moves from one archive into another.

use std::fs::{self, File};
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use oci_distribution::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::archive::LIMITS;
use super::layer::{self, Layer};
use super::registry::{Known, Opened, RegistryOptions};
use super::sweep::{self, Swept};
use super::unpack::StoreOptions;
use crate::agent::duration;
use crate::agent::message::Secrets;
use crate::agent::process::Terminate;
use crate::agent::report::{EnvironmentFailure, EnvironmentReport};
use crate::api::names::{Digest, ImageReference, ImageVersion, Repository};
use crate::registry::{Access, Blob, Content, Platform, Registry, RegistryError, Writer};

/// The largest layer of the image below, in bytes.
const MAX_LAYER: u64 = 2 << 30;
/// The most layers of the image below.
const MAX_LAYERS: usize = 100;
/// The annotation of a manifest: the hash of the environment that it holds.
pub(super) const HASH_ANNOTATION: &str = "dev.timetracker.environment";

/// What is published.
#[derive(Debug, Args)]
pub(super) struct PublishOptions {
    #[command(flatten)]
    store: StoreOptions,
    #[command(flatten)]
    registry: RegistryOptions,
    /// The hash that names the environment.
    #[arg(long)]
    hash: Digest,
    /// The image below, by tag.
    #[arg(long, value_parser = reference)]
    base: ImageReference,
    /// The processor that the environment is for.
    #[arg(long)]
    platform: String,
    /// Where the environment is in the image.
    #[arg(long)]
    place: PathBuf,
    /// A folder for what is on its way.
    #[arg(long)]
    scratch: PathBuf,
    /// How long it may take.
    #[arg(long, default_value = "14m", value_parser = duration::parse)]
    timeout: Duration,
}

fn reference(text: &str) -> Result<ImageReference, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// Publishes it, unless it is there.
pub(super) async fn publish(
    options: &PublishOptions,
    terminate: &mut Terminate,
    secrets: &Secrets,
) -> EnvironmentReport {
    let published = tokio::select! {
        published = timeout(options.timeout, published(options)) => published,
        () = terminate.asked() => Ok(Err(PublishError::Refused("told to terminate".to_owned()))),
    };
    let error = match published {
        Ok(Ok((image, found))) => {
            // The image is there: whatever becomes of the others changes nothing about that.
            let Swept { removed, problem } = sweep::sweep(&options.registry, terminate).await;
            let problem = problem.map(|problem| secrets.message(&problem));
            return EnvironmentReport::Published { image, found, removed, problem };
        }
        Ok(Err(error)) => error,
        Err(_) => PublishError::Refused(format!("it took longer than {} s", options.timeout.as_secs())),
    };
    let failure = match &error {
        PublishError::Archive(_) => EnvironmentFailure::Archive,
        PublishError::Registry(error) if is_denied(error) => EnvironmentFailure::Denied,
        PublishError::Registry(_) | PublishError::Refused(_) => EnvironmentFailure::Unreachable,
    };
    EnvironmentReport::Failed { failure, message: secrets.message(&error.to_string()) }
}

/// Whether only a person can do something about it.
fn is_denied(error: &RegistryError) -> bool {
    match error {
        RegistryError::Unauthorized { .. }
        | RegistryError::Forbidden { .. }
        | RegistryError::WriteDenied { .. }
        | RegistryError::Unsupported { .. }
        | RegistryError::RefusedAddress { .. } => true,
        RegistryError::Unreachable { .. }
        | RegistryError::NotFound { .. }
        | RegistryError::RateLimited { .. }
        | RegistryError::InvalidResponse { .. }
        | RegistryError::TooLarge { .. }
        | RegistryError::Incomplete { .. }
        | RegistryError::DigestMismatch { .. }
        | RegistryError::NoSuchPlatform { .. } => false,
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    /// What was installed is no environment.
    #[error("the archive is no environment: {0}")]
    Archive(std::io::Error),
    /// A registry did not do what it was asked for.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store did not, or something on this machine.
    #[error("{0}")]
    Refused(String),
}

impl From<String> for PublishError {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

/// The image, and whether it was there already.
async fn published(options: &PublishOptions) -> Result<(String, bool), PublishError> {
    let repository =
        options.registry.repository().ok_or_else(|| "no --images: there is no repository to push to".to_owned())?;
    let Opened { registry, access } = options.registry.open(repository)?;
    // Another run may have been faster; and what there is may have been used last week only.
    match options.registry.known(repository, &options.hash).await {
        Known::Yes { digest, stale: false } => return Ok((repository.at(&digest), true)),
        Known::Yes { digest, stale: true } => {
            let version = ImageVersion::Digest(digest);
            let manifest = registry.manifest(repository, &version, &access).await?;
            let tag = options.registry.stamp(&options.hash).tag()?;
            let writer = registry.writer(repository, &access);
            writer.push_manifest(&tag, OCI_IMAGE_MEDIA_TYPE, manifest.body).await?;
            return Ok((repository.at(&manifest.digest), true));
        }
        Known::No | Known::Unclear(_) => {}
    }
    let layer = layer(options).await?;
    let pushed = push(options, &registry, repository, &access, &layer).await?;
    // What counts is what the registry says that it has.
    match options.registry.known(repository, &options.hash).await {
        Known::Yes { digest, .. } if digest == pushed => Ok((repository.at(&digest), false)),
        Known::Yes { digest, .. } => {
            Err(format!("pushed {pushed}, but the registry now has {digest} under that tag").into())
        }
        Known::No => Err(format!("pushed {pushed}, but the registry does not have it").into()),
        Known::Unclear(why) => Err(format!("pushed {pushed}, but can't read it back: {why}").into()),
    }
}

async fn layer(options: &PublishOptions) -> Result<Layer, PublishError> {
    fs::create_dir_all(&options.scratch).map_err(shown)?;
    let mut archive = scratch_file(&options.scratch.join("archive"))?;
    let found = options.store.bring(&mut archive, LIMITS.archive).await.map_err(shown)?;
    if !found {
        return Err("the job that makes the environment has left none".to_owned().into());
    }
    archive.rewind().map_err(shown)?;
    let (place, file) = (options.place.clone(), options.scratch.join("layer"));
    let made = tokio::task::spawn_blocking(move || layer::of(archive, &place, &file, LIMITS)).await;
    made.map_err(shown)?.map_err(PublishError::Archive)
}

fn scratch_file(path: &Path) -> Result<File, String> {
    File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(shown)
}

fn shown(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn push(
    options: &PublishOptions,
    registry: &Registry,
    repository: &Repository,
    access: &Access,
    layer: &Layer,
) -> Result<Digest, PublishError> {
    let base = options.registry.open(&options.base.repository)?.access;
    let below = &options.base.repository;
    let platform = Platform::linux(&options.platform);
    let parts = registry.parts(below, &options.base.version, &base, &platform).await?;
    if parts.layers.len() > MAX_LAYERS {
        return Err(format!("{} has more than {MAX_LAYERS} layers", options.base).into());
    }
    let writer = registry.writer(repository, access);
    let mut layers = Vec::new();
    for blob in &parts.layers {
        let kind = match blob.media_type.as_str() {
            IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE | IMAGE_LAYER_GZIP_MEDIA_TYPE => IMAGE_LAYER_GZIP_MEDIA_TYPE,
            other => return Err(format!("{} has a layer of the kind {other}", options.base).into()),
        };
        let file = options.scratch.join("below");
        copy(registry, (below, &base), &writer, blob, &file).await?;
        layers.push(json!({"mediaType": kind, "digest": blob.digest, "size": blob.size}));
    }
    let content = Content::File { path: layer.file.clone(), size: layer.size };
    writer.push_blob(&layer.digest, &content).await?;
    layers.push(json!({"mediaType": IMAGE_LAYER_GZIP_MEDIA_TYPE, "digest": layer.digest, "size": layer.size}));
    let config = with_layer(&parts.config, layer, options)?;
    let digest = Digest::of(&config);
    let size = config.len();
    writer.push_blob(&digest, &Content::Bytes(Bytes::from(config))).await?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE_MEDIA_TYPE,
        "config": {"mediaType": IMAGE_CONFIG_MEDIA_TYPE, "digest": digest, "size": size},
        "layers": layers,
        "annotations": {HASH_ANNOTATION: options.hash},
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = Digest::of(&manifest);
    let tag = options.registry.stamp(&options.hash).tag()?;
    writer.push_manifest(&tag, OCI_IMAGE_MEDIA_TYPE, manifest.into()).await?;
    Ok(digest)
}

/// The configuration of the image below, with our layer on top.
fn with_layer(config: &[u8], layer: &Layer, options: &PublishOptions) -> Result<Vec<u8>, String> {
    let odd = || format!("{} has no configuration of an image", options.base);
    let mut config: Value = serde_json::from_slice(config).map_err(|_| odd())?;
    let layers = config.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut).ok_or_else(odd)?;
    layers.push(json!(layer.content));
    if let Some(history) = config.get_mut("history").and_then(Value::as_array_mut) {
        history.push(json!({"created_by": format!("timetracker environment {}", options.hash)}));
    }
    Ok(config.to_string().into_bytes())
}

/// Brings one layer of the image below into our repository, unless it is there.
async fn copy(
    registry: &Registry,
    (below, access): (&Repository, &Access),
    writer: &Writer<'_>,
    layer: &Blob,
    file: &Path,
) -> Result<(), PublishError> {
    if writer.has_blob(&layer.digest).await? {
        return Ok(());
    }
    if layer.size > MAX_LAYER {
        return Err(format!("{below} has a layer of {} bytes", layer.size).into());
    }
    registry.fetch_blob(below, layer, access, file).await?;
    let content = Content::File { path: file.to_owned(), size: layer.size };
    Ok(writer.push_blob(&layer.digest, &content).await?)
}
