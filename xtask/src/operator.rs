//! The operator in a cluster: its images in the registry, and the chart that installs it.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::host::progress::Progress;
use crate::host::{checks, run};
use crate::images::catalogue::{Catalogue, Name};
use crate::images::registry::Registry;
use crate::kubectl::Kubectl;
use crate::paths;

/// Namespace and release name that the documentation uses.
pub const NAMESPACE: &str = "timetracker-system";
/// Name of the Helm release, and so of the operator's Deployment.
pub const RELEASE: &str = "timetracker-operator";

/// The registry under whose name the embedded cluster's own is known in manifests.
const PUBLIC: &str = "ghcr.io";
/// Port of the embedded cluster's registry on the gateway.
const REGISTRY_PORT: u16 = 5000;
const TRUSTED_CA: &str = "timetracker-trusted-ca";
const TRUSTED_CA_KEY: &str = "ca-certificates.crt";
const HOST_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Images that were pushed for a cluster.
pub struct Images {
    catalogue: Catalogue,
    registry: Registry,
    pushed: Vec<(Name, String)>,
}

impl Images {
    /// Makes and pushes everything that stands in the registry before any version of the app does.
    ///
    /// # Errors
    /// When an image can't be made.
    pub fn push(cluster: &Cluster, progress: &Progress) -> Result<Self> {
        // The embedded cluster was made on such a machine; for another one this is the first to ask.
        checks::root()?;
        checks::debian()?;
        let catalogue = Catalogue::open(cluster.registry_push_host(), false)?;
        let registry = Registry::new()?;
        let names = catalogue.select(&[])?;
        catalogue.prepare(&names, progress)?;
        let mut pushed = Vec::new();
        for name in names {
            let target = catalogue.reference(&name);
            let image = catalogue.push(&name, &target, &registry, progress)?;
            progress.say(format!("  {} {}", if image.changed { "pushed" } else { "there  " }, name.about()));
            pushed.push((name, image.digest));
        }
        Ok(Self { catalogue, registry, pushed })
    }

    /// Pushes one version of the sample app (its name or tag) as `repository:tag`.
    ///
    /// # Errors
    /// When there is no such version, or the registry refuses.
    pub fn push_sample(&self, version: &str, repository: &str, tag: &str, progress: &Progress) -> Result<String> {
        let names = self.catalogue.select(&[format!("sample-{version}")])?;
        let Some(name) = names.first() else {
            bail!("no version {version} of the sample app");
        };
        self.catalogue.prepare(&names, progress)?;
        let target = self.catalogue.in_registry(&format!("{repository}:{tag}"));
        Ok(self.catalogue.push(name, &target, &self.registry, progress)?.digest)
    }

    /// Pushes all versions of the sample app to this repository, under their own tags.
    ///
    /// # Errors
    /// When one can't be made, or the registry refuses.
    pub fn push_samples(&self, repository: &str, progress: &Progress) -> Result<()> {
        let names = self.catalogue.select(&["samples".to_owned()])?;
        self.catalogue.prepare(&names, progress)?;
        for name in &names {
            if let Name::Sample(version) = name {
                let target = self.catalogue.in_registry(&format!("{repository}:{}", version.tag));
                self.catalogue.push(name, &target, &self.registry, progress)?;
            }
        }
        Ok(())
    }

    fn digest(&self, wanted: &Name) -> Result<&str> {
        let found = self.pushed.iter().find(|(name, _)| name == wanted);
        found.map(|(_, digest)| digest.as_str()).with_context(|| format!("image {} was not pushed", wanted.text()))
    }

    /// Values of the chart for this cluster.
    ///
    /// # Errors
    /// When an image is missing.
    pub fn values(&self, cluster: &Cluster) -> Result<Value> {
        let (operator, agent) = (self.digest(&Name::Operator)?, self.digest(&Name::Agent)?);
        let mut values = json!({
            // Digests, so that the same version built anew is rolled out.
            "image": {"digest": operator},
            "agentImage": {"digest": agent},
            "log": {"format": "text", "filter": "info,timetracker_operator=debug"},
            "trustedCA": {"configMap": TRUSTED_CA, "key": TRUSTED_CA_KEY},
            "artifacts": {"persistence": {"size": "1Gi"}},
        });
        match cluster.gateway() {
            Some(gateway) => {
                let endpoint = format!("{gateway}:{REGISTRY_PORT}");
                values["config"] = json!({"registry": {
                    // Python's own image is below those of environments.
                    "mirrors": {PUBLIC: endpoint, "docker.io": endpoint},
                    "plainHttp": [endpoint],
                }});
            }
            None => {
                for (key, name) in [("image", Name::Operator), ("agentImage", Name::Agent)] {
                    let reference = self.catalogue.reference(&name);
                    let (repository, _) = reference.rsplit_once(':').unwrap_or((&reference, ""));
                    values[key]["repository"] = json!(repository);
                }
            }
        }
        Ok(values)
    }

