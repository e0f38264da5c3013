//! Configuration files of the components, built from values. JSON where YAML is expected, which is a part of YAML.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::layout::{
    BRIDGE, CNI_NETWORK, DNS_SERVICE, FIRST_POD_ADDRESS, GATEWAY, Layout, NODE, PAUSE_IMAGE, POD_NETWORK, REGISTRY,
};

/// Registries whose images the local one stands in for. `_default` covers every other name, so that nothing is ever pulled from outside.
pub const MIRRORED: [&str; 6] =
    ["docker.io", "ghcr.io", "localhost:5000", "127.0.0.1:5000", "10.88.0.1:5000", "_default"];

/// Users of the API server that get a kubeconfig: file name and the name of their certificate.
pub const USERS: [(&str, &str); 5] = [
    ("kubeconfig", "admin"),
    ("config/controller-manager.kubeconfig", "controller-manager"),
    ("config/scheduler.kubeconfig", "scheduler"),
    ("config/node.kubeconfig", "node"),
    ("config/proxy.kubeconfig", "proxy"),
];

/// Writes every configuration file.
///
/// # Errors
/// When a certificate can't be read or a file can't be written.
pub fn write(layout: &Layout, repository: &Path, mtu: u32) -> Result<()> {
    for (file, user) in USERS {
        write_json(&layout.path(file), &kubeconfig(layout, user)?)?;
    }
    write_json(&layout.config("kubelet.json"), &kubelet(layout))?;
    write_json(&layout.config("proxy.json"), &proxy(layout))?;
    write_json(&layout.config("registry.json"), &registry(layout, Ipv4Addr::LOCALHOST))?;
    write_json(&layout.config("registry-gateway.json"), &registry(layout, GATEWAY))?;
    write_json(&layout.config("volumes.json"), &volumes(layout))?;
    write_json(&layout.path("cni").join("10-bridge.conflist"), &network(layout, mtu))?;
    write_file(&layout.config("containerd.toml"), toml::to_string(&containerd(layout))?.as_bytes())?;
    write_file(&layout.config("resolv.conf"), format!("nameserver {GATEWAY}\n").as_bytes())?;
    for host in MIRRORED {
        let file = layout.path("certs.d").join(host).join("hosts.toml");
        write_file(&file, toml::to_string(&mirror())?.as_bytes())?;
    }
    for file in ["Corefile", "volume-helper.yaml"] {
        let source = repository.join("dev/kubernetes/node").join(file);
        let content = fs::read(&source).with_context(|| format!("reading {}", source.display()))?;
        write_file(&layout.config(file), &content)?;
    }
    Ok(())
}

fn kubeconfig(layout: &Layout, user: &str) -> Result<Value> {
    let encoded = |file: String| -> Result<String> {
        let path = layout.pki(&file);
        let data = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(STANDARD.encode(data))
    };
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "timetracker", "cluster": {
            "server": "https://127.0.0.1:6443",
            "certificate-authority-data": encoded("ca.crt".to_owned())?,
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": encoded(format!("{user}.crt"))?,
            "client-key-data": encoded(format!("{user}.key"))?,
        }}],
        "contexts": [{"name": "timetracker-embedded", "context": {"cluster": "timetracker", "user": user}}],
        "current-context": "timetracker-embedded",
    }))
}

fn kubelet(layout: &Layout) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout.pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        // Hosts with version 1 of the control groups are served too.
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        // The host's own file may point to a resolver on the loopback, which no pod reaches.
        "resolvConf": layout.config("resolv.conf"),
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd_socket().display()),
        "podLogsDir": layout.path("pod-logs"),
        "volumePluginDir": layout.path("volume-plugins"),
        // kube-proxy runs on nftables; the kubelet's iptables chains would only be left behind.
        "makeIPTablesUtilChains": false,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi"},
        "serializeImagePulls": false,
        "maxPods": 200,
        // Pods run anyone's code: one that forks without end stands still alone.
        "podPidsLimit": 1024,
        "tlsCertFile": layout.pki("node.crt"),
        "tlsPrivateKeyFile": layout.pki("node.key"),
    })
}

fn proxy(layout: &Layout) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        // Pods of one bridge answer each other past the host's address translation unless the bridge is filtered, which not every
        // kernel can; so whatever goes through a Service comes from the host's address.
        "nftables": {"masqueradeAll": true},
        "clusterCIDR": POD_NETWORK,
        "clientConnection": {"kubeconfig": layout.config("proxy.kubeconfig")},
        "hostnameOverride": NODE,
        // Zero leaves the host's limits and timeouts as they are.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}

