//! What tests outside their own process stand on: built programs, a cluster, images in its registry.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::search_path;
use crate::cluster::{Cluster, binaries};
use crate::host::progress::Progress;

/// Programs that tests call.
pub struct Tools {
    kubectl: PathBuf,
    helm: PathBuf,
    registry: PathBuf,
    s3: PathBuf,
}

impl Tools {
    /// Those of the embedded cluster and those that only tests start, built when they are missing.
    ///
    /// # Errors
    /// When Go fails.
    pub fn built(progress: &Progress) -> Result<Self> {
        let built = binaries::ensure(progress)?;
        Ok(Self {
            kubectl: built.kubernetes("kubectl"),
            helm: built.tool("helm"),
            registry: built.tool("registry"),
            s3: binaries::test_tool("versitygw", progress)?,
        })
    }

    /// Lets a command find them.
    ///
    /// # Errors
    /// When a path can't stand in a search path.
    pub fn set<'a>(&self, command: &'a mut Command) -> Result<&'a mut Command> {
        let folder = self.kubectl.parent().context("kubectl's folder")?.to_path_buf();
        command.env("PATH", search_path(&[folder])?);
        command.env("TIMETRACKER_HELM", &self.helm).env("TIMETRACKER_TEST_REGISTRY", &self.registry);
        Ok(command.env("TIMETRACKER_TEST_S3", &self.s3))
    }
}

/// Names of registries that tests serve themselves, and the ports on the gateway where the operator finds them.
const FAULTY_REGISTRIES: [(&str, u16); 2] = [("faulty.test", 5055), ("moody.test", 5056)];

/// Lets the operator ask the registries that tests serve themselves. Nodes don't know them, and pull from the cluster's.
pub fn allow_faulty_registries(cluster: &Cluster, values: &mut Value) {
    let Some(gateway) = cluster.gateway() else { return };
    let Some(registry) = values.pointer_mut("/config/registry").and_then(Value::as_object_mut) else { return };
    for (name, port) in FAULTY_REGISTRIES {
        let endpoint = format!("{gateway}:{port}");
        if let Some(mirrors) = registry.get_mut("mirrors").and_then(Value::as_object_mut) {
            mirrors.insert(name.to_owned(), endpoint.clone().into());
        }
        if let Some(plain) = registry.get_mut("plainHttp").and_then(Value::as_array_mut) {
            plain.push(endpoint.into());
        }
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
        let faulty = FAULTY_REGISTRIES.map(|(name, port)| format!("{name}={gateway}:{port}"));
        command.env("TIMETRACKER_TEST_FAULTY_REGISTRIES", faulty.join(" "));
    }
    Ok(command)
}
