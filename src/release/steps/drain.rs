//! Drain: what runs is stopped before a migration that may take away what its code needs.
//!
//! Judged at the inspection and recorded with it; from then on upkeep holds the Deployment at no pods, until another one
//! is rolled out or it is known that the pods may come back.

use jiff::Timestamp;

use super::attempts::Stage;
use crate::api::names::Digest;
use crate::api::release::{Outcome, ReleaseStep};
use crate::release::decide::Step;
use crate::release::manifests::pods_wanted;
use crate::release::observed::{AppPod, LiveObject, ObjectKind, Observed};
use crate::release::revision::{Drain, Failure, Progress, Revision};
use crate::schema::expansion;

const STAGE: Stage = Stage { step: ReleaseStep::Drain, changing: true };
/// A pod that ends is looked at again after this time.
const GLANCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Whether what runs must stop before the migration to `revision`, and why. Not, where the migration is proved an
/// expansion by what both codes declare, or nothing runs.
pub(super) fn judge(observed: &Observed, revision: &Revision) -> Option<Drain> {
    if let Some(drain) = observed.drained() {
        return Some(drain.in_doubt());
    }
    let active = observed.active()?;
    let contract = |digest: &Digest| observed.contracts.get(digest);
    let because = match (contract(&active.data.target.digest), contract(&revision.data.target.digest)) {
        (Some(old), Some(new)) => Some(expansion(old, new)).filter(|found| !found.holds())?.to_string(),
        (None, _) | (_, None) => "its schema contract is not kept".to_owned(),
    };
    Some(Drain { because, schema_in_doubt: false })
}

/// What is to be waited for before the migration to `revision` may start: that no pod is left of what runs. `None`: it
/// may, or there is nothing to drain.
pub(super) fn wait(observed: &Observed, revision: &Revision, now: Timestamp) -> Option<Step> {
    let drain = revision.progress.drain()?;
    let active = observed.active();
    let old = active.map_or("an earlier version", |active| active.data.target.version.as_str());
    let new = &revision.data.target.version;
    let left: Vec<&AppPod> = observed.pods.iter().filter(|pod| !pod.over).collect();
    let situation = if let Some(first) = left.first() {
        if let Some((reason, message)) = left.iter().find_map(|pod| obstinate(pod, now)) {
            STAGE.hindered(reason, format!("{message}. The migration to {new} waits for its end"))
        } else {
            let who = if left.len() == 1 { format!("pod {}", first.name) } else { format!("{} pods", left.len()) };
            let verb = if left.len() == 1 { "stops" } else { "stop" };
            let because = &drain.because;
            STAGE.progressing(format!(
                "{who} of {old} {verb} before the migration to {new}, for {old} might not run on its schema ({because})"
            ))
        }
    } else if is_at_rest(observed.object(ObjectKind::Deployment, &observed.name()), active.is_some()) {
        return None;
    } else {
        STAGE.progressing(format!("{old} is stopped before the migration to {new}"))
    };
    Some(Step::stand(situation).again_after(GLANCE))
}

/// A pod that does not end as it should, and what a person can do.
fn obstinate(pod: &AppPod, now: Timestamp) -> Option<(&'static str, String)> {
    let name = &pod.name;
    match pod.terminating {
        Some(by) if now > by => Some((
            "PodsDontEnd",
            format!(
                "pod {name} was to be gone by {by} and still exists: see to its node, or delete the pod by force once it \
                 is certain that nothing of it runs"
            ),
        )),
        None if !pod.controlled => Some((
            "StrayPod",
            format!("pod {name} has the labels of the site's pods and belongs to no ReplicaSet: delete it"),
        )),
        Some(_) | None => None,
    }
}

/// Whether the Deployment makes no pods, and its controller knows: none can come between the look and the migration.
fn is_at_rest(deployment: Option<&LiveObject>, is_wanted: bool) -> bool {
    let Some(live) = deployment else {
        // Upkeep makes it again, at rest.
        return !is_wanted;
    };
    let count = |pointer: &str| live.body.pointer(pointer).and_then(serde_json::Value::as_i64);
    count("/spec/replicas") == Some(0)
        && count("/status/observedGeneration") >= count("/metadata/generation")
        && count("/status/replicas").unwrap_or(0) == 0
}

/// How a delivery ends that the site was stopped for. The pods come back at once where the schema is known to be as it
/// was; else it is looked at first.
pub(super) fn end(
    observed: &Observed,
    drain: &Drain,
    failure: Failure,
    schema_is_as_before: bool,
    now: Timestamp,
) -> Progress {
    let active = observed.active().filter(|_| schema_is_as_before && !drain.schema_in_doubt);
    match active {
        // Nothing would ever be seen of pods that nobody wants.
        Some(active) if pods_wanted(&active.data.manifests) == 0 => {
            Progress::Ended { outcome: Outcome::Refused, failure, time: now }
        }
        Some(active) => Progress::Returning { to: active.name.clone(), failure, time: now },
        None => Progress::Failed { failure, rolled_out: false, drain: Some(drain.in_doubt()), time: now },
    }
}
