//! One tag scan serves all releases of a repository and credential.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Registry;
use super::credentials::{Access, CredentialKey};
use super::error::RegistryError;
use super::lru::LeastRecentlyUsed;
use super::tags::TagList;
use crate::api::names::Repository;

/// Repositories whose last scan is kept.
const MAX_SCANS: usize = 256;
/// How long a failure is answered again without asking the registry.
const FAILURE_LIFETIME: Duration = Duration::from_secs(15);

/// The tags of a repository at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The tags, and whether the list is whole.
    pub list: TagList,
    /// When the scan began.
    pub taken: jiff::Timestamp,
}

type Outcome = Result<Arc<Scan>, Arc<RegistryError>>;

#[derive(Debug, Clone)]
struct Known {
    began: Instant,
    outcome: Outcome,
    /// How long a failure stands.
    until: Option<Instant>,
}

impl Known {
    /// Whether this answers a request made at `asked` for something at most `max_age` old.
    fn answers(&self, asked: Instant, max_age: Duration) -> bool {
        match self.until {
            Some(until) => self.began >= asked || until > asked,
            // A scan that began after the question is as fresh as can be, whatever the age asked for.
            None => self.began >= asked || asked.duration_since(self.began) <= max_age,
        }
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Known>>>;

/// Shares scans: of all who ask for the same repository with the same credentials, one reads and the others wait.
#[derive(Debug, Clone)]
pub struct Scanner {
    registry: Registry,
    slots: Arc<Mutex<LeastRecentlyUsed<(Repository, CredentialKey), Slot>>>,
}

impl Scanner {
    /// A scanner that reads with `registry`.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self { registry, slots: Arc::new(Mutex::new(LeastRecentlyUsed::new(MAX_SCANS))) }
    }

    /// The registry that is read.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The tags of `repository`, from a scan that is at most `max_age` old. A failure is shared for 15 seconds, or as
    /// long as the registry asked to wait.
    ///
    /// A caller that gives up while it reads leaves the work to the next one that waits.
    ///
    /// # Errors
    /// When the registry can't be read; see [`Registry::list_tags`].
    pub async fn scan(
        &self,
        repository: &Repository,
        access: &Access,
        max_age: Duration,
    ) -> Result<Arc<Scan>, Arc<RegistryError>> {
        let asked = Instant::now();
        let slot = self.slot(repository, &access.key);
        let mut known = slot.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.answers(asked, max_age)) {
            return known.outcome.clone();
        }
        let (began, taken) = (Instant::now(), jiff::Timestamp::now());
        let outcome = match self.registry.list_tags(repository, access).await {
            Ok(list) => Ok(Arc::new(Scan { list, taken })),
            Err(error) => Err(Arc::new(error)),
        };
        let until = outcome.as_ref().err().map(|error| {
            Instant::now() + error.retry_after().unwrap_or(FAILURE_LIFETIME).max(FAILURE_LIFETIME.min(max_age))
        });
        *known = Some(Known { began, outcome: outcome.clone(), until });
        outcome
    }

    fn slot(&self, repository: &Repository, key: &CredentialKey) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (repository.clone(), key.clone());
        if let Some(slot) = slots.get(&key) {
            return slot.clone();
        }
        let slot = Slot::default();
        slots.insert(key, slot.clone());
        slot
    }
}
