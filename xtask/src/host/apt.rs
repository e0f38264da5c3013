//! Programs from the distribution's packages.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::progress::Progress;
use super::run;

/// A file that must be there and the Debian package that brings it.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Name of a command, or an absolute path.
    pub file: &'static str,
    /// Package.
    pub package: &'static str,
}

/// Where a command is; system folders count though they may not be in a user's search path.
pub fn find_command(name: &str) -> Option<PathBuf> {
    if name.starts_with('/') {
        return Some(PathBuf::from(name)).filter(|path| path.exists());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Packages, each once, of which a file is missing.
pub fn missing(needs: &[Need]) -> Vec<&'static str> {
    let mut packages: Vec<&str> =
        needs.iter().filter(|need| find_command(need.file).is_none()).map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs what is missing.
///
/// # Errors
/// When `apt-get` fails, with its last words.
pub fn ensure(needs: &[Need], progress: &Progress) -> Result<()> {
    let packages = missing(needs);
    if packages.is_empty() {
        return Ok(());
    }
    progress.step(format!("installing packages: {}", packages.join(" ")), || {
        // Fresh machines have no package lists; machines with lists are spared the update.
        if install(&packages).is_err() {
            run::output(apt_get().arg("update")).context("refreshing the package lists")?;
            install(&packages).with_context(|| format!("remedy: apt-get install {}", packages.join(" ")))?;
        }
        Ok(())
    })?;
    match missing(needs).as_slice() {
        [] => Ok(()),
        still => bail!("installed, but files of these packages are still missing: {}", still.join(" ")),
    }
}

fn install(packages: &[&str]) -> Result<String> {
    run::output(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
    command
}

/// Whether this machine has Debian's package tool.
pub fn is_available() -> bool {
    Path::new("/usr/bin/apt-get").exists()
}
