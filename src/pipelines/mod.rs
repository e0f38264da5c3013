//! Pipelines: a run executes a graph of jobs, each a Kubernetes Job of one pod.
//!
//! **observe** reads the run, what it executes, and its Jobs, pods and claims; **decide** is pure; **act** writes.
//! What is true stands in the world, never in the run's status: results are annotations on the Jobs, the verdict is one
//! on the run, and a status that was deleted is rebuilt from both.

mod attempt;
mod begin;
mod decide;
mod definition;
mod effect;
mod environment;
mod failure;
mod graph;
mod jobs;
pub mod names;
mod observe;
mod parameters;
mod pods;
mod progress;
mod result;
mod services;
mod settings;
mod status;
mod surroundings;

pub use decide::decide;
pub use definition::{Definition, Source};
pub use effect::Effect;
pub use graph::{Graph, GraphError};
pub use observe::{Observed, Room};
pub use parameters::Refusal;
pub use result::{JobResult, Outcome, Stop};
pub use settings::Settings;
