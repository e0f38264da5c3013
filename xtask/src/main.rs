//! `cargo xtask`: the only runner of this repository. Each subcommand is a module with its own arguments and `main`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod cluster;
mod demo;
mod generate;
mod host;
mod images;
mod kubectl;
mod operator;
mod paths;
mod test;
mod versions;

/// The error of a command that has already said all about its failure.
#[derive(Debug)]
struct Told;

impl std::fmt::Display for Told {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("failed as told above")
    }
}

impl std::error::Error for Told {}

#[derive(Parser)]
#[command(name = "cargo xtask", version, about = "Runs everything that this repository needs beside the compiler")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What the operator costs, as ratios in one run, on the embedded cluster
    Bench(bench::Arguments),
    /// The embedded Kubernetes cluster
    Cluster(cluster::cli::Arguments),
    /// A real release and a real run, from nothing, told in plain words
    Demo(demo::Arguments),
    /// Writes every generated file; with `--check`, says which have drifted
    Generate(generate::Arguments),
    /// Container images, made from packages and pushed to a registry
    Images(images::cli::Arguments),
    /// Everything: lints, unit, model, contract, API server and end-to-end tests
    Test(test::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<Told>() {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Bench(arguments) => bench::main(&arguments),
        Command::Cluster(arguments) => cluster::cli::main(arguments),
        Command::Demo(arguments) => demo::main(&arguments),
        Command::Generate(arguments) => generate::main(&arguments),
        Command::Images(arguments) => images::cli::main(arguments),
        Command::Test(arguments) => test::main(&arguments),
    }
}
