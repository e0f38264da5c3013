//! Migrate: production, once. The agent's report decides; what proves nothing is tried again, at most three times.

use jiff::Timestamp;

use super::attempts::{self, Newest, Stage};
use super::database::{self, NoContract};
use super::{drain, failure, record, refuse, stop};
use crate::agent::report::{DatabaseFailure, MigrationReport};
use crate::api::names::Revisions;
use crate::api::release::ReleaseStep;
use crate::release::decide::{Effect, Step};
use crate::release::observed::{JobView, Observed, Purpose};
use crate::release::revision::{Drain, Failure, FailureReason, Progress, Revision};
use crate::workload::read_report;

/// How often a migration is tried.
const ATTEMPTS: u32 = 3;
const STAGE: Stage = Stage { step: ReleaseStep::Migrate, changing: true };

pub(super) fn next(observed: &Observed, revision: &Revision, from: &Revisions, now: Timestamp) -> Step {
    let purpose = Purpose::Migrate { revision: revision.number };
    let version = &revision.data.target.version;
    let order = attempts::order(revision, purpose.clone(), vec![revision.data.target.digest.clone()]);
    match attempts::newest(observed, &purpose, STAGE) {
        Newest::None => {
            if let Some(step) = database::not_ready(observed, false) {
                return step;
            }
            match database::contract(observed, revision, STAGE, now) {
                Ok(_) => {}
                Err(NoContract::Yet(step)) => return *step,
                Err(NoContract::Ever(message)) => {
                    let step = ReleaseStep::Migrate;
                    let why = failure(observed, revision, step, FailureReason::ContractUnreadable, message, true);
                    return refuse(observed, revision, why, now);
                }
            }
            if let Some(step) = drain::wait(observed, revision, now) {
                return step;
            }
            let situation = STAGE.progressing(format!("the database is migrated to {version} from {from}"));
            Step::stand(situation).with(Effect::Start(Box::new(order)))
        }
        Newest::Open(step) => step,
        Newest::Lost(job, why) => retry(observed, revision, job, order, None, &why, now),
        Newest::Ended(job, end) => match read_report::<MigrationReport>(&end.message) {
            Ok(MigrationReport::Completed { from, to, bootstrap, .. }) => {
                let note = bootstrap.map(|bootstrap| bootstrap.message);
                let situation = STAGE.progressing(format!("the database is at {to} and has what {version} needs"));
                record(revision, Progress::Migrated { from, to, note }, situation)
            }
            Ok(MigrationReport::Failed { failure, untouched, message, .. }) if failure.is_transient() => {
                let why = if untouched == Some(false) { format!("{message} (the schema changed)") } else { message };
                retry(observed, revision, job, order, untouched, &why, now)
            }
            Ok(MigrationReport::Failed { failure, untouched, message, .. }) => {
                failed(observed, revision, failure, untouched, &message, now)
            }
            Err(_) => {
                let why = format!("it ended with exit code {} ({}) and no report", end.exit_code, end.reason);
                retry(observed, revision, job, order, None, &why, now)
            }
        },
    }
}

fn retry(
    observed: &Observed,
    revision: &Revision,
    last: &JobView,
    order: crate::release::manifests::JobOrder,
    untouched: Option<bool>,
    why: &str,
    now: Timestamp,
) -> Step {
    let version = &revision.data.target.version;
    if last.attempt >= ATTEMPTS {
        let message = format!(
            "the migration to {version} had no result in {ATTEMPTS} attempts, the last: {why}. The digest is not to \
             blame; annotate with timetracker.dev/retry={} when the cause is gone",
            revision.data.target.digest
        );
        let why = failure(observed, revision, STAGE.step, FailureReason::MigrationUnfinished, message, false);
        return give_up(observed, revision, why, untouched, now);
    }
    if let Some(step) = drain::wait(observed, revision, now) {
        return step;
    }
    let situation =
        STAGE.hindered("MigrationRetried", format!("attempt {} at the migration proved nothing: {why}", last.attempt));
    attempts::again(last, order, situation, now)
}

fn failed(
    observed: &Observed,
    revision: &Revision,
    class: DatabaseFailure,
    untouched: Option<bool>,
    message: &str,
    now: Timestamp,
) -> Step {
    let version = &revision.data.target.version;
    if class.blames_digest() {
        let told = format!("the migration to {version} failed: {message}");
        let why = failure(observed, revision, STAGE.step, FailureReason::MigrationFailed, told, true);
        if untouched == Some(true) {
            return refuse(observed, revision, why, now);
        }
        return look(observed, revision, why, now);
    }
    let digest = &revision.data.target.digest;
    if class == DatabaseFailure::Ambiguous {
        let told = format!(
            "the database is neither as before the migration to {version} nor done, and nothing was touched: {message}. \
             Bring it to one of both, then annotate with timetracker.dev/retry={digest}"
        );
        let why = failure(observed, revision, STAGE.step, FailureReason::MigrationAmbiguous, told, false);
        return stop(observed, revision, why, false, observed.drained(), now);
    }
    let told = format!(
        "the migration to {version} can't be run: {message}. Then annotate with timetracker.dev/retry={digest}"
    );
    let why = failure(observed, revision, STAGE.step, FailureReason::DatabaseRefused, told, false);
    give_up(observed, revision, why, untouched, now)
}

/// What runs, or ran before it was stopped, may no longer fit the schema: that is looked at next.
fn look(observed: &Observed, revision: &Revision, why: Failure, now: Timestamp) -> Step {
    let situation = STAGE.progressing(why.message.clone());
    let drain = observed.drained().map(Drain::in_doubt);
    record(revision, Progress::Failed { failure: why, rolled_out: false, drain, time: now }, situation)
}

/// Stops until a person acts. What was stopped for the migration comes back meanwhile: at once where the schema is known
/// to be as it was, else if its code can run on what is there.
fn give_up(observed: &Observed, revision: &Revision, why: Failure, untouched: Option<bool>, now: Timestamp) -> Step {
    match observed.drained() {
        Some(drain) if untouched != Some(true) || drain.schema_in_doubt => look(observed, revision, why, now),
        Some(_) | None => stop(observed, revision, why, false, None, now),
    }
}