fn registry(layout: &Layout, address: Ipv4Addr) -> Value {
    json!({
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": true}},
        "storage": {
            "filesystem": {"rootdirectory": layout.path("registry")},
            "delete": {"enabled": true},
            "maintenance": {"uploadpurging": {"enabled": false}},
        },
        // Both addresses serve one folder, so they must accept each other's uploads.
        "http": {"addr": format!("{address}:5000"), "secret": "uploads-of-the-embedded-cluster"},
    })
}

fn volumes(layout: &Layout) -> Value {
    json!({
        "nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [layout.path("volumes")]}],
        "setupCommand": "/volume",
        "teardownCommand": "/volume",
    })
}

fn network(layout: &Layout, mtu: u32) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": CNI_NETWORK,
        "plugins": [{
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "hairpinMode": true,
            "mtu": mtu,
            "ipam": {
                "type": "host-local",
                "dataDir": layout.path("cni-addresses"),
                "ranges": [[{"subnet": POD_NETWORK, "rangeStart": FIRST_POD_ADDRESS, "gateway": GATEWAY}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}

fn containerd(layout: &Layout) -> Value {
    json!({
        "version": 2,
        "root": layout.path("containerd"),
        "state": layout.runtime().join("containerd"),
        // It would make a folder in /opt.
        "disabled_plugins": ["io.containerd.internal.v1.opt"],
        "grpc": {"address": layout.containerd_socket()},
        "plugins": {"io.containerd.grpc.v1.cri": {
            // Without CAP_SYS_RESOURCE a pod's score can't be lowered below that of containerd.
            "restrict_oom_score_adj": true,
            "sandbox_image": PAUSE_IMAGE,
            "cni": {"bin_dir": "/usr/lib/cni", "conf_dir": layout.path("cni")},
            "registry": {"config_path": layout.path("certs.d")},
            "containerd": {
                "default_runtime_name": "runc",
                "runtimes": {"runc": {
                    "runtime_type": "io.containerd.runc.v2",
                    "options": {"Root": layout.runtime().join("runc")},
                }},
            },
        }},
    })
}

fn mirror() -> Value {
    let server = format!("http://{REGISTRY}");
    json!({"server": server, "host": {(server.as_str()): {"capabilities": ["pull", "resolve"]}}})
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_file(path, serde_json::to_string_pretty(value)?.as_bytes())
}

/// Writes a file, readable by root only, in one step: a component that starts meanwhile sees the old or the new one whole.
fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        fs::write(&fresh, content)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_written_in_full_once_there_are_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        fs::create_dir_all(layout.path("pki")).unwrap();
        for name in ["ca", "admin", "controller-manager", "scheduler", "node", "proxy"] {
            for kind in ["crt", "key"] {
                fs::write(layout.pki(&format!("{name}.{kind}")), name).unwrap();
            }
        }
        write(&layout, &crate::paths::repository(), 1400).unwrap();
        let kubeconfig: Value = serde_json::from_slice(&fs::read(layout.kubeconfig()).unwrap()).unwrap();
        assert_eq!(kubeconfig["users"][0]["user"]["client-key-data"], json!(STANDARD.encode("admin")));
        let mode = fs::metadata(layout.kubeconfig()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let network: Value = serde_json::from_slice(&fs::read(layout.path("cni/10-bridge.conflist")).unwrap()).unwrap();
        assert_eq!(network["plugins"][0]["mtu"], json!(1400));
    }

    #[test]
    fn containerd_reads_its_settings_as_toml() {
        let layout = Layout::new("/state");
        let text = toml::to_string(&containerd(&layout)).unwrap();
        let read: toml::Table = toml::from_str(&text).unwrap();
        let cri = &read["plugins"]["io.containerd.grpc.v1.cri"];
        assert_eq!(cri["sandbox_image"].as_str(), Some(PAUSE_IMAGE));
        assert_eq!(cri["restrict_oom_score_adj"].as_bool(), Some(true));
        assert_eq!(cri["registry"]["config_path"].as_str(), Some("/state/certs.d"));
    }

    #[test]
    fn every_mirror_leads_to_the_local_registry_and_nowhere_else() {
        let text = toml::to_string(&mirror()).unwrap();
        let read: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(read["server"].as_str(), Some("http://127.0.0.1:5000"));
        assert!(read["host"]["http://127.0.0.1:5000"]["capabilities"].as_array().is_some());
    }
}
