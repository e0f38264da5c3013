//! `database migrate`: one migration, once, whatever crashes.
//!
//! Lock → end earlier commands → look → decide → ledger row → command → end its sessions → look → judge → ledger.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::bootstrap::bootstrap;
use super::catalogue::{Look, look};
use super::command::{self, CommandResult};
use super::connection::{Session, url_from_environment};
use super::ledger::{self, LedgerRow};
use super::lock::{AttemptName, acquire, end_commands};
use super::pooler::refuse_transaction_pooler;
use super::url::DatabaseUrl;
use super::verdict::{Outcome, State, Verdict, after_command, before_command};
use super::{DatabaseError, read_contract};
use crate::agent::message::Secrets;
use crate::agent::process::Terminate;
use crate::agent::report::{DatabaseFailure, LedgerEntry, LedgerState, MigrationReport};
use crate::api::names::{Digest, Revisions};
use crate::schema::{Compatibility, SchemaContract, compatibility};

/// What is to be migrated, how, and for how long.
pub(in crate::agent) struct MigrateOptions {
    pub(in crate::agent) digest: Digest,
    pub(in crate::agent) attempt: u32,
    pub(in crate::agent) contract: PathBuf,
    pub(in crate::agent) timeout: Duration,
    pub(in crate::agent) lock_timeout: Duration,
    pub(in crate::agent) lock_wait: Duration,
    pub(in crate::agent) connect_timeout: Duration,
    pub(in crate::agent) bootstrap: bool,
    pub(in crate::agent) command: Vec<OsString>,
}

/// A failure with what is known about the database.
struct Failure {
    error: DatabaseError,
    revisions: Option<Revisions>,
    untouched: Option<bool>,
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self { error, revisions: None, untouched: None }
    }
}

/// Migrates, or finds it done, or says why not.
pub(in crate::agent) async fn migrate(
    options: &MigrateOptions,
    secrets: &mut Secrets,
    terminate: &mut Terminate,
) -> MigrationReport {
    match attempt(options, secrets, terminate).await {
        Ok(report) => report,
        Err(Failure { error, revisions, untouched }) => {
            let message = secrets.message(&error.message);
            MigrationReport::Failed { failure: error.failure, revisions, untouched, message }
        }
    }
}

async fn attempt(
    options: &MigrateOptions,
    secrets: &mut Secrets,
    terminate: &mut Terminate,
) -> Result<MigrationReport, Failure> {
    let contract = read_contract(&options.contract)?;
    let url = url_from_environment()?;
    url.secrets().into_iter().for_each(|secret| secrets.add(secret));
    let name = AttemptName::new(&options.digest, options.attempt)?;
    let session = tokio::select! {
        session = take_lock(options, &url, &name) => session?,
        () = terminate.asked() => return Err(interrupted("told to stop before the lock was taken").into()),
    };
    let migration = Migration { options, contract, url, name, session };
    migration.run(secrets, terminate).await.map_err(|mut failure| {
        // Whatever failed without its connection failed for want of the lock.
        if migration.session.is_lost() && failure.error.failure == DatabaseFailure::Unreachable {
            failure.error.failure = DatabaseFailure::Interrupted;
        }
        failure
    })
}

fn interrupted(why: &str) -> DatabaseError {
    DatabaseError::new(DatabaseFailure::Interrupted, format!("{why}; tried again later"))
}

/// Connects, refuses what can't hold a lock, takes the lock, and ends what earlier attempts left running.
async fn take_lock(options: &MigrateOptions, url: &DatabaseUrl, name: &AttemptName) -> Result<Session, DatabaseError> {
    let session = Session::open(url, &name.lock, options.connect_timeout).await?;
    let witness = Session::open(url, &name.lock, options.connect_timeout).await?;
    refuse_transaction_pooler(&session, &witness, &name.marker).await?;
    session.server_version().await?;
    // A node that vanishes keeps its lock only until the server misses the heartbeat.
    session
        .client
        .batch_execute(
            "set idle_session_timeout = '60s'; set lock_timeout = '10s'; set statement_timeout = '60s'; \
             set synchronous_commit = on",
        )
        .await?;
    acquire(&session, &witness, &url.database, options.lock_wait).await?;
    end_commands(&session).await?;
    Ok(session)
}

