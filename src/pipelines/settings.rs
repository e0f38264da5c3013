//! What the operator's configuration says about runs.

use crate::config::{Artifacts, Configuration, Images, Limits, Proxy};

/// The part of the configuration that decisions about runs take as an argument.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Images by role.
    pub images: Images,
    /// The PEM bundle that job pods trust besides the public authorities.
    pub trusted_ca: Option<String>,
    /// Proxy settings of job pods.
    pub proxy: Proxy,
    /// How much runs at once.
    pub limits: Limits,
    /// The artifact store.
    pub artifacts: Option<Artifacts>,
    /// Namespaces whose runs count for the limits; empty: all.
    pub watch_namespaces: Vec<String>,
}

impl Settings {
    /// Of the configuration, with the content of its `trustedCaFile`.
    #[must_use]
    pub fn of(configuration: &Configuration, trusted_ca: Option<String>) -> Self {
        Self {
            images: configuration.images.clone(),
            trusted_ca,
            proxy: configuration.proxy.clone(),
            limits: configuration.limits.clone(),
            artifacts: configuration.artifacts.clone(),
            watch_namespaces: configuration.watch_namespaces.clone(),
        }
    }
}
