//! Starting, recognising and asking the components.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::binaries::Binaries;
use super::components::{Component, Health};
use super::layout::{Layout, MARKER};
use crate::host::process::{self, Process};
use crate::host::{apt, run};

/// Logs longer than this are set aside when their component is started.
const LOG_LIMIT: u64 = 20 << 20;

/// What is known of a started component.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The process.
    pub process: Process,
    /// When it was started, seconds since 1970.
    pub since: u64,
    /// Hash of command and configuration.
    pub fingerprint: String,
}

impl Record {
    /// The record of a component, if it was ever started.
    pub fn load(layout: &Layout, name: &str) -> Option<Self> {
        serde_json::from_slice(&fs::read(file(layout, name)).ok()?).ok()
    }

    fn save(&self, layout: &Layout, name: &str) -> Result<()> {
        let path = file(layout, name);
        let fresh = path.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(self)?)?;
        fs::rename(&fresh, &path).with_context(|| format!("writing {}", path.display()))
    }
}

fn file(layout: &Layout, name: &str) -> std::path::PathBuf {
    layout.path("processes").join(format!("{name}.json"))
}

/// What [`ensure`] found or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It runs already, as it should.
    Kept,
    /// It was started.
    Started,
}

/// The running process of a component: the recorded one, or one that a run was killed too early to record.
pub fn running(layout: &Layout, name: &str) -> Option<Process> {
    let recorded = Record::load(layout, name).map(|record| record.process).filter(Process::is_alive);
    recorded.or_else(|| marked(layout).remove(name)?.into_iter().next())
}

/// All processes that carry this cluster's mark, by component. The shims of containers inherit containerd's mark and are listed as `shim`.
pub fn marked(layout: &Layout) -> BTreeMap<String, Vec<Process>> {
    let prefix = layout.marker("");
    let mut found: BTreeMap<String, Vec<Process>> = BTreeMap::new();
    for process in process::all() {
        let Some(name) = process.environment(MARKER).and_then(|mark| mark.strip_prefix(&prefix).map(str::to_owned))
        else {
            continue;
        };
        let name = if process.name().starts_with("containerd-shim") { "shim".to_owned() } else { name };
        found.entry(name).or_default().push(process);
    }
    found
}

/// Starts a component unless it runs with the same command and configuration; one with others is stopped first.
///
/// # Errors
/// When a port is taken by someone else or the process can't be started.
pub fn ensure(layout: &Layout, component: &Component) -> Result<Outcome> {
    let fingerprint = fingerprint(component)?;
    if let Some(process) = running(layout, component.name) {
        let same = Record::load(layout, component.name)
            .is_some_and(|record| record.process == process && record.fingerprint == fingerprint);
        if same {
            return Ok(Outcome::Kept);
        }
        process.stop(Duration::from_secs(10));
    }
    check_ports(component)?;
    let process = start(layout, component)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let record = Record { process, since, fingerprint };
    record.save(layout, component.name)?;
    Ok(Outcome::Started)
}

/// Refuses when a port of the component is taken, and names who has it.
///
/// # Errors
/// When a port is taken.
pub fn check_ports(component: &Component) -> Result<()> {
    for port in &component.ports {
        if !port.is_taken() {
            continue;
        }
        let holders: Vec<String> = port
            .holders()
            .iter()
            .map(|process| match process.environment(MARKER) {
                Some(mark) => format!("process {} of another embedded cluster ({mark})", process.pid),
                None => format!("process {} ({})", process.pid, process.name()),
            })
            .collect();
        let holder = if holders.is_empty() { "an unseen process".to_owned() } else { holders.join(", ") };
        bail!(
            "{} needs {port}, and {holder} listens there; remedy: stop it (see: ss -lntup), or use --cluster current",
            component.name
        );
    }
    Ok(())
}

fn start(layout: &Layout, component: &Component) -> Result<Process> {
    let log = open_log(&layout.log(component.name))?;
    // Its own session, so that a closed terminal doesn't take it along. setsid becomes the program, so the number stays.
    let mut command = Command::new("setsid");
    command
        .args(&component.command)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env(MARKER, layout.marker(component.name))
        .envs(component.environment.iter().map(|(name, value)| (*name, value)))
        .current_dir(layout.state())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let child = command.spawn().with_context(|| format!("starting {}", component.name))?;
    let Some(process) = i32::try_from(child.id()).ok().and_then(Process::find) else {
        bail!("{}", ended(layout, component.name));
    };
    Ok(process)
}

fn open_log(path: &Path) -> Result<File> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_LIMIT) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("opening {}", path.display()))
}

