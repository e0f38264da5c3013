//! Stopping the cluster so that nothing of it remains.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::layout::Layout;
use super::{components, leftovers, network, supervise};
use crate::host::process::{self, Process};
use crate::host::progress::Progress;
use crate::host::{run, wait};

/// How long a component may take to end by itself. Short, because its data goes too.
const GRACE: Duration = Duration::from_secs(3);

/// Folders outside the cluster's own that its programs make; the deepest first.
const SHARED_FOLDERS: [&str; 9] = [
    "/var/log/containers",
    "/var/lib/cni/results",
    "/var/lib/cni/cache",
    "/var/lib/cni",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
    "/run/containerd/s",
    "/run/containerd",
    "/run/netns",
];

/// Stops and removes everything; returns what could not be removed.
///
/// # Errors
/// When this machine's processes can't be read.
pub fn run(layout: &Layout, all: &[components::Component], progress: &Progress) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    progress.step("stopping what starts pods", || {
        stop(
            layout,
            &[
                "kubelet",
                "kube-scheduler",
                "kube-controller-manager",
                "local-path-provisioner",
                "kube-proxy",
                "coredns",
            ],
        );
        Ok(())
    })?;
    let sockets = shim_sockets(layout);
    let namespaces = network_namespaces();
    progress.step("stopping pods", || {
        stop_pods(layout);
        Ok(())
    })?;
    progress.step("stopping the rest", || {
        stop(layout, &["containerd", "kube-apiserver", "registry-gateway", "registry", "etcd"]);
        for processes in supervise::marked(layout).into_values() {
            process::kill_all(&processes);
        }
        Ok(())
    })?;
    progress.step("removing mounts, network, state", || {
        for mount in leftovers::mounts(layout).into_iter().chain(namespaces) {
            // Lazily where something still looks into it; the list at the end tells whether it went.
            if !run::succeeds(Command::new("umount").arg(&mount)) {
                run::succeeds(Command::new("umount").arg("--lazy").arg(&mount));
            }
            if mount.is_file() {
                remove(&mount, &mut problems);
            }
        }
        problems.extend(network::remove(layout));
        for file in leftovers::cni_results().into_iter().chain(leftovers::log_links(layout)).chain(sockets) {
            remove(&file, &mut problems);
        }
        remove_cgroups();
        for path in [layout.state().to_path_buf(), layout.runtime(), PathBuf::from(leftovers::DEVICE_PLUGIN_SOCKET)] {
            remove(&path, &mut problems);
        }
        // Made by the cluster if nobody else uses them; a folder with something in it stays.
        for folder in SHARED_FOLDERS {
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    })?;
    problems.extend(leftovers::find(layout, all));
    Ok(problems)
}

/// Stops components by record and by mark, all at once; a component that doesn't end in time is killed.
fn stop(layout: &Layout, names: &[&str]) {
    let mut marked = supervise::marked(layout);
    let processes: BTreeSet<Process> = names
        .iter()
        .flat_map(|name| {
            let mut processes = marked.remove(*name).unwrap_or_default();
            processes.extend(supervise::running(layout, name));
            processes
        })
        .collect();
    for process in &processes {
        process.signal(rustix::process::Signal::TERM);
    }
    let all_gone = wait::until(GRACE, || Ok(processes.iter().all(|process| !process.is_alive())));
    if !all_gone.unwrap_or(false) {
        process::kill_all(&processes.into_iter().collect::<Vec<_>>());
    }
}

/// Kills what runs in pods, then their shims. Nothing is asked to end well: their data goes too.
fn stop_pods(layout: &Layout) {
    let shims = supervise::marked(layout).remove("shim").unwrap_or_default();
    let mut inside = process::descendants(&shims);
    // A pod whose shim was killed hangs on process 1, but stays in its control group.
    inside.extend(leftovers::pod_processes().into_iter().filter_map(Process::find));
    process::kill_all(&inside);
    process::kill_all(&shims);
}

/// Sockets of the containers' shims, which containerd keeps in one folder for all instances.
fn shim_sockets(layout: &Layout) -> Vec<PathBuf> {
    let tasks = layout.runtime().join("containerd/io.containerd.runtime.v2.task/k8s.io");
    let Ok(entries) = fs::read_dir(tasks) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("address")).ok())
        .filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// Mount points of the pods' network namespaces, from what libcni wrote down.
fn network_namespaces() -> Vec<PathBuf> {
    leftovers::cni_results()
        .iter()
        .filter_map(|file| serde_json::from_slice::<Value>(&fs::read(file).ok()?).ok())
        .flat_map(|result| namespaces_of(&result))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn namespaces_of(result: &Value) -> Vec<PathBuf> {
    let interfaces = result["result"]["interfaces"].as_array();
    interfaces
        .into_iter()
        .flatten()
        .filter_map(|interface| interface["sandbox"].as_str())
        .filter(|sandbox| !sandbox.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// The kernel lets go of a control group some moments after its last process.
fn remove_cgroups() {
    let gone = wait::until(Duration::from_secs(5), || {
        for cgroup in leftovers::cgroups() {
            let _ = fs::remove_dir(cgroup);
        }
        Ok(leftovers::cgroups().is_empty())
    });
    // What stays is in the list at the end.
    let _ = gone;
}

fn remove(path: &Path, problems: &mut Vec<String>) {
    let result = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = result
        && error.kind() != ErrorKind::NotFound
    {
        problems.push(format!("{}: {error}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn network_namespaces_are_those_of_the_pods_interfaces() {
        let result = json!({"result": {"interfaces": [
            {"name": "timetracker0", "mac": "x"},
            {"name": "eth0", "sandbox": "/var/run/netns/cni-1"},
        ]}});
        assert_eq!(namespaces_of(&result), [PathBuf::from("/var/run/netns/cni-1")]);
    }
}
