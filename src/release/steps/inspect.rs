//! Inspect: what the image needs, what the database has, and whether a migration lies between them.

use jiff::Timestamp;

use super::attempts::Stage;
use super::database::{self, NoContract, Reading};
use super::{drain, failure, record, refuse};
use crate::api::release::ReleaseStep;
use crate::release::decide::Step;
use crate::release::observed::{Observed, Purpose};
use crate::release::policy::{any_rank, is_older};
use crate::release::revision::{FailureReason, Progress, Revision};
use crate::release::status::Situation;
use crate::schema::SchemaContract;

pub(super) fn next(observed: &Observed, revision: &Revision, now: Timestamp) -> Step {
    if let Some(step) = database::not_ready(observed, false) {
        return step;
    }
    let stage = Stage { step: ReleaseStep::Inspect, changing: false };
    let contract = match database::contract(observed, revision, stage, now) {
        Ok(contract) => contract,
        Err(NoContract::Yet(step)) => return *step,
        Err(NoContract::Ever(message)) => {
            let step = ReleaseStep::Inspect;
            let why = failure(observed, revision, step, FailureReason::ContractUnreadable, message, true);
            return refuse(observed, revision, why, now);
        }
    };
    let purpose = Purpose::Inspect { revision: revision.number };
    match database::read(observed, revision, &purpose, &revision.data.target.digest, stage, now) {
        Ok(reading) => conclude(observed, revision, contract, reading, now),
        Err(step) => *step,
    }
}

fn conclude(
    observed: &Observed,
    revision: &Revision,
    contract: &SchemaContract,
    reading: Reading,
    now: Timestamp,
) -> Step {
    let version = &revision.data.target.version;
    let heads = &contract.heads;
    let holds = reading.verdict.holds;
    let lags = !heads.is_empty() && heads != &reading.revisions;
    let unknown = contract.unknown(&reading.revisions);
    let migrate = lags && unknown.is_empty() && !is_step_back(observed, revision);
    if !migrate && !holds {
        let (reason, blames) =
            if lags { (FailureReason::SchemaTooNew, false) } else { (FailureReason::ContractBroken, true) };
        let mut message = format!(
            "{version} can't run on the database as it is (at {}): {}",
            reading.revisions, reading.verdict.message
        );
        if !unknown.is_empty() {
            message.push_str(&format!(". Its migrations don't know {unknown}, so they can't mend that"));
        }
        let why = failure(observed, revision, ReleaseStep::Inspect, reason, message, blames);
        return refuse(observed, revision, why, now);
    }
    let drain = migrate.then(|| drain::judge(observed, revision)).flatten();
    let message = if migrate {
        format!("the database is at {} and {version} needs {heads}", reading.revisions)
    } else {
        format!("the database has what {version} needs")
    };
    let situation = Situation::Preparing { step: ReleaseStep::Inspect, message };
    record(revision, Progress::Inspected { from: reading.revisions, migrate, drain }, situation)
}

/// Whether the target is older than what was delivered last: its migrations know less than the database has.
fn is_step_back(observed: &Observed, revision: &Revision) -> bool {
    let Some(current) = observed.current() else {
        return false;
    };
    let target = &revision.data.target;
    let ranks = (target.tag.as_ref().and_then(any_rank), current.data.target.tag.as_ref().and_then(any_rank));
    if let (Some(wanted), Some(running)) = ranks
        && let Some(older) = is_older(&wanted, &running)
    {
        return older;
    }
    // Without an order: a digest that was delivered before what runs.
    current.data.target.digest != target.digest
        && observed.revisions.iter().any(|known| {
            known.number < current.number
                && known.data.target.digest == target.digest
                && matches!(known.progress, Progress::Delivered { .. })
        })
}
