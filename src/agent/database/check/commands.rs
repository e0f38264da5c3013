//! The app's own migration commands, in bounds.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::command;
use super::super::connection::Session;
use super::super::url::DatabaseUrl;
use super::arguments::Check;
use crate::agent::contract::UNUSED_SECRET_KEY;
use crate::agent::exec::LogKeeper;
use crate::agent::message::Secrets;
use crate::agent::process::{Limits, Observer, PassOn, Shared, Specification, Stopped, Tail, Terminate, start};
use crate::agent::python::TAIL_BYTES;

/// Nobody else uses the database: a lock that is waited for so long is the migration's own.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// How the server knows the command's sessions.
const NAME: &str = "timetracker-check-command";

/// Why a command did not go through.
#[derive(Debug)]
pub(super) enum CommandError {
    /// The cause, in words.
    Failed(String),
    /// We were told to stop.
    Interrupted,
}

/// Head and tail of the log on disk, and the end of this command's output.
struct Output {
    tail: Tail,
    log: Option<Shared<LogKeeper>>,
}

impl Observer for Output {
    fn see(&mut self, bytes: &[u8]) {
        self.tail.see(bytes);
        if let Some(log) = &mut self.log {
            log.see(bytes);
        }
    }
}

/// Runs commands of one check.
pub(super) struct Commands<'a> {
    arguments: &'a Check,
    secrets: &'a Secrets,
    log: Option<Shared<LogKeeper>>,
    deadline: Instant,
}

impl<'a> Commands<'a> {
    pub(super) fn new(arguments: &'a Check, secrets: &'a Secrets) -> std::io::Result<Self> {
        let log = match &arguments.log_dir {
            Some(directory) => {
                std::fs::create_dir_all(directory)?;
                Some(Shared::new(LogKeeper::create(directory)))
            }
            None => None,
        };
        Ok(Self { arguments, secrets, log, deadline: Instant::now() + arguments.timeout })
    }

    /// The time that is left of the whole check.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The variables of the app's commands.
    pub(super) fn environment(&self, url: &DatabaseUrl) -> Vec<(String, OsString)> {
        let mut environment = command::environment(url, NAME, LOCK_TIMEOUT);
        environment.push(("PYTHONDONTWRITEBYTECODE".into(), "1".into()));
        environment.push(("PYTHONUNBUFFERED".into(), "1".into()));
        if std::env::var_os("SECRET_KEY").is_none_or(|value| value.is_empty()) {
            environment.push(("SECRET_KEY".into(), UNUSED_SECRET_KEY.into()));
        }
        environment
    }

    /// `flask db VERB REVISION` in a tree. `session` is ours: where it ends, the database is gone.
    pub(super) async fn flask(
        &self,
        tree: &Path,
        url: &DatabaseUrl,
        verb: &str,
        revision: &str,
        session: &Session,
        terminate: &mut Terminate,
    ) -> Result<(), CommandError> {
        let mut arguments = vec![self.arguments.python.clone()];
        arguments.extend(["-m", "flask", "db", verb, "--directory"].map(OsString::from));
        arguments.push(self.arguments.migrations.clone().into());
        arguments.extend(["--", revision].map(OsString::from));
        let specification = Specification {
            arguments,
            environment: self.environment(url),
            directory: Some(tree.to_owned()),
            input: None,
            pass_on: PassOn::StandardOutput,
        };
        let output = Shared::new(Output { tail: Tail::new(TAIL_BYTES), log: self.log.clone() });
        let limits = Limits { timeout: self.left(), grace: self.arguments.grace };
        let running = start(specification, output.clone())
            .map_err(|error| CommandError::Failed(format!("the command can't be started: {error}")))?;
        let ended = running.wait(limits, terminate, session.lost()).await;
        let told = |cause: &str| {
            let output = output.lock().tail.text();
            let cause = [cause, telling_line(&output)].join(": ");
            CommandError::Failed(self.secrets.message(cause.trim_end_matches(": ")))
        };
        let ended = ended.map_err(|error| told(&format!("the command can't be watched: {error}")))?;
        // What its processes left running in the server would go on working.
        let alone = end_others(session).await;
        match (ended.stopped, ended.code) {
            (Some(Stopped::Terminated), _) => Err(CommandError::Interrupted),
            (Some(Stopped::TimedOut), _) => {
                let whole = self.arguments.timeout.as_secs();
                Err(told(&format!("`flask db {verb}` was stopped: the check's {whole} s were over")))
            }
            (Some(Stopped::Abandoned), _) => {
                Err(told("the database is gone: it was dropped, or its sessions were ended"))
            }
            (None, 0) => alone.map_err(CommandError::Failed),
            (None, code) => Err(told(&format!("exit code {code}"))),
        }
    }
}

/// The line that names the cause: the last one that begins with the name of a Python exception, else the last of all.
///
/// SQLAlchemy's own last line is a link to its documentation.
fn telling_line(output: &str) -> &str {
    let is_exception = |line: &&str| {
        line.split_once(": ").is_some_and(|(name, _)| {
            let last = name.rsplit('.').next().unwrap_or_default();
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'))
                && (last.ends_with("Error") || last.ends_with("Exception") || name.starts_with("psycopg2.errors."))
        })
    };
    let lines = || output.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    lines().find(is_exception).or_else(|| lines().next()).unwrap_or_default()
}

/// Ends every session of this database but our own, and waits until they are gone.
async fn end_others(session: &Session) -> Result<(), String> {
    let statement = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                     where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let row =
            session.client.query_one(statement, &[]).await.map_err(|error| format!("the database is gone: {error}"))?;
        match row.try_get::<_, i64>(0) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(_) if Instant::now() >= deadline => {
                return Err("sessions that the command left behind do not end".to_owned());
            }
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "Traceback:\n  File x\npsycopg2.errors.UndefinedColumn: column \"a\" does not exist\n\nsqlalchemy.exc.ProgrammingError: \
         (psycopg2.errors.UndefinedColumn) column \"a\" does not exist\n[SQL: UPDATE]\n(Background on this error at: \
         https://sqlalche.me/e/20/f405)\n",
        "sqlalchemy.exc.ProgrammingError: (psycopg2.errors.UndefinedColumn) column \"a\" does not exist"
    )]
    #[case(
        "INFO  [alembic] x\nERROR [flask_migrate] Error: Can't locate revision\n\n",
        "ERROR [flask_migrate] Error: Can't locate revision"
    )]
    #[case("", "")]
    #[case("\n \n", "")]
    fn the_line_that_names_the_cause_is_found(#[case] output: &str, #[case] line: &str) {
        assert_eq!(telling_line(output), line);
    }
}
