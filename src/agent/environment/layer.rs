//! An environment's archive as a layer of an image.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use super::archive::{self, Item, Limits, header};
use crate::api::names::Digest;
use tar::EntryType;

/// A layer as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// Where it is.
    pub(super) file: PathBuf,
    /// Its digest.
    pub(super) digest: Digest,
    /// Its length in bytes.
    pub(super) size: u64,
    /// The digest of what is in it, not compressed.
    pub(super) content: Digest,
}

/// Makes the layer that has the archive's files at `place`.
///
/// # Errors
/// When the archive is no environment, or the layer can't be written.
pub(super) fn of(archive: File, place: &Path, file: &Path, limits: Limits) -> io::Result<Layer> {
    let place = place.strip_prefix("/").unwrap_or(place);
    let compressed = Hashing::of(BufWriter::new(File::create(file)?));
    let content = Hashing::of(GzEncoder::new(compressed, Compression::default()));
    let mut layer = tar::Builder::new(content);
    let mut folders: Vec<&Path> = place.ancestors().filter(|folder| !folder.as_os_str().is_empty()).collect();
    folders.reverse();
    for folder in folders {
        layer.append_data(&mut header(EntryType::Directory, 0o755, 0), folder, io::empty())?;
    }
    archive::read(archive, limits, |path, item| {
        let path = place.join(path);
        match item {
            Item::Folder => layer.append_data(&mut header(EntryType::Directory, 0o755, 0), path, io::empty()),
            Item::File { mode, size, content } => {
                layer.append_data(&mut header(EntryType::Regular, mode, size), path, content)
            }
        }
    })?;
    let (encoder, content, _) = layer.into_inner()?.end()?;
    let (mut writer, digest, size) = encoder.finish()?.end()?;
    writer.flush()?;
    Ok(Layer { file: file.to_owned(), digest, size, content })
}

/// Counts and hashes what goes through.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    length: u64,
}

impl<W> Hashing<W> {
    fn of(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), length: 0 }
    }

    fn end(self) -> io::Result<(W, Digest, u64)> {
        let digest = format!("sha256:{}", hex::encode(self.hash.finalize()));
        Ok((self.inner, digest.parse().map_err(io::Error::other)?, self.length))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.length = self.length.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
