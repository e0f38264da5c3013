//! The programs of the cluster, built from source once and kept in the cache.
//!
//! A program's folder is named by the hash of all that goes into it and appears in one step, so a build that was cut short is done again
//! (with Go's own cache half warm) and never taken for finished.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::host::progress::{Progress, seconds};
use crate::paths;
use crate::versions::{Tool, Versions};

/// Names by which the one Kubernetes program is called.
const KUBERNETES_NAMES: [&str; 7] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];

/// Bump when the way of building changes.
const RECIPE: &str = "1";

/// Where the built programs are.
#[derive(Debug, Clone)]
pub struct Binaries {
    kubernetes: PathBuf,
    pause: PathBuf,
    tools: PathBuf,
}

impl Binaries {
    /// Names without places, for commands that only name the components.
    pub fn nowhere() -> Self {
        Self { kubernetes: PathBuf::new(), pause: PathBuf::new(), tools: PathBuf::new() }
    }

    /// A component of Kubernetes, or kubectl.
    pub fn kubernetes(&self, name: &str) -> PathBuf {
        self.kubernetes.join(name)
    }

    /// A program of `[tools]` in dev/versions.toml.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.tools.join(name)
    }

    /// The static program of the sandbox image.
    pub fn pause(&self) -> PathBuf {
        self.pause.join("pause")
    }
}

/// Builds what the cache lacks.
///
/// # Errors
/// When Go fails, with the place of its whole output.
pub fn ensure(progress: &Progress) -> Result<Binaries> {
    let repository = paths::repository();
    let versions = Versions::load(&repository)?;
    let cache = Cache::open()?;
    let kubernetes = cache.kubernetes(&repository, &versions.kubernetes.version, progress)?;
    let pause = cache.pause(&repository, progress)?;
    let tools = cache.tools(&versions, progress)?;
    Ok(Binaries { kubernetes, pause, tools })
}

/// Builds a program of `[test-tools]` in dev/versions.toml if the cache lacks it, and says where it is.
///
/// # Errors
/// When it is not in that file, or Go fails, with the place of its whole output.
pub fn test_tool(name: &str, progress: &Progress) -> Result<PathBuf> {
    let versions = Versions::load(&paths::repository())?;
    let tool = versions.test_tools.get(name).with_context(|| format!("dev/versions.toml has no test tool {name}"))?;
    Ok(Cache::open()?.tool(name, tool, progress)?.join(name))
}

struct Cache {
    programs: PathBuf,
    /// Held while this lives: two runs never build the same thing twice at a time.
    _lock: File,
}

impl Cache {
    fn open() -> Result<Self> {
        let programs = paths::cache().join("programs");
        fs::create_dir_all(&programs).with_context(|| format!("creating {}", programs.display()))?;
        let lock = File::open(&programs)?;
        lock.lock()?;
        Ok(Self { programs, _lock: lock })
    }

    fn kubernetes(&self, repository: &Path, version: &str, progress: &Progress) -> Result<PathBuf> {
        let module = repository.join("dev/kubernetes");
        let sources = ["go.mod", "go.sum", "main.go"].map(|file| module.join(file));
        let key = key(&sources, version)?;
        self.build("kubernetes", &key, "about 5 minutes on 2 cores", progress, |folder, log| {
            let flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={version}");
            let program = folder.join("kubernetes");
            let mut command = go(&["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", &flags, "-o"]);
            run_logged(command.arg(&program).arg(".").current_dir(&module), log, progress)?;
            for name in KUBERNETES_NAMES {
                symlink("kubernetes", folder.join(name))?;
            }
            Ok(())
        })
    }

    fn pause(&self, repository: &Path, progress: &Progress) -> Result<PathBuf> {
        let module = repository.join("dev/kubernetes/pause");
        let key = key(&["go.mod", "main.go"].map(|file| module.join(file)), "")?;
        self.build("pause", &key, "seconds", progress, |folder, log| {
            let program = folder.join("pause");
            let mut command =
                go(&["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", "-s -w", "-o"]);
            run_logged(command.arg(&program).arg(".").current_dir(&module), log, progress)
        })
    }

