//! The sample app's own tests, in an environment with exactly its requirements.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::runner::Runner;
use crate::host::progress::Progress;
use crate::host::run;
use crate::paths;

const REQUIREMENTS: [&str; 2] = ["requirements.txt", "requirements-test.txt"];

/// Runs the suite that every pipeline of the demo and the tests runs too.
///
/// # Errors
/// When its environment can't be made.
pub fn sample_app(runner: &mut Runner) -> Result<()> {
    let folder = paths::repository().join("dev/timetracker");
    let mut pytest = Command::new(interpreter(runner.progress())?);
    pytest.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"]).current_dir(folder);
    pytest.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("DATABASE_URL");
    runner.counted("tests of the sample app", &mut pytest);
    Ok(())
}

/// The Python that finds all that the sample app and its tests import.
///
/// # Errors
/// When its environment can't be made.
pub fn interpreter(progress: &Progress) -> Result<PathBuf> {
    Ok(environment(progress)?.join("bin/python"))
}

/// A virtual environment in the cache, named by what is in it.
fn environment(progress: &Progress) -> Result<PathBuf> {
    let folder = paths::repository().join("dev/timetracker");
    let mut hasher = Sha256::new();
    for file in REQUIREMENTS {
        hasher.update(fs::read(folder.join(file)).with_context(|| format!("reading {file}"))?);
    }
    let key = hex::encode(hasher.finalize())[..16].to_owned();
    let environments = paths::cache().join("python");
    let target = environments.join(format!("sample-{key}"));
    let finished = target.join("finished");
    if finished.exists() {
        return Ok(target);
    }
    progress.step("installing the sample app's requirements (once)", || {
        fs::create_dir_all(&environments)?;
        // Made in its place, as its programs name their interpreter by path; the mark says that it is whole.
        run::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&target))?;
        let mut pip = Command::new(target.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
        for file in REQUIREMENTS {
            pip.arg("--requirement").arg(folder.join(file));
        }
        run::output(&mut pip)?;
        fs::write(&finished, "").context("marking the environment as finished")
    })?;
    Ok(target)
}
