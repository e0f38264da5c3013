//! `contract`: what the image's code needs of its database, told by that code itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::frame;
use super::message::Secrets;
use super::process::{Limits, PassOn, Stopped, Terminate};
use super::python::{self, Script, ScriptResult};
use super::report::ContractReport;
use crate::api::names::{Digest, Revision};
use crate::schema::{NeededColumn, SchemaContract};

const SCRIPT: &str = include_str!("contract.py");

/// Syntactically right and never connected to.
const UNUSED_DATABASE: &str = "postgresql://contract:contract@127.0.0.1:9/contract";
/// Long enough for the app to start with; it signs nothing here.
pub(super) const UNUSED_SECRET_KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// What the script writes; names are not yet validated.
#[derive(Debug, Deserialize)]
struct Dumped {
    heads: Vec<String>,
    known: Vec<String>,
    tables: BTreeMap<String, BTreeMap<String, NeededColumn>>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ContractError {
    #[error("`{0}` can't be started in this image: {1}")]
    Start(String, io::Error),
    #[error("the image's code did not answer within {0} s")]
    TimedOut(u64),
    #[error("told to stop before the image's code had answered")]
    Terminated,
    #[error("the image's code can't be read (exit code {0})")]
    Ended(i32),
    #[error("the image's code gave no usable answer: {0}")]
    Answer(String),
    #[error("the contract can't be printed: {0}")]
    Print(String),
}

/// Dumps the contract, prints its frame to standard output and reports.
pub(super) async fn contract(
    interpreter: Vec<OsString>,
    timeout: Duration,
    terminate: &mut Terminate,
    secrets: &Secrets,
) -> ContractReport {
    let mut output = String::new();
    match dump(interpreter, None, timeout, terminate, &mut output).await.and_then(|contract| print(&contract)) {
        Ok(report) => report,
        Err(error) => ContractReport::Failed { message: secrets.message_with_output(&error.to_string(), &output) },
    }
}

/// Asks the code in `directory`, or the working directory. `output` gets what it printed.
pub(super) async fn dump(
    interpreter: Vec<OsString>,
    directory: Option<PathBuf>,
    timeout: Duration,
    terminate: &mut Terminate,
    output: &mut String,
) -> Result<SchemaContract, ContractError> {
    let name = interpreter.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut environment: Vec<(String, OsString)> = vec![("TT_BOOTSTRAP_MODE".into(), "migrate".into())];
    for (variable, unused) in [("DATABASE_URL", UNUSED_DATABASE), ("SECRET_KEY", UNUSED_SECRET_KEY)] {
        if std::env::var_os(variable).is_none_or(|value| value.is_empty()) {
            environment.push((variable.into(), unused.into()));
        }
    }
    // The app's output goes to standard error: standard output carries the frame alone.
    let script = Script { interpreter, text: SCRIPT, environment, directory, pass_on: PassOn::StandardError };
    let limits = Limits { timeout, grace: Duration::from_secs(5) };
    let ScriptResult { ended, document, output: printed } =
        python::run(script, limits, terminate, std::future::pending())
            .await
            .map_err(|error| ContractError::Start(name, error))?;
    *output = printed;
    match (ended.stopped, ended.code) {
        (Some(Stopped::TimedOut), _) => return Err(ContractError::TimedOut(timeout.as_secs())),
        (Some(Stopped::Terminated | Stopped::Abandoned), _) => return Err(ContractError::Terminated),
        (None, 0) => {}
        (None, code) => return Err(ContractError::Ended(code)),
    }
    parse(&document)
}

fn parse(document: &[u8]) -> Result<SchemaContract, ContractError> {
    if document.len() > frame::MAX_DOCUMENT_BYTES {
        return Err(ContractError::Answer(format!("it is longer than {} bytes", frame::MAX_DOCUMENT_BYTES)));
    }
    let unusable = |error: &dyn std::fmt::Display| ContractError::Answer(error.to_string());
    let Dumped { heads, known, tables } = serde_json::from_slice(document).map_err(|error| unusable(&error))?;
    let heads: Result<_, _> = heads.iter().map(|head| head.parse::<Revision>()).collect();
    let known: Result<_, _> = known.iter().map(|revision| revision.parse::<Revision>()).collect();
    Ok(SchemaContract {
        heads: heads.map_err(|error| unusable(&error))?,
        known: known.map_err(|error| unusable(&error))?,
        tables,
    })
}

fn print(contract: &SchemaContract) -> Result<ContractReport, ContractError> {
    let document = serde_json::to_vec(contract).map_err(|error| ContractError::Print(error.to_string()))?;
    let line =
        frame::encode(frame::SCHEMA_CONTRACT, &document).map_err(|error| ContractError::Print(error.to_string()))?;
    let mut target = io::stdout().lock();
    writeln!(target, "{line}")
        .and_then(|()| target.flush())
        .map_err(|error| ContractError::Print(error.to_string()))?;
    Ok(ContractReport::Dumped {
        contract: Digest::of(&document),
        heads: contract.heads.clone(),
        tables: u32::try_from(contract.tables.len()).unwrap_or(u32::MAX),
    })
}
