//! This repository's own programs, linked so that they run in an image without anything else.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host::progress::Progress;

/// The only target that the images are made for.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The C library is linked in too. Named with a target, so that macros, which are loaded by the compiler, are not built that way.
const RUSTFLAGS: &str = "target.x86_64-unknown-linux-gnu.rustflags=[\"-C\", \"target-feature=+crt-static\"]";

/// Builds a program, which cargo does only when its sources have changed, and says where it is.
///
/// # Errors
/// When it does not compile.
pub fn build(repository: &Path, program: &str, progress: &Progress) -> Result<PathBuf> {
    progress.step(format!("compiling {program}"), || {
        let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--quiet", "--locked", "--release", "--target", TARGET, "--config", RUSTFLAGS])
            .args(["--package", "timetracker-operator", "--bin", program])
            .current_dir(repository)
            .stdin(Stdio::null())
            .status()
            .context("starting cargo")?;
        if !status.success() {
            bail!("cargo could not compile {program}: {status}");
        }
        Ok(target_folder(repository).join(TARGET).join("release").join(program))
    })
}

fn target_folder(repository: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository.join("target"), |folder| repository.join(folder))
}
