//! Files that a job has left, opened beneath their folder: no link leads out of it, no pipe blocks us.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat};

/// How deep folders are followed.
const MAX_DEPTH: usize = 32;
/// How many files one folder may hold in all.
const MAX_FILES: usize = 20_000;

/// A folder that was opened once; everything else is opened beneath it.
pub(in crate::agent) struct Folder(OwnedFd);

/// What stands at a path beneath a folder.
pub(super) enum Entry {
    File(File),
    Folder(Folder),
}

/// A regular file found below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Relative to the folder.
    pub(super) path: PathBuf,
    /// In bytes.
    pub(super) size: u64,
}

/// What there is below a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// All regular files, by path.
    pub(super) files: Vec<Found>,
    /// Links and special files, by path: nobody reads them.
    pub(super) others: Vec<PathBuf>,
}

impl Folder {
    /// Opens the folder itself; its own path is the operator's, not the job's.
    pub(in crate::agent) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Opens what stands at `path`: a regular file or a folder, and nothing that is reached through a link.
    pub(super) fn entry(&self, path: &Path) -> io::Result<Entry> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let opened = openat2(self.0.as_fd(), path, flags, Mode::empty(), beneath)?;
        match FileType::from_raw_mode(fstat(&opened)?.st_mode) {
            FileType::RegularFile => Ok(Entry::File(File::from(opened))),
            FileType::Directory => Ok(Entry::Folder(Self(opened))),
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a file nor a folder")),
        }
    }

    /// The file at `path`.
    pub(in crate::agent) fn file(&self, path: &Path) -> io::Result<File> {
        match self.entry(path)? {
            Entry::File(file) => Ok(file),
            Entry::Folder(_) => Err(io::Error::new(io::ErrorKind::IsADirectory, "a folder")),
        }
    }

    /// The file's content, as long as it is not longer than `limit`.
    pub(in crate::agent) fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.file(path)?.take(limit.saturating_add(1)).read_to_end(&mut content)?;
        if u64::try_from(content.len()).unwrap_or(u64::MAX) > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
        }
        Ok(content)
    }

    /// All regular files below, by path.
    ///
    /// # Errors
    /// As of [`Self::list`].
    pub(super) fn files(&self) -> io::Result<Vec<Found>> {
        Ok(self.list()?.files)
    }

    /// All that is below.
    ///
    /// # Errors
    /// When that is too much, or nested too deeply.
    pub(super) fn list(&self) -> io::Result<Listing> {
        let Listing { files: mut found, mut others } = Listing::default();
        let mut pending = vec![PathBuf::new()];
        while let Some(path) = pending.pop() {
            if path.components().count() > MAX_DEPTH {
                return Err(io::Error::other(format!("folders are nested more than {MAX_DEPTH} deep")));
            }
            let below = if path.as_os_str().is_empty() {
                None
            } else {
                match self.entry(&path) {
                    Ok(Entry::Folder(folder)) => Some(folder),
                    Ok(Entry::File(_)) | Err(_) => continue,
                }
            };
            let folder = below.as_ref().unwrap_or(self);
            for entry in Dir::read_from(&folder.0)?.flatten() {
                let bytes = entry.file_name().to_bytes();
                if matches!(bytes, b"." | b"..") {
                    continue;
                }
                let Ok(name) = std::str::from_utf8(bytes) else { continue };
                let status = statat(&folder.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
                match FileType::from_raw_mode(status.st_mode) {
                    FileType::Directory => pending.push(path.join(name)),
                    FileType::RegularFile => {
                        let size = u64::try_from(status.st_size).unwrap_or_default();
                        found.push(Found { path: path.join(name), size });
                    }
                    FileType::Symlink
                    | FileType::Fifo
                    | FileType::Socket
                    | FileType::CharacterDevice
                    | FileType::BlockDevice
                    | FileType::Unknown => others.push(path.join(name)),
                }
                if found.len() + pending.len() + others.len() > MAX_FILES {
                    return Err(io::Error::other(format!("there are more than {MAX_FILES} files")));
                }
            }
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        others.sort();
        Ok(Listing { files: found, others })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_pipes_lead_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        fs::write(directory.path().join("sub/file"), "content").unwrap();
        symlink(outside.path(), directory.path().join("away")).unwrap();
        symlink(outside.path().join("secret"), directory.path().join("link")).unwrap();
        symlink("sub/file", directory.path().join("inner")).unwrap();
        rustix::fs::mknodat(CWD, directory.path().join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        // Only root makes devices.
        let zero = rustix::fs::makedev(1, 5);
        let device =
            rustix::fs::mknodat(CWD, directory.path().join("zero"), FileType::CharacterDevice, Mode::RWXU, zero);
        let folder = Folder::open(directory.path()).unwrap();
        assert_eq!(folder.read(Path::new("sub/file"), 7).unwrap(), b"content");
        assert!(folder.read(Path::new("sub/file"), 6).is_err(), "the bound holds");
        for path in ["away/secret", "link", "inner", "pipe", "zero", "../x", "/etc/passwd", "sub"] {
            assert!(folder.read(Path::new(path), 100).is_err(), "{path}");
        }
        let listing = folder.list().unwrap();
        assert_eq!(listing.files, [Found { path: "sub/file".into(), size: 7 }]);
        let mut others: Vec<&Path> = ["away", "inner", "link", "pipe"].iter().map(Path::new).collect();
        others.extend(device.is_ok().then_some(Path::new("zero")));
        assert_eq!(listing.others, others);
    }
}
