//! The API server: the one place that writes to it, and the ways the operator reads it.

mod write;

pub use write::{FIELD_MANAGER, HASH_ANNOTATION, Manifest, ManifestError, Target, Write, controlled_by};
