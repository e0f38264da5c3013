//! What tests of several targets share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod cache;
pub mod postgres;
pub mod waiting;