fn fingerprint(component: &Component) -> Result<String> {
    let mut hasher = Sha256::new();
    for word in &component.command {
        hasher.update(word.as_encoded_bytes());
        hasher.update([0]);
    }
    for file in &component.configuration {
        hasher.update(fs::read(file).with_context(|| format!("reading {}", file.display()))?);
    }
    Ok(hex::encode(hasher.finalize()))
}

/// Whether a component works right now.
pub fn is_healthy(layout: &Layout, binaries: &Binaries, health: &Health) -> bool {
    match health {
        Health::Http { address, path } => get(address, path).is_ok_and(|status| status == 200),
        Health::Api { port, path } => run::succeeds(
            super::client(layout, &binaries.kubernetes("kubectl"))
                .arg(format!("--server=https://127.0.0.1:{port}"))
                // The smaller servers sign their certificates themselves.
                .args(["--insecure-skip-tls-verify", "--request-timeout=5s", "get", "--raw", path]),
        ),
        Health::Tcp(address) => {
            address.parse().is_ok_and(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
        }
        Health::Containerd(socket) => {
            socket.exists()
                && apt::find_command("ctr").is_some_and(|ctr| {
                    run::succeeds(Command::new(ctr).arg("--address").arg(socket).args(["--timeout", "5s", "version"]))
                })
        }
        Health::Alive => true,
    }
}

/// Status code of a plain HTTP GET.
fn get(address: &str, path: &str) -> Result<u16> {
    let bound = Duration::from_secs(2);
    let address: SocketAddr = address.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, bound)?;
    stream.set_read_timeout(Some(bound))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 64];
    let read = stream.read(&mut head)?;
    let line = String::from_utf8_lossy(&head[..read]).into_owned();
    let code = line.split_whitespace().nth(1).context("no status line")?;
    Ok(code.parse()?)
}

/// Why a component that should run doesn't: its last words and where all of them are.
pub fn ended(layout: &Layout, name: &str) -> String {
    let log = layout.log(name);
    format!("{name} has ended; its last words:\n{}\nall of them: {}", tail(&log, 15), log.display())
}

/// The last lines of a file.
pub fn tail(file: &Path, lines: usize) -> String {
    let content = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let all: Vec<&str> = text.lines().collect();
    all.iter().skip(all.len().saturating_sub(lines)).map(|line| format!("  {line}\n")).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::ports::Port;
    use crate::host::wait;
    use std::ffi::OsString;
    use std::net::{Ipv4Addr, TcpListener};

    fn sleeper(seconds: &str) -> Component {
        Component {
            name: "sleeper",
            command: ["sleep", seconds].map(OsString::from).to_vec(),
            environment: Vec::new(),
            configuration: Vec::new(),
            ports: Vec::new(),
            health: Health::Alive,
            bound: Duration::from_secs(1),
        }
    }

    fn layout(folder: &Path) -> Layout {
        let layout = Layout::new(folder);
        for name in ["log", "processes"] {
            fs::create_dir_all(layout.path(name)).unwrap();
        }
        layout
    }

    #[test]
    fn a_running_component_is_kept_and_a_killed_or_changed_one_is_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        assert_eq!(ensure(&layout, &sleeper("61")).unwrap(), Outcome::Started);
        assert_eq!(ensure(&layout, &sleeper("61")).unwrap(), Outcome::Kept);
        let first = running(&layout, "sleeper").unwrap();
        assert_eq!(ensure(&layout, &sleeper("62")).unwrap(), Outcome::Started);
        assert!(!first.is_alive());
        assert!(running(&layout, "sleeper").unwrap().kill());
        assert_eq!(running(&layout, "sleeper"), None);
        assert_eq!(ensure(&layout, &sleeper("62")).unwrap(), Outcome::Started);
        assert!(running(&layout, "sleeper").unwrap().kill());
    }

    #[test]
    fn a_process_that_was_never_recorded_is_found_by_its_mark() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        let started = start(&layout, &sleeper("63")).unwrap();
        // The mark is there once the new program has taken over the process.
        wait::until(Duration::from_secs(5), || Ok(running(&layout, "sleeper").is_some())).unwrap();
        assert_eq!(running(&layout, "sleeper"), Some(started.clone()));
        assert!(started.kill());
    }

    #[test]
    fn a_taken_port_is_refused_with_the_name_of_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let component = Component { ports: vec![Port::tcp(Ipv4Addr::LOCALHOST, number)], ..sleeper("64") };
        let error = check_ports(&component).unwrap_err().to_string();
        assert!(error.contains(&format!("127.0.0.1:{number}")), "{error}");
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        fs::write(&file, "a\nb\nc\n").unwrap();
        assert_eq!(tail(&file, 2), "  b\n  c\n");
    }
}
