//! Where things are: the checkout, the cache of built things, the state of the embedded cluster.

use std::env;
use std::path::{Path, PathBuf};

/// The root of this repository's checkout.
pub fn repository() -> PathBuf {
    // Set by cargo when it runs this program; the build-time value serves when the program is started directly.
    let package =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_path_buf)
}

/// Built programs and images, which outlive clusters and checkouts: `$TIMETRACKER_CACHE` or `~/.cache/timetracker-operator`.
pub fn cache() -> PathBuf {
    if let Some(folder) = env::var_os("TIMETRACKER_CACHE").filter(|value| !value.is_empty()) {
        return PathBuf::from(folder);
    }
    let home = env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    home.join(".cache/timetracker-operator")
}

/// Folders of the cache: built programs, built images.
pub const CACHED: [&str; 2] = ["programs", "images"];

/// State of the embedded cluster: `$TIMETRACKER_CLUSTER_DIR` or `/var/lib/timetracker-cluster`.
pub fn cluster_state() -> PathBuf {
    env::var_os("TIMETRACKER_CLUSTER_DIR")
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from("/var/lib/timetracker-cluster"), PathBuf::from)
}
