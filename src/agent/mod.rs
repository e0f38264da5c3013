//! What runs inside Job pods: a static binary without a Kubernetes client.
//!
//! Every subcommand ends with one JSON report in the container's termination message ([`report`]); what is longer
//! than that travels as a framed log line ([`frame`]). The operator shares exactly these two modules with the agent, and
//! how a log is kept in the artifact store.

mod cli;
mod collect;
mod contract;
mod database;
mod duration;
mod environment;
mod exec;
mod fetch;
pub mod frame;
mod install;
mod message;
mod process;
mod python;
pub mod report;
mod source;

pub use cli::main;
pub(crate) use collect::{Log, PART_BYTES, Store, StoreError};
