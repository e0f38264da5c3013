//! The agent's binary against real processes, a real Postgres 16 and real Git.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod check;
mod check_hostile;
mod collect;
mod contract;
mod environment;
mod environment_images;
mod environment_tokens;
mod exec;
mod fetch;
mod inspect;
mod migrate;
mod rounds;
mod source;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod versions;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde::de::DeserializeOwned;
use tempfile::TempDir;

/// The agent's binary with a place for its report.
pub struct Agent {
    directory: TempDir,
    command: Command,
}

/// How it ended.
pub struct Finished {
    pub code: Option<i32>,
    pub report: String,
    pub stdout: String,
    pub stderr: String,
}

impl Agent {
    /// The agent with these arguments.
    pub fn new<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_timetracker-agent"));
        command.arg("--termination-message").arg(directory.path().join("message")).args(arguments);
        for name in ["DATABASE_URL", "SECRET_KEY", "SOURCE_TOKEN", "PGOPTIONS", "PGSSLROOTCERT", "FLASK_APP"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { directory, command }
    }

    /// Adds arguments.
    pub fn arguments<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn current_dir(mut self, directory: &std::path::Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Has it started by another program, which becomes it.
    pub fn through<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg(self.command.get_program()).args(self.command.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command = command;
        self
    }

    /// Throws its output away.
    pub fn discard_output(&mut self) {
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
    }

    /// Starts it and returns it with its pipes.
    pub fn start(mut self) -> Started {
        let child = self.command.spawn().unwrap();
        Started { child, message: self.directory.path().join("message"), _directory: self.directory }
    }

    /// Runs it to its end.
    pub fn run(self) -> Finished {
        self.start().finish()
    }
}

/// A running agent.
pub struct Started {
    pub child: Child,
    message: PathBuf,
    _directory: TempDir,
}

impl Started {
    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn finish(self) -> Finished {
        let Output { status, stdout, stderr } = self.child.wait_with_output().unwrap();
        Finished {
            code: status.code(),
            report: std::fs::read_to_string(&self.message).unwrap_or_default(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

impl Finished {
    /// The report, as the operator parses it.
    pub fn report<T: DeserializeOwned>(&self) -> T {
        assert!(self.report.len() <= 2_000, "{}", self.report);
        serde_json::from_str(&self.report).unwrap_or_else(|error| {
            panic!("{error} in {:?}\nstdout: {}\nstderr: {}", self.report, self.stdout, self.stderr)
        })
    }
}

#[test]
fn the_agent_installs_itself_as_an_executable() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("shared/bin");
    assert_eq!(Agent::new(["install", target.to_str().unwrap()]).run().code, Some(0));
    let installed = Command::new(target.join("timetracker-agent")).arg("--version").output().unwrap();
    assert!(installed.status.success());
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1, "nothing unfinished is left behind");
}
