//! Layers and files that were made before, kept outside the checkout by a hash of what they were made of.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::layer::{BuiltLayer, Layer, StoredLayer};

/// Raised when the meaning of stored things changes without their inputs doing so.
const FORMAT: &str = "1";

/// How many folders of one name stay.
const KEPT: usize = 3;

/// The folder of finished layers; safe to be deleted at any time.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    rebuild: bool,
    /// What this process has made, which counts even when all is to be made anew.
    made: Mutex<BTreeSet<String>>,
}

/// Everything that decides about the content of a layer, hashed part by part.
#[derive(Debug, Clone)]
pub struct Key {
    name: String,
    hasher: Sha256,
}

impl Key {
    /// A key of this kind of layer, such as `debian-python`; the name is what a person sees in the cache.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let key = Self { name: name.clone(), hasher: Sha256::new() };
        key.part(FORMAT).part(name)
    }

    /// Adds a part; its length is hashed too, so that parts can't run into each other.
    pub fn part(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.hasher.update((part.len() as u64).to_be_bytes());
        self.hasher.update(part);
        self
    }

    /// Adds the content of a file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn file(self, path: &Path) -> Result<Self> {
        let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(self.part(content))
    }

    /// Name of what is stored under this key.
    pub fn file_name(&self) -> String {
        let hash = hex::encode(self.hasher.clone().finalize());
        format!("{}-{}", self.name, hash.get(..16).unwrap_or(&hash))
    }
}

