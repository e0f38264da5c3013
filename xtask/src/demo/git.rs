//! The sample app's repository behind a git server on the address that pods reach.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host::run;
use crate::paths;

/// Name of the repository on the server.
const REPOSITORY: &str = "timetracker";

/// A running server with one repository; both are gone with the value.
pub struct Server {
    process: Child,
    /// The server ends with it.
    _lifeline: Option<ChildStdin>,
    folder: PathBuf,
    address: String,
}

impl Server {
    /// Makes the repository and serves it on a free port of this address.
    ///
    /// # Errors
    /// When git or Python are missing.
    pub fn start(gateway: Ipv4Addr) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("timetracker-git-{}", std::process::id()));
        let repository = paths::repository();
        let mut versions = Command::new("python3");
        versions
            .arg(repository.join("dev/timetracker/versions.py"))
            .args(["--git", "--out"])
            .arg(folder.join(REPOSITORY));
        run::output(versions.env("PYTHONDONTWRITEBYTECODE", "1"))?;
        let mut process = Command::new("python3")
            .arg(repository.join("dev/git-server.py"))
            .arg("--root")
            .arg(&folder)
            .arg("--listen")
            .arg(format!("{gateway}:0"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting dev/git-server.py")?;
        let lifeline = process.stdin.take();
        let mut address = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut address)?;
        }
        let server = Self { process, _lifeline: lifeline, folder, address: address.trim().to_owned() };
        if server.address.is_empty() {
            bail!("dev/git-server.py ended at once");
        }
        Ok(server)
    }

    /// Where it is cloned from.
    pub fn clone_url(&self) -> String {
        format!("http://{}/{REPOSITORY}", self.address)
    }

    /// The commit that a tag or branch names.
    ///
    /// # Errors
    /// When there is none.
    pub fn commit(&self, revision: &str) -> Result<String> {
        let mut git = Command::new("git");
        git.arg("-C").arg(self.folder.join(REPOSITORY)).args(["rev-parse", &format!("{revision}^{{commit}}")]);
        Ok(run::output(&mut git)?.trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