    /// Name under which the cluster's nodes and the operator know a repository that was pushed to.
    pub fn public_name(&self, cluster: &Cluster, repository: &str) -> String {
        let host = if cluster.gateway().is_some() { PUBLIC } else { cluster.registry_push_host() };
        format!("{host}/{repository}")
    }
}

/// Installs the operator by its chart, or brings it to this checkout's state; returns when it is ready.
///
/// # Errors
/// When Helm fails, or the operator does not become ready.
pub fn install(cluster: &Cluster, images: &Images) -> Result<()> {
    install_with(cluster, &images.values(cluster)?)
}

/// The same with these values of the chart.
///
/// # Errors
/// When Helm fails, or the operator does not become ready.
pub fn install_with(cluster: &Cluster, values: &Value) -> Result<()> {
    let kubectl = Kubectl::new(cluster);
    kubectl.own_namespace(NAMESPACE)?;
    let bundle = fs::read_to_string(HOST_BUNDLE).with_context(|| format!("reading {HOST_BUNDLE}"))?;
    kubectl.apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": TRUSTED_CA, "namespace": NAMESPACE},
        "data": {TRUSTED_CA_KEY: bundle},
    }))?;
    let mut helm = cluster.helm();
    helm.args(["upgrade", "--install", RELEASE]).arg(paths::repository().join("charts/timetracker-operator"));
    // Definitions that somebody applied without Helm become the chart's.
    helm.args(["--namespace", NAMESPACE, "--values=-", "--take-ownership", "--wait", "--timeout=5m"]);
    let installed = run::with_input(&mut helm, values.to_string().as_bytes());
    installed.map(drop).map_err(|error| error.context(diagnosis(cluster)))
}

/// Stops the operator, if one is installed, and says how many pods it had. Returns when none is left.
///
/// # Errors
/// When its pods do not end.
pub fn stop(cluster: &Cluster) -> Result<Option<i64>> {
    let Some(deployment) = Kubectl::new(cluster).get("deployment", NAMESPACE, RELEASE)? else {
        return Ok(None);
    };
    scale(cluster, 0)?;
    let pods = format!("--selector=app.kubernetes.io/name={RELEASE},app.kubernetes.io/component=operator");
    let mut ended = cluster.kubectl();
    ended.args(["wait", "pod", &pods, "--namespace", NAMESPACE, "--for=delete", "--timeout=2m"]);
    run::output(&mut ended)?;
    Ok(deployment["spec"]["replicas"].as_i64())
}

/// Lets so many pods of the operator start again.
///
/// # Errors
/// When the API server refuses.
pub fn start(cluster: &Cluster, replicas: i64) -> Result<()> {
    scale(cluster, replicas)
}

fn scale(cluster: &Cluster, replicas: i64) -> Result<()> {
    let (name, replicas) = (format!("deployment/{RELEASE}"), format!("--replicas={replicas}"));
    run::output(cluster.kubectl().args(["scale", &name, &replicas, "--namespace", NAMESPACE])).map(drop)
}

/// What the operator's namespace looks like and what the operator said last.
pub fn diagnosis(cluster: &Cluster) -> String {
    let shown = |command: &mut Command| run::output(command).unwrap_or_else(|error| format!("{error:#}"));
    let pods = shown(cluster.kubectl().args(["get", "pods", "--namespace", NAMESPACE, "--output=wide"]));
    let target = format!("deployment/{RELEASE}");
    let log = shown(cluster.kubectl().args(["logs", "--namespace", NAMESPACE, &target, "--tail=40"]));
    let events = shown(cluster.kubectl().args(["get", "events", "--namespace", NAMESPACE, "--sort-by=.lastTimestamp"]));
    let last: Vec<&str> = events.lines().rev().take(15).collect();
    let events = last.into_iter().rev().collect::<Vec<_>>().join("\n");
    format!("pods in {NAMESPACE}:\n{pods}\nthe operator's last words:\n{log}\nevents:\n{events}")
}
