//! Container images, made and pushed without a container engine.

mod archive;
pub mod catalogue;
pub mod cli;
mod debian;
mod dockerfile;
pub mod layer;
pub mod oci;
mod postgres;
mod programs;
mod python;
pub mod registry;
pub mod sample;
mod store;
