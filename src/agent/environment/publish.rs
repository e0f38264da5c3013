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
use futures::StreamExt;
use http::HeaderValue;
use oci_distribution::client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};
use oci_distribution::errors::OciDistributionError;
use oci_distribution::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
    OciDescriptor,
};
use oci_distribution::secrets::RegistryAuth;
use oci_distribution::{Reference, RegistryOperation};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use super::archive::LIMITS;
use super::layer::{self, Layer};
use super::registry::{Known, RegistryOptions, tag};
use super::unpack::StoreOptions;
use crate::agent::duration;
use crate::agent::message::Secrets;
use crate::agent::process::Terminate;
use crate::agent::report::{EnvironmentFailure, EnvironmentReport};
use crate::api::names::{Digest, ImageReference, ImageVersion, Repository};
use crate::registry::{Credentials, RegistryConfig};

/// The largest layer of the image below, in bytes.
const MAX_LAYER: i64 = 2 << 30;
/// The most layers of the image below.
const MAX_LAYERS: usize = 100;
const CONNECT: Duration = Duration::from_secs(10);
/// How long a registry may be silent.
const SILENT: Duration = Duration::from_secs(60);

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
        Ok(Ok(report)) => return report,
        Ok(Err(error)) => error,
        Err(_) => PublishError::Refused(format!("it took longer than {} s", options.timeout.as_secs())),
    };
    let failure = match &error {
        PublishError::Archive(_) => EnvironmentFailure::Archive,
        PublishError::Refused(_) => EnvironmentFailure::Unreachable,
    };
    EnvironmentReport::Failed { failure, message: secrets.message(&error.to_string()) }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    /// What was installed is no environment.
    #[error("the archive is no environment: {0}")]
    Archive(std::io::Error),
    /// The store or a registry did not do what it was asked for.
    #[error("{0}")]
    Refused(String),
}

