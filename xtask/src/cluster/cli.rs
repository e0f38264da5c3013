//! `cargo xtask cluster …`

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use super::layout::Layout;
use super::{Embedded, binaries, components, down, lock, status};
use crate::host::checks;
use crate::host::progress::{Progress, seconds};
use crate::paths;

/// Arguments of `cargo xtask cluster`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start the embedded cluster, or whatever of it does not run
    Up,
    /// Stop it and remove everything that it left on this machine
    Down {
        /// Also remove the built programs and images
        #[arg(long)]
        purge: bool,
    },
    /// Show its processes and whether they work; ends with 1 when something does not
    Status,
    /// Print the path of its kubeconfig
    Kubeconfig {
        /// Print the content instead
        #[arg(long)]
        content: bool,
    },
    /// Show the log of one component
    Logs {
        /// As named by `cluster status`
        component: String,
        /// Go on as it grows
        #[arg(short, long)]
        follow: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// Those of the command.
pub fn main(arguments: Arguments) -> Result<()> {
    let layout = Layout::new(paths::cluster_state());
    match arguments.command {
        Action::Up => {
            let cluster = Embedded::ensure_up(&Progress::new())?;
            println!("export KUBECONFIG={}", layout.kubeconfig().display());
            println!("alias kubectl={}", cluster.kubectl().get_program().to_string_lossy());
            Ok(())
        }
        Action::Down { purge } => stop(&layout, purge),
        Action::Status => {
            require(&layout)?;
            if status::print(&layout, &binaries::ensure(&Progress::new())?)? {
                return Ok(());
            }
            bail!("not everything works; remedy: cargo xtask cluster up, or cargo xtask cluster logs <component>")
        }
        Action::Kubeconfig { content } => {
            require(&layout)?;
            if content {
                print!("{}", fs::read_to_string(layout.kubeconfig())?);
            } else {
                println!("{}", layout.kubeconfig().display());
            }
            Ok(())
        }
        Action::Logs { component, follow } => logs(&layout, &component, follow),
    }
}

fn stop(layout: &Layout, purge: bool) -> Result<()> {
    let progress = Progress::new();
    checks::root()?;
    layout.require_own()?;
    let _lock = lock(layout)?;
    // Programs are only named, never run, so none has to be built to stop the cluster.
    let all = components::all(layout, &binaries::Binaries::nowhere());
    let problems = down::run(layout, &all, &progress)?;
    if purge {
        progress.say("removing the cache");
        purge_cache()?;
    }
    if problems.is_empty() {
        progress.say(format!("cluster is down, nothing is left ({})", seconds(progress.elapsed())));
        return Ok(());
    }
    bail!("the cluster is down, but this is left:\n  {}", problems.join("\n  "))
}

/// Only what is known to be ours, as the cache's place is the user's choice.
fn purge_cache() -> Result<()> {
    for name in paths::CACHED {
        let folder = paths::cache().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        }
    }
    // Stays when something else is in it.
    let _ = fs::remove_dir(paths::cache());
    Ok(())
}

fn logs(layout: &Layout, component: &str, follow: bool) -> Result<()> {
    let log = layout.log(component);
    if !log.is_file() {
        let names: Vec<&str> =
            components::all(layout, &binaries::Binaries::nowhere()).iter().map(|component| component.name).collect();
        bail!("there is no log of {component:?}; components: {}", names.join(", "));
    }
    let mut command = Command::new("tail");
    command.args(["-n", "500"]);
    if follow {
        command.arg("-F");
    }
    Err(command.arg(log).exec().into())
}

fn require(layout: &Layout) -> Result<()> {
    if layout.kubeconfig().exists() {
        return Ok(());
    }
    bail!("there is no embedded cluster here; remedy: cargo xtask cluster up")
}
