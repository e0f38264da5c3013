//! A document as one log line: `timetracker-frame v1 <kind> <sha256 hex> <base64(gzip(document))>`.
//!
//! For what is too long for a termination message. The reader trusts nothing: sizes are bounded before and after
//! decompression, and the hash must fit (the report names it too, so a line printed by the app is told apart).

use std::io::{Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::api::names::Digest;

/// The most that a frame may hold compressed, in bytes.
pub const MAX_COMPRESSED_BYTES: usize = 1024 * 1024;
/// The most that a frame may hold decompressed, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 8 * 1024 * 1024;

const MARK: &str = "timetracker-frame v1 ";

/// Kind of the frame that carries a [`SchemaContract`](crate::schema::SchemaContract).
pub const SCHEMA_CONTRACT: &str = "schema-contract";

/// Why a frame can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The log has no frame of this kind.
    #[error("the log has no `{0}` frame")]
    Missing(String),
    /// The line does not have the frame's parts.
    #[error("a frame is malformed: {0}")]
    Malformed(&'static str),
    /// More than [`MAX_COMPRESSED_BYTES`] or [`MAX_DOCUMENT_BYTES`].
    #[error("a frame is longer than {0} bytes")]
    TooLong(usize),
    /// The document's hash is not the one announced.
    #[error("a frame announces {announced} and contains {contained}")]
    HashDiffers {
        /// What the line says.
        announced: Digest,
        /// What its document hashes to.
        contained: Digest,
    },
    /// Compressing or decompressing failed.
    #[error("a frame can't be unpacked: {0}")]
    Compression(#[from] std::io::Error),
}

/// The frame of `document` as one line without its newline. `kind` has only lower-case letters and dashes.
///
/// # Errors
/// When the document is larger than a reader takes.
pub fn encode(kind: &str, document: &[u8]) -> Result<String, FrameError> {
    if document.len() > MAX_DOCUMENT_BYTES {
        return Err(FrameError::TooLong(MAX_DOCUMENT_BYTES));
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(document)?;
    let compressed = encoder.finish()?;
    if compressed.len() > MAX_COMPRESSED_BYTES {
        return Err(FrameError::TooLong(MAX_COMPRESSED_BYTES));
    }
    Ok(format!("{MARK}{kind} {} {}", Digest::of(document).hex(), STANDARD.encode(compressed)))
}

/// The document of the last frame of `kind` in a log, with its digest.
///
/// The last one counts: the agent writes its frame after everything that the app printed.
///
/// # Errors
/// When there is none, or the last one breaks a bound, is malformed or does not hash to what it announces.
pub fn last_in(log: &[u8], kind: &str) -> Result<(Digest, Vec<u8>), FrameError> {
    let start = format!("{MARK}{kind} ");
    let line = log
        .split(|byte| *byte == b'\n')
        .rev()
        .find_map(|line| line.strip_prefix(start.as_bytes()))
        .ok_or_else(|| FrameError::Missing(kind.to_owned()))?;
    // Base64 has four characters for three bytes; the hash and a line end stand before and after it.
    if line.len() > MAX_COMPRESSED_BYTES / 3 * 4 + 80 {
        return Err(FrameError::TooLong(MAX_COMPRESSED_BYTES));
    }
    let line = std::str::from_utf8(line).map_err(|_| FrameError::Malformed("it is not text"))?;
    let (hash, packed) = line.trim_end().split_once(' ').ok_or(FrameError::Malformed("parts are missing"))?;
    let announced: Digest = format!("sha256:{hash}").parse().map_err(|_| FrameError::Malformed("the hash"))?;
    let compressed = STANDARD.decode(packed).map_err(|_| FrameError::Malformed("the base64 text"))?;
    if compressed.len() > MAX_COMPRESSED_BYTES {
        return Err(FrameError::TooLong(MAX_COMPRESSED_BYTES));
    }
    let mut document = Vec::new();
    let bound = u64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    GzDecoder::new(compressed.as_slice()).take(bound).read_to_end(&mut document)?;
    if document.len() > MAX_DOCUMENT_BYTES {
        return Err(FrameError::TooLong(MAX_DOCUMENT_BYTES));
    }
    let contained = Digest::of(&document);
    if contained != announced {
        return Err(FrameError::HashDiffers { announced, contained });
    }
    Ok((announced, document))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(document: Vec<u8>, before in "[ -~\n]{0,200}", after in "[a-z\n]{0,50}") {
            let log = format!("{before}\n{}\n{after}", encode("schema-contract", &document).unwrap());
            let (digest, found) = last_in(log.as_bytes(), "schema-contract").unwrap();
            prop_assert_eq!(digest, Digest::of(&document));
            prop_assert_eq!(found, document);
        }

        #[test]
        fn no_log_makes_the_reader_panic(log: Vec<u8>) {
            let _ = last_in(&log, "schema-contract");
        }

        #[test]
        fn no_changed_frame_is_believed(document: Vec<u8>, position: prop::sample::Index, byte: u8) {
            let mut line = encode("schema-contract", &document).unwrap().into_bytes();
            let position = position.index(line.len());
            line[position] = byte;
            if let Ok((_, found)) = last_in(&line, "schema-contract") {
                prop_assert_eq!(found, document);
            }
        }
    }

    #[test]
    fn the_last_frame_of_the_kind_wins() {
        let log = [
            encode("schema-contract", b"printed by the app").unwrap(),
            encode("schema-contract", b"ours").unwrap(),
            encode("other", b"another kind").unwrap(),
        ]
        .join("\r\n");
        assert_eq!(last_in(log.as_bytes(), "schema-contract").unwrap().1, b"ours");
    }

    #[test]
    fn a_decompression_bomb_is_refused() {
        let bomb = vec![0_u8; MAX_DOCUMENT_BYTES + 1];
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bomb).unwrap();
        let packed = STANDARD.encode(encoder.finish().unwrap());
        let line = format!("{MARK}schema-contract {} {packed}", Digest::of(&bomb).hex());
        assert!(matches!(last_in(line.as_bytes(), "schema-contract"), Err(FrameError::TooLong(MAX_DOCUMENT_BYTES))));
        assert!(matches!(encode("schema-contract", &bomb), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn an_overlong_line_is_refused_before_it_is_decoded() {
        let line = format!("{MARK}schema-contract {} {}", "0".repeat(64), "A".repeat(MAX_COMPRESSED_BYTES * 2));
        assert!(matches!(last_in(line.as_bytes(), "schema-contract"), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn a_frame_with_another_hash_is_refused() {
        let line = encode("schema-contract", b"{}").unwrap().replace(Digest::of(b"{}").hex(), &"0".repeat(64));
        assert!(matches!(last_in(line.as_bytes(), "schema-contract"), Err(FrameError::HashDiffers { .. })));
    }
}