impl From<String> for PublishError {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

async fn published(options: &PublishOptions) -> Result<EnvironmentReport, PublishError> {
    let repository =
        options.registry.repository().ok_or_else(|| "no --images: there is no repository to push to".to_owned())?;
    // Another run may have been faster.
    if let Known::Yes(digest) = options.registry.known(repository, &options.hash).await {
        return Ok(EnvironmentReport::Published { image: repository.at(&digest), found: true });
    }
    let layer = layer(options).await?;
    let pushed = push(options, repository, &layer).await?;
    // What counts is what the registry says that it has.
    match options.registry.known(repository, &options.hash).await {
        Known::Yes(digest) if digest == pushed => {
            Ok(EnvironmentReport::Published { image: repository.at(&digest), found: false })
        }
        Known::Yes(digest) => Err(format!("pushed {pushed}, but the registry now has {digest} under that tag").into()),
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

/// One repository of one registry. Clients keep the first credentials of a host for ever: each has its own.
struct Remote {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
}

impl Remote {
    fn of(options: &PublishOptions, repository: &Repository, tag: &str) -> Result<Self, String> {
        let config = options.registry.config()?;
        let auth = match options.registry.credentials(repository)? {
            Credentials::Anonymous => RegistryAuth::Anonymous,
            Credentials::Basic { username, password } => {
                RegistryAuth::Basic(username, password.expose_secret().to_owned())
            }
        };
        let address = config.address(repository).to_owned();
        let reference = Reference::with_tag(address, repository.path().to_owned(), tag.to_owned());
        Ok(Self { client: client(&config, &options.platform)?, reference, auth })
    }
}

fn client(config: &RegistryConfig, platform: &str) -> Result<Client, String> {
    let platform = platform.to_owned();
    let authorities = config.extra_ca_bundle.as_deref().map(certificates).unwrap_or_default();
    let client = ClientConfig {
        protocol: ClientProtocol::HttpsExcept(config.insecure.iter().cloned().collect()),
        use_monolithic_push: true,
        tls_certs_only: Vec::new(),
        extra_root_certificates: authorities,
        platform_resolver: Some(Box::new(move |entries| {
            let fits = |entry: &&oci_distribution::manifest::ImageIndexEntry| {
                entry
                    .platform
                    .as_ref()
                    .is_some_and(|of| of.os.to_string() == "linux" && of.architecture.to_string() == platform)
            };
            entries.iter().find(fits).map(|entry| entry.digest.clone())
        })),
        read_timeout: Some(SILENT),
        connect_timeout: Some(CONNECT),
        https_proxy: config.https_proxy.clone(),
        no_proxy: config.no_proxy.clone(),
        ..ClientConfig::default()
    };
    Client::try_from(client).map_err(shown)
}

/// Each certificate of a PEM bundle by itself, as the library wants them.
fn certificates(bundle: &[u8]) -> Vec<Certificate> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let text = String::from_utf8_lossy(bundle);
    let each = text.split(BEGIN).skip(1).map(|rest| format!("{BEGIN}{rest}").into_bytes());
    each.map(|data| Certificate { encoding: CertificateEncoding::Pem, data }).collect()
}

async fn push(options: &PublishOptions, repository: &Repository, layer: &Layer) -> Result<Digest, String> {
    let base_tag = match &options.base.version {
        ImageVersion::Tag(tag) => tag.as_str(),
        ImageVersion::Digest(_) => return Err("--base wants a tag".to_owned()),
    };
    let base = Remote::of(options, &options.base.repository, base_tag)?;
    let target = Remote::of(options, repository, tag(&options.hash)?.as_str())?;
    let about = |error: OciDistributionError| format!("{}: {error}", options.base);
    let (manifest, _, config) =
        base.client.pull_manifest_and_config(&base.reference, &base.auth).await.map_err(about)?;
    if manifest.layers.len() > MAX_LAYERS {
        return Err(format!("{} has more than {MAX_LAYERS} layers", options.base));
    }
    let refused = |error: OciDistributionError| format!("{repository}: {error}");
    target.client.auth(&target.reference, &target.auth, RegistryOperation::Push).await.map_err(refused)?;
    let mut layers = Vec::new();
    for below in &manifest.layers {
        let kind = match below.media_type.as_str() {
            IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE | IMAGE_LAYER_GZIP_MEDIA_TYPE => IMAGE_LAYER_GZIP_MEDIA_TYPE,
            other => return Err(format!("{} has a layer of the kind {other}", options.base)),
        };
        copy(&base, &target, below, &options.scratch.join("below")).await?;
        layers.push(json!({"mediaType": kind, "digest": below.digest, "size": below.size}));
    }
    send(&target, &layer.file, layer.digest.as_str(), layer.size).await?;
    layers.push(json!({"mediaType": IMAGE_LAYER_GZIP_MEDIA_TYPE, "digest": layer.digest, "size": layer.size}));
    let config = with_layer(&config, layer, options)?;
    let digest = Digest::of(&config);
    let size = config.len();
    target.client.push_blob(&target.reference, Bytes::from(config), digest.as_str()).await.map_err(refused)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE_MEDIA_TYPE,
        "config": {"mediaType": IMAGE_CONFIG_MEDIA_TYPE, "digest": digest, "size": size},
        "layers": layers,
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = Digest::of(&manifest);
    let kind = HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE);
    target.client.push_manifest_raw(&target.reference, manifest, kind).await.map_err(refused)?;
    Ok(digest)
}

/// The configuration of the image below, with our layer on top.
fn with_layer(config: &str, layer: &Layer, options: &PublishOptions) -> Result<Vec<u8>, String> {
    let odd = || format!("{} has no configuration of an image", options.base);
    let mut config: Value = serde_json::from_str(config).map_err(|_| odd())?;
    let layers = config.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut).ok_or_else(odd)?;
    layers.push(json!(layer.content));
    if let Some(history) = config.get_mut("history").and_then(Value::as_array_mut) {
        history.push(json!({"created_by": format!("timetracker environment {}", options.hash)}));
    }
    Ok(config.to_string().into_bytes())
}

/// Brings one layer of the image below into our repository, unless it is there.
async fn copy(base: &Remote, target: &Remote, layer: &OciDescriptor, file: &Path) -> Result<(), String> {
    if target.client.blob_exists(&target.reference, &layer.digest).await.unwrap_or(false) {
        return Ok(());
    }
    if !(0..=MAX_LAYER).contains(&layer.size) {
        return Err(format!("{} has a layer of {} bytes", base.reference, layer.size));
    }
    let about = |error: &dyn std::fmt::Display| format!("{}: {error}", base.reference);
    let local = tokio::fs::File::create(file).await.map_err(|error| about(&error))?;
    base.client.pull_blob(&base.reference, layer, local).await.map_err(|error| about(&error))?;
    send(target, file, &layer.digest, u64::try_from(layer.size).unwrap_or_default()).await
}

async fn send(target: &Remote, file: &Path, digest: &str, size: u64) -> Result<(), String> {
    let file = tokio::fs::File::open(file).await.map_err(shown)?;
    let content = ReaderStream::new(file).map(|chunk| chunk.map_err(OciDistributionError::IoError));
    let pushed = target.client.push_blob_stream(&target.reference, content, digest, Some(size)).await;
    pushed.map(|_| ()).map_err(|error| format!("{}: {error}", target.reference))
}
