//! Plugins for the pytest of foreign images: one tells reports the tests' markers, one which tests are to run again.
//!
//! They lie beside their metadata in a folder at the end of `PYTHONPATH`, where pytest finds them as installed ones. A
//! command that replaces `PYTHONPATH` runs without them, and its report says so: nothing breaks.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

const MARKERS: &str = include_str!("pytest/timetracker_markers.py");
const ROUNDS: &str = include_str!("pytest/timetracker_rounds.py");
const METADATA: &str = "Metadata-Version: 2.1\nName: timetracker-markers\nVersion: 1\n";
const ENTRY_POINTS: &str =
    "[pytest11]\ntimetracker_markers = timetracker_markers\ntimetracker_rounds = timetracker_rounds\n";

/// Writes the plugins into the folder and returns the variable by which Python finds them.
pub(super) fn provide(directory: &Path) -> io::Result<(String, OsString)> {
    let information = directory.join("timetracker_markers-1.dist-info");
    fs::create_dir_all(&information)?;
    fs::write(directory.join("timetracker_markers.py"), MARKERS)?;
    fs::write(directory.join("timetracker_rounds.py"), ROUNDS)?;
    fs::write(information.join("METADATA"), METADATA)?;
    fs::write(information.join("entry_points.txt"), ENTRY_POINTS)?;
    let mut path = std::env::var_os("PYTHONPATH").filter(|path| !path.is_empty()).unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(directory);
    Ok(("PYTHONPATH".to_owned(), path))
}
