//! Leadership: one operator acts at a time, and knows by its own clock when it must stop.
//!
//! The expiry that counts is local and monotonic: it is taken *before* the renewal is sent, so that a slow or lost
//! answer shortens our term and never lengthens it. A process that was stopped and continued finds its term over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// How long a term lasts.
pub const TERM: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(5);
/// How long before the end of the term effects stop and those under way are broken off, so that the last one is over
/// when another may begin.
const MARGIN: Duration = Duration::from_secs(3);

/// Whether we lead, by the local clock.
#[derive(Debug, Clone)]
pub struct Leadership {
    until: Arc<Mutex<Option<Instant>>>,
    leading: watch::Receiver<bool>,
}

impl Leadership {
    /// Leadership without a lease, for tools and tests that act alone.
    #[must_use]
    pub fn alone() -> Self {
        let (_, leading) = watch::channel(true);
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        Self { until: Arc::new(Mutex::new(Some(far))), leading }
    }

    /// How long an effect that begins now may take; `None`: it may not begin.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.left_at(Instant::now())
    }

    fn left_at(&self, now: Instant) -> Option<Duration> {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until?.saturating_duration_since(now).saturating_sub(MARGIN);
        (!left.is_zero()).then_some(left)
    }

    /// Waits until we lead.
    pub async fn acquired(&mut self) {
        // The sender lives as long as the process; without it there is nothing to wait for.
        let _ = self.leading.wait_for(|leading| *leading).await;
    }
}

/// Keeps the Lease.
pub struct Keeper {
    api: Api<Lease>,
    name: String,
    identity: String,
    until: Arc<Mutex<Option<Instant>>>,
    leading: watch::Sender<bool>,
    seen: Option<(String, Instant)>,
}

impl Keeper {
    /// A keeper for the Lease `name` in `namespace`, and the leadership that it keeps.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> (Self, Leadership) {
        let until = Arc::new(Mutex::new(None));
        let (sender, receiver) = watch::channel(false);
        let keeper = Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            until: Arc::clone(&until),
            leading: sender,
            seen: None,
        };
        (keeper, Leadership { until, leading: receiver })
    }

    /// Acquires and renews until `stop` resolves, then gives the Lease back.
    pub async fn keep(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let started = Instant::now();
            match timeout(RENEWAL, self.renew(started)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(lease = self.name, %error, "the lease could not be renewed"),
                Err(_) => warn!(lease = self.name, "the API server did not answer the renewal of the lease in time"),
            }
            tokio::select! {
                () = &mut stop => break,
                () = sleep(RENEWAL.saturating_sub(started.elapsed())) => {}
            }
        }
        if timeout(RENEWAL, self.give_back()).await.is_err() {
            warn!(lease = self.name, "the lease could not be given back; it runs out by itself");
        }
    }

    async fn renew(&mut self, started: Instant) -> kube::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.claim(&LeaseSpec::default())),
            };
            self.api.create(&PostParams::default(), &lease).await?;
            self.lead_until(started + TERM);
            return Ok(());
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder != self.identity && !holder.is_empty() && !self.expired(&version, started) {
            self.follow(holder);
            return Ok(());
        }
        lease.spec = Some(self.claim(&spec));
        // Conditional on the resourceVersion that was read: of two claimants one gets a conflict.
        self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        self.lead_until(started + TERM);
        Ok(())
    }

    /// Whether the other holder has not renewed for a whole term *of our clock*: clocks of machines differ.
    fn expired(&mut self, version: &str, now: Instant) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == version => now.saturating_duration_since(*since) > TERM,
            Some(_) | None => {
                self.seen = Some((version.to_owned(), now));
                false
            }
        }
    }

    /// Ours from now on, or still. A change of the holder is counted.
    fn claim(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let ours = before.holder_identity.as_deref() == Some(&self.identity);
        let changed = i32::from(!ours && before.acquire_time.is_some());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(TERM.as_secs()).ok(),
            acquire_time: before.acquire_time.clone().filter(|_| ours).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(changed)),
            ..LeaseSpec::default()
        }
    }

    /// Another leads.
    fn follow(&self, holder: &str) {
        if self.leading.send_replace(false) {
            warn!(lease = self.name, holder, "another operator leads now");
        }
    }

    fn lead_until(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        if !self.leading.send_replace(true) {
            info!(lease = self.name, identity = self.identity, "leading");
        }
    }

    async fn give_back(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else { return };
        let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity))
        else {
            return;
        };
        spec.holder_identity = None;
        if let Err(error) = self.api.replace(&self.name, &PostParams::default(), &lease).await {
            warn!(lease = self.name, %error, "the lease could not be given back; it runs out by itself");
        }
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
