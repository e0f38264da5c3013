//! `environment`: the dependencies of a repository as one folder, made once and used by several jobs.
//!
//! `identify` names it by what its requirement files say, before any foreign code runs; `pack` puts what pip has
//! installed into one archive; `unpack` brings that archive into the pod of a job that uses it. `publish` makes an image
//! of it for later runs, which `identify` finds by its name, and deletes those that no run uses any more.

mod archive;
mod identify;
mod layer;
mod publish;
mod registry;
mod requirements;
mod sweep;
mod unpack;

use clap::{Args, Subcommand};

use super::message::Secrets;
use super::process::Terminate;
use super::report::EnvironmentReport;
use archive::PackOptions;
use identify::IdentifyOptions;
use publish::PublishOptions;
use unpack::UnpackOptions;

/// What is done about an environment.
#[derive(Debug, Args)]
pub(super) struct Environment {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Names it by the content of its requirement files, and what determines it else.
    Identify(Box<IdentifyOptions>),
    /// Puts the folder into one archive.
    Pack(PackOptions),
    /// Brings the archive of another job of the run, and unpacks it.
    Unpack(UnpackOptions),
    /// Makes an image of the archive of another job of the run, and pushes it.
    Publish(Box<PublishOptions>),
}

/// Does it.
pub(super) async fn environment(
    options: &Environment,
    terminate: &mut Terminate,
    secrets: &Secrets,
) -> EnvironmentReport {
    match &options.command {
        Command::Identify(options) => identify::identify(options, secrets).await,
        Command::Pack(options) => archive::packed(options, secrets),
        Command::Unpack(options) => unpack::unpack(options, terminate, secrets).await,
        Command::Publish(options) => publish::publish(options, terminate, secrets).await,
    }
}
