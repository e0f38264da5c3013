//! The command line.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::collect::{CollectOptions, Destination, collect};
use super::contract::contract;
use super::database::{Check, InspectOptions, MigrateOptions, check, inspect, migrate};
use super::environment::{Environment, environment};
use super::fetch::{FetchOptions, fetch};
use super::message::{self, Report, Secrets};
use super::process::Terminate;
use super::report::{
    CheckReport, ContractReport, EnvironmentReport, FetchReport, InspectReport, MigrationReport, ResolveReport,
    SourceFailure, SourceReport,
};
use super::source::{BaseOptions, History, Named, SourceOptions, resolve, source};
use super::{duration, exec, install};
use crate::api::names::{CommitSha, Digest, GitRef};
use crate::schema::check::Verdict;

/// Runs in Job pods of timetracker-operator.
#[derive(Debug, Parser)]
#[command(name = "timetracker-agent", version)]
struct Arguments {
    /// Where the JSON report goes.
    #[arg(long, global = true, default_value = "/dev/termination-log")]
    termination_message: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copies this binary into a shared volume.
    Install {
        /// The volume's directory.
        directory: PathBuf,
        /// A script to be written beside it: VARIABLE=FILE.
        #[arg(long, value_parser = variable_and_file)]
        script: Option<(String, PathBuf)>,
    },
    /// Checks out a commit, and installs what the job's container needs.
    Source(Source),
    /// Says which commit a branch or tag of the server names now.
    Resolve {
        /// The repository, by http, https or ssh. A token comes in `SOURCE_TOKEN`.
        #[arg(long)]
        url: String,
        /// The branch.
        #[arg(long, required_unless_present = "tag", conflicts_with = "tag")]
        branch: Option<GitRef>,
        /// The tag; a tag object is peeled.
        #[arg(long)]
        tag: Option<GitRef>,
        /// How long the server may take.
        #[arg(long, default_value = "60s", value_parser = duration::parse)]
        timeout: Duration,
    },
    /// Prints what the image's code needs of its database.
    Contract {
        /// How long the code may take to answer.
        #[arg(long, default_value = "60s", value_parser = duration::parse)]
        timeout: Duration,
        /// The image's Python, reading a script from standard input.
        #[arg(last = true, default_values = ["python", "-"])]
        python: Vec<OsString>,
    },
    /// Inspects or migrates the database in `DATABASE_URL`.
    #[command(subcommand)]
    Database(Database),
    /// Runs a job's command.
    Exec(Exec),
    /// Brings what a job reads of other jobs of its run.
    Fetch(FetchOptions),
    /// Names, packs or brings an environment: what requirement files install.
    Environment(Environment),
    /// Waits for SIGTERM, then tells and uploads what a job has left.
    Collect(Collect),
}

#[derive(Debug, Subcommand)]
enum Database {
    /// Reads schema, revisions and ledger; creates nothing.
    Inspect {
        /// A schema contract to hold against the database: DIGEST=FILE, the digest being the image's.
        #[arg(long = "contract", value_parser = digest_and_file)]
        contracts: Vec<(Digest, PathBuf)>,
        /// The digest whose newest ledger row is to be reported.
        #[arg(long)]
        digest: Option<Digest>,
        /// How long to wait for the server in all.
        #[arg(long, default_value = "30s", value_parser = duration::parse)]
        connect_timeout: Duration,
    },
    /// Migrates, once.
    Migrate(Migrate),
    /// Proves a commit's migrations on an empty database: up over rows, down, up again.
    Check(Check),
}

