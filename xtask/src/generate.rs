//! `cargo xtask generate`: writes every generated file, or with `--check` says which have drifted.
//!
//! The tests that compare the files also write them, so that both always mean the same files.

use std::env;
use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// CRDs, chart CRDs, schemas of values and configuration, the field reference, config/default.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Changes nothing; fails when a file is not what it should be.
    #[arg(long)]
    check: bool,
}

/// Test targets of the package, each with the tests that compare generated files. The second needs the first one's files.
const TARGETS: [(&str, &str); 2] = [("generated", "drifted"), ("charts", "drifted")];

/// Runs the subcommand.
///
/// # Errors
/// When cargo can't be started, or a file has drifted.
pub fn main(arguments: &Arguments) -> Result<()> {
    for (target, filter) in TARGETS {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        command.args(["test", "--quiet", "--package", "timetracker-operator", "--test", target, filter]);
        if arguments.check {
            command.env_remove("TIMETRACKER_UPDATE");
        } else {
            command.env("TIMETRACKER_UPDATE", "1");
        }
        let status = command.status().context("starting cargo")?;
        if !status.success() {
            bail!("target {target}: generated files are not what they should be");
        }
    }
    Ok(())
}
