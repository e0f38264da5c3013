//! Images of environments in a registry: their names, and whether one is there.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::api::names::{Digest, Repository, Tag};
use crate::registry::{Access, CredentialKey, Credentials, Registry, RegistryConfig, RegistryError};

/// Which registry, and how it is reached.
#[derive(Debug, Args)]
pub(super) struct RegistryOptions {
    /// The repository of the images.
    #[arg(long = "images")]
    repository: Option<Repository>,
    /// An address that is asked instead of a host: HOST=ADDRESS.
    #[arg(long = "mirror", value_parser = pair)]
    mirrors: Vec<(String, String)>,
    /// An address that is asked without TLS.
    #[arg(long)]
    plain_http: Vec<String>,
    /// A further host that may receive a registry's credentials: HOST=FURTHER.
    #[arg(long = "token-host", value_parser = pair)]
    token_hosts: Vec<(String, String)>,
    /// The file with the credentials, as `docker login` writes it; it may be missing.
    #[arg(long)]
    docker_config: Option<PathBuf>,
    /// A PEM bundle that is trusted besides the public authorities.
    #[arg(long, env = "SSL_CERT_FILE")]
    trust: Option<PathBuf>,
    /// The proxy for https.
    #[arg(long, env = "HTTPS_PROXY")]
    https_proxy: Option<String>,
    /// Hosts that the proxy is not used for.
    #[arg(long, env = "NO_PROXY")]
    no_proxy: Option<String>,
}

/// Whether there is an image of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// There is.
    Yes(Digest),
    /// There is none.
    No,
    /// It can't be told, and why.
    Unclear(String),
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (host, address) = text.split_once('=').ok_or("expected HOST=ADDRESS")?;
    Ok((host.to_owned(), address.to_owned()))
}

/// The tag of the environment's image.
///
/// # Errors
/// Never: a hash is a tag.
pub(super) fn tag(hash: &Digest) -> Result<Tag, String> {
    hash.hex().parse().map_err(|error| format!("{error}"))
}

impl RegistryOptions {
    /// Where images are, when there are any.
    pub(super) fn repository(&self) -> Option<&Repository> {
        self.repository.as_ref()
    }

    /// How registries are reached.
    ///
    /// # Errors
    /// When the trusted authorities can't be read.
    pub(super) fn config(&self) -> Result<RegistryConfig, String> {
        let mut config = RegistryConfig {
            insecure: self.plain_http.iter().cloned().collect(),
            mirrors: self.mirrors.iter().cloned().collect(),
            https_proxy: self.https_proxy.clone().filter(|proxy| !proxy.is_empty()),
            no_proxy: self.no_proxy.clone(),
            ..RegistryConfig::default()
        };
        for (host, further) in &self.token_hosts {
            config.token_hosts.entry(host.clone()).or_default().insert(further.clone());
        }
        if let Some(path) = &self.trust {
            let bundle = fs::read(path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
            config.extra_ca_bundle = Some(bundle);
        }
        Ok(config)
    }

    /// What opens this repository.
    ///
    /// # Errors
    /// When the file is no docker configuration.
    pub(super) fn credentials(&self, repository: &Repository) -> Result<Credentials, String> {
        let Some(bytes) = self.docker_config.as_ref().and_then(|path| fs::read(path).ok()) else {
            return Ok(Credentials::Anonymous);
        };
        Credentials::from_docker_config(&bytes, repository).map_err(|error| error.to_string())
    }

    /// Whether there is an image of this environment.
    pub(super) async fn known(&self, repository: &Repository, hash: &Digest) -> Known {
        match self.digest(repository, hash).await {
            Ok(Some(digest)) => Known::Yes(digest),
            Ok(None) => Known::No,
            Err(error) => Known::Unclear(error),
        }
    }

    async fn digest(&self, repository: &Repository, hash: &Digest) -> Result<Option<Digest>, String> {
        let registry = Registry::new(self.config()?).map_err(|error| error.to_string())?;
        let access = Access::with(self.credentials(repository)?, CredentialKey::of_secret("mounted", ""));
        match registry.current_digest(repository, &tag(hash)?, &access).await {
            Ok(digest) => Ok(Some(digest)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}
