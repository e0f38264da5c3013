//! `cargo xtask images …`

use anyhow::{Result, bail};
use clap::Args;

use super::catalogue::{self, Catalogue};
use super::registry::Registry;
use crate::host::progress::{Progress, seconds};

/// Arguments of `cargo xtask images`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Images to make, by the names that --list shows, or `samples` for all versions of the sample app; all but those when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Show the names and references, and make nothing
    #[arg(long, conflicts_with = "names")]
    list: bool,
    /// Registry, perhaps with a path, that they are pushed to
    #[arg(long, value_name = "HOST[/PATH]", default_value = catalogue::REGISTRY)]
    registry: String,
    /// Repository and tag in that registry, instead of the image's own
    #[arg(long = "as", value_name = "REPOSITORY:TAG", requires = "names")]
    target: Option<String>,
    /// Make everything anew, with today's packages
    #[arg(long)]
    rebuild: bool,
}

/// Runs the command.
///
/// # Errors
/// Those of the images.
pub fn main(arguments: Arguments) -> Result<()> {
    let progress = Progress::new();
    let catalogue = Catalogue::open(arguments.registry, arguments.rebuild)?;
    if arguments.list {
        for name in catalogue.all()? {
            println!("{:<26} {:<54} {}", name.text(), catalogue.reference(&name), name.about());
        }
        return Ok(());
    }
    let selected = catalogue.select(&arguments.names)?;
    if arguments.target.is_some() && selected.len() > 1 {
        bail!("--as names one reference, and {} images were asked for", selected.len());
    }
    let registry = Registry::new()?;
    catalogue.prepare(&selected, &progress)?;
    for name in selected {
        let begun = progress.elapsed();
        let target = match &arguments.target {
            Some(target) => catalogue.in_registry(target),
            None => catalogue.reference(&name),
        };
        let pushed = catalogue.push(&name, &target, &registry, &progress)?;
        let state = if pushed.changed { "pushed" } else { "unchanged" };
        let took = seconds(progress.elapsed().saturating_sub(begun));
        progress.say(format!("{state} {} {} {} in {took}", pushed.reference, pushed.digest, mebibytes(pushed.size)));
    }
    Ok(())
}

fn mebibytes(bytes: i64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
