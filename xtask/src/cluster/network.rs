//! The bridge, the masking of pods' addresses, and the kernel settings that the cluster changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::layout::{BRIDGE, GATEWAY, Layout, NFT_TABLE, POD_NETWORK};
use crate::host::run;

/// Kernel settings that this, kubelet or kube-proxy change; their old values are kept and put back.
const SETTINGS: [&str; 7] = [
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Comment of the rules that let pods through a host whose firewall drops what it forwards.
const COMMENT: &str = "timetracker-cluster";

/// Makes bridge, table and settings as they should be; what is right already stays.
///
/// # Errors
/// When ip, nft or iptables fail.
pub fn ensure(layout: &Layout, repository: &Path) -> Result<()> {
    remember_settings(layout)?;
    set("net/ipv4/ip_forward", "1")?;
    if !link_exists(BRIDGE) {
        run::output(ip().args(["link", "add", BRIDGE, "type", "bridge"]))?;
    }
    run::output(ip().args(["address", "replace", &format!("{GATEWAY}/16"), "dev", BRIDGE]))?;
    run::output(ip().args(["link", "set", BRIDGE, "up"]))?;
    let rules = repository.join("dev/kubernetes/node/masquerade.nft");
    run::output(Command::new("nft").arg("-f").arg(rules))?;
    if drops_forwarded() {
        for rule in forward_rules() {
            if !run::succeeds(Command::new("iptables").args(["-C", "FORWARD"]).args(rule)) {
                run::output(Command::new("iptables").args(["-I", "FORWARD"]).args(rule))?;
            }
        }
    }
    Ok(())
}

/// Removes all that [`ensure`] made and puts the settings back.
pub fn remove(layout: &Layout) -> Vec<String> {
    let mut problems = Vec::new();
    let mut attempt = |what: Result<String>| {
        if let Err(error) = what {
            problems.push(format!("{error:#}"));
        }
    };
    if link_exists(BRIDGE) {
        attempt(run::output(ip().args(["link", "delete", BRIDGE])));
    }
    for (family, table) in tables() {
        attempt(run::output(Command::new("nft").args(["delete", "table", &family, &table])));
    }
    if drops_forwarded() {
        for rule in forward_rules() {
            while run::succeeds(Command::new("iptables").args(["-D", "FORWARD"]).args(rule)) {}
        }
    }
    for (name, value) in remembered(layout) {
        attempt(set(&name, &value).map(|()| String::new()));
    }
    problems
}

/// Families and names of the nft tables of this cluster that exist.
pub fn tables() -> Vec<(String, String)> {
    let listed = run::output(Command::new("nft").args(["list", "tables"])).unwrap_or_default();
    own_tables(&listed)
}

fn own_tables(listed: &str) -> Vec<(String, String)> {
    listed
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["table", family, name] if *name == NFT_TABLE || *name == "kube-proxy" => {
                    Some(((*family).to_owned(), (*name).to_owned()))
                }
                _ => None,
            }
        })
        .collect()
}

/// Whether a link of this name exists.
pub fn link_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// Packet size of the link to the world, so that pods send nothing that it can't carry.
pub fn uplink_mtu() -> u32 {
    let read = || -> Option<u32> {
        let routes = fs::read_to_string("/proc/net/route").ok()?;
        let link = default_link(&routes)?;
        fs::read_to_string(format!("/sys/class/net/{link}/mtu")).ok()?.trim().parse().ok()
    };
    read().unwrap_or(1500).min(1500)
}

fn default_link(routes: &str) -> Option<&str> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let link = fields.next()?;
        (fields.next()? == "00000000").then_some(link)
    })
}

fn ip() -> Command {
    Command::new("ip")
}

/// Docker and some firewalls drop every forwarded packet that they don't know.
fn drops_forwarded() -> bool {
    run::output(Command::new("iptables").args(["-S", "FORWARD"]))
        .is_ok_and(|rules| rules.lines().any(|line| line == "-P FORWARD DROP"))
}

fn forward_rules() -> [[&'static str; 8]; 2] {
    let rule = |direction| [direction, POD_NETWORK, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"];
    [rule("-s"), rule("-d")]
}

fn remember_settings(layout: &Layout) -> Result<()> {
    let file = layout.path("host-settings.json");
    if file.exists() {
        return Ok(());
    }
    let values: BTreeMap<&str, String> = SETTINGS
        .iter()
        .filter_map(|name| Some((*name, fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().to_owned())))
        .collect();
    fs::write(&file, serde_json::to_vec(&values)?).with_context(|| format!("writing {}", file.display()))
}

/// The settings as they were before the first start.
fn remembered(layout: &Layout) -> BTreeMap<String, String> {
    let content = fs::read(layout.path("host-settings.json")).unwrap_or_default();
    serde_json::from_slice(&content).unwrap_or_default()
}

fn set(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    let current = fs::read_to_string(&path).unwrap_or_default();
    if current.trim() == value {
        return Ok(());
    }
    fs::write(&path, value).with_context(|| format!("setting {} to {value}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_tables_are_taken() {
        let listed = "table ip nat\ntable ip kube-proxy\ntable ip6 kube-proxy\ntable inet firewalld\ntable ip timetracker-cluster\n";
        let own = [("ip", "kube-proxy"), ("ip6", "kube-proxy"), ("ip", "timetracker-cluster")];
        assert_eq!(own_tables(listed), own.map(|(family, name)| (family.to_owned(), name.to_owned())));
    }

    #[test]
    fn the_default_link_is_that_of_the_route_to_everything() {
        let routes = "Iface\tDestination\tGateway\nbr0\t0000580A\t00000000\neth0\t00000000\t010200C0\n";
        assert_eq!(default_link(routes), Some("eth0"));
    }
}
