//! The status: a projection of what is observed and decided. Deleted at any time, it is rebuilt.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::manifests::{deployment_replicas, drained_replicas, pods_wanted};
use super::observed::{ObjectKind, Observed, REQUESTED_AT_ANNOTATION, RegistryView};
use super::policy::Policy;
use super::revision::{Progress, Revision};
use super::steps::pick;
use crate::api::conditions::{Statement, Verdict, printable, restate, types};
use crate::api::release::{
    CandidateStatus, CurrentStatus, HistoryEntry, Outcome, QuarantinedDigest, RegistryStatus, ReleaseStatus,
    ReleaseStep,
};

/// How things stand, in the words of the status table of the design.
#[derive(Debug, Clone, PartialEq)]
pub enum Situation {
    /// Nothing is touched.
    Suspended,
    /// What runs is kept on demand.
    Held {
        /// Why, in the user's words.
        message: String,
    },
    /// What runs is what is wanted.
    Settled {
        /// What else there is to say about updates: why a newer one is not taken.
        pending: Option<Pending>,
    },
    /// A candidate is in pick, database, inspect, rehearse or back up: what runs is not touched.
    Preparing {
        /// Which step.
        step: ReleaseStep,
        /// What happens.
        message: String,
    },
    /// What runs is being changed.
    Changing {
        /// Which step.
        step: ReleaseStep,
        /// A static word.
        reason: &'static str,
        /// What happens.
        message: String,
    },
    /// Something that may pass by itself is in the way, before anything was changed.
    Waiting {
        /// Which step.
        step: ReleaseStep,
        /// A static word.
        reason: &'static str,
        /// Cause and next step.
        message: String,
    },
    /// A person must do something before it goes on, and it then goes on by itself.
    NeedsPerson {
        /// A static word.
        reason: &'static str,
        /// Cause and next step.
        message: String,
    },
    /// The delivery under way stopped in this step: the specification must change, or the retry annotation be set.
    Stopped {
        /// Which step, also while that is not recorded yet.
        step: ReleaseStep,
        /// A static word.
        reason: &'static str,
        /// Cause and next step.
        message: String,
    },
    /// Nothing can be begun: the specification must change, or the retry annotation be set.
    Stalled {
        /// A static word.
        reason: &'static str,
        /// Cause and next step.
        message: String,
    },
}

/// Why a newer version is not taken although what runs is all right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// A static word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// The status for this situation.
#[must_use]
pub fn project(observed: &Observed, situation: &Situation, now: Timestamp) -> ReleaseStatus {
    let empty = ReleaseStatus::default();
    let previous = observed.release.status.as_ref().unwrap_or(&empty);
    let statements = statements(observed, situation);
    ReleaseStatus {
        observed_generation: observed.generation(),
        conditions: restate(&previous.conditions, statements, observed.generation(), now),
        // Which version is current is not known while a revision can't be read: what was told last stays.
        current: match observed.unreadable() {
            None => observed.current().and_then(current),
            Some(_) => previous.current.clone(),
        },
        candidate: observed.in_progress().map(|revision| candidate(revision, situation)),
        history: history(observed),
        quarantined: quarantined(observed),
        registry: registry(observed, previous, now),
        last_handled_reconcile_at: observed
            .release
            .annotations()
            .get(REQUESTED_AT_ANNOTATION)
            .map(|value| printable(value, 128)),
    }
}

