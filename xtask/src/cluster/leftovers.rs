//! What a stopped cluster may have left behind. `down` ends with this list, which must be empty.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::layout::{BRIDGE, CNI_NETWORK, Layout};
use super::{components, network, supervise};

/// Where libcni keeps results of every network.
const CNI_RESULTS: &str = "/var/lib/cni/results";
/// Where the kubelet links the logs of every pod.
const CONTAINER_LOGS: &str = "/var/log/containers";
/// Where the kubelet waits for device plugins, whatever its root folder is.
pub const DEVICE_PLUGIN_SOCKET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";

/// Everything of this cluster that is still there, one line each.
pub fn find(layout: &Layout, components: &[components::Component]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, processes) in supervise::marked(layout) {
        found.extend(processes.iter().map(|process| format!("process {} ({name})", process.pid)));
    }
    for pid in pod_processes() {
        found.push(format!("process {pid} of a pod"));
    }
    for port in components.iter().flat_map(|component| &component.ports) {
        if port.is_taken() {
            found.push(format!("port {port}"));
        }
    }
    if network::link_exists(BRIDGE) {
        found.push(format!("link {BRIDGE}"));
    }
    found.extend(network::tables().iter().map(|(family, name)| format!("nft table {family} {name}")));
    found.extend(mounts(layout).iter().map(|mount| format!("mount {}", mount.display())));
    found.extend(cni_results().iter().map(|file| format!("file {}", file.display())));
    found.extend(log_links(layout).iter().map(|link| format!("link {}", link.display())));
    found.extend(cgroups().iter().map(|cgroup| format!("control group {}", cgroup.display())));
    for folder in [layout.state().to_path_buf(), layout.runtime(), PathBuf::from(DEVICE_PLUGIN_SOCKET)] {
        if folder.exists() {
            found.push(format!("file or folder {}", folder.display()));
        }
    }
    found
}

/// Mount points below the cluster's folders, the deepest first.
pub fn mounts(layout: &Layout) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = mount_points(&table)
        .into_iter()
        .filter(|mount| mount.starts_with(layout.state()) || mount.starts_with(layout.runtime()))
        .collect();
    found.reverse();
    found
}

fn mount_points(table: &str) -> Vec<PathBuf> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        // The kernel writes blanks in paths as \040.
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .collect()
}

/// libcni's files about this cluster's pods.
pub fn cni_results() -> Vec<PathBuf> {
    let files = children(Path::new(CNI_RESULTS));
    let names: Vec<String> =
        files.iter().filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned())).collect();
    let own = own_results(&names);
    files
        .into_iter()
        .filter(|file| file.file_name().is_some_and(|name| own.contains(name.to_string_lossy().as_ref())))
        .collect()
}

/// Names of the network's results and of the loopback results of the same pods, which bear no network's name.
fn own_results(names: &[String]) -> BTreeSet<&str> {
    let prefix = format!("{CNI_NETWORK}-");
    let mut own = BTreeSet::new();
    for name in names {
        if let Some(pod) = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix("-eth0")) {
            own.insert(name.as_str());
            own.extend(names.iter().map(String::as_str).filter(|other| *other == format!("cni-loopback-{pod}-lo")));
        }
    }
    own
}

/// Links to logs below the state folder.
pub fn log_links(layout: &Layout) -> Vec<PathBuf> {
    children(Path::new(CONTAINER_LOGS))
        .into_iter()
        .filter(|link| fs::read_link(link).is_ok_and(|target| target.starts_with(layout.state())))
        .collect()
}

/// The kubelet's control groups, the deepest first: one tree in version 2, one for each controller in version 1.
pub fn cgroups() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut found = Vec::new();
    let tops = std::iter::once(root.join("kubepods"))
        .chain(children(root).into_iter().map(|controller| controller.join("kubepods")));
    // Controllers may be links to one another.
    let tops: BTreeSet<PathBuf> = tops.filter_map(|top| fs::canonicalize(top).ok()).collect();
    for top in tops {
        collect_folders(&top, &mut found);
    }
    found
}

fn collect_folders(folder: &Path, found: &mut Vec<PathBuf>) {
    for child in children(folder) {
        if child.is_dir() {
            collect_folders(&child, found);
        }
    }
    found.push(folder.to_path_buf());
}

/// Numbers of the processes in the kubelet's control groups.
pub fn pod_processes() -> BTreeSet<i32> {
    cgroups()
        .iter()
        .filter_map(|cgroup| fs::read_to_string(cgroup.join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_results_are_those_of_the_same_pods() {
        let names = ["timetracker-cluster-a1-eth0", "cni-loopback-a1-lo", "cni-loopback-b2-lo", "podman-b2-eth0"]
            .map(str::to_owned);
        let own = ["cni-loopback-a1-lo", "timetracker-cluster-a1-eth0"];
        assert_eq!(own_results(&names).into_iter().collect::<Vec<_>>(), own);
    }

    #[test]
    fn mount_points_with_blanks_are_read() {
        let table = "36 35 98:0 / /state/a\\040b rw - ext4 /dev/root rw\n37 36 0:5 / /run rw - tmpfs none rw\n";
        assert_eq!(mount_points(table), [PathBuf::from("/state/a b"), PathBuf::from("/run")]);
    }
}
