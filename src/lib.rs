//! A Kubernetes operator that delivers TimeTracker from commit to production.
//!
//! ```text
//! GitHub ──webhook/poll──▶ sources ──▶ PipelineRun ──▶ pipelines ──▶ Jobs ──▶ reports, artifacts, image in GHCR
//!                                                           │                                     │
//!                                                           └──▶ github (statuses, comments, releases, pages)
//! GHCR ───poll──▶ registry ──▶ release: candidate ─▶ inspect ─▶ migrate ─▶ roll out ─▶ soak ─▶ current
//!                                                                  └─▶ go back, quarantine the digest
//! ```
//!
//! Every reconcile reads as three lines: **observe** (reads only, returns our own types) → **decide** (pure, total,
//! without clock or client) → **act** (the only writer). `docs/architecture.md` has the whole picture.

pub mod agent;
pub mod api;
pub mod artifacts;
pub mod cluster;
pub mod config;
pub mod controller;
pub mod generate;
pub mod github;
pub mod http;
pub mod pipelines;
pub mod plan;
pub mod plugin;
pub mod registry;
pub mod release;
pub mod schema;
pub mod telemetry;
pub mod workload;
