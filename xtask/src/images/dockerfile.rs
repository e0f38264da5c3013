//! Images of this repository's own programs, made by buildah from the same Dockerfiles as anywhere else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use oci_distribution::manifest::{OCI_IMAGE_MEDIA_TYPE, OciImageIndex, OciImageManifest};

use super::layer::sha256;
use super::oci::Pushed;
use super::registry::{self, PLAIN_HTTP, Registry};
use super::store::{Key, Store};
use crate::host::apt::{self, Need};
use crate::host::progress::Progress;
use crate::host::run;

const NEEDS: [Need; 1] = [Need { file: "buildah", package: "buildah" }];
/// Name that the image has for the short time between being built and being exported.
const LOCAL: &str = "localhost/timetracker/built";

/// What is built and from what.
#[derive(Debug, Clone)]
pub struct Build {
    /// Short name for people.
    pub name: &'static str,
    /// The Dockerfile, relative to the checkout, which is the context.
    pub dockerfile: &'static str,
    /// Files of the checkout that its last stage copies.
    pub context: Vec<&'static str>,
    /// Content of the folder that stands in for the stage `build`.
    pub built: BTreeMap<&'static str, Part>,
    /// Images that stand in for other stages, as `registry/repository@digest`.
    pub stages: BTreeMap<&'static str, String>,
}

/// A file or folder that stands in for a result of the stage `build`.
#[derive(Debug, Clone)]
pub enum Part {
    /// An executable copied from here.
    Program(PathBuf),
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// An empty folder that everybody may write to.
    Shared,
}

impl Build {
    /// The image as an OCI layout in a folder, built when anything that it is made of has changed.
    ///
    /// # Errors
    /// When buildah can't be had or fails.
    pub fn layout(&self, repository: &Path, store: &Store, progress: &Progress) -> Result<PathBuf> {
        store.folder(&self.key(repository)?, |scratch| {
            progress.step(format!("building {} from {}", self.name, self.dockerfile), || {
                apt::ensure(&NEEDS, progress)?;
                self.run(repository, scratch)
            })
        })
    }

    fn key(&self, repository: &Path) -> Result<Key> {
        let mut key = Key::new(format!("image-{}", self.name)).file(&repository.join(self.dockerfile))?;
        for file in &self.context {
            key = key.part(file).file(&repository.join(file))?;
        }
        for (path, part) in &self.built {
            key = key.part(path);
            key = match part {
                Part::Program(file) => key.file(file)?,
                Part::Bytes(bytes) => key.part(bytes),
                Part::Shared => key.part("shared"),
            };
        }
        // By digest only: the same image from another registry gives the same result.
        let digests =
            self.stages.iter().map(|(stage, image)| format!("{stage}={}", image.rsplit('@').next().unwrap_or(image)));
        Ok(key.part(digests.collect::<Vec<_>>().join(" ")))
    }

    fn run(&self, repository: &Path, scratch: &Path) -> Result<PathBuf> {
        let stage = scratch.join("build");
        for (path, part) in &self.built {
            part.write(&stage.join("image").join(path)).with_context(|| format!("preparing {path}"))?;
        }
        let buildah = || {
            let mut command = Command::new("buildah");
            command.arg("--root").arg(scratch.join("storage")).arg("--runroot").arg(scratch.join("run"));
            // Neither needs a mount or anything else of the kernel.
            command.args(["--storage-driver", "vfs"]).env("BUILDAH_ISOLATION", "chroot");
            command
        };
        let mut build = buildah();
        build.args(["build", "--quiet", "--timestamp", "0", "--format", "oci", "--tag", LOCAL]);
        build.arg("--build-context").arg(format!("build={}", stage.display()));
        for (name, image) in &self.stages {
            build.arg("--build-context").arg(format!("{name}=docker://{image}"));
            if PLAIN_HTTP.iter().any(|host| image.starts_with(&format!("{host}/"))) {
                build.arg("--tls-verify=false");
            }
        }
        run::output(build.arg("--file").arg(repository.join(self.dockerfile)).arg(repository))?;
        let layout = scratch.join("layout");
        run::output(buildah().args(["push", "--quiet", LOCAL]).arg(format!("oci:{}", layout.display())))?;
        Ok(layout)
    }
}

impl Part {
    fn write(&self, path: &Path) -> Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match self {
            Self::Program(file) => run::output(Command::new("install").arg("--mode=0755").arg(file).arg(path))?,
            Self::Bytes(bytes) => {
                fs::write(path, bytes)?;
                run::output(Command::new("chmod").arg("0644").arg(path))?
            }
            Self::Shared => run::output(Command::new("install").args(["--directory", "--mode=1777"]).arg(path))?,
        };
        Ok(())
    }
}

/// Pushes the only image of an OCI layout, refusing one whose layers are larger than this many bytes.
///
/// # Errors
/// When the layout isn't whole, the image is too large, or the registry refuses.
pub fn push(layout: &Path, registry: &Registry, target: &str, limit: Option<i64>) -> Result<Pushed> {
    let index: OciImageIndex = serde_json::from_slice(&read(&layout.join("index.json"))?)?;
    let entry = index.manifests.first().ok_or_else(|| anyhow!("{} holds no image", layout.display()))?;
    let manifest_bytes = read(&blob(layout, &entry.digest))?;
    let manifest: OciImageManifest = serde_json::from_slice(&manifest_bytes)?;
    let size = manifest.layers.iter().map(|layer| layer.size).sum();
    if let Some(limit) = limit
        && size > limit
    {
        bail!("{target} would have {size} bytes, and at most {limit} are allowed");
    }
    let digest = sha256(&manifest_bytes);
    let image = registry::reference(target)?;
    registry.authorize(&image)?;
    let changed = registry.digest(target)?.as_deref() != Some(digest.as_str());
    if changed {
        for descriptor in manifest.layers.iter().chain([&manifest.config]) {
            registry.push_blob(&image, &descriptor.digest, read(&blob(layout, &descriptor.digest))?)?;
        }
        registry.push_manifest(&image, OCI_IMAGE_MEDIA_TYPE, manifest_bytes)?;
    }
    Ok(Pushed { reference: target.to_owned(), digest, size, changed })
}

fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replacen(':', "/", 1))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("reading {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(image: &str) -> Build {
        Build {
            name: "x",
            dockerfile: "Dockerfile",
            context: vec!["context"],
            built: BTreeMap::from([("etc/x", Part::Bytes(b"x".to_vec()))]),
            stages: BTreeMap::from([("base", image.to_owned())]),
        }
    }

    #[test]
    fn the_same_base_in_another_registry_is_the_same_build() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Dockerfile"), "FROM base").unwrap();
        fs::write(folder.path().join("context"), "").unwrap();
        let key = |image: &str| build(image).key(folder.path()).unwrap().file_name();
        assert_eq!(key("a.invalid/x@sha256:1"), key("b.invalid/y@sha256:1"));
        assert_ne!(key("a.invalid/x@sha256:1"), key("a.invalid/x@sha256:2"));
    }
}
