//! One layer of an image: files into a gzipped tar whose bytes depend on nothing but the files.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Where the content of a layer comes from.
///
/// Directories and files are stored sorted by path, with modification time 0, so that equal content gives an equal digest.
/// Python's compiled files must be of the unchecked-hash kind to survive that (`python3 -m compileall --invalidation-mode unchecked-hash`).
#[derive(Debug, Clone)]
pub enum Layer {
    /// A folder that becomes the root of the layer.
    Directory {
        /// The folder on this machine.
        path: PathBuf,
        /// Whose the files are in the image.
        owner: Owner,
    },
    /// Single files, by their path in the image; parent folders are added as root's, mode 0755.
    Files(BTreeMap<String, Content>),
    /// A layer packed earlier and kept on disk.
    Stored(StoredLayer),
}

/// A packed layer in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLayer {
    /// The compressed tar.
    pub file: PathBuf,
    /// As in [`BuiltLayer`].
    pub digest: String,
    /// As in [`BuiltLayer`].
    pub diff_id: String,
}

/// Whose the files of a folder are in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// As on this machine.
    Preserved,
    /// One user and group for all.
    Fixed {
        /// Numeric user.
        user: u32,
        /// Numeric group.
        group: u32,
    },
}

/// One file of [`Layer::Files`].
#[derive(Debug, Clone)]
pub enum Content {
    /// A file copied from this machine, with this mode.
    File {
        /// Where it is now.
        source: PathBuf,
        /// Permission bits, such as 0o755.
        mode: u32,
    },
    /// A file with these bytes and this mode.
    Bytes {
        /// The whole content.
        data: Vec<u8>,
        /// Permission bits, such as 0o644.
        mode: u32,
    },
    /// A symbolic link to this target.
    Symlink(PathBuf),
    /// An empty folder with this owner (user and group) and mode.
    Directory {
        /// Numeric user and group.
        owner: u32,
        /// Permission bits, such as 0o1777.
        mode: u32,
    },
}

/// A layer ready to be pushed.
#[derive(Debug, Clone)]
pub struct BuiltLayer {
    /// Digest of the compressed bytes, `sha256:…`: the blob's name in the registry.
    pub digest: String,
    /// Digest of the uncompressed tar, `sha256:…`: the layer's name in the image's configuration.
    pub diff_id: String,
    /// The compressed bytes.
    pub data: Vec<u8>,
}

impl Layer {
    /// A folder whose files belong to root in the image.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::Directory { path: path.into(), owner: Owner::Fixed { user: 0, group: 0 } }
    }

    /// Packs and compresses the layer.
    ///
    /// # Errors
    /// When something can't be read, or is of a kind that a layer can't hold.
    pub fn build(&self) -> Result<BuiltLayer> {
        if let Self::Stored(stored) = self {
            let data = fs::read(&stored.file).with_context(|| format!("reading {}", stored.file.display()))?;
            return Ok(BuiltLayer { digest: stored.digest.clone(), diff_id: stored.diff_id.clone(), data });
        }
        let mut compressed = HashingWriter::new(Vec::new());
        let mut plain = HashingWriter::new(GzEncoder::new(&mut compressed, Compression::new(6)));
        match self {
            Self::Directory { path, owner } => {
                let mut builder = Builder::new(&mut plain);
                append_directory(&mut builder, path, *owner).with_context(|| format!("packing {}", path.display()))?;
                builder.finish()?;
            }
            Self::Files(files) => {
                let mut builder = Builder::new(&mut plain);
                append_files(&mut builder, files)?;
                builder.finish()?;
            }
            Self::Stored(_) => {}
        }
        let (encoder, diff_id) = plain.finish();
        encoder.finish()?;
        let (data, digest) = compressed.finish();
        Ok(BuiltLayer { digest, diff_id, data })
    }
}

/// The digest of some bytes in the registry's notation.
pub fn sha256(data: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(data)))
}

struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> HashingWriter<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    fn finish(self) -> (W, String) {
        (self.inner, format!("sha256:{}", hex::encode(self.hasher.finalize())))
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn append_directory<W: Write>(builder: &mut Builder<W>, root: &Path, owner: Owner) -> Result<()> {
    // First name under which a file with several links was stored; the others become links to it.
    let mut stored: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let mut pending = sorted_children(root)?;
    pending.reverse();
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
        let name = path.strip_prefix(root)?.to_path_buf();
        let mut header = header_of(&metadata, owner);
        let kind = metadata.file_type();
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            builder.append_data(&mut header, directory_name(&name), io::empty())?;
            let mut children = sorted_children(&path)?;
            children.reverse();
            pending.extend(children);
        } else if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            builder.append_link(&mut header, &name, fs::read_link(&path)?)?;
        } else if kind.is_file() {
            let identity = (metadata.dev(), metadata.ino());
            if metadata.nlink() > 1
                && let Some(first) = stored.get(&identity)
            {
                header.set_entry_type(EntryType::Link);
                builder.append_link(&mut header, &name, first)?;
                continue;
            }
            stored.insert(identity, name.clone());
            header.set_entry_type(EntryType::Regular);
            header.set_size(metadata.len());
            let file = File::open(&path)?;
            builder
                .append_data(&mut header, &name, file.take(metadata.len()))
                .with_context(|| path.display().to_string())?;
        } else if kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket() {
            bail!("{} is a device, pipe or socket, which a layer here never holds", path.display());
        }
    }
    Ok(())
}

