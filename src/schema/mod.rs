//! The schema contract: what an image's code needs of the database, held against what the database has.
//!
//! Exit codes and readiness probes prove nothing about a migration; this comparison does. Everything here is pure.
//! Delivery uses it after each migration and before each way back, the migration check of pipelines for both commits.

pub mod check;
mod compatibility;
mod contract;
mod snapshot;

pub use compatibility::{ColumnName, Compatibility, compatibility};
pub use contract::{NeededColumn, SchemaContract};
pub use snapshot::{PresentColumn, SchemaSnapshot};
