//! The API server: the one place that writes to it, and the ways the operator reads it.

mod act;
mod client;
mod events;
mod lease;
mod liveness;
mod read;
mod supervise;
mod write;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use prometheus_client::metrics::counter::Counter;

pub use act::ActError;
pub use client::{ConnectError, connect};
pub use lease::{Keeper, Leadership, TERM};
pub use liveness::{WATCH_SECONDS, WatchMonitor};
pub use read::ReadError;
pub use supervise::{Backoff, Panicked, supervised};
pub use write::{FIELD_MANAGER, HASH_ANNOTATION, Manifest, ManifestError, Target, Write, controlled_by};

/// The API server as the operator uses it: live reads, and writes while it leads.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    leadership: Leadership,
    recorder: Recorder,
    writes: Counter,
}

impl Cluster {
    /// A cluster reached by `client`, written to while `leadership` holds.
    #[must_use]
    pub fn new(client: Client, leadership: Leadership, identity: &str) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(identity.to_owned()) };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, leadership, recorder, writes: Counter::default() }
    }

    /// How many writes were tried: a metric.
    #[must_use]
    pub fn writes(&self) -> Counter {
        self.writes.clone()
    }
}
