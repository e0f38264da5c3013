//! Reading the database and images' contracts: shared by inspection and going back.

use jiff::Timestamp;

use super::attempts::{self, Newest, Stage};
use crate::agent::report::{ContractReport, ContractVerdict, DatabaseFailure, InspectReport};
use crate::api::names::{Digest, Revisions};
use crate::api::release::ReleaseStep;
use crate::release::decide::{Effect, Step};
use crate::release::names;
use crate::release::observed::{ObjectKind, Observed, Purpose, is_embedded};
use crate::release::revision::Revision;
use crate::schema::SchemaContract;
use crate::workload::read_report;

/// How often an image's contract is tried before the image is to blame.
const CONTRACT_ATTEMPTS: u32 = 3;

/// Why there is no contract (yet).
pub(super) enum NoContract {
    /// It is being read.
    Yet(Box<Step>),
    /// The image's code can't be read.
    Ever(String),
}

/// What an inspection found.
pub(super) struct Reading {
    /// The database's revisions.
    pub(super) revisions: Revisions,
    /// The verdict on the contract asked about.
    pub(super) verdict: ContractVerdict,
    /// When it was read.
    pub(super) finished: Option<Timestamp>,
    /// Which attempt it was.
    pub(super) attempt: u32,
}

/// Whether the embedded database answers. `None`: it does, or it is not ours.
pub(super) fn not_ready(observed: &Observed, changing: bool) -> Option<Step> {
    if !is_embedded(observed.release.spec.database.as_ref()) {
        return None;
    }
    let name = names::postgres(&observed.name());
    let count = |pointer: &str, body: &serde_json::Value| body.pointer(pointer).and_then(serde_json::Value::as_i64);
    let ready = observed.object(ObjectKind::StatefulSet, &name).is_some_and(|live| {
        let seen = count("/status/observedGeneration", &live.body) >= count("/metadata/generation", &live.body);
        seen && count("/status/readyReplicas", &live.body).unwrap_or(0) >= 1
    });
    if ready {
        return None;
    }
    let stage = Stage { step: ReleaseStep::Database, changing };
    let message = format!("StatefulSet {name} is not ready: see its pod {name}-0");
    Some(Step::stand(stage.hindered("DatabaseNotReady", message)))
}

/// The contract of a revision's image, or how it is being had.
pub(super) fn contract<'a>(
    observed: &'a Observed,
    revision: &Revision,
    stage: Stage,
    now: Timestamp,
) -> Result<&'a SchemaContract, NoContract> {
    let digest = &revision.data.target.digest;
    if let Some(contract) = observed.contracts.get(digest) {
        return Ok(contract);
    }
    let purpose = Purpose::Contract(digest.clone());
    let order = attempts::order(revision, purpose.clone(), Vec::new());
    let version = &revision.data.target.version;
    let reads = || stage.progressing(format!("the schema contract of {version} is read"));
    let yet = |step: Step| Err(NoContract::Yet(Box::new(step)));
    let (last, cause) = match attempts::newest(observed, &purpose, stage) {
        Newest::None => return yet(Step::stand(reads()).with(Effect::Start(Box::new(order)))),
        Newest::Open(step) => return yet(step),
        Newest::Lost(job, why) => {
            let situation = stage.hindered("JobLost", format!("the contract of {version} is read again: {why}"));
            return yet(attempts::again(job, order, situation, now));
        }
        Newest::Ended(job, end) => match (read_report::<ContractReport>(&end.message), &job.contract) {
            (Ok(ContractReport::Dumped { .. }), Some(Ok(contract))) => {
                let keep = Effect::KeepContract { digest: digest.clone(), contract: contract.clone() };
                return yet(Step::stand(reads()).with(keep).again_after(super::AT_ONCE));
            }
            (Ok(ContractReport::Dumped { .. }), Some(Err(why))) => (job, format!("its log can't be read: {why}")),
            (Ok(ContractReport::Dumped { .. }), None) => (job, "its log is gone".to_owned()),
            (Ok(ContractReport::Failed { message }), _) => (job, message),
            (Err(_), _) => (job, format!("it ended with exit code {} ({}) and no report", end.exit_code, end.reason)),
        },
    };
    if last.attempt >= CONTRACT_ATTEMPTS {
        return Err(NoContract::Ever(format!("the code of {version} can't be read: {cause}")));
    }
    let situation = stage.hindered("ContractUnread", format!("the contract of {version} is read again: {cause}"));
    yet(attempts::again(last, order, situation, now))
}

/// What the database has, and whether `about`'s contract holds on it.
pub(super) fn read(
    observed: &Observed,
    revision: &Revision,
    purpose: &Purpose,
    about: &Digest,
    stage: Stage,
    now: Timestamp,
) -> Result<Reading, Box<Step>> {
    let order = attempts::order(revision, purpose.clone(), vec![about.clone()]);
    let (job, end) = match attempts::newest(observed, purpose, stage) {
        Newest::None => {
            let situation = stage.progressing("the database is read".to_owned());
            return Err(Box::new(Step::stand(situation).with(Effect::Start(Box::new(order)))));
        }
        Newest::Open(step) => return Err(Box::new(step)),
        Newest::Lost(job, why) => {
            let situation = stage.hindered("JobLost", format!("the database is read again: {why}"));
            return Err(Box::new(attempts::again(job, order, situation, now)));
        }
        Newest::Ended(job, end) => (job, end),
    };
    let unread = |situation| Err(Box::new(attempts::again(job, order.clone(), situation, now)));
    match read_report::<InspectReport>(&end.message) {
        Ok(InspectReport::Inspected { revisions, mut contracts, .. }) => match contracts.remove(about) {
            Some(verdict) => Ok(Reading { revisions, verdict, finished: end.finished, attempt: job.attempt }),
            None => unread(stage.hindered("InspectionUnclear", "the report lacks the contract's verdict".to_owned())),
        },
        Ok(InspectReport::Failed { failure, message }) => unread(match failure {
            DatabaseFailure::Unreachable | DatabaseFailure::LockTimeout | DatabaseFailure::Interrupted => {
                stage.hindered("DatabaseUnreachable", message)
            }
            DatabaseFailure::AccessDenied => stage.needs_person("DatabaseAccessDenied", message),
            DatabaseFailure::TransactionPooler => stage.needs_person("TransactionPooler", message),
            DatabaseFailure::UnsupportedServer => stage.needs_person("UnsupportedServer", message),
            DatabaseFailure::Configuration
            | DatabaseFailure::UnknownRevision
            | DatabaseFailure::CommandFailed
            | DatabaseFailure::TimedOut
            | DatabaseFailure::RevisionsDiffer
            | DatabaseFailure::ContractBroken
            | DatabaseFailure::Ambiguous => stage.needs_person("DatabaseConfiguration", message),
        }),
        Err(_) => {
            let message =
                format!("the inspection ended with exit code {} ({}) and no report", end.exit_code, end.reason);
            unread(stage.hindered("InspectionUnclear", message))
        }
    }
}
