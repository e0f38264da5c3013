//! The whole: the operator as its chart installs it, on the embedded cluster, with real images, databases, a registry and a git server.
//!
//! `cargo xtask test --tier e2e` makes all that and names it in the environment. Every test has a namespace and a repository of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod absent_node;
mod credentials;
mod environments;
mod failures;
mod faulty;
mod foreign;
mod full_node;
mod git;
mod installation;
mod kill;
#[allow(dead_code)] // The benchmark uses the rest.
mod operator;
mod pipelines;
mod plugin;
mod registry;
mod releases;
mod releases_disturbed;
mod releases_hindered;
mod releases_registry;
mod runs;
mod runs_disturbed;
mod runs_ordered;
mod runs_refused;
mod services;
mod stage;
mod waiting;
mod witness;
