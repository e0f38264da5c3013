//! What the operator's configuration says about runs.

use super::names::short_hash;
use crate::config::{Artifacts, Configuration, Images, Limits, Proxy, RegistryAccess};

/// The part of the configuration that decisions about runs take as an argument.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Images by role.
    pub images: Images,
    /// What job pods trust besides the public authorities.
    pub trusted_ca: Option<TrustedCa>,
    /// Proxy settings of job pods.
    pub proxy: Proxy,
    /// How much runs at once.
    pub limits: Limits,
    /// The artifact store.
    pub artifacts: Option<Artifacts>,
    /// The PriorityClass of job pods that name none.
    pub priority_class_name: Option<String>,
    /// Where the API server listens, as far as it is known: job pods don't reach it.
    pub api_server: Vec<Endpoint>,
    /// How registries are reached.
    pub registry: RegistryAccess,
    /// Namespaces whose runs count for the limits; empty: all.
    pub watch_namespaces: Vec<String>,
}

/// Authorities that job pods trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedCa {
    /// As PEM.
    pub bundle: String,
    /// The hash by which what was applied is recognised.
    pub hash: String,
}

impl TrustedCa {
    /// With its hash.
    #[must_use]
    pub fn of(bundle: String) -> Self {
        let hash = short_hash(&[&bundle]);
        Self { bundle, hash }
    }
}

/// An address and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address alone as a CIDR, such as `10.96.0.1/32`.
    pub cidr: String,
    /// The port.
    pub port: u16,
}

impl Settings {
    /// Of the configuration, with the content of its `trustedCaFile` and the API server's addresses.
    #[must_use]
    pub fn of(configuration: &Configuration, trusted_ca: Option<String>, api_server: Vec<Endpoint>) -> Self {
        Self {
            images: configuration.images.clone(),
            trusted_ca: trusted_ca.map(TrustedCa::of),
            proxy: configuration.proxy.clone(),
            limits: configuration.limits.clone(),
            artifacts: configuration.artifacts.clone(),
            priority_class_name: configuration.priority_class_name.clone(),
            api_server,
            registry: configuration.registry.clone(),
            watch_namespaces: configuration.watch_namespaces.clone(),
        }
    }
}
