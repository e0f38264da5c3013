//! The kubectl plugin.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use timetracker_operator::plugin::{self, PluginArguments};

/// A command that can't be understood or done; clap ends with it too.
const FAILED: u8 = 2;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match plugin::run(PluginArguments::parse()).await {
        Ok(ending) => ExitCode::from(ending.code()),
        // Whoever read the output has seen enough.
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody left to tell when this fails.
            let _ = writeln!(std::io::stderr(), "error: {}", plugin::shown(&error.to_string()));
            ExitCode::from(FAILED)
        }
    }
}
