//! cargo-deny: licences, banned crates and sources (`deny.toml`).

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, bail};

use super::runner::Runner;
use crate::paths;
use crate::versions::Versions;

const NAME: &str = "licences, banned crates, sources";

/// cargo-deny on its way into the cache.
pub struct Deny {
    installed: JoinHandle<Result<PathBuf>>,
}

/// Builds it, unless it is in the cache, with the least of priorities.
pub fn install_in_background() -> Deny {
    Deny { installed: std::thread::spawn(install) }
}

impl Deny {
    /// Waits for the program and runs what needs no list of advisories from the network.
    pub fn check(self, runner: &mut Runner) {
        let program = self.installed.join().unwrap_or_else(|_| Err(anyhow!("the build of cargo-deny broke off")));
        match program {
            Ok(program) => {
                let mut command = Command::new(program);
                command.args(["--all-features", "check", "--hide-inclusion-graph", "--allow", "duplicate"]);
                runner.check(NAME, command.args(["bans", "licenses", "sources"]).current_dir(paths::repository()));
            }
            Err(error) => runner.fail(NAME, &format!("{error:#}")),
        }
    }
}

fn install() -> Result<PathBuf> {
    let version = Versions::load(&paths::repository())?.cargo_deny.version;
    let programs = paths::cache().join("programs");
    let folder = programs.join(format!("cargo-deny-{version}"));
    let program = folder.join("bin/cargo-deny");
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&programs).with_context(|| format!("creating {}", programs.display()))?;
    let (log, target) = (programs.join("cargo-deny.log"), programs.join("cargo-deny.target"));
    let output = fs::File::create(&log)?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new("nice")
        .args(["-n", "19"])
        .arg(cargo)
        .args(["install", "cargo-deny", "--locked", "--version", &version, "--root"])
        .arg(&folder)
        // Elsewhere than this repository's builds, which would wait for it.
        .env("CARGO_TARGET_DIR", &target)
        .current_dir(&programs)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .context("starting cargo install cargo-deny")?;
    if !status.success() {
        bail!("cargo install cargo-deny: {status}; its output: {}", log.display());
    }
    // Hundreds of MiB that nobody needs any more.
    let _ = fs::remove_dir_all(target);
    Ok(program)
}
