//! A plugin for the pytest of foreign images: it tells reports the tests' markers.
//!
//! It lies beside its metadata in a folder at the end of `PYTHONPATH`, where pytest finds it as an installed one. A
//! command that replaces `PYTHONPATH` runs without it, and its report says so: nothing breaks.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

const MODULE: &str = include_str!("pytest/timetracker_markers.py");
const METADATA: &str = "Metadata-Version: 2.1\nName: timetracker-markers\nVersion: 1\n";
const ENTRY_POINTS: &str = "[pytest11]\ntimetracker_markers = timetracker_markers\n";

/// Writes the plugin into the folder and returns the variable by which Python finds it.
pub(super) fn provide(directory: &Path) -> io::Result<(String, OsString)> {
    let information = directory.join("timetracker_markers-1.dist-info");
    fs::create_dir_all(&information)?;
    fs::write(directory.join("timetracker_markers.py"), MODULE)?;
    fs::write(information.join("METADATA"), METADATA)?;
    fs::write(information.join("entry_points.txt"), ENTRY_POINTS)?;
    let mut path = std::env::var_os("PYTHONPATH").filter(|path| !path.is_empty()).unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(directory);
    Ok(("PYTHONPATH".to_owned(), path))
}
