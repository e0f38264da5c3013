//! `database inspect` and `database migrate`: the only code that talks to the app's database.

mod bootstrap;
mod catalogue;
mod check;
mod command;
mod connection;
mod inspect;
mod ledger;
mod lock;
mod migrate;
mod pooler;
mod tls;
mod url;
mod verdict;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tokio_postgres::error::SqlState;

use super::report::DatabaseFailure;
use crate::api::names::Digest;
use crate::schema::SchemaContract;

pub(super) use check::{Check, check};
pub(super) use inspect::{InspectOptions, inspect};
pub(super) use migrate::{MigrateOptions, migrate};

/// A failed database step: its class, and the cause with the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct DatabaseError {
    pub(super) failure: DatabaseFailure,
    pub(super) message: String,
}

impl DatabaseError {
    fn new(failure: DatabaseFailure, message: impl Into<String>) -> Self {
        Self { failure, message: message.into() }
    }

    fn configuration(message: impl Into<String>) -> Self {
        Self::new(DatabaseFailure::Configuration, message)
    }
}

impl From<tokio_postgres::Error> for DatabaseError {
    /// The class comes from the server's SQLSTATE, or from the transport when the server said nothing.
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(answer) = error.as_db_error() {
            let failure = class_of(answer.code());
            return Self::new(failure, format!("{} ({})", answer.message(), next_step(failure, answer.code())));
        }
        if let Some(tls) = cause::<tls::TlsError>(&error) {
            return Self::new(tls.failure(), tls.to_string());
        }
        let told = innermost(&error);
        if told.contains("server does not support TLS") {
            return Self::configuration(
                "the server does not support TLS, which sslmode demands (enable TLS there, or set sslmode=prefer)",
            );
        }
        if told.contains("password missing") {
            return Self::new(
                DatabaseFailure::AccessDenied,
                "the server wants a password and the URL has none (check the Secret that holds the database URL)",
            );
        }
        Self::new(DatabaseFailure::Unreachable, format!("no connection to the database: {told}"))
    }
}

fn cause<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<E>() {
            return Some(found);
        }
        // An io::Error hides what it wraps from `source`.
        if let Some(found) =
            current.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()).and_then(|inner| inner.downcast_ref())
        {
            return Some(found);
        }
        next = current.source();
    }
    None
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

fn class_of(code: &SqlState) -> DatabaseFailure {
    if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION, SqlState::INSUFFICIENT_PRIVILEGE]
        .contains(code)
    {
        DatabaseFailure::AccessDenied
    } else if [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].contains(code) {
        DatabaseFailure::LockTimeout
    } else if [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT].contains(code) {
        DatabaseFailure::TransactionPooler
    } else if code.code().starts_with("57P")
        || code.code().starts_with("08")
        || code.code().starts_with("53")
        || [SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT, SqlState::READ_ONLY_SQL_TRANSACTION].contains(code)
    {
        // Starting up, shutting down, too many connections, no memory, a standby: over by itself.
        DatabaseFailure::Unreachable
    } else {
        DatabaseFailure::Configuration
    }
}

fn next_step(failure: DatabaseFailure, code: &SqlState) -> String {
    let step = match failure {
        DatabaseFailure::AccessDenied if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            "the database user lacks this right: grant it, or give an owner's URL as migrationUrlFrom"
        }
        DatabaseFailure::AccessDenied => "check user and password in the Secret that holds the database URL",
        DatabaseFailure::TransactionPooler => pooler::REMEDY,
        DatabaseFailure::LockTimeout => "another session holds a lock; tried again later",
        DatabaseFailure::Unreachable => "tried again later",
        DatabaseFailure::Configuration
        | DatabaseFailure::UnsupportedServer
        | DatabaseFailure::UnknownRevision
        | DatabaseFailure::CommandFailed
        | DatabaseFailure::TimedOut
        | DatabaseFailure::RevisionsDiffer
        | DatabaseFailure::ContractBroken
        | DatabaseFailure::Interrupted
        | DatabaseFailure::Ambiguous => "check the database URL and the server",
    };
    format!("SQLSTATE {}; {step}", code.code())
}

/// The most that a contract's file may hold, in bytes.
const MAX_CONTRACT_BYTES: u64 = super::frame::MAX_DOCUMENT_BYTES as u64;

fn read_contract(path: &Path) -> Result<SchemaContract, DatabaseError> {
    let refused = |why: String| {
        DatabaseError::configuration(format!("the schema contract {} can't be used: {why}", path.display()))
    };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| refused(error.to_string()))?;
    let read =
        file.take(MAX_CONTRACT_BYTES + 1).read_to_string(&mut text).map_err(|error| refused(error.to_string()))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_CONTRACT_BYTES {
        return Err(refused(format!("it is longer than {MAX_CONTRACT_BYTES} bytes")));
    }
    serde_json::from_str(&text).map_err(|error| refused(error.to_string()))
}

fn read_contracts(files: &[(Digest, PathBuf)]) -> Result<BTreeMap<Digest, SchemaContract>, DatabaseError> {
    files.iter().map(|(digest, path)| Ok((digest.clone(), read_contract(path)?))).collect()
}
