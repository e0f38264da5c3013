//! The kubectl plugin.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use timetracker_operator::plugin::{self, PluginArguments};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = plugin::run(PluginArguments::parse()).await;
    let written = match &done {
        Ok(text) => std::io::stdout().write_all(text.as_bytes()),
        Err(error) => writeln!(std::io::stderr(), "error: {error}"),
    };
    if done.is_ok() && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
