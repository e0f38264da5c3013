//! Upkeep: what stands is what was delivered. Drift is healed, what is no longer named is pruned, old evidence goes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::names::Digest;
use crate::api::release::DeletionPolicy;
use crate::release::decide::Effect;
use crate::release::gates::{database_has_data, was_delivered};
use crate::release::manifests::{self, Generated, SiteParts, database_size, differs, is_at_hash, key_of};
use crate::release::names::{self, APP_COMPONENT};
use crate::release::observed::{LiveObject, ObjectKey, ObjectKind, Observed, Purpose, SecretState, is_embedded};
use crate::release::quantity;
use crate::release::revision::{Progress, Revision};
use crate::workload::PodPhase;

/// Revisions that are kept besides those in use.
const KEPT_REVISIONS: usize = 10;
/// Quarantined revisions that are kept at most.
const KEPT_BLAMED: usize = 32;
/// Deliveries whose migration Jobs are kept, with their pods' logs.
const KEPT_MIGRATIONS: i64 = 3;

/// Everything that keeps the world as it was decided.
pub(super) fn effects(observed: &Observed) -> Vec<Effect> {
    let mut effects = secrets(observed);
    effects.extend(database(observed));
    effects.extend(application(observed));
    effects.extend(prune(observed));
    effects.extend(finished_jobs(observed));
    effects.extend(old_revisions(observed));
    effects
}

