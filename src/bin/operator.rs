//! The operator's workloads and its generators.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use timetracker_operator::artifacts::{self, ArtifactsArguments};
use timetracker_operator::controller::{self, ControllerArguments};
use timetracker_operator::generate;
use timetracker_operator::telemetry::{LogFormat, init_logs};
use tokio::runtime::Builder;

/// Delivers TimeTracker from commit to production.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// How log lines look.
    #[arg(long, global = true, env = "LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// What is logged, in the grammar of RUST_LOG.
    #[arg(long, global = true, env = "RUST_LOG", default_value = "info")]
    log_filter: String,
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// Reconciles the custom resources.
    Controller(ControllerArguments),
    /// Keeps reports, logs and artifacts of jobs. Holds no rights in the cluster.
    Artifacts(Box<ArtifactsArguments>),
    /// Prints the custom resource definitions, or writes them as files.
    Crds {
        /// The folder to write to; absent: standard output.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    init_logs(arguments.log_format, &arguments.log_filter);
    // One TLS provider for kube, octocrab and reqwest; the first to install wins.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed before");
    }
    match run(arguments.workload) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}

fn run(workload: Workload) -> Result<(), Box<dyn std::error::Error>> {
    match workload {
        // It waits nearly always: waking one thread after the other would cost a fifth of its CPU.
        Workload::Controller(arguments) => {
            Ok(Builder::new_current_thread().enable_all().build()?.block_on(controller::run(arguments))?)
        }
        Workload::Artifacts(arguments) => {
            let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            Ok(runtime.block_on(artifacts::serve(*arguments, controller::stop_asked()))?)
        }
        Workload::Crds { dir: None } => Ok(std::io::stdout().write_all(generate::crds_yaml()?.as_bytes())?),
        Workload::Crds { dir: Some(folder) } => {
            std::fs::create_dir_all(&folder)?;
            for file in generate::crd_files()? {
                std::fs::write(folder.join(file.path), file.text)?;
            }
            Ok(())
        }
    }
}
