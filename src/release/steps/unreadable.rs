//! A revision that can't be read: its annotation was removed or damaged, or a newer operator wrote it.
//!
//! It may have changed the schema and may be what runs, so the site stays as it is and a person says how it stands.

use serde_json::{Value, json};

use super::upkeep;
use crate::release::decide::Step;
use crate::release::manifests::drained_replicas;
use crate::release::names::DIGEST_ANNOTATION;
use crate::release::observed::{ObjectKind, Observed};
use crate::release::revision::{PROGRESS_ANNOTATION, UnreadableRevision};
use crate::release::status::Situation;

/// Only the database is kept up: it does not depend on what is delivered.
pub(super) fn next(observed: &Observed, revision: &UnreadableRevision) -> Step {
    let message = format!(
        "ControllerRevision {} can't be read: {}. The site is left as it is, for an older version might not run on its schema. {}",
        revision.name,
        revision.cause,
        remedy(observed, revision)
    );
    let mut step = Step::stand(Situation::Stalled { reason: "RevisionUnreadable", message });
    step.effects = upkeep::database(observed);
    step
}

/// What brings the release on: the operator that can read it, or the word of a person by which the delivery begins anew,
/// with every check.
fn remedy(observed: &Observed, revision: &UnreadableRevision) -> String {
    let Some(digest) = &revision.digest else {
        return "Upgrade the operator to the version that wrote it".to_owned();
    };
    let key = DIGEST_ANNOTATION.replace('/', "~1");
    let live = observed.object(ObjectKind::Deployment, &observed.name());
    let runs = live
        .and_then(|live| live.body.pointer(&format!("/spec/template/metadata/annotations/{key}")))
        .and_then(Value::as_str);
    let time = revision.created.unwrap_or_default();
    // Superseded: it is not gone on with, and what it rolled out stands until the next revision is delivered.
    let mut progress =
        json!({ "phase": "Superseded", "rolledOut": runs == Some(digest.as_str()), "time": time.to_string() });
    // What was stopped for its migration stays so until the schema was looked at.
    let is_stopped = live.is_some_and(|live| drained_replicas(&live.body).is_some());
    if let (Some(progress), true) = (progress.as_object_mut(), is_stopped) {
        let drain = json!({ "because": "it was stopped for a migration", "schemaInDoubt": true });
        progress.insert("drain".to_owned(), drain);
    }
    format!(
        "If a newer operator wrote it, upgrade this one; else have its version delivered anew by kubectl -n {} annotate --overwrite controllerrevision {} {PROGRESS_ANNOTATION}='{progress}'",
        observed.namespace(),
        revision.name
    )
}
