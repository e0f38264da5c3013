//! `cargo xtask`: the only runner of this repository. Each subcommand is a module with its own arguments.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod images;

#[derive(Parser)]
#[command(name = "cargo xtask", version, about = "Runs everything that the repository needs beside the compiler")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {}
}
