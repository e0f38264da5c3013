//! The embedded cluster: a real single-node Kubernetes made of processes on this machine (docs: dev/kubernetes/README.md).

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::apt::{self, Need};
use crate::host::checks;
use crate::host::progress::{Progress, seconds};
use crate::paths;

pub mod binaries;
pub mod choice;
pub mod cli;
mod components;
mod config;
mod down;
pub mod layout;
mod leftovers;
mod network;
mod objects;
mod pki;
mod status;
mod supervise;

use binaries::Binaries;
use layout::Layout;

/// Commands and files that must be there, and the packages that bring them.
const NEEDS: [Need; 10] = [
    Need { file: "containerd", package: "containerd" },
    Need { file: "runc", package: "runc" },
    Need { file: "/usr/lib/cni/bridge", package: "containernetworking-plugins" },
    Need { file: "nft", package: "nftables" },
    Need { file: "iptables", package: "iptables" },
    Need { file: "conntrack", package: "conntrack" },
    Need { file: "openssl", package: "openssl" },
    Need { file: "ip", package: "iproute2" },
    Need { file: "mount", package: "mount" },
    Need { file: "setsid", package: "util-linux" },
];

/// The cluster that runs on this machine.
pub struct Embedded;

/// A running cluster and the tools for it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// State folder of the embedded cluster; nothing for one elsewhere.
    state: Option<PathBuf>,
    kubeconfig: Option<PathBuf>,
    kubectl: PathBuf,
    helm: PathBuf,
    registry: String,
}

impl Embedded {
    /// Makes the cluster run: builds, installs and starts what is missing, keeps what is there.
    ///
    /// # Errors
    /// When the machine isn't fit for it or a component doesn't come up; each says what to do.
    pub fn ensure_up(progress: &Progress) -> Result<Cluster> {
        let layout = Layout::new(paths::cluster_state());
        let repository = paths::repository();
        preflight(&layout, &repository, progress)?;
        let _lock = lock(&layout)?;
        let binaries = binaries::ensure(progress)?;
        prepare(&layout, &repository, progress)?;
        start(&layout, &binaries, progress)?;
        objects::apply(&layout, &binaries, &repository, progress)?;
        status::require_all_running(&layout, &binaries)?;
        progress.say(format!("cluster is up ({})", seconds(progress.elapsed())));
        Ok(cluster(&layout, &binaries))
    }
}

impl Cluster {
    /// The kubeconfig file; nothing means the user's own settings.
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// kubectl, set to this cluster.
    pub fn kubectl(&self) -> Command {
        self.tool(&self.kubectl)
    }

    /// helm, set to this cluster.
    pub fn helm(&self) -> Command {
        self.tool(&self.helm)
    }

    /// Registry, perhaps with a path, that images are pushed to from here: `127.0.0.1:5000` for the embedded cluster.
    pub fn registry_push_host(&self) -> &str {
        &self.registry
    }

    /// Address under which pods reach services of this machine; nothing for a cluster elsewhere.
    pub fn gateway(&self) -> Option<std::net::Ipv4Addr> {
        self.state.as_ref().map(|_| layout::GATEWAY)
    }

    fn tool(&self, program: &Path) -> Command {
        match &self.state {
            Some(state) => client(&Layout::new(state), program),
            None => Command::new(program),
        }
    }
}

/// kubectl or helm for the embedded cluster; what they keep goes into its state folder, so that it goes with the cluster.
fn client(layout: &Layout, program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("KUBECONFIG", layout.kubeconfig())
        .env("KUBECACHEDIR", layout.path("clients/kubectl"))
        .env("HELM_CACHE_HOME", layout.path("clients/helm-cache"))
        .env("HELM_CONFIG_HOME", layout.path("clients/helm-config"))
        .env("HELM_DATA_HOME", layout.path("clients/helm-data"));
    command
}

fn cluster(layout: &Layout, binaries: &Binaries) -> Cluster {
    Cluster {
        state: Some(layout.state().to_path_buf()),
        kubeconfig: Some(layout.kubeconfig()),
        kubectl: binaries.kubernetes("kubectl"),
        helm: binaries.tool("helm"),
        registry: components::registry_address().to_owned(),
    }
}

fn preflight(layout: &Layout, repository: &Path, progress: &Progress) -> Result<()> {
    progress.say("checking this machine");
    checks::root()?;
    checks::debian()?;
    checks::cgroups()?;
    layout.require_own()?;
    checks::disk(layout.state())?;
    checks::disk(&paths::cache())?;
    checks::go(&repository.join("dev/kubernetes"))?;
    apt::ensure(&NEEDS, progress)?;
    checks::addresses(layout::BRIDGE)
}

/// Two runs never change the cluster at the same time; the second waits. The folder around the state is locked, because the state folder
/// itself comes and goes and a lock file would be left behind.
fn lock(layout: &Layout) -> Result<File> {
    let folder = layout.state().parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let lock = File::open(folder)?;
    lock.lock()?;
    Ok(lock)
}

fn prepare(layout: &Layout, repository: &Path, progress: &Progress) -> Result<()> {
    progress.say("network, certificates, configuration");
    for name in ["processes", "log", "etcd", "registry", "volumes", "volume-plugins", "pod-logs"] {
        let folder = layout.path(name);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    fs::create_dir_all(layout.runtime())?;
    // Pods of other users must get through to their volumes; keys are guarded by modes of their own.
    fs::set_permissions(layout.state(), Permissions::from_mode(0o711))?;
    // etcd insists on this.
    fs::set_permissions(layout.path("etcd"), Permissions::from_mode(0o700))?;
    network::ensure(layout, repository)?;
    pki::ensure(layout)?;
    config::write(layout, repository, network::uplink_mtu())
}

/// Starts what doesn't run. What others wait for comes first; all that can come up at once does.
fn start(layout: &Layout, binaries: &Binaries, progress: &Progress) -> Result<()> {
    let all = components::all(layout, binaries);
    // Before anything is started: a machine that can't hold the whole cluster gets nothing of it.
    for component in &all {
        if supervise::running(layout, component.name).is_none() {
            supervise::check_ports(component)?;
        }
    }
    let mut started = Vec::new();
    let mut launch = |wanted: &[&str]| -> Result<()> {
        for component in all.iter().filter(|component| wanted.contains(&component.name)) {
            if supervise::ensure(layout, component)? == supervise::Outcome::Started {
                started.push(component.name);
            }
        }
        Ok(())
    };
    let await_health = |wanted: &[&str]| -> Result<()> {
        for component in all.iter().filter(|component| wanted.contains(&component.name)) {
            status::await_health(layout, binaries, component)?;
        }
        Ok(())
    };
    progress.step("etcd, registry, containerd", || {
        launch(&["etcd", "registry", "registry-gateway", "containerd"])?;
        await_health(&["etcd"])
    })?;
    progress.step("API server", || {
        launch(&["kube-apiserver"])?;
        await_health(&["registry", "registry-gateway"])?;
        objects::push_pause(binaries)?;
        await_health(&["kube-apiserver", "containerd"])
    })?;
    progress.step("controllers, scheduler, kubelet, proxy, DNS, volumes", || {
        let rest =
            ["kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns", "local-path-provisioner"];
        launch(&rest)?;
        await_health(&rest)
    })?;
    if started.is_empty() {
        progress.say("every component ran already");
    } else if started.len() < all.len() {
        progress.say(format!("started again: {}", started.join(", ")));
    }
    Ok(())
}
