//! What runs inside Job pods: a static binary without a Kubernetes client.
//!
//! Every subcommand ends with one JSON report in the container's termination message ([`report`]); what is longer
//! than that travels as a framed log line ([`frame`]). The operator shares exactly these two modules with the agent.

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
