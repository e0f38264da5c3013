//! `exec`: runs a job's command under its timeout and keeps what there is to know about it.

mod cgroup;
mod log;
mod pytest;
mod rounds;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{Ended, Limits, PassOn, Shared, Specification, Stopped, Terminate, code_of_start_error, start};
use super::report::ExecReport;
pub(super) use log::LogKeeper;
use rounds::{Rounds, Verdict};

/// What `exec` is to do.
pub(super) struct Options {
    pub(super) timeout: Duration,
    pub(super) grace: Duration,
    pub(super) log_directory: PathBuf,
    /// Where the plugin for pytest goes; absent: none.
    pub(super) pytest_plugins: Option<PathBuf>,
    /// How often tests that failed are run again, with that plugin.
    pub(super) rerun_failed_tests: u32,
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
    let command = Command { log: Shared::new(LogKeeper::create(&options.log_directory)), options };
    let (ended, reruns) = command.rounds(terminate).await?;
    let report = ExecReport {
        exit_code: exit_code(&ended),
        timed_out: ended.stopped == Some(Stopped::TimedOut),
        terminated: ended.stopped == Some(Stopped::Terminated),
        seconds: ended.elapsed.as_secs(),
        memory_peak: cgroup::memory_peak(),
        log_bytes: command.log.lock().total(),
        reruns,
    };
    // The collector reads this copy; without it, it falls back on what the pod's status says.
    let _ = write_whole(&command.options.log_directory.join("exec.json"), serde_json::to_string(&report)?.as_bytes());
    Ok(report)
}

/// The command and its log.
struct Command {
    options: Options,
    log: Shared<LogKeeper>,
}

impl Command {
    /// Runs it, and again for the tests that failed, all within one timeout. Returns the last end, with the time of
    /// all rounds, and how many followed the first.
    async fn rounds(&self, terminate: &mut Terminate) -> io::Result<(Ended, u32)> {
        let plugins = self.options.pytest_plugins.as_deref();
        let path = plugins.map(pytest::provide).transpose().unwrap_or_else(|error| {
            let told = format!("timetracker-agent: the plugin for pytest can't be written: {error}\n");
            self.log.lock().keep(told.as_bytes());
            None
        });
        let rounds = path.as_ref().and(plugins).and_then(|plugins| {
            Rounds::new(self.options.rerun_failed_tests, plugins, |name: &str| std::env::var_os(name))
        });
        let mut variables = rounds.as_ref().and_then(|rounds| rounds.begin(0).ok()).unwrap_or_default();
        let mut round = 0;
        let mut elapsed = Duration::ZERO;
        loop {
            let environment = path.iter().cloned().chain(variables).collect();
            let timeout = self.options.timeout.saturating_sub(elapsed);
            let ended = self.once(environment, timeout, terminate).await?;
            elapsed = elapsed.saturating_add(ended.elapsed);
            let ended = Ended { elapsed, ..ended };
            match rounds.as_ref().and_then(|rounds| self.next(rounds, round, &ended)) {
                Some(next) => variables = next,
                None => return Ok((ended, round)),
            }
            round += 1;
        }
    }

    /// The variables of the round that follows this one; `None`: none does.
    fn next(&self, rounds: &Rounds, round: u32, ended: &Ended) -> Option<Vec<(String, OsString)>> {
        let left = rounds.left(round);
        if ended.stopped.is_some() || left == 0 {
            return None;
        }
        let obstacle = match rounds.after(round) {
            Verdict::Over => return None,
            Verdict::Not(obstacle) => obstacle,
            Verdict::Again(failed) => match rounds.begin(round.saturating_add(1)) {
                Ok(variables) => {
                    let again = round.saturating_add(1);
                    let of = round.saturating_add(left);
                    self.say(&format!(
                        "round {again} of {of}: {failed} failed; the script runs again, for what has not passed yet"
                    ));
                    return Some(variables);
                }
                Err(obstacle) => obstacle,
            },
        };
        if ended.code != 0 {
            self.say(&format!("no test is run again: {obstacle}"));
        }
        None
    }

    /// Runs the command once.
    async fn once(
        &self,
        environment: Vec<(String, OsString)>,
        timeout: Duration,
        terminate: &mut Terminate,
    ) -> io::Result<Ended> {
        let specification = Specification {
            arguments: self.options.command.clone(),
            environment,
            directory: self.options.directory.clone(),
            input: None,
            pass_on: PassOn::StandardOutput,
        };
        match start(specification, self.log.clone()) {
            Ok(running) => {
                let limits = Limits { timeout, grace: self.options.grace };
                running.wait(limits, terminate, std::future::pending()).await
            }
            Err(error) => {
                let name = self.options.command.first().map(|name| name.to_string_lossy()).unwrap_or_default();
                self.say(&format!("`{name}` can't be started: {error}"));
                Ok(Ended { code: code_of_start_error(&error), stopped: None, elapsed: Duration::ZERO })
            }
        }
    }

    /// A line of our own among the command's.
    fn say(&self, words: &str) {
        let told = format!("timetracker-agent: {words}\n");
        self.log.lock().keep(told.as_bytes());
        let _ = io::Write::write_all(&mut io::stdout(), told.as_bytes());
    }
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
