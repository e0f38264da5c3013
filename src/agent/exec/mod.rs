//! `exec`: runs a job's command under its timeout and keeps what there is to know about it.

mod cgroup;
mod log;
mod pytest;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{Ended, Limits, PassOn, Shared, Specification, Stopped, Terminate, code_of_start_error, start};
use super::report::ExecReport;
pub(super) use log::LogKeeper;

/// What `exec` is to do.
pub(super) struct Options {
    pub(super) timeout: Duration,
    pub(super) grace: Duration,
    pub(super) log_directory: PathBuf,
    /// Where the plugin for pytest goes; absent: none.
    pub(super) pytest_plugins: Option<PathBuf>,
    pub(super) directory: Option<PathBuf>,
    pub(super) command: Vec<OsString>,
}

/// Exit code of a command that was stopped at its timeout and yet ended with 0 (as `timeout` of coreutils has it).
const TIMED_OUT: i32 = 124;
/// Exit code of a command that was told to terminate and yet ended with 0: 128 + SIGTERM.
const TERMINATED: i32 = 143;

/// Runs the command and returns its report, which carries the exit code to end with.
///
/// # Errors
/// When the log directory can't be used. A command that can't be started is no error:
/// it ends with 126 or 127, as in a shell.
pub(super) async fn run(options: Options, terminate: &mut Terminate) -> io::Result<ExecReport> {
    fs::create_dir_all(&options.log_directory)?;
    let log = Shared::new(LogKeeper::create(&options.log_directory));
    let name = options.command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plugin = options.pytest_plugins.as_deref().map(pytest::provide).transpose().unwrap_or_else(|error| {
        let told = format!("timetracker-agent: the plugin for pytest can't be written: {error}\n");
        log.lock().keep(told.as_bytes());
        None
    });
    let specification = Specification {
        arguments: options.command,
        environment: plugin.into_iter().collect(),
        directory: options.directory,
        input: None,
        pass_on: PassOn::StandardOutput,
    };
    let ended = match start(specification, log.clone()) {
        Ok(running) => {
            let limits = Limits { timeout: options.timeout, grace: options.grace };
            running.wait(limits, terminate, std::future::pending()).await?
        }
        Err(error) => {
            let told = format!("timetracker-agent: `{name}` can't be started: {error}\n");
            log.lock().keep(told.as_bytes());
            let _ = io::Write::write_all(&mut io::stdout(), told.as_bytes());
            Ended { code: code_of_start_error(&error), stopped: None, elapsed: Duration::ZERO }
        }
    };
    let report = ExecReport {
        exit_code: exit_code(&ended),
        timed_out: ended.stopped == Some(Stopped::TimedOut),
        terminated: ended.stopped == Some(Stopped::Terminated),
        seconds: ended.elapsed.as_secs(),
        memory_peak: cgroup::memory_peak(),
        log_bytes: log.lock().total(),
    };
    // The collector reads this copy; without it, it falls back on what the pod's status says.
    let _ = write_whole(&options.log_directory.join("exec.json"), serde_json::to_string(&report)?.as_bytes());
    Ok(report)
}

/// A command that we stopped has not succeeded, whatever it makes of the signal.
fn exit_code(ended: &Ended) -> i32 {
    match (ended.code, ended.stopped) {
        (0, Some(Stopped::TimedOut)) => TIMED_OUT,
        (0, Some(Stopped::Terminated | Stopped::Abandoned)) => TERMINATED,
        (code, _) => code,
    }
}

/// Written beside its place and renamed: a reader sees all of it or nothing.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, bytes)?;
    fs::rename(&unfinished, path)
}
