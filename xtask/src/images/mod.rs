//! Container images, made and pushed without a container engine.

pub mod layer;
pub mod oci;
pub mod registry;
