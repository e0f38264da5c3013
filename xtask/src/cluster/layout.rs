//! Names, addresses and places of the embedded cluster. Data files in dev/kubernetes repeat the addresses; a test compares them.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The bridge that pods hang on.
pub const BRIDGE: &str = "timetracker0";
/// The bridge's address: where pods reach what runs on the host.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// Addresses of pods.
pub const POD_NETWORK: &str = "10.88.0.0/16";
/// First address given to a pod; those below are for the host.
pub const FIRST_POD_ADDRESS: &str = "10.88.1.1";
/// Addresses of Services.
pub const SERVICE_NETWORK: &str = "10.43.0.0/16";
/// The API server's Service.
pub const API_SERVICE: &str = "10.43.0.1";
/// The DNS Service.
pub const DNS_SERVICE: &str = "10.43.0.10";
/// Name of the only node.
pub const NODE: &str = "timetracker-node";
/// Name of the CNI network, which prefixes what libcni keeps outside the state folder.
pub const CNI_NETWORK: &str = "timetracker-cluster";
/// The table that masks pods' addresses.
pub const NFT_TABLE: &str = "timetracker-cluster";
/// Where the local registry listens on the host and under which name nodes know it.
pub const REGISTRY: &str = "127.0.0.1:5000";
/// Sandbox and volume helper image.
pub const PAUSE_IMAGE: &str = "localhost:5000/timetracker/pause:dev";
/// Environment variable by which a process of the cluster is recognised.
pub const MARKER: &str = "TIMETRACKER_CLUSTER_COMPONENT";

/// Places below the state folder.
#[derive(Debug, Clone)]
pub struct Layout {
    state: PathBuf,
}

impl Layout {
    /// Below this folder.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self { state: state.into() }
    }

    /// The state folder itself.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Refuses a state folder that holds somebody else's files, because `down` removes the whole folder.
    ///
    /// # Errors
    /// When the folder has content and was not made by a cluster.
    pub fn require_own(&self) -> Result<()> {
        let empty = fs::read_dir(&self.state).map_or(true, |mut entries| entries.next().is_none());
        if empty || self.path("processes").is_dir() {
            return Ok(());
        }
        bail!(
            "{} holds files that are not a cluster's; remedy: set TIMETRACKER_CLUSTER_DIR to a folder of its own",
            self.state.display()
        )
    }

    /// Something directly below the state folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// Keys and certificates.
    pub fn pki(&self, file: &str) -> PathBuf {
        self.state.join("pki").join(file)
    }

    /// Configuration files, all generated.
    pub fn config(&self, file: &str) -> PathBuf {
        self.state.join("config").join(file)
    }

    /// A component's log.
    pub fn log(&self, component: &str) -> PathBuf {
        self.state.join("log").join(format!("{component}.log"))
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// Sockets and other things that a reboot removes. Outside the state folder, because a socket's path has at most 107 bytes.
    pub fn runtime(&self) -> PathBuf {
        PathBuf::from("/run/timetracker-cluster")
    }

    /// containerd's socket.
    pub fn containerd_socket(&self) -> PathBuf {
        self.runtime().join("containerd.sock")
    }

    /// Value of [`MARKER`] for a component.
    pub fn marker(&self, component: &str) -> String {
        format!("{}:{component}", self.state.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn a_folder_with_other_content_is_never_taken_for_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        assert!(layout.require_own().is_ok());
        assert!(Layout::new(folder.path().join("absent")).require_own().is_ok());
        fs::write(layout.path("letter"), "").unwrap();
        assert!(layout.require_own().is_err());
        fs::create_dir(layout.path("processes")).unwrap();
        assert!(layout.require_own().is_ok());
    }

    #[test]
    fn data_files_repeat_the_same_addresses() {
        let folder = paths::repository().join("dev/kubernetes");
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let dns = read("manifests/dns.yaml");
        assert!(dns.contains(&format!("clusterIP: {DNS_SERVICE}\n")));
        assert!(dns.contains(&format!("addresses: [{GATEWAY}]")));
        assert!(read("node/Corefile").contains(&format!("bind {GATEWAY}\n")));
        assert!(
            read("node/masquerade.nft")
                .contains(&format!("ip saddr {POD_NETWORK} ip daddr != {POD_NETWORK} masquerade"))
        );
        assert!(read("node/masquerade.nft").contains(&format!("table ip {NFT_TABLE} {{")));
        assert!(read("node/volume-helper.yaml").contains(&format!("image: {PAUSE_IMAGE}\n")));
    }
}
