//! What the machine must be before a cluster can stand on it. Every refusal names its remedy.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use serde_json::Value;

use super::{apt, run};

/// Least free space for state, images and volumes.
pub const DISK_GIB: u64 = 15;

/// Go release that dev/kubernetes asks for.
const GO: (u32, u32) = (1, 26);

/// Refuses to go on as anyone but root.
pub fn root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "images are made from packages, and the embedded cluster starts containers and changes the network, so this needs root; remedy: run the same command with sudo -E"
    )
}

/// Refuses systems without Debian's packages.
pub fn debian() -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if apt::is_available() && is_debian_like(&release) {
        return Ok(());
    }
    bail!(
        "images, containerd and its companions are made from Debian packages and this is not Debian 12 or alike; remedy: use a Debian 12 machine"
    )
}

fn is_debian_like(release: &str) -> bool {
    let values: BTreeSet<&str> = release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches('"').split_whitespace())
        .collect();
    values.contains("debian") || values.contains("ubuntu")
}

/// Refuses when the file system of a folder, which need not exist yet, has too little room.
pub fn disk(folder: &Path) -> Result<()> {
    let Some(existing) = folder.ancestors().find(|ancestor| ancestor.exists()) else {
        return Ok(());
    };
    let statistics = rustix::fs::statvfs(existing)?;
    let free = statistics.f_bavail.saturating_mul(statistics.f_frsize) / (1 << 30);
    if free >= DISK_GIB {
        return Ok(());
    }
    bail!(
        "{} has {free} GiB free and the cluster needs {DISK_GIB}; remedy: free some, or choose another disk by TIMETRACKER_CLUSTER_DIR and TIMETRACKER_CACHE",
        existing.display()
    )
}

/// Refuses when the kernel's control groups can't limit pods.
pub fn cgroups() -> Result<()> {
    let needed = ["cpu", "memory", "pids", "cpuset"];
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers");
    let missing: Vec<&str> = match fs::read_to_string(unified) {
        Ok(available) => {
            let available: Vec<&str> = available.split_whitespace().collect();
            needed.into_iter().filter(|name| !available.contains(name)).collect()
        }
        Err(_) => needed
            .into_iter()
            .filter(|name| !Path::new("/sys/fs/cgroup").join(name).join("cgroup.procs").exists())
            .collect(),
    };
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "the control groups at /sys/fs/cgroup lack: {}; remedy: mount them (systemd does), and in a container run it privileged with the host's control groups",
        missing.join(", ")
    )
}

/// Refuses when there is no Go that can build the cluster's programs.
pub fn go(module: &Path) -> Result<()> {
    let remedy = format!("remedy: install Go {}.{} or newer from https://go.dev/dl/ and put it on PATH", GO.0, GO.1);
    if apt::find_command("go").is_none() {
        bail!("the cluster's programs are built from source once and there is no go command; {remedy}");
    }
    // Asked inside the module, because a newer Go may be fetched by the older one that is installed.
    let version = run::output(Command::new("go").args(["env", "GOVERSION"]).current_dir(module))
        .map_err(|error| error.context(remedy.clone()))?;
    match parse_go(version.trim()) {
        Some(found) if found >= GO => Ok(()),
        _ => bail!("Go is {}; {remedy}", version.trim()),
    }
}

fn parse_go(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix("go")?.split(['.', '-', ' ']);
    let minor = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    Some((numbers.next()?.parse().ok()?, minor(numbers.next()?)?))
}

/// Refuses when another link already has addresses of the cluster's networks.
pub fn addresses(own_link: &str) -> Result<()> {
    let links: Value = serde_json::from_str(&run::output(Command::new("ip").args(["-json", "-4", "address"]))?)?;
    for (link, address) in used_addresses(&links) {
        if link != own_link && (address.starts_with("10.88.") || address.starts_with("10.43.")) {
            bail!(
                "{link} has {address}, and the cluster uses 10.88.0.0/16 and 10.43.0.0/16; remedy: ip link delete {link}, or stop what made it (podman and k3s use these networks)"
            );
        }
    }
    Ok(())
}

fn used_addresses(links: &Value) -> Vec<(String, String)> {
    let mut used = Vec::new();
    for link in links.as_array().into_iter().flatten() {
        let name = link["ifname"].as_str().unwrap_or_default();
        for address in link["addr_info"].as_array().into_iter().flatten() {
            used.push((name.to_owned(), address["local"].as_str().unwrap_or_default().to_owned()));
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn debian_and_its_children_are_told_from_others() {
        assert!(is_debian_like("PRETTY_NAME=\"Debian\"\nID=debian\n"));
        assert!(is_debian_like("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian_like("ID=fedora\n"));
    }

    #[test]
    fn go_releases_are_compared_by_number() {
        assert_eq!(parse_go("go1.26.8"), Some((1, 26)));
        assert_eq!(parse_go("go1.27rc1"), Some((1, 27)));
        assert!(parse_go("go1.9").unwrap() < GO);
        assert_eq!(parse_go("devel"), None);
    }

    #[test]
    fn addresses_are_listed_with_their_links() {
        let links = json!([{"ifname": "podman0", "addr_info": [{"local": "10.88.0.1", "prefixlen": 16}]}, {"ifname": "down0", "addr_info": []}]);
        assert_eq!(used_addresses(&links), [("podman0".to_owned(), "10.88.0.1".to_owned())]);
    }

    #[test]
    fn a_folder_that_does_not_exist_is_judged_by_its_parent() {
        assert!(disk(Path::new("/proc/none/of/these")).is_err());
    }
}