/// The conditions for this situation, without times.
#[must_use]
pub fn statements(observed: &Observed, situation: &Situation) -> Vec<Statement> {
    let satisfied = pick::is_satisfied(observed);
    let runs = runs(observed);
    // What there is to know about how it runs, for as long as it runs so.
    let delivered = || match observed.current().and_then(schedulers) {
        Some(warning) => format!("{runs}; {warning}"),
        None => runs.clone(),
    };
    let ready = |verdict, reason, message: String| Statement::new(types::READY, verdict, reason, message);
    let pending = |reason, message: &str| Statement::new(types::UPDATE_PENDING, Verdict::True, reason, message);
    let none_pending =
        || Statement::new(types::UPDATE_PENDING, Verdict::False, "UpToDate", "no other version is on its way");
    let mut told = match situation {
        Situation::Suspended => {
            let message = format!("suspended, {runs}: set spec.suspend to false to go on");
            vec![ready(if satisfied { Verdict::True } else { Verdict::Unknown }, "Suspended", message), none_pending()]
        }
        Situation::Held { message } => {
            let message = format!("held, {runs}: {message}");
            vec![ready(if satisfied { Verdict::True } else { Verdict::Unknown }, "Held", message), none_pending()]
        }
        Situation::Settled { pending: waiting } => {
            let update =
                waiting.as_ref().map_or_else(none_pending, |waiting| pending(waiting.reason, &waiting.message));
            if satisfied {
                vec![ready(Verdict::True, "Delivered", delivered()), update]
            } else {
                let message = format!("{runs}, which is not what the specification asks for");
                vec![ready(Verdict::Unknown, "Pending", message.clone()), update, reconciling("Pending", &message)]
            }
        }
        Situation::Preparing { step, message } => {
            let reason = step_reason(*step);
            if satisfied {
                vec![ready(Verdict::True, "Delivered", delivered()), pending(reason, message)]
            } else {
                in_work(reason, message)
            }
        }
        Situation::Changing { reason, message, .. } => in_work(reason, message),
        Situation::Waiting { reason, message, .. } => {
            if satisfied {
                vec![ready(Verdict::True, "Delivered", delivered()), pending(reason, message)]
            } else {
                in_work(reason, message)
            }
        }
        Situation::NeedsPerson { reason, message } => {
            if satisfied {
                vec![ready(Verdict::True, "Delivered", delivered()), pending(reason, message)]
            } else {
                vec![ready(Verdict::False, reason, message.clone()), pending(reason, message)]
            }
        }
        Situation::Stopped { reason, message, .. } | Situation::Stalled { reason, message } => vec![
            ready(Verdict::False, reason, message.clone()),
            none_pending(),
            Statement::new(types::STALLED, Verdict::True, reason, message.clone()),
        ],
    };
    told.push(available(observed));
    told.extend(registry_reachable(observed));
    told.push(quarantine(observed));
    told
}

/// What runs, in words.
fn runs(observed: &Observed) -> String {
    let version = |revision: &Revision| revision.data.target.version.clone();
    match (observed.unreadable(), observed.current().map(version)) {
        (Some(unreadable), _) => format!("ControllerRevision {} can't be read", unreadable.name),
        (None, Some(version)) if observed.is_stopped() => {
            let why =
                observed.drained().map(|drain| format!(", for it might not run on its schema ({})", drain.because));
            format!("the site is down: {version} is stopped for a migration{}", why.unwrap_or_default())
        }
        (None, Some(version)) => format!("{version} runs"),
        (None, None) if observed.is_stopped() => "the site is down: its pods are stopped for a migration".to_owned(),
        (None, None) => "nothing was delivered yet".to_owned(),
    }
}

/// The app sends scheduled e-mails from a scheduler inside of every pod.
#[must_use]
pub fn schedulers(revision: &Revision) -> Option<String> {
    let pods = pods_wanted(&revision.data.manifests);
    (pods > 1).then(|| {
        format!(
            "each of its {pods} pods runs the app's scheduler, so scheduled e-mails are sent {pods} times (values.replicaCount)"
        )
    })
}

fn in_work(reason: &'static str, message: &str) -> Vec<Statement> {
    vec![
        Statement::new(types::READY, Verdict::Unknown, reason, message),
        Statement::new(types::UPDATE_PENDING, Verdict::True, reason, message),
        reconciling(reason, message),
    ]
}

fn reconciling(reason: &'static str, message: &str) -> Statement {
    Statement::new(types::RECONCILING, Verdict::True, reason, message)
}