fn append_files<W: Write>(builder: &mut Builder<W>, files: &BTreeMap<String, Content>) -> Result<()> {
    let root = Owner::Fixed { user: 0, group: 0 };
    // Folders of the same layer first, whether asked for or implied; sorted, so a parent comes before what it holds.
    let mut directories: BTreeMap<PathBuf, (u32, u32)> = BTreeMap::new();
    for (name, content) in files {
        let path = relative(name);
        let mut parent = path.parent();
        while let Some(directory) = parent.filter(|directory| !directory.as_os_str().is_empty()) {
            directories.entry(directory.to_path_buf()).or_insert((0, 0o755));
            parent = directory.parent();
        }
        if let Content::Directory { owner, mode } = content {
            directories.insert(path, (*owner, *mode));
        }
    }
    for (path, (owner, mode)) in &directories {
        let mut header = blank_header(*mode, *owner, *owner);
        header.set_entry_type(EntryType::Directory);
        builder.append_data(&mut header, directory_name(path), io::empty())?;
    }
    for (name, content) in files {
        let path = relative(name);
        match content {
            Content::File { source, mode } => {
                let metadata = fs::metadata(source).with_context(|| source.display().to_string())?;
                let mut header = header_of(&metadata, root);
                header.set_mode(*mode);
                header.set_entry_type(EntryType::Regular);
                header.set_size(metadata.len());
                builder.append_data(&mut header, &path, File::open(source)?.take(metadata.len()))?;
            }
            Content::Bytes { data, mode } => {
                let mut header = blank_header(*mode, 0, 0);
                header.set_entry_type(EntryType::Regular);
                header.set_size(data.len() as u64);
                builder.append_data(&mut header, &path, data.as_slice())?;
            }
            Content::Symlink(target) => {
                let mut header = blank_header(0o777, 0, 0);
                header.set_entry_type(EntryType::Symlink);
                builder.append_link(&mut header, &path, target)?;
            }
            Content::Directory { .. } => {}
        }
    }
    Ok(())
}

fn relative(name: &str) -> PathBuf {
    PathBuf::from(name.trim_matches('/'))
}

/// A trailing slash marks folders, as GNU tar does.
fn directory_name(path: &Path) -> PathBuf {
    path.join("")
}

fn sorted_children(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut children = fs::read_dir(directory)
        .with_context(|| directory.display().to_string())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    children.sort();
    Ok(children)
}

fn header_of(metadata: &Metadata, owner: Owner) -> Header {
    let (user, group) = match owner {
        Owner::Preserved => (metadata.uid(), metadata.gid()),
        Owner::Fixed { user, group } => (user, group),
    };
    blank_header(metadata.mode() & 0o7777, user, group)
}

fn blank_header(mode: u32, user: u32, group: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(u64::from(user));
    header.set_gid(u64::from(group));
    header.set_mtime(0);
    header.set_size(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::os::unix::fs::symlink;

    fn sample(root: &Path, reversed: bool) {
        let mut names = vec!["b/file", "a", "b/other"];
        if reversed {
            names.reverse();
        }
        for name in names {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
        }
        symlink("a", root.join("link")).unwrap();
        fs::hard_link(root.join("b/file"), root.join("z")).unwrap();
    }

    fn names(layer: &BuiltLayer) -> Vec<(String, EntryType)> {
        let mut archive = tar::Archive::new(GzDecoder::new(layer.data.as_slice()));
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().display().to_string(), entry.header().entry_type())
            })
            .collect()
    }

    #[test]
    fn equal_folders_give_equal_layers_whatever_the_order_and_time_of_writing() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        sample(first.path(), false);
        sample(second.path(), true);
        let one = Layer::directory(first.path()).build().unwrap();
        let two = Layer::directory(second.path()).build().unwrap();
        assert_eq!(one.digest, two.digest);
        assert_eq!(one.diff_id, two.diff_id);
        assert_eq!(one.digest, sha256(&one.data));
    }

    #[test]
    fn a_folder_keeps_links_and_comes_parents_first() {
        let folder = tempfile::tempdir().unwrap();
        sample(folder.path(), false);
        let layer = Layer::directory(folder.path()).build().unwrap();
        let expected = [
            ("a", EntryType::Regular),
            ("b/", EntryType::Directory),
            ("b/file", EntryType::Regular),
            ("b/other", EntryType::Regular),
            ("link", EntryType::Symlink),
            ("z", EntryType::Link),
        ];
        assert_eq!(names(&layer), expected.map(|(name, kind)| (name.to_owned(), kind)));
    }

    #[test]
    fn single_files_bring_their_parent_folders() {
        let files = BTreeMap::from([
            ("/etc/app/app.conf".to_owned(), Content::Bytes { data: b"x".to_vec(), mode: 0o644 }),
            ("tmp".to_owned(), Content::Directory { owner: 0, mode: 0o1777 }),
        ]);
        let layer = Layer::Files(files).build().unwrap();
        let expected = ["etc/", "etc/app/", "tmp/", "etc/app/app.conf"];
        assert_eq!(names(&layer).into_iter().map(|(name, _)| name).collect::<Vec<_>>(), expected);
    }
}