/// A migration with the lock held.
struct Migration<'a> {
    options: &'a MigrateOptions,
    contract: SchemaContract,
    url: DatabaseUrl,
    name: AttemptName,
    session: Session,
}

impl Migration<'_> {
    async fn run(&self, secrets: &Secrets, terminate: &mut Terminate) -> Result<MigrationReport, Failure> {
        ledger::prepare(&self.session).await?;
        let found = look(&self.session, Some(&self.options.digest)).await?;
        let (before, lacking) = self.state(&found);
        let own = found.ledger.as_ref();
        let failed = |failure, message: String, untouched| Failure {
            error: DatabaseError::new(failure, message),
            revisions: Some(before.revisions.clone()),
            untouched,
        };
        match before_command(own, found.other.as_ref(), &before, &self.contract.heads) {
            Verdict::FoundDone { finish, from } => {
                self.found_done(finish, from, own, &before, secrets, terminate).await
            }
            Verdict::ContractBroken => Err(failed(
                DatabaseFailure::ContractBroken,
                format!("the database is at the image's revisions and lacks what its code needs: {lacking}"),
                Some(true),
            )),
            Verdict::Ambiguous { row } => Err(failed(
                DatabaseFailure::Ambiguous,
                ambiguous(row, own, found.other.as_ref(), &before, &lacking),
                Some(false),
            )),
            Verdict::Start => self.start(&before, secrets, terminate).await,
        }
    }

    fn state(&self, look: &Look) -> (State, Compatibility) {
        let found = compatibility(&self.contract, &look.snapshot);
        let state = State {
            revisions: look.snapshot.revisions.clone(),
            snapshot: look.snapshot.digest(),
            contract_holds: found.holds(),
        };
        (state, found)
    }

    fn entry(&self, from: Revisions, state: LedgerState) -> LedgerEntry {
        LedgerEntry {
            digest: self.options.digest.clone(),
            from,
            to: self.contract.heads.clone(),
            attempt: self.options.attempt,
            state,
        }
    }

    async fn found_done(
        &self,
        finish: Option<i64>,
        from: Revisions,
        own: Option<&LedgerRow>,
        now: &State,
        secrets: &Secrets,
        terminate: &mut Terminate,
    ) -> Result<MigrationReport, Failure> {
        match (finish, own) {
            (Some(row), _) => ledger::finish(&self.session, row, LedgerState::Done).await?,
            (None, Some(_)) => {}
            (None, None) => {
                let entry = self.entry(from.clone(), LedgerState::Done);
                ledger::insert(&self.session, &entry, &now.snapshot).await?;
            }
        }
        self.completed(from, now, true, Duration::ZERO, secrets, terminate).await
    }

    async fn completed(
        &self,
        from: Revisions,
        now: &State,
        found_done: bool,
        elapsed: Duration,
        secrets: &Secrets,
        terminate: &mut Terminate,
    ) -> Result<MigrationReport, Failure> {
        let bootstrap = if self.options.bootstrap {
            let environment = command::environment(&self.url, &self.name.command, self.options.lock_timeout);
            Some(bootstrap(environment, terminate, self.session.lost(), secrets).await)
        } else {
            None
        };
        Ok(MigrationReport::Completed {
            from,
            to: now.revisions.clone(),
            snapshot: now.snapshot.clone(),
            found_done,
            seconds: elapsed.as_secs(),
            bootstrap,
        })
    }

    async fn start(
        &self,
        before: &State,
        secrets: &Secrets,
        terminate: &mut Terminate,
    ) -> Result<MigrationReport, Failure> {
        let entry = self.entry(before.revisions.clone(), LedgerState::Started);
        let row = ledger::insert(&self.session, &entry, &before.snapshot).await?;
        let result = command::run(self.options, &self.url, &self.name, &self.session, terminate).await;
        let CommandResult { end, code, elapsed, output } = match result {
            Ok(Some(result)) => result,
            // The row stays at Started: without the lock nobody may judge what is there.
            Ok(None) => {
                return Err(interrupted("the connection that held the lock broke; the command was killed").into());
            }
            Err(error) => {
                ledger::finish(&self.session, row, LedgerState::Failed).await?;
                let told = format!("the migration command can't be started: {error}");
                return Err(Failure {
                    error: DatabaseError::new(DatabaseFailure::CommandFailed, told),
                    revisions: Some(before.revisions.clone()),
                    untouched: Some(true),
                });
            }
        };
        // What the command's processes left running still commits: only after the last of them is the look true.
        end_commands(&self.session).await?;
        let found = look(&self.session, Some(&self.options.digest)).await?;
        let (after, lacking) = self.state(&found);
        let Outcome { failure, ledger, untouched } = after_command(end, before, &after, &self.contract.heads);
        ledger::finish(&self.session, row, ledger).await?;
        let Some(failure) = failure else {
            return self.completed(before.revisions.clone(), &after, false, elapsed, secrets, terminate).await;
        };
        let cause = self.cause(failure, code, &after, &lacking);
        let message = match failure {
            DatabaseFailure::RevisionsDiffer | DatabaseFailure::ContractBroken => cause,
            DatabaseFailure::Unreachable
            | DatabaseFailure::AccessDenied
            | DatabaseFailure::Configuration
            | DatabaseFailure::TransactionPooler
            | DatabaseFailure::UnsupportedServer
            | DatabaseFailure::LockTimeout
            | DatabaseFailure::UnknownRevision
            | DatabaseFailure::CommandFailed
            | DatabaseFailure::TimedOut
            | DatabaseFailure::Interrupted
            | DatabaseFailure::Ambiguous => secrets.message_with_output(&cause, &output),
        };
        Err(Failure {
            error: DatabaseError::new(failure, message),
            revisions: Some(after.revisions),
            untouched: Some(untouched),
        })
    }

    fn cause(&self, failure: DatabaseFailure, code: i32, after: &State, lacking: &Compatibility) -> String {
        match failure {
            DatabaseFailure::RevisionsDiffer => format!(
                "the command ended with 0, yet the database is at {} and the image's heads are {}",
                after.revisions, self.contract.heads
            ),
            DatabaseFailure::ContractBroken => {
                format!("the command ended with 0, yet the database lacks what the image's code needs: {lacking}")
            }
            DatabaseFailure::TimedOut => {
                format!("the command was stopped after {} s", self.options.timeout.as_secs())
            }
            DatabaseFailure::LockTimeout => "a table was locked for longer than lock_timeout; tried again later".into(),
            DatabaseFailure::UnknownRevision => {
                format!("the image's migrations don't know a revision that the database is at ({})", after.revisions)
            }
            DatabaseFailure::Interrupted => "told to stop; tried again later".into(),
            DatabaseFailure::Ambiguous => format!(
                "the command was stopped half way: the database is at {} and neither as before nor done; \
                 restore it or finish by hand",
                after.revisions
            ),
            DatabaseFailure::CommandFailed
            | DatabaseFailure::Unreachable
            | DatabaseFailure::AccessDenied
            | DatabaseFailure::Configuration
            | DatabaseFailure::TransactionPooler
            | DatabaseFailure::UnsupportedServer => format!("the migration command ended with exit code {code}"),
        }
    }
}

fn ambiguous(
    row: i64,
    own: Option<&LedgerRow>,
    other: Option<&LedgerRow>,
    now: &State,
    lacking: &Compatibility,
) -> String {
    let of = [own, other].into_iter().flatten().find(|candidate| candidate.id == row).map_or_else(
        || "an earlier attempt".to_owned(),
        |row| {
            format!(
                "attempt {} of {} from {} to {}",
                row.entry.attempt,
                row.entry.digest.short(),
                row.entry.from,
                row.entry.to
            )
        },
    );
    format!(
        "{of} left the database at {}, neither as before nor done ({lacking}); nothing was touched. Restore or finish \
         by hand, or delete row {row} of timetracker_delivery.ledger once the schema is right",
        now.revisions
    )
}
