//! `install`: puts what a container of a foreign image starts into a shared volume: the agent, and the job's script.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStringExt;
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

/// Writes the script in the environment variable to `file`, mode 0755.
///
/// Scripts travel as data: in a command or its arguments kubelet would expand `$(…)`.
pub(super) fn write_script(variable: &str, file: &Path) -> io::Result<()> {
    let script = std::env::var_os(variable)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("the variable {variable} is not set")))?;
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(file, script.into_vec())?;
    fs::set_permissions(file, Permissions::from_mode(0o755))
}
