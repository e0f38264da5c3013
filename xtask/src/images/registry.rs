//! A registry seen through blocking calls: plain HTTP on this machine and on the cluster's gateway, HTTPS everywhere else.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::future::Future;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_distribution::client::{Client, ClientConfig, ClientProtocol};
use oci_distribution::errors::OciDistributionError;
use oci_distribution::secrets::RegistryAuth;
use oci_distribution::{Reference, RegistryOperation};
use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};

/// Registries that speak plain HTTP: the embedded cluster's, by each of its names.
pub const PLAIN_HTTP: [&str; 3] = ["localhost:5000", "127.0.0.1:5000", "10.88.0.1:5000"];

/// A client for pushing and looking up images; credentials come from the Docker configuration file, as for every other tool.
pub struct Registry {
    client: Client,
    runtime: Runtime,
}

/// A parsed image reference, such as `localhost:5000/library/postgres:16`.
pub fn reference(text: &str) -> Result<Reference> {
    text.parse().map_err(|error| anyhow!("image reference {text:?}: {error}"))
}

impl Registry {
    /// A client; no connection is made yet.
    ///
    /// # Errors
    /// When the machine refuses the runtime's file descriptors.
    pub fn new() -> Result<Self> {
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(PLAIN_HTTP.map(str::to_owned).to_vec()),
            use_monolithic_push: true,
            ..ClientConfig::default()
        };
        Ok(Self { client: Client::new(config), runtime: Builder::new_current_thread().enable_all().build()? })
    }

    /// The digest that a reference points to, or nothing when there is no such image.
    ///
    /// # Errors
    /// When the registry can't be reached or refuses.
    pub fn digest(&self, image: &str) -> Result<Option<String>> {
        let image = reference(image)?;
        let auth = credentials(image.resolve_registry())?;
        match self.wait(self.client.fetch_manifest_digest(&image, &auth)) {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("looking up {image}")),
        }
    }

    /// Logs in for pushing to the image's repository.
    pub(super) fn authorize(&self, image: &Reference) -> Result<()> {
        let auth = credentials(image.resolve_registry())?;
        self.wait(self.client.auth(image, &auth, RegistryOperation::Push))
            .with_context(|| format!("logging in for {image}"))?;
        Ok(())
    }

    /// Puts a blob where it isn't yet.
    pub(super) fn push_blob(&self, image: &Reference, digest: &str, data: Vec<u8>) -> Result<()> {
        self.wait(async {
            if !self.client.blob_exists(image, digest).await? {
                self.client.push_blob(image, data, digest).await?;
            }
            Ok::<_, OciDistributionError>(())
        })
        .with_context(|| format!("pushing {digest} to {image}"))
    }

    /// Puts a manifest or an index, which makes the image visible under its tag, or only by its digest.
    pub(super) fn push_manifest(&self, image: &Reference, media_type: &str, body: Vec<u8>) -> Result<()> {
        let media_type = media_type.parse()?;
        self.wait(self.client.push_manifest_raw(image, body, media_type))
            .with_context(|| format!("pushing the manifest of {image}"))?;
        Ok(())
    }

    fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

fn is_absent(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code == 404,
        OciDistributionError::RegistryError { envelope, .. } => envelope.errors.iter().any(|error| {
            matches!(
                error.code,
                oci_distribution::errors::OciErrorCode::ManifestUnknown
                    | oci_distribution::errors::OciErrorCode::NameUnknown
            )
        }),
        OciDistributionError::RequestError(error) => error.status().is_some_and(|status| status.as_u16() == 404),
        _ => false,
    }
}

#[derive(Deserialize, Default)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    auth: String,
}

fn credentials(registry: &str) -> Result<RegistryAuth> {
    let folder = env::var_os("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
    let Some(file) = folder.map(|folder| folder.join("config.json")).filter(|file| file.exists()) else {
        return Ok(RegistryAuth::Anonymous);
    };
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    parse_credentials(&text, registry).with_context(|| format!("reading {}", file.display()))
}

fn parse_credentials(docker_config: &str, registry: &str) -> Result<RegistryAuth> {
    let config: DockerConfig = serde_json::from_str(docker_config)?;
    let Some(entry) = config.auths.get(registry).filter(|entry| !entry.auth.is_empty()) else {
        return Ok(RegistryAuth::Anonymous);
    };
    let decoded = String::from_utf8(STANDARD.decode(&entry.auth)?)?;
    let (user, password) =
        decoded.split_once(':').ok_or_else(|| anyhow!("the entry for {registry} is not of the form user:password"))?;
    Ok(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_of_the_registry_and_no_others() {
        let config = r#"{"auths":{"registry.example":{"auth":"dXNlcjpwYTpzcw=="}}}"#;
        assert_eq!(
            parse_credentials(config, "registry.example").unwrap(),
            RegistryAuth::Basic("user".to_owned(), "pa:ss".to_owned())
        );
        assert_eq!(parse_credentials(config, "other.example").unwrap(), RegistryAuth::Anonymous);
        assert_eq!(parse_credentials("{}", "registry.example").unwrap(), RegistryAuth::Anonymous);
    }
}
