//! What tests outside their own process stand on: built programs, a cluster, images in its registry.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::search_path;
use crate::cluster::{Cluster, binaries};
use crate::host::progress::Progress;

/// Programs that tests call.
pub struct Tools {
    kubectl: PathBuf,
    helm: PathBuf,
    registry: PathBuf,
}

impl Tools {
    /// Those of the embedded cluster, built when they are missing.
    ///
    /// # Errors
    /// When Go fails.
    pub fn built(progress: &Progress) -> Result<Self> {
        let built = binaries::ensure(progress)?;
        Ok(Self { kubectl: built.kubernetes("kubectl"), helm: built.tool("helm"), registry: built.tool("registry") })
    }

    /// Lets a command find them.
    ///
    /// # Errors
    /// When a path can't stand in a search path.
    pub fn set<'a>(&self, command: &'a mut Command) -> Result<&'a mut Command> {
        let folder = self.kubectl.parent().context("kubectl's folder")?.to_path_buf();
        command.env("PATH", search_path(&[folder])?);
        Ok(command.env("TIMETRACKER_HELM", &self.helm).env("TIMETRACKER_TEST_REGISTRY", &self.registry))
    }
}

/// Lets tests use this cluster and its tools.
///
/// # Errors
/// When there is no kubeconfig.
pub fn point_at<'a>(cluster: &Cluster, command: &'a mut Command) -> Result<&'a mut Command> {
    let kubeconfig = match cluster.kubeconfig() {
        Some(path) => path.to_path_buf(),
        None => env::var_os("KUBECONFIG")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".kube/config")))
            .context("neither KUBECONFIG nor HOME is set")?,
    };
    let kubectl = PathBuf::from(cluster.kubectl().get_program());
    let folder = kubectl.parent().context("kubectl's folder")?.to_path_buf();
    command.env("PATH", search_path(&[folder])?);
    command.env("TIMETRACKER_HELM", cluster.helm().get_program());
    command.env("TIMETRACKER_TEST_KUBECONFIG", kubeconfig);
    command.env("TIMETRACKER_TEST_PUSH", cluster.registry_push_host());
    if let Some(gateway) = cluster.gateway() {
        command.env("TIMETRACKER_TEST_GATEWAY", gateway.to_string());
    }
    Ok(command)
}
