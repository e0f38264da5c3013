//! `cargo xtask bench`: what the operator costs, measured on the embedded cluster.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use crate::cluster::Embedded;
use crate::host::progress::Progress;
use crate::operator::{self, Images};
use crate::test;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only these scenarios: levels, at-once, fan-out, chain, delivery, workflow, environments, kept
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
}

/// Runs the command. The table goes to standard output, progress to standard error.
///
/// # Errors
/// When the cluster does not come up, or a scenario does not end as it should.
pub fn main(arguments: &Arguments) -> Result<()> {
    let progress = Progress::new();
    let cluster = Embedded::ensure_up(&progress)?;
    let images = Images::push(&cluster, &progress)?;
    images.push_samples("samples/timetracker", &progress)?;
    let mut values = images.values(&cluster)?;
    // What it logs costs, so it logs as much as on any cluster.
    values["log"] = json!({});
    // By hand nothing waits for room either.
    values["config"]["limits"] = json!({"jobs": 200, "jobsPerNamespace": 200});
    progress.step("installing the operator", || operator::install_with(&cluster, &values))?;
    let mut command = test::bench(&arguments.scenarios);
    let status = test::point_at(&cluster, &mut command)?.status()?;
    if !status.success() {
        bail!("a scenario did not end as it should; the log above says why");
    }
    Ok(())
}
