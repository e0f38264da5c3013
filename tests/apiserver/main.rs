//! The definitions and charts against a real API server.
//!
//! The cluster is that of `TIMETRACKER_TEST_KUBECONFIG`, else the embedded one: nobody's own cluster gets our definitions
//! because KUBECONFIG was set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod cluster;
mod definitions;
mod objects;
mod plugin;
mod rendered;
mod transitions;
