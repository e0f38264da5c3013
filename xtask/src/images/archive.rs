//! Single files out of finished layers.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use tar::Archive;

use super::layer::{Layer, StoredLayer};

/// The content of one regular file of a stored layer.
///
/// # Errors
/// When the layer can't be read or has no such file.
pub fn file(layer: &Layer, path: &str) -> Result<Vec<u8>> {
    let Layer::Stored(StoredLayer { file, .. }) = layer else {
        bail!("only layers in the store can be read, and {path} was looked for in another");
    };
    let packed = File::open(file).with_context(|| format!("reading {}", file.display()))?;
    let mut archive = Archive::new(GzDecoder::new(packed));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()? == Path::new(path) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            return Ok(content);
        }
    }
    bail!("{} has no file {path}", file.display())
}
