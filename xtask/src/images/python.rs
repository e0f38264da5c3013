//! Python: the image with Debian's 3.11, and layers with an app's dependencies on top of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::layer::Layer;
use super::oci::Image;
use super::store::{Key, Store};
use crate::host::apt::{self, Need};
use crate::host::progress::Progress;
use crate::host::run;

/// Debian's Python, the same as in the image. One that comes first on a user's search path may be another version.
pub const INTERPRETER: &str = "/usr/bin/python3";

const NEEDS: [Need; 2] = [
    Need { file: INTERPRETER, package: "python3" },
    Need { file: "/usr/lib/python3/dist-packages/pip", package: "python3-pip" },
];

/// Where pip in the image installs for all users.
const PACKAGES: &str = "usr/local/lib/python3.11/dist-packages";

/// Binary packages that run on Debian 12 (glibc 2.36), the newest kind first.
const PLATFORMS: [&str; 3] = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"];

/// The plain image on top of its Debian layer.
pub fn image(debian: Layer) -> Image {
    Image::scratch()
        .layer(debian)
        .command(["python3"])
        .environment("PATH", "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
        .environment("LANG", "C.UTF-8")
}

/// What these requirements files install, made once per content of them.
///
/// # Errors
/// When a file is missing or pip fails.
pub fn dependencies(name: &str, requirements: &[&Path], store: &Store, progress: &Progress) -> Result<Layer> {
    let mut key = Key::new(format!("dependencies-{name}")).part(PACKAGES).part(PLATFORMS.join(" "));
    for file in requirements {
        key = key.file(file)?;
    }
    store.layer(&key, |scratch| {
        progress.step(format!("installing the Python packages of {name}"), || install(requirements, scratch, progress))
    })
}

/// Downloads one binary package without its dependencies.
///
/// # Errors
/// When pip fails.
pub fn pip_download(package: &str, folder: &Path, progress: &Progress) -> Result<()> {
    apt::ensure(&NEEDS, progress)?;
    run::output(pip("download").args(["--no-deps", package, "--dest"]).arg(folder))?;
    Ok(())
}

fn install(requirements: &[&Path], scratch: &Path, progress: &Progress) -> Result<Layer> {
    apt::ensure(&NEEDS, progress)?;
    let (target, root) = (scratch.join("target"), scratch.join("root"));
    let mut command = pip("install");
    command.args(["--no-compile", "--no-warn-script-location", "--root-user-action=ignore", "--target"]).arg(&target);
    for file in requirements {
        command.arg("--requirement").arg(file);
    }
    run::output(&mut command)?;
    let packages = root.join(PACKAGES);
    fs::create_dir_all(packages.parent().unwrap_or(&root))?;
    fs::rename(&target, &packages)?;
    // With --target the commands land beside the modules.
    let commands = packages.join("bin");
    if commands.exists() {
        fs::rename(commands, root.join("usr/local/bin"))?;
    }
    compile(&root, "usr/local/lib", progress)?;
    Ok(Layer::directory(root))
}

/// Compiles the modules in a folder of an image's root, so that the result depends on nothing but them: neither on the time nor on where the root is now.
///
/// # Errors
/// When there is no Python on this machine.
pub fn compile(root: &Path, folder: &str, progress: &Progress) -> Result<()> {
    apt::ensure(&NEEDS, progress)?;
    let mut command = Command::new(INTERPRETER);
    command.args(["-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash", "-p", "/", "-s"]);
    command.arg(root).arg(root.join(folder));
    // Its status is not looked at: some packages ship sources that are not meant to compile, as data for tests.
    command.output().with_context(|| format!("compiling {folder}"))?;
    Ok(())
}

fn pip(action: &str) -> Command {
    let mut command = Command::new(INTERPRETER);
    command.args(["-m", "pip", action, "--quiet", "--disable-pip-version-check", "--no-input"]);
    command.args(["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]);
    command.args(PLATFORMS.map(|platform| format!("--platform={platform}")));
    command
}