#[derive(Debug, Args)]
struct Migrate {
    /// The image's digest.
    #[arg(long)]
    digest: Digest,
    /// Number of the attempt, from 1.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    attempt: u32,
    /// The image's schema contract as JSON.
    #[arg(long)]
    contract: PathBuf,
    /// How long the command may take.
    #[arg(long, default_value = "30m", value_parser = duration::parse)]
    timeout: Duration,
    /// How long one statement of the command may wait for a table.
    #[arg(long, default_value = "5s", value_parser = duration::parse)]
    lock_timeout: Duration,
    /// How long to wait for another migration.
    #[arg(long, default_value = "60s", value_parser = duration::parse)]
    lock_wait: Duration,
    /// How long to wait for the server in all.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    connect_timeout: Duration,
    /// Adds default rows and first administrators afterwards.
    #[arg(long)]
    bootstrap: bool,
    /// The app's migration command.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
struct Exec {
    /// How long the command may take, from its start.
    #[arg(long, value_parser = duration::parse)]
    timeout: Duration,
    /// From TERM to KILL.
    #[arg(long, default_value = "20s", value_parser = duration::parse)]
    grace: Duration,
    /// Where head and tail of the log and a copy of the report are kept.
    #[arg(long)]
    log_dir: PathBuf,
    /// Where plugins for pytest are put: reports then tell the tests' markers, and failed tests can be run again.
    #[arg(long)]
    pytest_plugins: Option<PathBuf>,
    /// How often the command is run again for the tests that failed, each time with `REPORTS` in a folder of its own.
    #[arg(long, default_value = "0", requires = "pytest_plugins")]
    rerun_failed_tests: u32,
    /// Where the command is started.
    #[arg(long)]
    workdir: Option<PathBuf>,
    /// The command.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
struct Source {
    /// The repository, by http, https or ssh. A token comes in `SOURCE_TOKEN`.
    #[arg(long)]
    url: String,
    /// The commit.
    #[arg(long)]
    commit: CommitSha,
    /// Branch, tag or `refs/…` where the commit was seen.
    #[arg(long = "ref")]
    reference: Option<GitRef>,
    /// The commit alone, or everything with tags.
    #[arg(long, value_enum, default_value = "commit")]
    history: History,
    /// Where it is checked out.
    #[arg(long)]
    dest: PathBuf,
    /// Where the tree of the commit before goes; wants the whole history.
    #[arg(long)]
    base_dest: Option<PathBuf>,
    /// The branch that the change is for: the commit before is where both part, else it is the first parent.
    #[arg(long, requires = "base_dest")]
    base_branch: Option<GitRef>,
    /// A script to be written: VARIABLE=FILE.
    #[arg(long, value_parser = variable_and_file)]
    script: Option<(String, PathBuf)>,
    /// Copies this binary to that directory.
    #[arg(long)]
    install: Option<PathBuf>,
    /// How long it may take.
    #[arg(long, default_value = "10m", value_parser = duration::parse)]
    timeout: Duration,
}

#[derive(Debug, Args)]
struct Collect {
    /// The folder of test and coverage reports.
    #[arg(long)]
    reports: Option<PathBuf>,
    /// How many rounds `exec` may have added to the first, with reports in folders of their own.
    #[arg(long, default_value = "0")]
    reruns: u32,
    /// The file of `name=value` lines.
    #[arg(long)]
    outputs: Option<PathBuf>,
    /// An output that the job declares; without any, all names are taken.
    #[arg(long = "output")]
    declared: Vec<String>,
    /// Where `exec` keeps the log.
    #[arg(long)]
    logs: PathBuf,
    /// A service's log as `exec` keeps it: NAME=DIRECTORY. Kept if the job failed.
    #[arg(long = "service-log", value_parser = name_and_path)]
    service_logs: Vec<(String, PathBuf)>,
    /// How often the log is kept while the job goes on, as far as it has grown.
    #[arg(long, default_value = "60s", value_parser = duration::parse)]
    snapshot_every: Duration,
    /// An artifact: NAME=PATH, the path below the workspace.
    #[arg(long = "artifact", value_parser = name_and_path)]
    artifacts: Vec<(String, PathBuf)>,
    /// The workspace. Nothing outside of it becomes an artifact.
    #[arg(long, default_value = "/workspace")]
    workspace: PathBuf,
    /// The artifact store, `http://host:port`. Without it nothing is uploaded.
    #[arg(long)]
    store: Option<String>,
    /// The file with the token for it.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// The run's namespace.
    #[arg(long)]
    namespace: Option<String>,
    /// The run.
    #[arg(long)]
    run: Option<String>,
    /// The Kubernetes Job of this attempt.
    #[arg(long)]
    job: Option<String>,
    /// The job's name in the pipeline; its reports are kept as `test-results-<name>`.
    #[arg(long)]
    job_name: Option<String>,
    /// How long all uploads together may take.
    #[arg(long, default_value = "80s", value_parser = duration::parse)]
    upload_timeout: Duration,
}

impl Collect {
    /// What is missing is found out when it is used: a sidecar that refuses its arguments would only be restarted.
    fn destination(&self) -> Option<Destination> {
        Some(Destination {
            store: self.store.clone()?,
            token_file: self.token_file.clone().unwrap_or_default(),
            namespace: self.namespace.clone().unwrap_or_default(),
            run: self.run.clone().unwrap_or_default(),
            job: self.job.clone().unwrap_or_default(),
            job_name: self.job_name.clone().or_else(|| self.job.clone()).unwrap_or_default(),
        })
    }
}

fn name_and_path(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("expected NAME=PATH")?;
    Ok((name.to_owned(), path.into()))
}

fn variable_and_file(text: &str) -> Result<(String, PathBuf), String> {
    let (variable, file) = text.split_once('=').ok_or("expected VARIABLE=FILE")?;
    Ok((variable.to_owned(), file.into()))
}

fn digest_and_file(text: &str) -> Result<(Digest, PathBuf), String> {
    let (digest, file) = text.split_once('=').ok_or("expected DIGEST=FILE")?;
    Ok((digest.parse().map_err(|error| format!("{error}"))?, file.into()))
}

/// The secrets that pods of ours have in their environment.
const SECRET_VARIABLES: [&str; 4] = ["DATABASE_URL", "SECRET_KEY", "SOURCE_TOKEN", "PGPASSWORD"];

/// Runs the agent with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread: what is inherited by a child and who reaps it stays easy to see.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("no runtime: {error}")),
    };
    let code = runtime.block_on(run(arguments));
    // Blocking readers of pipes that somebody holds open must not keep the container alive.
    runtime.shutdown_background();
    code
}