/// The word for a step under way.
#[must_use]
pub fn step_reason(step: ReleaseStep) -> &'static str {
    match step {
        ReleaseStep::Pick => "Picking",
        ReleaseStep::Database => "DatabaseStarting",
        ReleaseStep::Inspect => "Inspecting",
        ReleaseStep::Rehearse => "Rehearsing",
        ReleaseStep::BackUp => "BackingUp",
        ReleaseStep::Drain => "Draining",
        ReleaseStep::Migrate => "Migrating",
        ReleaseStep::RollOut => "RollingOut",
        ReleaseStep::GoBack => "GoingBack",
    }
}

fn available(observed: &Observed) -> Statement {
    let deployment = observed.object(ObjectKind::Deployment, &observed.name());
    let count = |field: &str| {
        deployment
            .and_then(|live| live.body.pointer(&format!("/status/{field}")))
            .and_then(serde_json::Value::as_i64)
            .unwrap_or(0)
    };
    let wanted = deployment.map_or(0, |live| deployment_replicas(&live.body));
    match (deployment, count("availableReplicas").max(count("readyReplicas"))) {
        (None, _) => Statement::new(types::AVAILABLE, Verdict::False, "NotDeployed", "there is no Deployment yet"),
        (Some(_), ready) if ready > 0 => {
            Statement::new(types::AVAILABLE, Verdict::True, "PodsReady", format!("{ready} of {wanted} pods are ready"))
        }
        (Some(live), _) if let Some(had) = drained_replicas(&live.body) => {
            let pods = if had == 1 { "its pod is".to_owned() } else { format!("its {had} pods are") };
            Statement::new(types::AVAILABLE, Verdict::False, "Drained", format!("{pods} stopped for a migration"))
        }
        (Some(_), _) => {
            Statement::new(types::AVAILABLE, Verdict::False, "NoPodReady", format!("0 of {wanted} pods are ready"))
        }
    }
}

fn registry_reachable(observed: &Observed) -> Option<Statement> {
    match &observed.registry {
        RegistryView::Unasked => None,
        RegistryView::Failed(problem) => {
            Some(Statement::new(types::REGISTRY_REACHABLE, Verdict::False, problem.reason, problem.message.clone()))
        }
        RegistryView::Seen(_) => {
            Some(Statement::new(types::REGISTRY_REACHABLE, Verdict::True, "Answered", "the registry answers"))
        }
    }
}

/// True while something newer than what runs is quarantined.
fn quarantine(observed: &Observed) -> Statement {
    let current = observed.last_delivered().map_or(0, |revision| revision.number);
    let newest =
        observed.revisions.iter().rev().find(|revision| revision.number > current && observed.is_blamed(revision));
    match newest.and_then(|revision| Some((revision, revision.progress.failure()?))) {
        Some((revision, failure)) => Statement::new(
            types::QUARANTINED,
            Verdict::True,
            failure.reason.as_str(),
            format!(
                "{} ({}) is not picked again: {}. Annotate with timetracker.dev/retry={} to try it again",
                revision.data.target.version,
                revision.data.target.digest.short(),
                failure.message,
                revision.data.target.digest,
            ),
        ),
        None => Statement::new(types::QUARANTINED, Verdict::False, "NoneQuarantined", "nothing newer is quarantined"),
    }
}

fn current(revision: &Revision) -> Option<CurrentStatus> {
    let Progress::Delivered { revisions, time } = &revision.progress else {
        return None;
    };
    let target = &revision.data.target;
    Some(CurrentStatus {
        version: target.version.clone(),
        tag: target.tag.clone(),
        digest: target.digest.clone(),
        revisions: revisions.clone(),
        deployed_time: Time(*time),
    })
}

