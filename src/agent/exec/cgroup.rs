//! The memory peak of our own cgroup, of either version.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes, or nothing where the kernel does not tell (version 2 before Linux 5.19).
pub(super) fn memory_peak() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    candidates(Path::new("/sys/fs/cgroup"), &membership)
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
}

/// Where the peak may stand: below our cgroup's path and, as containers usually see it, at the mount's root.
fn candidates(mount: &Path, membership: &str) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            paths.push(mount.join(path).join("memory.peak"));
        } else if controllers.split(',').any(|controller| controller == "memory") {
            paths.push(mount.join("memory").join(path).join("memory.max_usage_in_bytes"));
        }
    }
    paths.push(mount.join("memory.peak"));
    paths.push(mount.join("memory/memory.max_usage_in_bytes"));
    paths
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_cgroups_are_looked_up() {
        let mount = Path::new("/sys/fs/cgroup");
        let second = candidates(mount, "0::/kubepods/pod1/abc\n");
        assert_eq!(second.first().unwrap(), Path::new("/sys/fs/cgroup/kubepods/pod1/abc/memory.peak"));
        let first = candidates(mount, "9:memory:/kubepods/pod1\n3:cpu,cpuacct:/x\n");
        assert_eq!(first.first().unwrap(), Path::new("/sys/fs/cgroup/memory/kubepods/pod1/memory.max_usage_in_bytes"));
        assert!(first.contains(&PathBuf::from("/sys/fs/cgroup/memory/memory.max_usage_in_bytes")));
    }
}
