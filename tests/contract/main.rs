//! How outside systems are read, against servers that behave like them: GHCR's protocol and its abuses by a registry
//! written for these tests, the real `distribution` registry, and a stand-in for GitHub.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod bearer;
mod github;
mod hostile;
mod images;
mod paging;
mod real_registry;
mod sharing;
mod support;