async fn run(arguments: Arguments) -> ExitCode {
    let target = Target(arguments.termination_message);
    let mut secrets = Secrets::from_environment(&SECRET_VARIABLES);
    let mut terminate = match Terminate::listen() {
        Ok(terminate) => terminate,
        Err(error) => return complain(&format!("signals can't be listened to: {error}")),
    };
    match arguments.command {
        Command::Install { directory, script } => match put_in_place(Some(&directory), script.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(told) => {
                let message = secrets.message(&told);
                let _ = target.report(SourceReport::Failed { failure: SourceFailure::Failed, message }, false);
                complain(&told)
            }
        },
        Command::Source(source_) => target.source(source_, &mut terminate, &secrets).await,
        Command::Resolve { url, branch, tag, timeout } => {
            let named = match (branch, tag) {
                (Some(branch), _) => Named::Branch(branch),
                (None, Some(tag)) => Named::Tag(tag),
                (None, None) => return complain("resolve needs --branch or --tag"),
            };
            let report = resolve(&url, &named, timeout, &mut terminate, &secrets).await;
            let succeeded = matches!(report, ResolveReport::Resolved { .. });
            target.report(report, succeeded)
        }
        Command::Contract { timeout, python } => {
            let report = contract(python, timeout, &mut terminate, &secrets).await;
            let succeeded = matches!(report, ContractReport::Dumped { .. });
            target.report(report, succeeded)
        }
        Command::Database(Database::Inspect { contracts, digest, connect_timeout }) => {
            let options = InspectOptions { contracts, digest, connect_timeout };
            let report = inspect(&options, &mut secrets).await;
            let succeeded = matches!(report, InspectReport::Inspected { .. });
            target.report(report, succeeded)
        }
        Command::Database(Database::Check(arguments)) => {
            let report = check(&arguments, &mut secrets, &mut terminate).await;
            let succeeded = matches!(report, CheckReport::Checked { verdict: Verdict::Passed | Verdict::Warning, .. });
            target.report(report, succeeded)
        }
        Command::Database(Database::Migrate(migrate)) => target.migrate(migrate, &mut secrets, &mut terminate).await,
        Command::Collect(collect_) => target.collect(collect_, &mut terminate, &secrets).await,
        Command::Fetch(options) => {
            let report = fetch(&options, &mut terminate, &secrets).await;
            let succeeded = matches!(report, FetchReport::Fetched { .. });
            target.report(report, succeeded)
        }
        Command::Environment(options) => {
            let report = environment(&options, &mut terminate, &secrets).await;
            let succeeded = !matches!(report, EnvironmentReport::Failed { .. });
            target.report(report, succeeded)
        }
        Command::Exec(Exec { timeout, grace, log_dir, pytest_plugins, rerun_failed_tests, workdir, command }) => {
            let options = exec::Options {
                timeout,
                grace,
                log_directory: log_dir,
                pytest_plugins,
                rerun_failed_tests,
                directory: workdir,
                command,
            };
            match exec::run(options, &mut terminate).await {
                Ok(report) => {
                    let code = report.exit_code;
                    let _ = target.report(report, true);
                    ExitCode::from(u8::try_from(code).unwrap_or(1))
                }
                Err(error) => complain(&format!("the command can't be watched: {error}")),
            }
        }
    }
}

