//! Decisions against model worlds: no I/O, no clock, every interruption.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm
)]

mod pipelines;
mod release;
