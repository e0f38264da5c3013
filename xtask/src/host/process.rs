//! Processes of this machine, named so that a reused number is never taken for the old process.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::wait;

/// A process of one boot: number and start time together are never given twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// Process number.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks between boot and start.
    pub started: u64,
    /// `/proc/sys/kernel/random/boot_id` of that boot.
    pub boot: String,
}

impl Process {
    /// The process that has this number now; a zombie counts as gone.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        (!stat.zombie).then(|| Self { pid, started: stat.started, boot: boot_id() })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Self::find(self.pid).as_ref() == Some(self)
    }

    /// Name of the program as the kernel has it, at most 15 characters.
    pub fn name(&self) -> String {
        read_trimmed(format!("/proc/{}/comm", self.pid))
    }

    /// Asks it to end, insists after the grace period, and says whether it is gone.
    pub fn stop(&self, grace: Duration) -> bool {
        self.signal(Signal::TERM);
        let gone = || wait::until(grace, || Ok(!self.is_alive())).unwrap_or(false);
        if gone() {
            return true;
        }
        self.kill()
    }

    /// Ends it at once and says whether it is gone.
    pub fn kill(&self) -> bool {
        self.signal(Signal::KILL);
        wait::until(Duration::from_secs(5), || Ok(!self.is_alive())).unwrap_or(false)
    }

    /// Sends a signal if it is still the same process.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // It may have ended since; that is what was wanted.
            let _ = kill_process(pid, signal);
        }
    }

    /// Value of a variable in the environment that it was started with.
    pub fn environment(&self, name: &str) -> Option<String> {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
        environment.split(|byte| *byte == 0).find_map(|entry| {
            let (key, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
            (key == name).then(|| value.to_owned())
        })
    }
}

/// Every process that this one can see.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(Process::find).collect()
}

/// The given processes' children, their children, and so on; without the given ones.
pub fn descendants(roots: &[Process]) -> Vec<Process> {
    let parents: Vec<(i32, i32)> =
        all().iter().filter_map(|process| Some((process.pid, Stat::read(process.pid)?.parent))).collect();
    let mut family: BTreeSet<i32> = roots.iter().map(|process| process.pid).collect();
    loop {
        let before = family.len();
        for (pid, parent) in &parents {
            if family.contains(parent) {
                family.insert(*pid);
            }
        }
        if family.len() == before {
            break;
        }
    }
    family.into_iter().filter(|pid| !roots.iter().any(|root| root.pid == *pid)).filter_map(Process::find).collect()
}

/// Sends KILL to all and says which of them are still there after a while.
pub fn kill_all(processes: &[Process]) -> Vec<Process> {
    for process in processes {
        process.signal(Signal::KILL);
    }
    let remaining = || processes.iter().filter(|process| process.is_alive()).cloned().collect::<Vec<_>>();
    let gone: Result<bool> = wait::until(Duration::from_secs(10), || Ok(remaining().is_empty()));
    if gone.unwrap_or(false) { Vec::new() } else { remaining() }
}

struct Stat {
    parent: i32,
    started: u64,
    zombie: bool,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The program's name stands in parentheses and may itself hold spaces and parentheses, so counting starts after the last one.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Self {
            zombie: matches!(*fields.first()?, "Z" | "X"),
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

fn boot_id() -> String {
    read_trimmed("/proc/sys/kernel/random/boot_id")
}

fn read_trimmed(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.started, stat.zombie), (7, 98765, false));
    }

    #[test]
    fn a_stopped_child_is_gone_though_nobody_has_waited_for_it() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(process.is_alive());
        assert!(process.stop(Duration::from_secs(5)));
        assert!(!process.is_alive());
        child.wait().unwrap();
    }

    #[test]
    fn another_start_time_or_boot_is_another_process() {
        let own = Process::find(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.is_alive());
        let reused = Process { started: own.started + 1, ..own.clone() };
        assert!(!reused.is_alive());
        let rebooted = Process { boot: "another".to_owned(), ..own };
        assert!(!rebooted.is_alive());
    }
}
