//! The artifact store as pods, people and attackers meet it: a real server, real tokens, real files, a real S3.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod agent;
mod bucket;
mod hostile;
mod keys;
mod logs;
mod reading;
mod s3;
mod support;
mod writing;
