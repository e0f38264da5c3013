//! `database inspect`: reads, and creates nothing.

use std::path::PathBuf;
use std::time::Duration;

use super::catalogue::look;
use super::connection::{Session, url_from_environment};
use super::{DatabaseError, read_contracts};
use crate::agent::message::Secrets;
use crate::agent::report::{ContractVerdict, InspectReport};
use crate::api::names::Digest;
use crate::schema::compatibility;

/// What is asked.
pub(in crate::agent) struct InspectOptions {
    /// Contracts by image digest.
    pub(in crate::agent) contracts: Vec<(Digest, PathBuf)>,
    /// The digest whose ledger row is wanted.
    pub(in crate::agent) digest: Option<Digest>,
    /// How long to wait for the server in all.
    pub(in crate::agent) connect_timeout: Duration,
}

/// Reads version, revisions, schema and ledger, and holds each contract against the schema.
pub(in crate::agent) async fn inspect(options: &InspectOptions, secrets: &mut Secrets) -> InspectReport {
    match attempt(options, secrets).await {
        Ok(report) => report,
        Err(error) => InspectReport::Failed { failure: error.failure, message: secrets.message(&error.message) },
    }
}

async fn attempt(options: &InspectOptions, secrets: &mut Secrets) -> Result<InspectReport, DatabaseError> {
    let contracts = read_contracts(&options.contracts)?;
    let url = url_from_environment()?;
    url.secrets().into_iter().for_each(|secret| secrets.add(secret));
    let session = Session::open(&url, "timetracker-inspect", options.connect_timeout).await?;
    // Bounds for a database whose tables somebody holds locked.
    session.client.batch_execute("set lock_timeout = '10s'; set statement_timeout = '60s'").await?;
    let server_version = session.server_version().await?;
    let look = look(&session, options.digest.as_ref()).await?;
    let verdicts = contracts.into_iter().map(|(digest, contract)| {
        let found = compatibility(&contract, &look.snapshot);
        (digest, ContractVerdict { holds: found.holds(), message: secrets.message(&found.to_string()) })
    });
    Ok(InspectReport::Inspected {
        server_version,
        contracts: verdicts.collect(),
        snapshot: look.snapshot.digest(),
        empty: look.snapshot.is_empty(),
        ledger: look.ledger.map(|row| row.entry),
        revisions: look.snapshot.revisions,
    })
}
