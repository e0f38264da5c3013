//! `database check`: proves a commit's migrations on a throw-away database, and tells what they do to it.
//!
//! Base commit's schema → rows in every table → upgrade (watched on the wire) → downgrade → upgrade again, with a look
//! at the whole schema after each. What all of it means is decided by [`crate::schema::check::judge`], which the
//! delivery's rehearsal shares.

mod arguments;
mod chain;
mod changes;
mod commands;
mod document;
mod files;
mod lint;
mod markdown;
mod proxy;
mod recorder;
mod rewrites;
mod rows;
mod structure;
mod values;
mod wire;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::connection::{Session, url_from_environment};
use super::{DatabaseError, url::DatabaseUrl};
use crate::agent::message::Secrets;
use crate::agent::process::Terminate;
use crate::agent::report::{CheckReport, DatabaseFailure};
use crate::schema::check::{Evidence, Judgement, StepOutcome, judge};
use chain::Chain;

pub(in crate::agent) use arguments::Check;

/// The longest message, in bytes.
const MAX_SHORT_BYTES: usize = 420;

/// Checks, writes the reports, and says what came of it.
pub(in crate::agent) async fn check(
    arguments: &Check,
    secrets: &mut Secrets,
    terminate: &mut Terminate,
) -> CheckReport {
    let started = Instant::now();
    match attempt(arguments, secrets, terminate).await {
        Ok((evidence, judgement)) => {
            if let Err(error) = document::write(&arguments.reports, &evidence, &judgement) {
                let message = secrets.message(&format!("the report can't be written: {error}"));
                return CheckReport::Failed { failure: DatabaseFailure::Configuration, message };
            }
            print(&judgement, secrets);
            told(&judgement, secrets, started.elapsed().as_secs())
        }
        Err(error) => CheckReport::Failed { failure: error.failure, message: secrets.message(&error.message) },
    }
}

/// The steps, a line each, at the end of the log: what a person looks at first.
fn print(judgement: &Judgement, secrets: &Secrets) {
    let mut text = String::from("\n");
    for step in &judgement.steps {
        let outcome = match step.outcome {
            StepOutcome::Passed => "passed ",
            StepOutcome::Warning => "WARNING",
            StepOutcome::Failed => "FAILED ",
            StepOutcome::Skipped => "skipped",
        };
        let seconds = Duration::from_millis(step.milliseconds).as_secs_f32();
        text.push_str(&format!("{outcome} {seconds:6.1} s  {}: {}\n", step.name, secrets.message(&step.detail)));
    }
    // Nobody reading the log is no reason to fail.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// With room for its quotes to be escaped, the whole report stays under 1 KiB.
fn short(message: &str) -> String {
    let mut end = message.len().min(MAX_SHORT_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.get(..end).unwrap_or_default().to_owned()
}

fn told(judgement: &Judgement, secrets: &Secrets, seconds: u64) -> CheckReport {
    let decisive = judgement.decisive();
    let message = match decisive {
        None => format!("{} steps passed", judgement.steps.len() - skipped(judgement)),
        Some(step) => format!("{}: {}", step.name, step.detail),
    };
    CheckReport::Checked {
        verdict: judgement.verdict,
        warnings: judgement.warnings,
        step: decisive.map(|step| step.name),
        expands: judgement.expands,
        seconds,
        message: short(&secrets.message(&message)),
    }
}

fn skipped(judgement: &Judgement) -> usize {
    judgement.steps.iter().filter(|step| step.outcome == StepOutcome::Skipped).count()
}

async fn attempt(
    arguments: &Check,
    secrets: &mut Secrets,
    terminate: &mut Terminate,
) -> Result<(Evidence, Judgement), DatabaseError> {
    arguments.refuse_odd_paths()?;
    let url = url_from_environment()?;
    url.secrets().into_iter().for_each(|secret| secrets.add(secret));
    let session = tokio::select! {
        session = Session::open(&url, "timetracker-check", arguments.connect_timeout) => session?,
        () = terminate.asked() => return Err(interrupted()),
    };
    let server_version = throw_away(&session, &url).await?;
    let evidence = Chain::new(arguments, url, session, server_version, secrets)?.run(terminate).await?;
    let judgement = judge(&evidence);
    Ok((evidence, judgement))
}

fn interrupted() -> DatabaseError {
    DatabaseError::new(DatabaseFailure::Interrupted, "told to stop before the check was done")
}

/// The check fills tables and drops schemas: it refuses a database that anybody might need.
async fn throw_away(session: &Session, url: &DatabaseUrl) -> Result<String, DatabaseError> {
    let version = session.server_version().await?;
    let tables = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                  where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') \
                  and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'";
    let found: i64 = session.client.query_one(tables, &[]).await?.try_get(0)?;
    if found > 0 {
        return Err(DatabaseError::configuration(format!(
            "{url} is not empty ({found} tables, views or sequences): the check runs on a throw-away database only; \
             give the job a Postgres service of its own"
        )));
    }
    Ok(version)
}
