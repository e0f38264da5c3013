//! Head and tail of a log as files that can be read at any time, also after everything was killed.
//!
//! `head.log` has the first 256 KiB. What follows goes to `tail.log`, which becomes `tail.previous.log` when it is
//! full: both together hold the last 256 KiB at least, and no byte waits in memory. `left-out` says how many bytes were in
//! parts that are gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::agent::process::Observer;

/// Size of each of the files, in bytes.
pub(super) const PART_BYTES: usize = 256 * 1024;

/// Writes the files. A full disk or a removed directory never stops the command: the log just ends.
#[derive(Debug)]
pub(in crate::agent) struct LogKeeper {
    directory: PathBuf,
    head: Part,
    tail: Part,
    total: u64,
    has_previous: bool,
    left_out: u64,
}

#[derive(Debug)]
struct Part {
    file: Option<File>,
    length: usize,
}

impl Part {
    fn create(path: &Path) -> Self {
        // Not through a link that a job may have put there.
        let _ = fs::remove_file(path);
        Self { file: OpenOptions::new().write(true).create_new(true).open(path).ok(), length: 0 }
    }

    /// Takes what fits and returns the rest.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let room = PART_BYTES.saturating_sub(self.length).min(bytes.len());
        let (mine, rest) = bytes.split_at(room);
        self.length += room;
        if let Some(file) = &mut self.file
            && file.write_all(mine).is_err()
        {
            self.file = None;
        }
        rest
    }
}

impl LogKeeper {
    pub(in crate::agent) fn create(directory: &Path) -> Self {
        for name in ["tail.previous.log", "left-out"] {
            let _ = fs::remove_file(directory.join(name));
        }
        Self {
            directory: directory.to_owned(),
            head: Part::create(&directory.join("head.log")),
            tail: Part::create(&directory.join("tail.log")),
            total: 0,
            has_previous: false,
            left_out: 0,
        }
    }

    /// All bytes seen.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.total = self.total.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let mut rest = self.head.take(bytes);
        while !rest.is_empty() {
            rest = self.tail.take(rest);
            if !rest.is_empty() {
                let _ = self.rotate();
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.has_previous, true) {
            self.left_out = self.left_out.saturating_add(u64::try_from(PART_BYTES).unwrap_or(u64::MAX));
            let path = self.directory.join("left-out");
            let _ = fs::remove_file(&path);
            let told = OpenOptions::new().write(true).create_new(true).open(path);
            let _ = told.and_then(|mut file| file.write_all(self.left_out.to_string().as_bytes()));
        }
        let current = self.directory.join("tail.log");
        let renamed = fs::rename(&current, self.directory.join("tail.previous.log"));
        self.tail = Part::create(&current);
        renamed
    }
}

impl Observer for LogKeeper {
    fn see(&mut self, bytes: &[u8]) {
        self.keep(bytes);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn written(directory: &Path, name: &str) -> Vec<u8> {
        fs::read(directory.join(name)).unwrap_or_default()
    }

    #[test]
    fn head_and_tail_of_a_long_log_are_kept_and_the_middle_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let mut keeper = LogKeeper::create(directory.path());
        let all: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
        for chunk in all.chunks(61_001) {
            keeper.see(chunk);
        }
        assert_eq!(written(directory.path(), "head.log"), all[..PART_BYTES]);
        let tail = [written(directory.path(), "tail.previous.log"), written(directory.path(), "tail.log")].concat();
        assert!(tail.len() >= PART_BYTES && tail.len() <= 2 * PART_BYTES);
        assert!(all.ends_with(&tail));
        let left_out: usize = String::from_utf8(written(directory.path(), "left-out")).unwrap().parse().unwrap();
        assert_eq!(PART_BYTES + left_out + tail.len(), all.len());
        assert_eq!(keeper.total(), all.len() as u64);
    }

    #[test]
    fn a_short_log_is_all_head() {
        let directory = tempfile::tempdir().unwrap();
        LogKeeper::create(directory.path()).see(b"hello\n\xff");
        assert_eq!(written(directory.path(), "head.log"), b"hello\n\xff");
        assert_eq!(written(directory.path(), "tail.log"), b"");
    }

    #[test]
    fn a_vanished_directory_does_not_stop_the_command() {
        let directory = tempfile::tempdir().unwrap();
        let mut keeper = LogKeeper::create(directory.path());
        fs::remove_dir_all(directory.path()).unwrap();
        keeper.see(&vec![b'x'; 3 * PART_BYTES]);
        assert_eq!(keeper.total(), 3 * PART_BYTES as u64);
    }
}
