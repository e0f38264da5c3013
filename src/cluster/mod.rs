//! The API server: the one place that writes to it, and the ways the operator reads it.

mod act;
mod client;
mod events;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod fake;
mod lean;
mod lease;
mod liveness;
mod read;
mod references;
mod supervise;
mod write;

use kube::Client;
use prometheus_client::metrics::counter::Counter;

pub use act::ActError;
pub use client::{ConnectError, connect};
pub use lean::{Lean, MANAGED_FIELDS, ManagedFields, Omission, Omit, Omitted};
pub use lease::{Keeper, Leadership, TERM};
pub use liveness::{WATCH_SECONDS, WatchMonitor};
pub use read::ReadError;
pub use references::{Kind, Reference, patience_left, references};
pub use supervise::{Backoff, Panicked, supervised};
pub use write::{FIELD_MANAGER, HASH_ANNOTATION, Manifest, ManifestError, Target, Write, controlled_by};

/// The API server as the operator uses it: live reads, and writes while it leads.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    leadership: Leadership,
    identity: String,
    writes: Counter,
    undecodable: Counter,
}

impl Cluster {
    /// A cluster reached by `client`, written to while `leadership` holds.
    #[must_use]
    pub fn new(client: Client, leadership: Leadership, identity: &str) -> Self {
        Self {
            client,
            leadership,
            identity: identity.to_owned(),
            writes: Counter::default(),
            undecodable: Counter::default(),
        }
    }

    /// Whether this operator leads: only then does it do anything.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leadership.left().is_some()
    }

    /// How many writes were tried: a metric.
    #[must_use]
    pub fn writes(&self) -> Counter {
        self.writes.clone()
    }

    /// How many objects of lists could not be decoded and were passed over: a metric.
    #[must_use]
    pub fn undecodable(&self) -> Counter {
        self.undecodable.clone()
    }
}
