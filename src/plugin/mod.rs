//! `kubectl timetracker`: runs pipelines and watches them, reads logs and artifacts, tells what releases are doing.
//!
//! It only talks to the API server, with the rights of whoever calls it. What it shows was written by others in large
//! part (names, messages, logs, artifacts): it is escaped where it is shown, and checked where it becomes a path or an
//! argument.

mod artifacts;
mod changes;
mod completion;
mod error;
mod escape;
mod failures;
mod history;
mod line;
mod logs;
mod progress;
mod run;
mod screen;
mod status;
mod steps;
mod store;
mod text;
mod tree;
mod verdict;
mod view;
#[cfg(test)]
#[path = "view_tests.rs"]
mod views;

use std::cell::RefCell;
use std::io::{self, Write};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};

use crate::api::pipeline::Pipeline;
use crate::api::release::TimeTrackerRelease;
use crate::api::run::PipelineRun;
use error::Access;
pub use error::PluginError;
use screen::Output;
use store::{Store, StoreError};
pub use text::shown;
use verdict::Invocation;

const RELEASES: &str = "timetrackerreleases.timetracker.dev";
const RUNS: &str = "pipelineruns.timetracker.dev";
const PIPELINES: &str = "pipelines.timetracker.dev";
/// Who writes what the plugin writes.
const FIELD_MANAGER: &str = "kubectl-timetracker";
const CONNECT: Duration = Duration::from_secs(10);

/// `kubectl timetracker`: run pipelines, watch them, and see what releases are doing.
#[derive(Debug, clap::Parser)]
#[command(name = "kubectl-timetracker", bin_name = "kubectl timetracker", version, about)]
pub struct PluginArguments {
    #[command(flatten)]
    selection: Selection,
    #[command(subcommand)]
    command: Command,
}

/// Which cluster and namespace, and where its artifact store is.
#[derive(Debug, Clone, Default, clap::Args)]
struct Selection {
    /// The namespace; default is that of the context.
    #[arg(long, short, global = true)]
    namespace: Option<String>,
    /// The context of the kubeconfig; default is the current one.
    #[arg(long, global = true)]
    context: Option<String>,
    /// The artifact store: the operator's namespace, or an address such as `http://127.0.0.1:8080`; default is where the run says it is.
    #[arg(long, global = true, value_name = "NAMESPACE|URL")]
    store: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start a pipeline and watch the run until it ends.
    Run(run::RunArguments),
    /// Watch a run that is under way.
    Watch(run::WatchArguments),
    /// What runs, what is coming and why it waits, for all releases and the newest runs, or for one of that name.
    Status(status::StatusArguments),
    /// Print the logs of a run's jobs.
    Logs(logs::LogsArguments),
    /// Stop a run.
    Cancel(run::CancelArguments),
    /// Repeat a run on the same commit: all of it, or only what failed.
    Rerun(run::RerunArguments),
    /// List what a run has left, or download it.
    Artifacts(artifacts::ArtifactsArguments),
    /// The last deliveries of a release and its quarantined digests.
    History(history::HistoryArguments),
    /// Print a script that completes `kubectl-timetracker` in a shell.
    Completion(completion::CompletionArguments),
    /// Candidates for kubectl's completion of plugins.
    #[command(name = "__complete", hide = true)]
    Complete(completion::CandidateArguments),
}

/// How a command ended that could do what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The run succeeded, or the question was answered.
    Success,
    /// The run that was watched failed or was cancelled.
    Failure,
    /// Ctrl-C.
    Interrupted,
}

impl Ending {
    /// The exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Interrupted => 130,
        }
    }
}

/// What all commands share.
struct Context {
    client: Client,
    namespace: String,
    store_option: Option<String>,
    invocation: Invocation,
    output: Output,
    /// The run that is being watched: what Ctrl-C leaves behind.
    watched: RefCell<Option<String>>,
}