/// Where reports go.
struct Target(PathBuf);

impl Target {
    async fn migrate(&self, migrate_: Migrate, secrets: &mut Secrets, terminate: &mut Terminate) -> ExitCode {
        let options = MigrateOptions {
            digest: migrate_.digest,
            attempt: migrate_.attempt,
            contract: migrate_.contract,
            timeout: migrate_.timeout,
            lock_timeout: migrate_.lock_timeout,
            lock_wait: migrate_.lock_wait,
            connect_timeout: migrate_.connect_timeout,
            bootstrap: migrate_.bootstrap,
            command: migrate_.command,
        };
        let report = migrate(&options, secrets, terminate).await;
        let succeeded = matches!(report, MigrationReport::Completed { .. });
        self.report(report, succeeded)
    }

    async fn source(&self, source_: Source, terminate: &mut Terminate, secrets: &Secrets) -> ExitCode {
        if let Err(told) = put_in_place(source_.install.as_deref(), source_.script.as_ref()) {
            let message = secrets.message(&told);
            return self.report(SourceReport::Failed { failure: SourceFailure::Failed, message }, false);
        }
        let options = SourceOptions {
            url: source_.url,
            commit: source_.commit,
            reference: source_.reference,
            history: source_.history,
            destination: source_.dest,
            base: source_.base_dest.map(|destination| BaseOptions { branch: source_.base_branch, destination }),
            timeout: source_.timeout,
        };
        let report = source(&options, terminate, secrets).await;
        let succeeded = matches!(report, SourceReport::Fetched { .. });
        self.report(report, succeeded)
    }

    async fn collect(&self, collect_: Collect, terminate: &mut Terminate, secrets: &Secrets) -> ExitCode {
        let options = CollectOptions {
            destination: collect_.destination(),
            reports: collect_.reports,
            reruns: collect_.reruns,
            outputs: collect_.outputs,
            declared: collect_.declared,
            logs: collect_.logs,
            service_logs: collect_.service_logs,
            snapshot_every: collect_.snapshot_every,
            artifacts: collect_.artifacts,
            workspace: collect_.workspace,
            upload_timeout: collect_.upload_timeout,
        };
        collect(&options, terminate, secrets, |report| {
            let _ = self.report(report.clone(), true);
        })
        .await;
        // What could not be kept stands in the report; a sidecar's exit code says nothing to anybody.
        ExitCode::SUCCESS
    }

    fn report(&self, report: impl Report, succeeded: bool) -> ExitCode {
        match message::write(&self.0, report) {
            Ok(()) if succeeded => ExitCode::SUCCESS,
            Ok(()) => ExitCode::FAILURE,
            Err(error) => complain(&format!("the report can't be written to {}: {error}", self.0.display())),
        }
    }
}

/// Installs the agent and writes the script, as far as asked for.
fn put_in_place(directory: Option<&Path>, script: Option<&(String, PathBuf)>) -> Result<(), String> {
    if let Some(directory) = directory {
        install::install(directory)
            .map_err(|error| format!("the agent can't be installed in {}: {error}", directory.display()))?;
    }
    if let Some((variable, file)) = script {
        install::write_script(variable, file)
            .map_err(|error| format!("the script can't be written to {}: {error}", file.display()))?;
    }
    Ok(())
}

fn complain(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "timetracker-agent: {message}");
    ExitCode::FAILURE
}
