//! `TimeTrackerRelease`: a digest on its way to production.
//!
//! ```text
//! observe ──▶ decide: gates ─▶ pick ─▶ inspect ─▶ (drain) ─▶ migrate ─▶ roll out ─▶ delivered
//!                                  └─────────────────────┴──────────┴──▶ go back, quarantine the digest
//!          ──▶ act
//! ```
//!
//! The candidate is pinned as a ControllerRevision before anything else is done, and how far it came is recorded there
//! before anything is built on it: whatever crashes, the next reconcile reads the same story. The status only retells it.

pub mod assemble;
pub mod decide;
mod events;
pub mod gates;
mod history;
mod lower;
pub mod manifests;
pub mod names;
mod observe;
pub mod observed;
pub mod policy;
pub mod quantity;
pub mod revision;
pub mod status;
mod steps;
pub mod values;

pub use decide::{Effect, decide};
pub use lower::{LowerError, lower, status_body};
pub use names::{CHILD_SELECTOR, INSTANCE_LABEL};
pub use observe::Releases;

use jiff::Timestamp;

use crate::api::release::TimeTrackerRelease;
use crate::cluster::{ActError, Cluster, ReadError, Target, Write};
use crate::plan::Next;

/// A reconcile that did not come to its end: it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The world could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An effect is no object.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// An effect was not done, or we don't know.
    #[error(transparent)]
    Act(#[from] ActError),
    /// The operating system gives no randomness for a generated Secret.
    #[error("the operating system gives no randomness")]
    Randomness,
}

impl ReleaseError {
    /// A static word for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Read(error) => error.reason(),
            Self::Lower(error) => error.reason(),
            Self::Act(error) => error.reason(),
            Self::Randomness => "NoRandomness",
        }
    }

    /// Whether it is enough to observe again at once.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Act(error) => error.is_conflict(),
            Self::Read(_) | Self::Lower(_) | Self::Randomness => false,
        }
    }
}

/// Brings one release a step further, and says when to look again. `now` is the time of the decision.
///
/// # Errors
/// When the world can't be read or written; what was done until then is found again.
pub async fn reconcile(
    cluster: &Cluster,
    releases: &Releases,
    namespace: &str,
    name: &str,
    now: impl Fn() -> Timestamp,
) -> Result<Next, ReleaseError> {
    let Some(observed) = observe::observe(cluster, releases, namespace, name, now()).await? else {
        return Ok(Next::OnChange);
    };
    let plan = decide(&observed, now());
    act(cluster, &observed, plan).await
}

async fn act(
    cluster: &Cluster,
    observed: &observed::Observed,
    plan: decide::ReleasePlan,
) -> Result<Next, ReleaseError> {
    let (namespace, name) = (observed.namespace(), observed.name());
    for effect in &plan.effects {
        tracing::info!(release = name, namespace, effect = effect.describe(), "acting");
        // Each effect has its own: a password and a key never share their randomness.
        for write in lower(effect, observed, &entropy()?)? {
            cluster.act(&write).await?;
        }
    }
    if let Some(status) = &plan.status {
        let target = Target::of::<TimeTrackerRelease>(&namespace, &name);
        cluster.act(&Write::Status { target, status: status_body(status) }).await?;
    }
    for notice in &plan.events {
        cluster.notify(&observed.release, notice).await;
    }
    Ok(plan.next)
}

/// 256 bits from the operating system, through the TLS provider that is in the tree anyway.
fn entropy() -> Result<[u8; 32], ReleaseError> {
    let mut bytes = [0; 32];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| ReleaseError::Randomness)?;
    Ok(bytes)
}
