//! `cargo xtask`: the only runner of this repository. Each subcommand is a module with its own arguments and `main`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod cluster;
mod generate;
mod host;
mod images;
mod paths;
mod versions;

#[derive(Parser)]
#[command(name = "cargo xtask", version, about = "Runs everything that this repository needs beside the compiler")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The embedded Kubernetes cluster
    Cluster(cluster::cli::Arguments),
    /// Writes every generated file; with `--check`, says which have drifted
    Generate(generate::Arguments),
    /// Container images, made from packages and pushed to a registry
    Images(images::cli::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Cluster(arguments) => cluster::cli::main(arguments),
        Command::Generate(arguments) => generate::main(&arguments),
        Command::Images(arguments) => images::cli::main(arguments),
    }
}
