//! What an administrator sets for all registries: addresses, trust, time and size limits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use url::Url;

use super::challenge::authority;
use super::error::RegistryConfigError;
use crate::api::names::Repository;

/// How registries are reached. The defaults suit `ghcr.io`, Docker Hub and any registry on https.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Addresses (`host` or `host:port`, exactly as in the repository or in [`Self::mirrors`]) spoken to over plain http.
    pub insecure: BTreeSet<String>,
    /// Registry host as written in a repository → the address (`host[:port]`) that is asked instead.
    ///
    /// The administrator vouches for the address: credentials for the host are used at it too.
    pub mirrors: BTreeMap<String, String>,
    /// Registry host as written in a repository → further hosts (`host[:port]`) that may receive its credentials,
    /// because its token service lives there. Only over https, unless also listed in [`Self::insecure`].
    pub token_hosts: BTreeMap<String, BTreeSet<String>>,
    /// Certificates to trust beside the system's own, as PEM.
    pub extra_ca_bundle: Option<Vec<u8>>,
    /// Proxy for https, for example `http://proxy.example:3128`. The environment's proxy variables are not read.
    pub https_proxy: Option<String>,
    /// Hosts that the proxy is not used for, separated by commas.
    pub no_proxy: Option<String>,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// How large anything may be.
    pub limits: Limits,
}

/// How long talking to a registry may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Establishing a connection.
    pub connect: Duration,
    /// One request with its whole answer.
    pub request: Duration,
    /// All pages of one tag list.
    pub scan: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), request: Duration::from_secs(30), scan: Duration::from_secs(120) }
    }
}

/// How large the answers of a registry may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Tags asked for in one request. GHCR answers with 100 at most.
    pub page_size: usize,
    /// Bytes of one page. Registries that ignore the page size send all tags in one.
    pub page_bytes: usize,
    /// Tags of one repository.
    pub tags: usize,
    /// Bytes of one manifest or index. The distribution specification expects 4 MiB.
    pub manifest_bytes: usize,
    /// Bytes of one image configuration.
    pub config_bytes: usize,
    /// Manifests named by one index, nested ones included.
    pub index_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            page_size: 100,
            page_bytes: 4 << 20,
            tags: 100_000,
            manifest_bytes: 4 << 20,
            config_bytes: 4 << 20,
            index_entries: 256,
        }
    }
}

impl RegistryConfig {
    /// The address that serves `repository`, `host[:port]`.
    #[must_use]
    pub fn address<'a>(&'a self, repository: &'a Repository) -> &'a str {
        let host = repository.host();
        match self.mirrors.get(host) {
            Some(address) => address,
            // The name that people write for Docker Hub serves a website; its registry has another.
            None if host == "docker.io" => "registry-1.docker.io",
            None => host,
        }
    }

    /// `http` for listed addresses, `https` for all others.
    pub(super) fn scheme(&self, address: &str) -> &'static str {
        if self.insecure.contains(address) { "http" } else { "https" }
    }

    /// Refuses addresses and limits that can't be used.
    pub(super) fn validate(&self) -> Result<(), RegistryConfigError> {
        let addresses = self.insecure.iter().chain(self.mirrors.values()).chain(self.mirrors.keys());
        for address in addresses.chain(self.token_hosts.values().flatten()) {
            let fits = Url::parse(&format!("https://{address}/"))
                .is_ok_and(|url| authority(&url).as_deref() == Some(address.as_str()) && url.path() == "/");
            if !fits {
                return Err(RegistryConfigError::Address(address.chars().take(120).collect()));
            }
        }
        let limits = &self.limits;
        for (name, limit) in [
            ("page_size", limits.page_size),
            ("page_bytes", limits.page_bytes),
            ("tags", limits.tags),
            ("manifest_bytes", limits.manifest_bytes),
            ("config_bytes", limits.config_bytes),
            ("index_entries", limits.index_entries),
        ] {
            if limit == 0 {
                return Err(RegistryConfigError::ZeroLimit(name));
            }
        }
        Ok(())
    }

    /// The HTTP client's settings, apart from how names are resolved.
    pub(super) fn client(&self) -> Result<reqwest::ClientBuilder, RegistryConfigError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("timetracker-operator/", env!("CARGO_PKG_VERSION")))
            // Redirects are followed by the transport, which decides about each.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.timeouts.connect)
            .timeout(self.timeouts.request)
            .pool_max_idle_per_host(4)
            .no_proxy();
        if let Some(pem) = &self.extra_ca_bundle {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(RegistryConfigError::CaBundle)?;
            if certificates.is_empty() {
                return Err(RegistryConfigError::EmptyCaBundle);
            }
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(address) = &self.https_proxy {
            let proxy = reqwest::Proxy::https(address).map_err(|_| RegistryConfigError::Proxy)?;
            let exceptions = self.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
            builder = builder.proxy(proxy.no_proxy(exceptions));
        }
        Ok(builder)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::transport::Transport;
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("http://ghcr.io")]
    #[case("ghcr.io/path")]
    #[case("user@ghcr.io")]
    #[case("GHCR.io")]
    #[case("")]
    fn a_configured_address_is_host_and_port(#[case] address: &str) {
        let config = RegistryConfig { insecure: [address.to_owned()].into(), ..RegistryConfig::default() };
        assert!(matches!(Transport::new(config), Err(RegistryConfigError::Address(_))));
    }

    #[test]
    fn a_ca_bundle_without_certificate_is_refused() {
        let config = RegistryConfig { extra_ca_bundle: Some(b"nothing".to_vec()), ..RegistryConfig::default() };
        assert!(matches!(Transport::new(config), Err(RegistryConfigError::EmptyCaBundle)));
    }
}