impl Store {
    /// The store in this folder; with `rebuild` nothing that is there counts, and all is made anew.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn open(folder: PathBuf, rebuild: bool) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { folder, rebuild, made: Mutex::default() })
    }

    /// The layer with this key, made in an empty scratch folder when it isn't there yet. Two processes that want the same layer wait for each
    /// other; one that is killed leaves nothing that a later one would take for a layer.
    ///
    /// # Errors
    /// Those of the making, and of the disk.
    pub fn layer(&self, key: &Key, make: impl FnOnce(&Path) -> Result<Layer>) -> Result<Layer> {
        let name = key.file_name();
        let description = self.folder.join(format!("{name}.json"));
        let _lock = self.lock(&name)?;
        if self.is_fresh(&name)
            && let Some(stored) = read(&description)
        {
            return Ok(Layer::Stored(stored));
        }
        let scratch = self.scratch(&name)?;
        let BuiltLayer { digest, diff_id, data } = make(&scratch)?.build()?;
        let file = self.folder.join(format!("{name}.tar.gz"));
        write(&file, &data)?;
        let stored = StoredLayer { file, digest, diff_id };
        // Last, because its presence means that the layer is whole.
        write(&description, &serde_json::to_vec(&stored)?)?;
        clear(&scratch)?;
        self.mark(name);
        Ok(Layer::Stored(stored))
    }

    /// The folder with this key; `make` gets an empty scratch folder and says which folder in it is the result. As with [`Store::layer`], only whole
    /// results are ever found.
    ///
    /// # Errors
    /// Those of the making, and of the disk.
    pub fn folder(&self, key: &Key, make: impl FnOnce(&Path) -> Result<PathBuf>) -> Result<PathBuf> {
        let name = key.file_name();
        let folder = self.folder.join(&name);
        let _lock = self.lock(&name)?;
        if folder.exists() && self.is_fresh(&name) {
            return Ok(folder);
        }
        let scratch = self.scratch(&name)?;
        let made = make(&scratch)?;
        clear(&folder)?;
        fs::rename(&made, &folder).with_context(|| format!("moving {}", made.display()))?;
        clear(&scratch)?;
        self.mark(name);
        self.prune(&key.name)?;
        Ok(folder)
    }

    /// Removes the oldest folders of this name: they hold programs, of which there is a new one after every change of the sources.
    fn prune(&self, name: &str) -> Result<()> {
        let mut versions = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let of_name = entry
                .file_name()
                .to_str()
                .and_then(|found| found.rsplit_once('-'))
                .is_some_and(|(found, hash)| found == name && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
            if of_name && entry.path().is_dir() {
                versions.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        versions.sort();
        let surplus = versions.len().saturating_sub(KEPT);
        versions.iter().take(surplus).try_for_each(|(_, folder)| clear(folder))
    }

    fn is_fresh(&self, name: &str) -> bool {
        !self.rebuild || self.made.lock().is_ok_and(|made| made.contains(name))
    }

    fn mark(&self, name: String) {
        if let Ok(mut made) = self.made.lock() {
            made.insert(name);
        }
    }

    /// Held until the value is dropped, or the process ends in whatever way.
    fn lock(&self, name: &str) -> Result<File> {
        let path = self.folder.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    fn scratch(&self, name: &str) -> Result<PathBuf> {
        let scratch = self.folder.join(format!("{name}.scratch"));
        clear(&scratch)?;
        fs::create_dir(&scratch).with_context(|| scratch.display().to_string())?;
        Ok(scratch)
    }
}

fn read(description: &Path) -> Option<StoredLayer> {
    let stored: StoredLayer = serde_json::from_slice(&fs::read(description).ok()?).ok()?;
    stored.file.exists().then_some(stored)
}

fn write(file: &Path, data: &[u8]) -> Result<()> {
    let partial = file.with_extension("partial");
    fs::write(&partial, data).with_context(|| format!("writing {}", partial.display()))?;
    fs::rename(&partial, file).with_context(|| format!("writing {}", file.display()))
}

fn clear(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn make(folder: &Path, content: &str) -> Result<Layer> {
        fs::write(folder.join("file"), content)?;
        Ok(Layer::directory(folder))
    }

    #[test]
    fn a_layer_is_made_once_and_again_when_asked_or_when_its_inputs_change() {
        let folder = tempfile::tempdir().unwrap();
        let open = |rebuild| Store::open(folder.path().to_owned(), rebuild).unwrap();
        let key = Key::new("a").part("1");
        let digest = |layer: Layer| layer.build().unwrap().digest;
        let first = digest(open(false).layer(&key, |scratch| make(scratch, "one")).unwrap());
        let second = digest(open(false).layer(&key, |_| unreachable!()).unwrap());
        assert_eq!(first, second);
        let other = digest(open(false).layer(&key.clone().part("2"), |scratch| make(scratch, "two")).unwrap());
        assert_ne!(first, other);
        let anew = open(true);
        let again = digest(anew.layer(&key, |scratch| make(scratch, "three")).unwrap());
        assert_ne!(first, again);
        assert_eq!(again, digest(anew.layer(&key, |_| unreachable!()).unwrap()));
    }

    #[test]
    fn what_fails_half_way_leaves_no_layer() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned(), false).unwrap();
        let key = Key::new("a");
        let failed = store.layer(&key, |scratch| {
            make(scratch, "half")?;
            anyhow::bail!("killed")
        });
        assert!(failed.is_err());
        let layer = store.layer(&key, |scratch| {
            assert_eq!(fs::read_dir(scratch)?.count(), 0);
            make(scratch, "whole")
        });
        assert!(layer.is_ok());
    }

    #[test]
    fn of_the_folders_of_one_name_the_newest_stay() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned(), false).unwrap();
        let make = |name: &str, age: u64| {
            let made = store.folder(&Key::new(name).part(age.to_be_bytes()), |scratch| {
                let made = scratch.join("made");
                fs::create_dir(&made)?;
                File::open(&made)?.set_modified(SystemTime::now() - Duration::from_secs(age))?;
                Ok(made)
            });
            made.unwrap()
        };
        let other = make("b", 9);
        let made = [5, 4, 3, 2, 1].map(|age| make("a", age));
        assert_eq!(made.map(|path| path.exists()), [false, false, true, true, true]);
        assert!(other.exists());
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(Key::new("a").part("bc").part("d").file_name(), Key::new("a").part("b").part("cd").file_name());
    }
}