fn candidate(revision: &Revision, situation: &Situation) -> CandidateStatus {
    let (step, message) = match situation {
        Situation::Preparing { step, message }
        | Situation::Changing { step, message, .. }
        | Situation::Stopped { step, message, .. }
        | Situation::Waiting { step, message, .. } => (*step, Some(message.as_str())),
        Situation::Stalled { message, .. } | Situation::NeedsPerson { message, .. } => {
            (resting_step(revision), Some(message.as_str()))
        }
        Situation::Suspended | Situation::Held { .. } | Situation::Settled { .. } => (resting_step(revision), None),
    };
    let target = &revision.data.target;
    CandidateStatus {
        version: target.version.clone(),
        tag: target.tag.clone(),
        digest: target.digest.clone(),
        step,
        verdict: message.map(|message| printable(message, 512)),
    }
}

/// The step in which a revision stands when nothing is done about it.
fn resting_step(revision: &Revision) -> ReleaseStep {
    match &revision.progress {
        Progress::Pinned => ReleaseStep::Inspect,
        Progress::Inspected { migrate: true, drain: Some(_), .. } => ReleaseStep::Drain,
        Progress::Inspected { migrate: true, .. } => ReleaseStep::Migrate,
        Progress::Inspected { .. } | Progress::Migrated { .. } | Progress::Delivered { .. } => ReleaseStep::RollOut,
        Progress::Failed { .. } | Progress::Returning { .. } => ReleaseStep::GoBack,
        Progress::Stuck { failure, .. } | Progress::Ended { failure, .. } => failure.step,
        Progress::Superseded { .. } => ReleaseStep::Pick,
    }
}

fn history(observed: &Observed) -> Vec<HistoryEntry> {
    let entry = |revision: &Revision| {
        let (outcome, message) = match &revision.progress {
            Progress::Delivered { .. } => (Outcome::Delivered, None),
            Progress::Ended { outcome, failure, .. } => (*outcome, Some(printable(&failure.message, 256))),
            Progress::Pinned
            | Progress::Inspected { .. }
            | Progress::Migrated { .. }
            | Progress::Failed { .. }
            | Progress::Returning { .. }
            | Progress::Stuck { .. }
            | Progress::Superseded { .. } => return None,
        };
        Some(HistoryEntry {
            version: revision.data.target.version.clone(),
            digest: revision.data.target.digest.clone(),
            outcome,
            message,
            time: Time(revision.progress.time()?),
        })
    };
    observed.revisions.iter().rev().filter_map(entry).take(10).collect()
}

fn quarantined(observed: &Observed) -> Vec<QuarantinedDigest> {
    let blamed = observed.revisions.iter().rev().filter(|revision| {
        let newest = observed.newest_of(&revision.data.target.digest);
        newest.is_some_and(|newest| newest.number == revision.number) && observed.is_blamed(revision)
    });
    let entry = |revision: &Revision| {
        let failure = revision.progress.failure()?;
        Some(QuarantinedDigest {
            digest: revision.data.target.digest.clone(),
            version: revision.data.target.version.clone(),
            reason: printable(&failure.message, 256),
            quarantined_time: Time(revision.progress.time()?),
        })
    };
    blamed.filter_map(entry).take(32).collect()
}

fn registry(observed: &Observed, previous: &ReleaseStatus, now: Timestamp) -> Option<RegistryStatus> {
    let RegistryView::Seen(seen) = &observed.registry else {
        return previous.registry.clone();
    };
    let newest = Policy::parse(&observed.release.spec.image).ok().and_then(|policy| match policy {
        Policy::Tag(tag) => Some(tag),
        Policy::Digest(_) => None,
        Policy::Version(_) | Policy::Range(_) | Policy::Development => {
            policy.walk(&seen.tags).into_iter().next().map(|(_, tag)| tag)
        }
    })?;
    let before = previous.registry.as_ref().filter(|before| before.newest_seen.as_ref() == Some(&newest));
    let seen_time = before.and_then(|before| before.seen_time.clone()).unwrap_or(Time(now));
    Some(RegistryStatus { newest_seen: Some(newest), seen_time: Some(seen_time) })
}
