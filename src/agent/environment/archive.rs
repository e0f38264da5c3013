//! An environment as one archive: packed from what pip has installed, unpacked into an empty folder.
//!
//! Whoever packs runs beside the build code of foreign packages, so what is unpacked is hostile: folders and regular
//! files below the destination, nothing else, each once, all of it bounded.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use clap::Args;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use crate::agent::message::Secrets;
use crate::agent::report::{EnvironmentFailure, EnvironmentReport};

/// How large an environment may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of the archive, compressed.
    pub(super) archive: u64,
    /// Bytes of all files together.
    pub(super) content: u64,
    /// Files and folders.
    pub(super) entries: u64,
    /// How deep folders are nested.
    pub(super) depth: usize,
}

/// The artifact store takes no larger archive, and the volume no more content.
pub(super) const LIMITS: Limits = Limits { archive: 512 << 20, content: 2 << 30, entries: 200_000, depth: 48 };
/// The longest path, in bytes; longer than a header's own field it is an entry of its own.
const MAX_PATH: u64 = 1024;
/// Every file's time: the same content is the same archive. Not before 1980, where zip archives begin.
const TIME: u64 = 315_532_800;

/// What is packed.
#[derive(Debug, Args)]
pub(super) struct PackOptions {
    /// The folder.
    #[arg(long)]
    from: PathBuf,
    /// The archive.
    #[arg(long)]
    to: PathBuf,
}

/// How much an archive holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) files: u32,
    pub(super) bytes: u64,
}

/// Packs, and reports it.
pub(super) fn packed(options: &PackOptions, secrets: &Secrets) -> EnvironmentReport {
    match pack(&options.from, &options.to, LIMITS) {
        Ok(Extent { files, bytes }) => EnvironmentReport::Packed { files, bytes },
        Err(error) => {
            let message = secrets.message(&format!("the environment can't be packed: {error}"));
            EnvironmentReport::Failed { failure: EnvironmentFailure::Archive, message }
        }
    }
}

/// Writes the folder's content into an archive.
///
/// # Errors
/// When it holds a link or a special file, is too large, or can't be read or written.
pub(super) fn pack(from: &Path, to: &Path, limits: Limits) -> io::Result<Extent> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    let file = Bounded { inner: BufWriter::new(File::create(to)?), room: limits.archive };
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
    let mut extent = Extent::default();
    let mut entries = 0_u64;
    let mut pending = vec![PathBuf::new()];
    while let Some(folder) = pending.pop() {
        let mut names: Vec<_> =
            fs::read_dir(from.join(&folder))?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        for name in names {
            let path = folder.join(name);
            let place = from.join(&path);
            let kind = fs::symlink_metadata(&place)?;
            entries += 1;
            check_count(entries, limits)?;
            if kind.is_dir() {
                check_depth(&path, limits)?;
                archive.append_data(&mut header(EntryType::Directory, 0o755, 0), &path, io::empty())?;
                pending.push(path);
            } else if kind.is_file() {
                extent.bytes = extent.bytes.saturating_add(kind.len());
                check_content(extent.bytes, limits)?;
                extent.files = extent.files.saturating_add(1);
                let mode = if kind.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
                // A file that changes meanwhile must not move the entry behind it.
                let content = File::open(&place)?.chain(io::repeat(0)).take(kind.len());
                archive.append_data(&mut header(EntryType::Regular, mode, kind.len()), &path, content)?;
            } else {
                return Err(io::Error::other(format!("{} is neither a file nor a folder", path.display())));
            }
        }
    }
    archive.into_inner()?.finish()?.inner.flush()?;
    Ok(extent)
}

pub(super) fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(TIME);
    header
}

/// What an archive holds at a path.
pub(super) enum Item<'a> {
    Folder,
    File {
        /// 0644 or 0755.
        mode: u32,
        size: u64,
        content: &'a mut dyn Read,
    },
}

/// Unpacks the archive into an empty folder.
///
/// # Errors
/// When it holds anything that does not belong there, is too large, or can't be read or written.
pub(super) fn unpack(archive: File, into: &Path, limits: Limits) -> io::Result<Extent> {
    read(archive, limits, |path, item| {
        let place = into.join(path);
        match item {
            Item::Folder => fs::create_dir_all(&place),
            Item::File { mode, size, content } => {
                if let Some(folder) = place.parent() {
                    fs::create_dir_all(folder)?;
                }
                // Only files and folders are ever made here, so no part of the path is a link; no file is made twice.
                let mut file = File::options().write(true).create_new(true).mode(mode).open(&place)?;
                if io::copy(content, &mut file)? != size {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} ends early", path.display())));
                }
                Ok(())
            }
        }
    })
}

/// Gives each folder and file of the archive to `take`, with its path below the environment.
///
/// # Errors
/// When the archive holds anything that does not belong there, is too large, or can't be read; and those of `take`.
pub(super) fn read(
    archive: File,
    limits: Limits,
    mut take: impl FnMut(&Path, Item<'_>) -> io::Result<()>,
) -> io::Result<Extent> {
    // Headers and padding come on top of the files' content.
    let whole = limits.content.saturating_add(limits.entries.saturating_mul(2048));
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(archive)).take(whole));
    let mut extent = Extent::default();
    let mut entries = 0_u64;
    let mut long: Option<PathBuf> = None;
    // Raw: else the library keeps long names of any length in memory.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        entries += 1;
        check_count(entries, limits)?;
        let kind = entry.header().entry_type();
        if kind == EntryType::GNULongName {
            long = Some(long_path(&mut entry)?);
            continue;
        }
        let path = match long.take() {
            Some(path) => path,
            None => entry.path()?.into_owned(),
        };
        let path = below(&path)?;
        check_depth(&path, limits)?;
        if kind == EntryType::Directory {
            take(&path, Item::Folder)?;
        } else if kind == EntryType::Regular {
            let size = entry.header().size()?;
            extent.bytes = extent.bytes.saturating_add(size);
            check_content(extent.bytes, limits)?;
            extent.files = extent.files.saturating_add(1);
            let mode = if entry.header().mode()? & 0o111 == 0 { 0o644 } else { 0o755 };
            take(&path, Item::File { mode, size, content: &mut entry })?;
        } else {
            return Err(io::Error::other(format!("{} is neither a file nor a folder", path.display())));
        }
    }
    Ok(extent)
}

