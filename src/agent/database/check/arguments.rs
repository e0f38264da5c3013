//! What a check is told.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::super::DatabaseError;
use crate::agent::duration;

/// Arguments of `database check`. The database in `DATABASE_URL` must be empty: it is filled, and thrown away.
#[derive(Debug, clap::Args)]
pub(in crate::agent) struct Check {
    /// The commit's tree.
    #[arg(long, default_value = "/workspace")]
    pub(super) workspace: PathBuf,
    /// The base commit's tree; where it is not there, the chain starts one step below the commit's heads.
    #[arg(long)]
    pub(super) base: Option<PathBuf>,
    /// The folder of the migrations, in the trees.
    #[arg(long, default_value = "migrations")]
    pub(super) migrations: PathBuf,
    /// The folder, or the file, of the models, in the trees.
    #[arg(long, default_value = "app/models")]
    pub(super) models: PathBuf,
    /// The commands run with the packages that the commit's own requirement files name, not with those of an image.
    #[arg(long)]
    pub(super) own_packages: bool,
    /// Where `migration-report.json` and `migration-report.md` go.
    #[arg(long)]
    pub(super) reports: PathBuf,
    /// Where head and tail of the commands' output are kept.
    #[arg(long)]
    pub(super) log_dir: Option<PathBuf>,
    /// How long all of it may take.
    #[arg(long, default_value = "20m", value_parser = duration::parse)]
    pub(super) timeout: Duration,
    /// From TERM to KILL.
    #[arg(long, default_value = "20s", value_parser = duration::parse)]
    pub(super) grace: Duration,
    /// Locks that stop readers or writers should not be held longer.
    #[arg(long, default_value = "5s", value_parser = duration::parse)]
    pub(super) lock_limit: Duration,
    /// How long to wait for the server in all.
    #[arg(long, default_value = "60s", value_parser = duration::parse)]
    pub(super) connect_timeout: Duration,
    /// The linter.
    #[arg(long, default_value = "squawk")]
    pub(super) squawk: OsString,
    /// The image's Python.
    #[arg(long, default_value = "python")]
    pub(super) python: OsString,
}

impl Check {
    /// The base commit's tree, when there is one: a first commit has none.
    pub(super) fn base(&self) -> Option<&Path> {
        self.base.as_deref().filter(|base| base.is_dir())
    }

    /// Paths that lead out of the trees, or that a program would take for an option.
    pub(super) fn refuse_odd_paths(&self) -> Result<(), DatabaseError> {
        for path in [&self.migrations, &self.models] {
            if is_odd(path) {
                let told = format!("`{}` is no path inside the repository", path.display());
                return Err(DatabaseError::configuration(told));
            }
        }
        Ok(())
    }
}

fn is_odd(path: &Path) -> bool {
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    !plain || path.as_os_str().is_empty() || path.to_str().is_none_or(|text| text.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("migrations", false)]
    #[case("app/models", false)]
    #[case("", true)]
    #[case("/etc", true)]
    #[case("../elsewhere", true)]
    #[case("--help", true)]
    fn paths_stay_inside_the_repository(#[case] path: &str, #[case] odd: bool) {
        assert_eq!(is_odd(Path::new(path)), odd);
    }
}
