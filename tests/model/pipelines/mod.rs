//! Runs against a model world.

mod crowds;
mod environments;
mod examples;
mod interruptions;
mod reruns;
mod scenario;
mod store;
mod workflows;
mod world;
