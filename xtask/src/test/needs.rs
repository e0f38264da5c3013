//! What building and testing needs from the distribution.

use std::process::Command;

use anyhow::Result;

use crate::host::apt::{self, Need};
use crate::host::progress::Progress;
use crate::host::run;

const PROGRAMS: [Need; 4] = [
    Need { file: "cc", package: "gcc" },
    Need { file: "git", package: "git" },
    Need { file: "python3", package: "python3" },
    Need { file: "setpriv", package: "util-linux" },
];

const PIP: Need = Need { file: "/usr/lib/python3/dist-packages/pip", package: "python3-pip" };
const VENV: Need = Need { file: "/usr/lib/python3.11/ensurepip", package: "python3-venv" };

/// Installs what is missing, where this is a Debian and we may.
///
/// # Errors
/// When something is missing that can't be installed.
pub fn ensure(progress: &Progress) -> Result<()> {
    apt::ensure(&PROGRAMS, progress)?;
    // A Python from elsewhere brings both, and Debian's packages would be none of its.
    if !run::succeeds(python().args(["-m", "pip", "--version"])) {
        apt::ensure(&[PIP], progress)?;
    }
    if !run::succeeds(python().args(["-c", "import ensurepip, venv"])) {
        apt::ensure(&[VENV], progress)?;
    }
    Ok(())
}

fn python() -> Command {
    Command::new("python3")
}
