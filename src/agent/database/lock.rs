//! One migration at a time: the advisory lock, and the end of every backend that an earlier attempt left behind.

use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use super::DatabaseError;
use super::connection::Session;
use super::pooler;
use crate::agent::report::DatabaseFailure;
use crate::api::names::Digest;

/// How often a lock or a dying backend is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How long a terminated backend may take to roll back.
const TERMINATION: Duration = Duration::from_secs(60);

/// The names that one attempt has among the server's sessions.
#[derive(Debug, Clone)]
pub(super) struct AttemptName {
    /// Of the command's sessions: `ttd/…`. Whoever holds the lock ends all of them that it meets.
    pub(super) command: String,
    /// Of our own session, which holds the lock: `ttd-lock/…`. Nobody ends it.
    pub(super) lock: String,
    /// What nobody else knows, for telling sessions apart.
    pub(super) marker: String,
}

impl AttemptName {
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn new(digest: &Digest, attempt: u32) -> Result<Self, DatabaseError> {
        let mut random = [0_u8; 6];
        aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut random)
            .map_err(|_| DatabaseError::configuration("the system gives no random numbers"))?;
        let marker = hex::encode(random);
        let id = format!("{}-{attempt}-{marker}", digest.short());
        Ok(Self { command: format!("ttd/{id}"), lock: format!("ttd-lock/{id}"), marker })
    }
}

/// The lock's key: a constant and the database's name, so that it can't meet the app's own small numbers.
fn key(database: &str) -> i64 {
    let hash = Sha256::digest(format!("timetracker-operator/migration/{database}").as_bytes());
    hash.iter().take(8).fold(0_i64, |key, byte| (key << 8) | i64::from(*byte))
}

/// Takes the lock, waiting at most `wait`, and checks from a second session that it really is held.
pub(super) async fn acquire(
    session: &Session,
    witness: &Session,
    database: &str,
    wait: Duration,
) -> Result<(), DatabaseError> {
    let key = key(database);
    let statement = format!("select pg_try_advisory_lock({key})");
    let deadline = Instant::now() + wait;
    while session.one_row(&statement).await?.get(0) != Some("t") {
        if Instant::now() >= deadline {
            return Err(DatabaseError::new(
                DatabaseFailure::LockTimeout,
                format!(
                    "another migration holds the lock of database `{database}` ({}); tried again later",
                    holder(session, key).await.unwrap_or_else(|_| "its session is unknown".to_owned())
                ),
            ));
        }
        sleep(POLL).await;
    }
    // The lock is reentrant within a server session: who gets it here shares ours.
    if witness.one_row(&statement).await?.get(0) == Some("t") {
        return Err(pooler::refusal());
    }
    Ok(())
}

async fn holder(session: &Session, key: i64) -> Result<String, DatabaseError> {
    let row = session
        .client
        .query_one(
            "select coalesce(min(a.application_name), '') from pg_locks l join pg_stat_activity a on a.pid = l.pid \
             where l.locktype = 'advisory' and l.objsubid = 1 and l.granted \
             and l.database = (select oid from pg_database where datname = current_database()) \
             and (l.classid::bigint << 32) | l.objid::bigint = $1",
            &[&key],
        )
        .await?;
    Ok(format!("held by session `{}`", row.get::<_, String>(0)))
}

/// Ends every session of a migration command, of whatever attempt, and waits until they are gone.
///
/// A killed client's backend works on and commits: only with the lock held *and* nobody of an earlier attempt left
/// does what the database says stay true. Returns how many there were.
pub(super) async fn end_commands(session: &Session) -> Result<usize, DatabaseError> {
    let deadline = Instant::now() + TERMINATION;
    let mut ended = None;
    loop {
        let found = session
            .client
            .query(
                "select pid, pg_terminate_backend(pid) from pg_stat_activity \
                 where datname = current_database() and application_name like 'ttd/%' and pid <> pg_backend_pid()",
                &[],
            )
            .await?
            .len();
        let ended = *ended.get_or_insert(found);
        if found == 0 {
            return Ok(ended);
        }
        if Instant::now() >= deadline {
            return Err(DatabaseError::new(
                DatabaseFailure::LockTimeout,
                format!("{found} session(s) of an earlier attempt do not end; tried again later"),
            ));
        }
        sleep(POLL).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_of_attempts_are_short_and_never_the_same() {
        let digest = Digest::of(b"image");
        let (one, two) = (AttemptName::new(&digest, 1).unwrap(), AttemptName::new(&digest, 1).unwrap());
        assert_ne!(one.command, two.command);
        assert!(one.command.starts_with("ttd/") && !one.lock.starts_with("ttd/"));
        assert!(one.lock.len() < 64, "Postgres cuts names at 63 bytes");
    }

    #[test]
    fn every_database_has_a_key_of_its_own() {
        assert_eq!(key("a"), key("a"));
        assert_ne!(key("a"), key("b"));
    }
}