fn secrets(observed: &Observed) -> Vec<Effect> {
    let keep_owned = observed.release.spec.deletion_policy == DeletionPolicy::Delete;
    let one = |which, state: SecretState, lost: bool| match state {
        SecretState::Absent if !lost => Some(Effect::Generate(which)),
        SecretState::Present { owned } if owned != keep_owned => Some(Effect::Own { which, owned: keep_owned }),
        SecretState::Absent | SecretState::Present { .. } | SecretState::NotNeeded | SecretState::Incomplete => None,
    };
    [
        one(Generated::Database, observed.secrets.database, database_has_data(observed)),
        one(Generated::SecretKey, observed.secrets.key, was_delivered(observed)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The embedded database. Nothing is made without its Secret: the first start fixes the password.
pub(super) fn database(observed: &Observed) -> Vec<Effect> {
    let spec = &observed.release.spec;
    if !is_embedded(spec.database.as_ref()) || !matches!(observed.secrets.database, SecretState::Present { .. }) {
        return Vec::new();
    }
    let parts = SiteParts::of(observed);
    let site = parts.site(spec);
    let Ok(bodies) = manifests::database(&site, &observed.settings.postgres_image) else {
        return Vec::new();
    };
    let mut effects: Vec<Effect> =
        bodies.into_iter().filter_map(|body| heal(observed, fixed(observed, body))).collect();
    let claim = names::postgres_claim(&observed.name());
    let wanted = database_size(&site);
    if observed.object(ObjectKind::PersistentVolumeClaim, &claim).is_some_and(|live| is_smaller(&live.body, &wanted)) {
        effects.push(Effect::GrowClaim { name: claim, size: wanted });
    }
    effects
}

/// `body` with the claim templates that the live StatefulSet has: they can't be changed.
fn fixed(observed: &Observed, mut body: Value) -> Value {
    let live = key_of(&body).and_then(|key| observed.objects.get(&key));
    if let Some(live) = live.and_then(|live| live.body.pointer("/spec/volumeClaimTemplates"))
        && let Some(own) = body.pointer_mut("/spec/volumeClaimTemplates")
    {
        *own = live.clone();
    }
    body
}

fn is_smaller(claim: &Value, wanted: &str) -> bool {
    let has = claim.pointer("/spec/resources/requests/storage").and_then(Value::as_str).and_then(quantity::bytes);
    match (has, quantity::bytes(wanted)) {
        (Some(has), Some(wanted)) => has < wanted,
        (Some(_) | None, _) => false,
    }
}

/// Applies `body`, unless it stands.
fn heal(observed: &Observed, body: Value) -> Option<Effect> {
    let key = key_of(&body)?;
    let live = observed.objects.get(&key);
    if live.is_some_and(|live| !live.owned) {
        // Somebody else's: told by the status, never overwritten.
        return None;
    }
    let stands = live.is_some_and(|live| is_at_hash(&live.body, &body) && !differs(&live.body, &body));
    (!stands).then(|| Effect::Apply(Box::new(body)))
}

fn application(observed: &Observed) -> Vec<Effect> {
    let Some(active) = observed.active() else {
        return Vec::new();
    };
    active
        .data
        .manifests
        .iter()
        .filter_map(|body| match key_of(body)?.kind {
            ObjectKind::PersistentVolumeClaim => claim(observed, body),
            ObjectKind::Deployment if observed.drained().is_some() => heal(observed, manifests::drained(body)),
            ObjectKind::ServiceAccount
            | ObjectKind::Service
            | ObjectKind::Ingress
            | ObjectKind::StatefulSet
            | ObjectKind::Deployment => heal(observed, body.clone()),
        })
        .collect()
}

/// A claim is made, grown, and given to the release or set free; all else in it can't be changed.
fn claim(observed: &Observed, body: &Value) -> Option<Effect> {
    let key = key_of(body)?;
    let Some(live) = observed.objects.get(&key) else {
        return Some(Effect::Apply(Box::new(body.clone())));
    };
    let keep_owned = observed.release.spec.deletion_policy == DeletionPolicy::Delete;
    if live.owned != keep_owned {
        let mut changed = body.clone();
        // The same volume: class and size stay what they are.
        if let (Some(own), Some(has)) = (changed.get_mut("spec"), live.body.get("spec")) {
            *own = has.clone();
        }
        return Some(Effect::Apply(Box::new(changed)));
    }
    let wanted = body.pointer("/spec/resources/requests/storage").and_then(Value::as_str)?;
    is_smaller(&live.body, wanted).then(|| Effect::GrowClaim { name: key.name, size: wanted.to_owned() })
}

/// Objects of the application that the active revision does not name.
fn prune(observed: &Observed) -> Vec<Effect> {
    let Some(active) = observed.active() else {
        return Vec::new();
    };
    let inventory: BTreeSet<ObjectKey> = active.data.manifests.iter().filter_map(key_of).collect();
    let is_ours = |key: &ObjectKey, live: &LiveObject| {
        let component = live.body.pointer("/metadata/labels/app.kubernetes.io~1component").and_then(Value::as_str);
        // Uploads stay, whatever the values say.
        live.owned && component == Some(APP_COMPONENT) && key.kind != ObjectKind::PersistentVolumeClaim
    };
    observed
        .objects
        .iter()
        .filter(|(key, live)| is_ours(key, live) && !inventory.contains(key))
        .map(|(key, live)| Effect::Remove { key: key.clone(), uid: live.uid.clone() })
        .collect()
}

/// Jobs whose result is recorded elsewhere.
fn finished_jobs(observed: &Observed) -> Vec<Effect> {
    let newest = observed.revisions.last().map_or(0, |revision| revision.number);
    let progress = |number: i64| {
        observed.revisions.iter().find(|revision| revision.number == number).map(|revision| &revision.progress)
    };
    let is_over = |phase: &PodPhase| matches!(phase, PodPhase::Ended(_) | PodPhase::Lost(_));
    observed
        .jobs
        .iter()
        .filter(|job| match &job.purpose {
            Purpose::Contract(digest) => {
                observed.contracts.contains_key(digest) || (observed.in_progress().is_none() && is_over(&job.phase))
            }
            Purpose::Inspect { revision } => !matches!(progress(*revision), Some(Progress::Pinned)),
            Purpose::InspectBack { revision } => !matches!(
                progress(*revision),
                Some(Progress::Inspected { .. } | Progress::Migrated { .. } | Progress::Failed { .. })
            ),
            Purpose::Migrate { revision } => {
                is_over(&job.phase)
                    && *revision <= newest.saturating_sub(KEPT_MIGRATIONS)
                    && progress(*revision).is_none_or(|progress| !progress.is_under_way())
            }
        })
        .map(|job| Effect::RemoveJob { name: job.name.clone(), uid: job.uid.clone() })
        .collect()
}

fn old_revisions(observed: &Observed) -> Vec<Effect> {
    let in_use: BTreeSet<i64> = [observed.current(), observed.active(), observed.in_progress(), observed.drained_by()]
        .into_iter()
        .flatten()
        .map(|revision| revision.number)
        .collect();
    let mut blamed = 0_usize;
    let mut kept: Vec<&Revision> = Vec::new();
    let mut old: Vec<&Revision> = Vec::new();
    for (place, revision) in observed.revisions.iter().rev().enumerate() {
        let is_blamed = revision.progress.failure().is_some_and(|failure| failure.blames_digest);
        blamed += usize::from(is_blamed);
        let keep = place < KEPT_REVISIONS || in_use.contains(&revision.number) || (is_blamed && blamed <= KEPT_BLAMED);
        if keep { kept.push(revision) } else { old.push(revision) }
    }
    let has_image = |digest: &Digest| kept.iter().any(|revision| &revision.data.target.digest == digest);
    old.into_iter()
        .map(|revision| Effect::RemoveRevision {
            name: revision.name.clone(),
            uid: revision.uid.clone(),
            contract: (!has_image(&revision.data.target.digest)).then(|| revision.data.target.digest.clone()),
        })
        .collect()
}
