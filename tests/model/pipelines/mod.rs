//! Runs against a model world.

mod interruptions;
mod scenario;
mod store;
mod workflows;
mod world;