impl Context {
    async fn connect(selection: Selection) -> Result<Self, PluginError> {
        let Selection { namespace, context, store } = selection;
        namespace.as_deref().map(checked).transpose()?;
        let failed = |error: &dyn std::error::Error| PluginError::Connect(error.to_string());
        let mut config = match &context {
            None => Config::infer().await.map_err(|error| failed(&error))?,
            Some(_) => {
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                Config::from_kubeconfig(&options).await.map_err(|error| failed(&error))?
            }
        };
        // It would repeat a creation too.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        let client = Client::try_from(config).map_err(|error| failed(&error))?;
        Ok(Self {
            namespace: namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned()),
            client,
            store_option: store,
            invocation: Invocation::of(namespace.as_deref(), context.as_deref()),
            output: Output::of_process(),
            watched: RefCell::new(None),
        })
    }

    fn releases(&self) -> Api<TimeTrackerRelease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn pipelines(&self) -> Api<Pipeline> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn runs(&self) -> Api<PipelineRun> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The run of that name.
    async fn run(&self, name: &str) -> Result<PipelineRun, PluginError> {
        let name = checked(name)?;
        let found = Access::new("get", RUNS, &self.namespace).found(self.runs().get(name).await)?;
        found.ok_or_else(|| PluginError::NotFound {
            kind: "PipelineRun",
            name: name.to_owned(),
            namespace: self.namespace.clone(),
            hint: format!("; {} lists them", self.invocation.command(&["status"])),
        })
    }

    async fn store(&self, run: &PipelineRun) -> Result<Store, StoreError> {
        let told = run.status.as_ref().and_then(|status| status.artifacts.as_deref());
        Store::find(&self.client, self.store_option.as_deref(), told).await
    }

    fn watched(&self, run: Option<&str>) {
        *self.watched.borrow_mut() = run.map(str::to_owned);
    }

    /// What Ctrl-C has stopped, and what goes on.
    fn interrupted(&self) -> Option<String> {
        let run = self.watched.borrow().clone()?;
        let command = |word| self.invocation.command(&[word, &run]);
        Some(format!("run {run} goes on; {} stops it, {} watches it again", command("cancel"), command("watch")))
    }
}

/// What can be an object's name: anything else would be another path of the API server.
fn checked(name: &str) -> Result<&str, PluginError> {
    if store::is_resource_name(name) { Ok(name) } else { Err(PluginError::NoName(name.to_owned())) }
}

/// Does what the arguments say.
///
/// # Errors
/// When the API server or the artifact store can't be reached or refuses, or the arguments make no sense there.
pub async fn run(arguments: PluginArguments) -> Result<Ending, PluginError> {
    match &arguments.command {
        Command::Completion(own) => return completion::completion(*own),
        Command::Complete(own) => return completion::candidates(own).await,
        Command::Run(_)
        | Command::Watch(_)
        | Command::Status(_)
        | Command::Logs(_)
        | Command::Cancel(_)
        | Command::Rerun(_)
        | Command::Artifacts(_)
        | Command::History(_) => {}
    }
    let context = Context::connect(arguments.selection).await?;
    tokio::select! {
        ended = dispatch(&context, &arguments.command) => ended,
        _ = tokio::signal::ctrl_c() => {
            if let Some(told) = context.interrupted() {
                let mut stderr = io::stderr().lock();
                writeln!(stderr, "\n{}", shown(&told))?;
            }
            Ok(Ending::Interrupted)
        }
    }
}

async fn dispatch(context: &Context, command: &Command) -> Result<Ending, PluginError> {
    match command {
        Command::Run(own) => run::run(context, own).await,
        Command::Watch(own) => run::watch(context, own).await,
        Command::Status(own) => status::status(context, own).await,
        Command::Logs(own) => logs::logs(context, own).await,
        Command::Cancel(own) => run::cancel(context, own).await,
        Command::Rerun(own) => run::rerun(context, own).await,
        Command::Artifacts(own) => artifacts::artifacts(context, own).await,
        Command::History(own) => history::history(context, own).await,
        Command::Completion(_) | Command::Complete(_) => Ok(Ending::Success),
    }
}
