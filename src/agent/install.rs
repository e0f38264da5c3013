//! `install`: copies the agent into a shared volume, for containers of foreign images to start it from there.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Name of the installed binary.
pub(super) const BINARY: &str = "timetracker-agent";

/// Copies the running binary to `directory/timetracker-agent`, mode 0755, and returns its path.
///
/// Written beside its place and renamed, so that nobody ever starts half a binary.
pub(super) fn install(directory: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let target = directory.join(BINARY);
    let unfinished = directory.join(format!(".{BINARY}.{}", std::process::id()));
    let copied = fs::copy(std::env::current_exe()?, &unfinished)
        .and_then(|_| fs::set_permissions(&unfinished, Permissions::from_mode(0o755)))
        .and_then(|()| fs::File::open(&unfinished)?.sync_all())
        .and_then(|()| fs::rename(&unfinished, &target));
    if let Err(error) = copied {
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    Ok(target)
}
