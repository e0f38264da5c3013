//! `TimeTrackerRelease`: a digest on its way to production.
//!
//! ```text
//! observe ──▶ decide: gates ─▶ pick ─▶ inspect ─▶ migrate ─▶ roll out ─▶ delivered
//!                                  └────────┴──────────┴──▶ go back, quarantine the digest
//!          ──▶ act
//! ```
//!
//! The candidate is pinned as a ControllerRevision before anything else is done, and how far it came is recorded there
//! before anything is built on it: whatever crashes, the next reconcile reads the same story. The status only retells it.

pub mod assemble;
pub mod decide;
mod events;
pub mod gates;
mod lower;
pub mod manifests;
pub mod names;
pub mod observed;
pub mod policy;
pub mod quantity;
pub mod revision;
pub mod status;
mod steps;
pub mod values;

pub use decide::{Effect, decide};
pub use lower::{LowerError, lower};
