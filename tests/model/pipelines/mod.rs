//! Runs against a model world.

mod crowds;
mod environments;
mod interruptions;
mod reruns;
mod scenario;
mod store;
mod workflows;
mod world;