    /// All tools as links in one folder, each built in a folder of its own.
    fn tools(&self, versions: &Versions, progress: &Progress) -> Result<PathBuf> {
        let mut built = Vec::new();
        let mut all = Sha256::new();
        for (name, tool) in &versions.tools {
            let folder = self.tool(name, tool, progress)?;
            let folder_name = folder.file_name().unwrap_or_default().to_string_lossy();
            all.update(format!("{folder_name}\n"));
            built.push((name, folder.join(name)));
        }
        let key = hex::encode(all.finalize())[..16].to_owned();
        self.build("tools", &key, "", progress, |folder, _| {
            for (name, program) in &built {
                symlink(program, folder.join(name))?;
            }
            Ok(())
        })
    }

    /// The folder with that program.
    fn tool(&self, name: &str, Tool { package, version }: &Tool, progress: &Progress) -> Result<PathBuf> {
        let asked = format!("{package}@{version}");
        let key = key(&[], &asked)?;
        self.build(name, &key, "1 to 3 minutes", progress, |folder, log| {
            let mut command = go(&["install", "-trimpath", "-mod=mod", "-ldflags", "-s -w"]);
            run_logged(command.arg(&asked).env("GOBIN", folder).current_dir(folder), log, progress)
        })
    }

    /// The finished folder for a key, made by `make` in a place of its own when it isn't there.
    fn build(
        &self,
        name: &str,
        key: &str,
        expected: &str,
        progress: &Progress,
        make: impl FnOnce(&Path, &Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let finished = self.programs.join(format!("{name}-{key}"));
        if finished.exists() {
            return Ok(finished);
        }
        let fresh = self.programs.join(format!("{name}.new"));
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir_all(&fresh)?;
        let log = self.programs.join(format!("{name}.log"));
        if expected.is_empty() {
            make(&fresh, &log)?;
        } else {
            progress.step(format!("building {name} (once; {expected})"), || make(&fresh, &log))?;
        }
        fs::rename(&fresh, &finished)?;
        Ok(finished)
    }
}

fn key(files: &[PathBuf], extra: &str) -> Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(format!("{RECIPE}\n{}\n{extra}\n", std::env::consts::ARCH));
    for file in files {
        let content = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        hasher.update(Sha256::digest(content));
    }
    Ok(hex::encode(hasher.finalize())[..16].to_owned())
}

fn go(arguments: &[&str]) -> Command {
    let mut command = Command::new("go");
    // Static programs; nothing from the user's own Go settings.
    command.args(arguments).env("CGO_ENABLED", "0").env("GOWORK", "off").env("GOFLAGS", "");
    command
}

/// Runs a build with its output in a file, and says every half minute that it still goes on.
fn run_logged(command: &mut Command, log: &Path, progress: &Progress) -> Result<()> {
    let output = File::create(log)?;
    let mut child =
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn().context("starting go")?;
    let begun = Instant::now();
    let mut told = begun;
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("go: {status}; its last words:\n{}\nall of them: {}", super::supervise::tail(log, 20), log.display());
        }
        if told.elapsed() >= Duration::from_secs(30) {
            told = Instant::now();
            progress.say(format!("  still building ({})", seconds(begun.elapsed())));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_was_cut_short_is_done_again_and_a_finished_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache { programs: folder.path().to_owned(), _lock: File::open(folder.path()).unwrap() };
        let progress = Progress::new();
        let cut = cache.build("x", "1", "", &progress, |folder, _| {
            fs::write(folder.join("half"), "")?;
            bail!("cut short")
        });
        assert!(cut.is_err());
        let made = cache.build("x", "1", "", &progress, |folder, _| Ok(fs::write(folder.join("x"), "whole")?)).unwrap();
        assert!(!made.join("half").exists());
        let kept = cache.build("x", "1", "", &progress, |_, _| bail!("never")).unwrap();
        assert_eq!(fs::read_to_string(kept.join("x")).unwrap(), "whole");
    }

    #[test]
    fn another_version_has_another_key() {
        assert_ne!(key(&[], "v1").unwrap(), key(&[], "v2").unwrap());
    }
}
