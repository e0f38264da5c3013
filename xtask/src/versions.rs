//! `dev/versions.toml`: the one place that names versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// What dev/kubernetes links.
    pub kubernetes: Kubernetes,
    /// Programs built by `go install`, by the name of their executable.
    pub tools: BTreeMap<String, Tool>,
    /// The same for programs that only tests start.
    #[serde(rename = "test-tools")]
    pub test_tools: BTreeMap<String, Tool>,
    /// What judges licences and banned crates.
    #[serde(rename = "cargo-deny")]
    pub cargo_deny: CargoDeny,
}

/// cargo-deny, built by `cargo install`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CargoDeny {
    /// Such as `0.20.2`.
    pub version: String,
}

/// The Kubernetes release of the embedded cluster.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// Such as `v1.36.3`.
    pub version: String,
}

/// A program built from the Go module proxy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Import path of its main package.
    pub package: String,
    /// Version of the module, such as `v1.14.7`.
    pub version: String,
}

impl Versions {
    /// Reads the checkout's file.
    ///
    /// # Errors
    /// When it is missing or has an unknown or missing field.
    pub fn load(repository: &Path) -> Result<Self> {
        let file = repository.join("dev/versions.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        toml::from_str(&text).with_context(|| format!("reading {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn the_file_names_every_tool_that_the_cluster_starts() {
        let versions = Versions::load(&paths::repository()).unwrap();
        for name in ["coredns", "registry", "local-path-provisioner", "helm"] {
            assert!(versions.tools.contains_key(name), "{name}");
        }
    }

    #[test]
    fn the_go_module_requires_the_same_kubernetes_and_its_staging_modules() {
        let repository = paths::repository();
        let version = Versions::load(&repository).unwrap().kubernetes.version;
        let staging = version.replacen("v1.", "v0.", 1);
        let module = fs::read_to_string(repository.join("dev/kubernetes/go.mod")).unwrap();
        assert!(module.contains(&format!("k8s.io/kubernetes {version}\n")));
        let replaced = module.lines().filter(|line| line.contains(" => k8s.io/")).collect::<Vec<_>>();
        assert!(!replaced.is_empty());
        for line in replaced {
            assert!(line.ends_with(&staging), "{line}");
        }
    }
}
