//! What must hold before anything new is delivered. Ordered, named, pure; the first that does not hold is told.

use crate::release::names;
use crate::release::observed::{ObjectKind, Observed, SecretState, is_embedded};
use crate::release::policy::{self, Policy};
use crate::release::revision::Progress;
use crate::release::status::Situation;

/// One gate: its name, and what it says when it is closed.
pub struct Gate {
    /// Its name, for tests and messages.
    pub name: &'static str,
    /// The situation when it is closed.
    pub check: fn(&Observed) -> Option<Situation>,
}

/// The gates in order.
pub const GATES: [Gate; 4] = [
    Gate { name: "specification", check: specification },
    Gate { name: "values", check: values },
    Gate { name: "database secret", check: database_secret },
    Gate { name: "secret key", check: secret_key },
];

/// What the first closed gate says.
#[must_use]
pub fn closed(observed: &Observed) -> Option<Situation> {
    GATES.iter().find_map(|gate| (gate.check)(observed))
}

/// The policy that counts: a held digest goes before the image's policy.
///
/// # Errors
/// When it can't be read.
pub fn effective_policy(observed: &Observed) -> Result<Policy, policy::PolicyError> {
    let spec = &observed.release.spec;
    match spec.hold.as_ref().and_then(|hold| hold.digest.as_ref()) {
        Some(digest) => digest.parse().map(Policy::Digest).map_err(policy::PolicyError::Digest),
        None => Policy::parse(&spec.image),
    }
}

fn specification(observed: &Observed) -> Option<Situation> {
    let problem = policy::repository(&observed.release.spec.image)
        .err()
        .or_else(|| effective_policy(observed).err())
        .map(|error| error.to_string())
        .or_else(|| database_kind(observed))?;
    Some(Situation::Stalled { reason: "InvalidSpecification", message: problem })
}

/// CEL refuses a change of kind; an object that slipped by (stored earlier, rules off) is refused here.
fn database_kind(observed: &Observed) -> Option<String> {
    let postgres = names::postgres(&observed.name());
    let had_embedded = observed.object(ObjectKind::StatefulSet, &postgres).is_some_and(|live| live.owned);
    (had_embedded && !is_embedded(observed.release.spec.database.as_ref())).then(|| {
        "spec.database: this release has an embedded database, and a release never changes its kind of database: \
         make a new release and move the data"
            .to_owned()
    })
}

fn values(observed: &Observed) -> Option<Situation> {
    let error = observed.values.as_ref().err()?;
    Some(Situation::Stalled { reason: error.reason(), message: error.to_string() })
}

fn database_secret(observed: &Observed) -> Option<Situation> {
    let name = names::postgres(&observed.name());
    match observed.secrets.database {
        SecretState::Absent if database_has_data(observed) => Some(Situation::Stalled {
            reason: "SecretLost",
            message: format!(
                "Secret {name} is gone, and the database's volume {} still has the password that stood in it: \
                 restore the Secret (keys {}, {})",
                names::postgres_claim(&observed.name()),
                names::PASSWORD_KEY,
                names::DATABASE_URL_KEY,
            ),
        }),
        SecretState::Incomplete => Some(Situation::Stalled {
            reason: "SecretIncomplete",
            message: format!(
                "Secret {name} lacks one of the keys {}, {}: restore them, it is never replaced",
                names::PASSWORD_KEY,
                names::DATABASE_URL_KEY,
            ),
        }),
        SecretState::Absent | SecretState::NotNeeded | SecretState::Present { .. } => None,
    }
}

fn secret_key(observed: &Observed) -> Option<Situation> {
    let name = names::secret_key(&observed.name());
    match observed.secrets.key {
        SecretState::Absent if was_delivered(observed) => Some(Situation::Stalled {
            reason: "SecretLost",
            message: format!(
                "Secret {name} is gone: sessions and encrypted settings depend on it. Restore it, or set \
                 spec.secretKeyFrom"
            ),
        }),
        SecretState::Incomplete => Some(Situation::Stalled {
            reason: "SecretIncomplete",
            message: format!("Secret {name} lacks the key {}: restore it, it is never replaced", names::SECRET_KEY_KEY),
        }),
        SecretState::Absent | SecretState::NotNeeded | SecretState::Present { .. } => None,
    }
}

/// Whether the embedded database's volume was made: its password is fixed then.
#[must_use]
pub fn database_has_data(observed: &Observed) -> bool {
    observed.object(ObjectKind::PersistentVolumeClaim, &names::postgres_claim(&observed.name())).is_some()
}

/// Whether the application ever ran with the generated key.
#[must_use]
pub fn was_delivered(observed: &Observed) -> bool {
    observed.revisions.iter().any(|revision| matches!(revision.progress, Progress::Delivered { .. }))
}