/// The path as it is, unless it leads elsewhere.
fn below(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                return Err(io::Error::other(format!("{} leads out of the environment", path.display())));
            }
        }
    }
    if clean.as_os_str().is_empty() {
        return Err(io::Error::other("an entry has no name"));
    }
    Ok(clean)
}

fn long_path(entry: &mut impl Read) -> io::Result<PathBuf> {
    let mut name = Vec::new();
    entry.take(MAX_PATH + 1).read_to_end(&mut name)?;
    while name.last() == Some(&0) {
        name.pop();
    }
    let fits = u64::try_from(name.len()).is_ok_and(|length| length <= MAX_PATH);
    let name = String::from_utf8(name).ok().filter(|name| fits && !name.contains('\0'));
    Ok(PathBuf::from(name.ok_or_else(|| io::Error::other("a path is too long or no text"))?))
}

fn check_count(entries: u64, limits: Limits) -> io::Result<()> {
    let fits = entries <= limits.entries;
    if fits { Ok(()) } else { Err(too_large(&format!("more than {} files and folders", limits.entries))) }
}

fn check_content(bytes: u64, limits: Limits) -> io::Result<()> {
    let fits = bytes <= limits.content;
    if fits { Ok(()) } else { Err(too_large(&format!("more than {} MiB", limits.content >> 20))) }
}

fn check_depth(path: &Path, limits: Limits) -> io::Result<()> {
    let fits = path.components().count() <= limits.depth;
    if fits { Ok(()) } else { Err(too_large(&format!("folders nested more than {} deep", limits.depth))) }
}

fn too_large(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {what}"))
}

/// A file that takes so many bytes and no more.
struct Bounded<W> {
    inner: W,
    room: u64,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.room = self
            .room
            .checked_sub(u64::try_from(written).unwrap_or(u64::MAX))
            .ok_or_else(|| too_large("a larger archive than the artifact store takes (512 MiB)"))?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn small() -> Limits {
        Limits { archive: 1 << 20, content: 1000, entries: 8, depth: 4 }
    }

    struct Packed {
        directory: tempfile::TempDir,
        result: io::Result<Extent>,
    }

    impl Packed {
        fn of(prepare: impl Fn(&Path)) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let from = directory.path().join("from");
            fs::create_dir(&from).unwrap();
            prepare(&from);
            let result = pack(&from, &directory.path().join("out/archive"), small());
            Self { directory, result }
        }

        fn archive(&self) -> File {
            File::open(self.directory.path().join("out/archive")).unwrap()
        }

        fn error(self) -> String {
            self.result.unwrap_err().to_string()
        }
    }

    #[test]
    fn what_was_packed_is_unpacked_with_modes_and_long_names() {
        let long = format!("pkg/{}.py", "x".repeat(180));
        let packed = Packed::of(|from| {
            fs::create_dir_all(from.join("pkg/empty")).unwrap();
            fs::write(from.join(&long), "print()").unwrap();
            fs::write(from.join("tool"), "#!/bin/sh").unwrap();
            fs::set_permissions(from.join("tool"), fs::Permissions::from_mode(0o700)).unwrap();
        });
        assert_eq!(packed.result.as_ref().unwrap().files, 2);
        let into = packed.directory.path().join("into");
        fs::create_dir(&into).unwrap();
        assert_eq!(unpack(packed.archive(), &into, small()).unwrap(), *packed.result.as_ref().unwrap());
        assert_eq!(fs::read_to_string(into.join(&long)).unwrap(), "print()");
        assert!(into.join("pkg/empty").is_dir());
        assert_eq!(fs::metadata(into.join("tool")).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(unpack(packed.archive(), &into, small()).is_err(), "no file is written twice");
    }

    #[test]
    fn the_same_content_is_the_same_archive() {
        let content = |from: &Path| {
            for name in ["b", "a"] {
                fs::write(from.join(name), name).unwrap();
            }
        };
        let read = |packed: &Packed| fs::read(packed.directory.path().join("out/archive")).unwrap();
        assert_eq!(read(&Packed::of(content)), read(&Packed::of(content)));
    }

    #[test]
    fn links_and_what_is_too_large_are_not_packed() {
        let link = Packed::of(|from| std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap());
        assert_eq!(link.error(), "link is neither a file nor a folder");
        let large = Packed::of(|from| fs::write(from.join("large"), [0; 1001]).unwrap());
        assert!(large.error().contains("MiB"));
        let many = Packed::of(|from| (0..9).for_each(|n| fs::write(from.join(n.to_string()), "").unwrap()));
        assert!(many.error().contains("more than 8 files"));
        let deep = Packed::of(|from| fs::create_dir_all(from.join("1/2/3/4/5")).unwrap());
        assert!(deep.error().contains("nested more than 4 deep"));
    }
}
