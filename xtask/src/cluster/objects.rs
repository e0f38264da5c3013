//! What the cluster holds from the start: namespaces, DNS Service, storage class, trusted authorities, sandbox image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use jiff::Timestamp;
use serde_json::Value;

use super::binaries::Binaries;
use super::layout::{Layout, NODE, PAUSE_IMAGE};
use super::supervise;
use crate::host::progress::Progress;
use crate::host::{run, wait};
use crate::images::layer::{Content, Layer};
use crate::images::oci::Image;
use crate::images::registry::Registry;

/// The host's trust store, which pods need where it holds more than the public authorities.
const HOST_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Namespace of the operator, made here because the ConfigMap below lives in it.
const NAMESPACE: &str = "timetracker-system";
/// ConfigMap with the host's trust store, key `ca.crt`.
const AUTHORITIES: &str = "timetracker-trusted-ca";

/// Puts the sandbox and volume helper image into the registry.
///
/// # Errors
/// When the registry refuses.
pub fn push_pause(binaries: &Binaries) -> Result<()> {
    let files = BTreeMap::from([
        ("pause".to_owned(), Content::File { source: binaries.pause(), mode: 0o755 }),
        ("volume".to_owned(), Content::Symlink(PathBuf::from("pause"))),
    ]);
    Image::scratch().layer(Layer::Files(files)).entrypoint(["/pause"]).push(&Registry::new()?, PAUSE_IMAGE)?;
    Ok(())
}

/// Applies the objects and waits for the node.
///
/// # Errors
/// When the API server refuses, or the node isn't ready in time.
pub fn apply(layout: &Layout, binaries: &Binaries, repository: &Path, progress: &Progress) -> Result<()> {
    let kubectl = || super::client(layout, &binaries.kubernetes("kubectl"));
    progress.step("namespaces, DNS, storage class, trusted authorities", || {
        let manifests = repository.join("dev/kubernetes/manifests");
        run::output(kubectl().args(["apply", "--server-side", "--force-conflicts", "-f"]).arg(manifests))?;
        if Path::new(HOST_AUTHORITIES).exists() {
            let source = format!("--from-file=ca.crt={HOST_AUTHORITIES}");
            let options = ["--dry-run=client", "--output=json"];
            let object = run::output(
                kubectl().args(["create", "configmap", AUTHORITIES, "--namespace", NAMESPACE, &source]).args(options),
            )?;
            // Server-side, because the bundle is larger than the annotation that the other way would put it in.
            run::with_input(
                kubectl().args(["apply", "--server-side", "--force-conflicts", "-f", "-"]),
                object.as_bytes(),
            )?;
        }
        Ok(())
    })?;
    progress.step("waiting for the node", || {
        let since = supervise::Record::load(layout, "kubelet").map_or(0, |record| record.since);
        let ready = wait::until(Duration::from_secs(90), || {
            let status = run::output(kubectl().args(["get", "node", NODE, "--ignore-not-found", "--output=json"]));
            Ok(status.is_ok_and(|status| is_ready_since(&status, since)))
        })?;
        if !ready {
            let log = layout.log("kubelet");
            bail!(
                "node {NODE} is not ready after 90 s; the kubelet's last words:\n{}\nall of them: {}",
                supervise::tail(&log, 15),
                log.display()
            );
        }
        Ok(())
    })
}

/// Whether the node is ready, as told by a kubelet that was started at `since` (seconds since 1970): after a restart the API server still
/// has the words of the one before.
fn is_ready_since(node: &str, since: u64) -> bool {
    let node: Value = serde_json::from_str(node).unwrap_or_default();
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        let heartbeat = condition["lastHeartbeatTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
        condition["type"] == "Ready"
            && condition["status"] == "True"
            && heartbeat.is_some_and(|time| u64::try_from(time.as_second()).is_ok_and(|time| time >= since))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_kubelet_said_does_not_make_the_node_ready() {
        let node = r#"{"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-02T03:04:05Z"}
        ]}}"#;
        let told = 1_767_323_045;
        assert!(is_ready_since(node, told));
        assert!(!is_ready_since(node, told + 1));
        assert!(!is_ready_since("", 0));
    }
}
