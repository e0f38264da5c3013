//! What the cluster holds from the start: namespaces, DNS Service, storage class, trusted authorities, sandbox image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

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
        let condition = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        let ready = wait::until(Duration::from_secs(90), || {
            let status =
                run::output(kubectl().args(["get", "node", NODE, "--ignore-not-found", "--output", condition]));
            Ok(status.is_ok_and(|status| status == "True"))
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
