//! The schema contract: what an image's code needs of the database, held against what the database has.
//!
//! Exit codes and readiness probes prove nothing about a migration; this comparison does. Everything here is pure.
//! Delivery uses it after each migration and before each way back, the migration check of pipelines for both commits.
//! What both images declare says before a migration whether the old code may go on running meanwhile: `expansion`.

pub mod check;
mod compatibility;
mod contract;
mod expansion;
mod snapshot;

pub use compatibility::{ColumnName, Compatibility, compatibility};
pub use contract::{NeededColumn, SchemaContract};
pub use expansion::expansion;
pub use snapshot::{PresentColumn, SchemaSnapshot};
