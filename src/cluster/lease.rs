//! Leadership: one operator acts at a time, and knows by its own clock when it must stop.
//!
//! The expiry that counts is local and monotonic: it is taken *before* the renewal is sent, so that a slow or lost
//! answer shortens our term and never lengthens it. A process that was stopped and continued finds its term over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// How long a term lasts.
pub const TERM: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(5);
/// How long before the end of the term effects stop, so that the last one is over when another may begin.
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

    /// Whether an effect may begin now.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds_at(Instant::now())
    }

    fn holds_at(&self, now: Instant) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| now + MARGIN < until)
    }

    /// Waits until we lead for the first time.
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
                spec: Some(self.claim(None)),
            };
            self.api.create(&PostParams::default(), &lease).await?;
            self.lead_until(started + TERM);
            return Ok(());
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        let ours = holder == self.identity;
        if !ours && !holder.is_empty() && !self.expired(&version, started) {
            return Ok(());
        }
        lease.spec = Some(self.claim(lease.spec.as_ref().filter(|_| ours)));
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

    fn claim(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(TERM.as_secs()).ok(),
            acquire_time: before.and_then(|spec| spec.acquire_time.clone()).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(before.map_or(0, |spec| spec.lease_transitions.unwrap_or(0))),
            ..LeaseSpec::default()
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn effects_stop_before_the_term_is_over() {
        let now = Instant::now();
        let leadership = Leadership::alone();
        *leadership.until.lock().unwrap() = Some(now + TERM);
        assert!(leadership.holds_at(now));
        assert!(!leadership.holds_at(now + TERM - MARGIN));
        assert!(!leadership.holds_at(now + TERM * 10), "a process that was stopped for long must not act");
    }
}
