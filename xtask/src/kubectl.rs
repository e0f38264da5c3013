//! Objects of a cluster through kubectl, as JSON.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster::choice::OWN_LABEL;
use crate::host::{run, wait};

/// Who applies: the owner of the fields in server-side apply.
const MANAGER: &str = "xtask";

/// kubectl for one cluster.
pub struct Kubectl<'a> {
    cluster: &'a Cluster,
}

impl<'a> Kubectl<'a> {
    /// For this cluster.
    pub fn new(cluster: &'a Cluster) -> Self {
        Self { cluster }
    }

    /// Makes the object be as given.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let mut command = self.cluster.kubectl();
        command.args(["apply", "--server-side", "--force-conflicts", "--field-manager", MANAGER, "--filename=-"]);
        run::with_input(&mut command, object.to_string().as_bytes())?;
        Ok(())
    }

    /// The object, or nothing when there is none.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        let mut command = self.cluster.kubectl();
        command.args(["get", kind, name, "--namespace", namespace, "--ignore-not-found", "--output=json"]);
        let text = run::output(&mut command)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&text).map(Some).with_context(|| format!("{kind} {namespace}/{name} as kubectl shows it"))
    }

    /// What the API server answers to a GET of this path.
    ///
    /// # Errors
    /// When that is no success.
    pub fn raw(&self, path: &str) -> Result<String> {
        run::output(self.cluster.kubectl().args(["get", "--raw", path]))
    }

    /// A namespace of this name, which is ours.
    ///
    /// # Errors
    /// When there is somebody else's.
    pub fn own_namespace(&self, name: &str) -> Result<()> {
        self.refuse_foreign(name)?;
        let labels = json!({OWN_LABEL: "true"});
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
    }

    /// The embedded cluster is ours as a whole; in another, a namespace of our name may be anybody's.
    fn refuse_foreign(&self, name: &str) -> Result<()> {
        match self.get("namespace", "", name)? {
            Some(existing) if self.cluster.gateway().is_none() && !is_ours(&existing) => bail!(
                "namespace {name} exists and was not made by this program, which would change or delete what is in it; remedy: choose another context, or rename that namespace. If it is left over from an earlier try: kubectl label namespace {name} {OWN_LABEL}=true"
            ),
            Some(_) | None => Ok(()),
        }
    }

    /// An empty namespace of this name, whatever was in it before.
    ///
    /// # Errors
    /// When there is somebody else's, or the old one does not go away.
    pub fn fresh_namespace(&self, name: &str) -> Result<()> {
        self.refuse_foreign(name)?;
        let mut delete = self.cluster.kubectl();
        delete.args(["delete", "namespace", name, "--ignore-not-found", "--wait=false"]);
        run::output(&mut delete)?;
        let gone = wait::until(Duration::from_secs(180), || Ok(self.get("namespace", "", name)?.is_none()))?;
        if !gone {
            bail!(
                "namespace {name} is still being deleted after 3 min; see kubectl get namespace {name} --output=yaml"
            );
        }
        self.own_namespace(name)
    }
}

fn is_ours(namespace: &Value) -> bool {
    namespace["metadata"]["labels"][OWN_LABEL] == "true"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_without_our_label_is_somebody_elses() {
        let labelled = |labels: Value| json!({"metadata": {"name": "timetracker-demo", "labels": labels}});
        assert!(is_ours(&labelled(json!({OWN_LABEL: "true"}))));
        assert!(!is_ours(&labelled(json!({OWN_LABEL: "false"}))));
        assert!(!is_ours(&labelled(json!({"team": "time"}))));
        assert!(!is_ours(&json!({"metadata": {"name": "timetracker-demo"}})));
    }
}
