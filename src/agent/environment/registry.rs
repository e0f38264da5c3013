//! Images of environments in a registry: their names, and whether one is there.
//!
//! A tag is the environment's hash and a week: `<64 hexadecimal digits>-<weeks since 1970>`. A run that may publish gives
//! the image that it uses the present week's tag, once a week; whoever looks for one looks at this week's tag and at those
//! of a few weeks before. So an image whose youngest tag is older is used by no run that begins, and a week later by none
//! at all: then it can be deleted (`sweep.rs`), without asking any cluster which images it uses, and without a write by a
//! run that may only read.

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
    /// The present week's number, since 1970.
    #[arg(long, default_value_t = 0)]
    week: u64,
    /// For how many weeks before that images are used.
    #[arg(long, default_value_t = 2)]
    weeks: u64,
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
    Yes {
        /// Its digest.
        digest: Digest,
        /// Whether it lacks this week's tag.
        stale: bool,
    },
    /// There is none.
    No,
    /// It can't be told, and why.
    Unclear(String),
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (host, address) = text.split_once('=').ok_or("expected HOST=ADDRESS")?;
    Ok((host.to_owned(), address.to_owned()))
}

/// A tag of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The environment's hash.
    pub(super) hash: Digest,
    /// The week in which it was used.
    pub(super) week: u64,
}

impl Stamp {
    /// What the tag says; `None` when it is none of ours.
    pub(super) fn of(tag: &Tag) -> Option<Self> {
        let (hash, week) = tag.as_str().split_once('-')?;
        let hash = format!("sha256:{hash}").parse().ok()?;
        let stamp = Self { hash, week: week.parse().ok()? };
        // Written exactly so: no leading zeros, no sign.
        (stamp.tag().ok().as_ref() == Some(tag)).then_some(stamp)
    }

    /// The tag.
    ///
    /// # Errors
    /// Never: a hash and a number are a tag.
    pub(super) fn tag(&self) -> Result<Tag, String> {
        format!("{}-{}", self.hash.hex(), self.week).parse().map_err(|error| format!("{error}"))
    }
}

/// A registry, and what opens one repository in it.
pub(super) struct Opened {
    /// The registry.
    pub(super) registry: Registry,
    /// What opens the repository.
    pub(super) access: Access,
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

    /// The repository, opened.
    ///
    /// # Errors
    /// When the trusted authorities can't be read, the file is no docker configuration, or an address can't be used.
    pub(super) fn open(&self, repository: &Repository) -> Result<Opened, String> {
        let registry = Registry::new(self.config()?).map_err(|error| error.to_string())?;
        let access = Access::with(self.credentials(repository)?, CredentialKey::of_secret("mounted", ""));
        Ok(Opened { registry, access })
    }

    /// The stamp of what is used now.
    pub(super) fn stamp(&self, hash: &Digest) -> Stamp {
        Stamp { hash: hash.clone(), week: self.week }
    }

    /// Whether what has this stamp is used by no run any more: not by one that began last week, either.
    pub(super) fn is_over(&self, stamp: &Stamp) -> bool {
        stamp.week.saturating_add(self.weeks).saturating_add(1) < self.week
    }

    /// Whether there is an image of this environment.
    pub(super) async fn known(&self, repository: &Repository, hash: &Digest) -> Known {
        match self.find(repository, hash).await {
            Ok(Some((digest, week))) => Known::Yes { digest, stale: week != self.week },
            Ok(None) => Known::No,
            Err(error) => Known::Unclear(error),
        }
    }

    /// Its digest, and the youngest week that it has a tag of.
    async fn find(&self, repository: &Repository, hash: &Digest) -> Result<Option<(Digest, u64)>, String> {
        let Opened { registry, access } = self.open(repository)?;
        for week in (self.week.saturating_sub(self.weeks)..=self.week).rev() {
            let tag = Stamp { hash: hash.clone(), week }.tag()?;
            match registry.current_digest(repository, &tag, &access).await {
                Ok(digest) => return Ok(Some((digest, week))),
                Err(RegistryError::NotFound { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_is_written() {
        let stamp = Stamp { hash: Digest::of(b"x"), week: 2968 };
        assert_eq!(Stamp::of(&stamp.tag().unwrap()), Some(stamp));
    }

    #[rstest]
    #[case("latest")]
    #[case("2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881")]
    #[case("2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881-")]
    #[case("2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881-01")]
    #[case("2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881-99999999999999999999")]
    #[case("2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881-1-2")]
    #[case("2D711642B726B04401627CA9FBAC32F5C8530FB1903CC4DB02258717921A4881-1")]
    #[case("2d71-1")]
    fn tags_of_others_are_none_of_ours(#[case] tag: &str) {
        assert_eq!(Stamp::of(&tag.parse().unwrap()), None);
    }
}
