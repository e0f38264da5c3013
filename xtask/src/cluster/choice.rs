//! Which cluster a command works on. The embedded one unless the user says otherwise: nobody's production gets our resources because
//! KUBECONFIG happened to be set.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{Cluster, Embedded, binaries};
use crate::host::progress::Progress;
use crate::host::{apt, run};

/// Label, with value `true`, on every custom resource that these commands make; a cluster with others is somebody's and refused.
pub const OWN_LABEL: &str = "timetracker.dev/made-by-xtask";

/// API group of the custom resources.
const GROUP: &str = "timetracker.dev";

/// A cluster to work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ClusterChoice {
    /// The one that this program makes on this machine
    #[default]
    Embedded,
    /// That of the current kubectl context
    Current,
}

/// Arguments for commands that need a cluster.
#[derive(Debug, Clone, Args)]
pub struct ChoiceArguments {
    /// Cluster to work on
    #[arg(long, value_enum, default_value_t)]
    pub cluster: ClusterChoice,
    /// Registry, perhaps with a path, for the images; needed with --cluster current
    #[arg(long, value_name = "HOST[/PATH]")]
    pub registry: Option<String>,
}

impl ChoiceArguments {
    /// The chosen cluster, ready to be used.
    ///
    /// # Errors
    /// When it can't be reached, or holds resources that aren't ours.
    pub fn cluster(&self, progress: &Progress) -> Result<Cluster> {
        match self.cluster {
            ClusterChoice::Embedded => Embedded::ensure_up(progress),
            ClusterChoice::Current => self.current(progress),
        }
    }

    fn current(&self, progress: &Progress) -> Result<Cluster> {
        let Some(registry) = self.registry.clone() else {
            bail!("--cluster current needs --registry: where both this machine and that cluster reach the images");
        };
        let (kubectl, helm) = tools(progress)?;
        let view = run::output(Command::new(&kubectl).args(["config", "view", "--minify", "--output=json"]))?;
        let (context, server) = target(&serde_json::from_str(&view)?)?;
        progress.say(format!("working on context {context}, server {server}"));
        let foreign = foreign_resources(&kubectl)?;
        if !foreign.is_empty() {
            bail!(
                "context {context} holds resources of {GROUP} that were not made here, and installing could change what they do:\n  {}\nremedy: choose another context, or leave --cluster out",
                foreign.join("\n  ")
            );
        }
        Ok(Cluster { state: None, kubeconfig: None, kubectl, helm, registry })
    }
}

/// The user's own kubectl and helm where there are both, else those of the embedded cluster.
fn tools(progress: &Progress) -> Result<(PathBuf, PathBuf)> {
    match (apt::find_command("kubectl"), apt::find_command("helm")) {
        (Some(kubectl), Some(helm)) => Ok((kubectl, helm)),
        _ => {
            let built = binaries::ensure(progress)?;
            Ok((built.kubernetes("kubectl"), built.tool("helm")))
        }
    }
}

/// Name of the context and address of its server.
fn target(view: &Value) -> Result<(String, String)> {
    let context = view["current-context"].as_str().filter(|context| !context.is_empty());
    let server = view["clusters"][0]["cluster"]["server"].as_str();
    match (context, server) {
        (Some(context), Some(server)) => Ok((context.to_owned(), server.to_owned())),
        _ => Err(anyhow!("kubectl has no current context; remedy: kubectl config use-context <name>")),
    }
}

fn foreign_resources(kubectl: &PathBuf) -> Result<Vec<String>> {
    let definitions = run::output(Command::new(kubectl).args(["get", "customresourcedefinitions", "--output=name"]))?;
    let mut foreign = Vec::new();
    for kind in definitions.lines().filter_map(|line| line.split_once('/').map(|(_, name)| name)) {
        if !kind.ends_with(&format!(".{GROUP}")) {
            continue;
        }
        let listed = run::output(Command::new(kubectl).args(["get", kind, "--all-namespaces", "--output=json"]))?;
        foreign.extend(not_ours(kind, &serde_json::from_str(&listed)?));
    }
    Ok(foreign)
}

fn not_ours(kind: &str, list: &Value) -> Vec<String> {
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| &item["metadata"])
        .filter(|metadata| metadata["labels"][OWN_LABEL] != "true")
        .map(|metadata| {
            let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
            format!("{kind} {}/{}", text("namespace"), text("name"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn resources_without_our_label_are_foreign() {
        let list = json!({"items": [
            {"metadata": {"name": "ours", "namespace": "demo", "labels": {OWN_LABEL: "true"}}},
            {"metadata": {"name": "site", "namespace": "production"}},
        ]});
        assert_eq!(not_ours("pipelines.timetracker.dev", &list), ["pipelines.timetracker.dev production/site"]);
    }

    #[test]
    fn a_context_without_a_server_is_refused() {
        assert!(target(&json!({"current-context": "", "clusters": []})).is_err());
        let view = json!({"current-context": "kind", "clusters": [{"cluster": {"server": "https://127.0.0.1:1"}}]});
        assert_eq!(target(&view).unwrap(), ("kind".to_owned(), "https://127.0.0.1:1".to_owned()));
    }

    #[test]
    fn a_current_cluster_without_a_registry_is_refused_before_anything_is_asked() {
        let arguments = ChoiceArguments { cluster: ClusterChoice::Current, registry: None };
        assert!(arguments.cluster(&Progress::new()).unwrap_err().to_string().contains("--registry"));
    }
}
