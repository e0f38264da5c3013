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

// The plugin is built for macOS too. Everything else runs in containers, and may use what only Linux has.
#[cfg(target_os = "linux")]
pub mod agent;
pub mod api;
#[cfg(target_os = "linux")]
pub mod artifacts;
#[cfg(target_os = "linux")]
pub mod cluster;
#[cfg(target_os = "linux")]
pub mod config;
#[cfg(target_os = "linux")]
pub mod controller;
#[cfg(target_os = "linux")]
pub mod generate;
#[cfg(target_os = "linux")]
pub mod github;
#[cfg(target_os = "linux")]
pub mod http;
#[cfg(target_os = "linux")]
pub mod logs;
#[cfg(target_os = "linux")]
pub mod pipelines;
#[cfg(target_os = "linux")]
pub mod plan;
pub mod plugin;
#[cfg(target_os = "linux")]
pub mod registry;
#[cfg(target_os = "linux")]
pub mod release;
#[cfg(target_os = "linux")]
pub mod schema;
#[cfg(target_os = "linux")]
pub mod telemetry;
#[cfg(target_os = "linux")]
pub mod workload;
