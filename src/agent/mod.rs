//! What runs inside Job pods: a static binary without a Kubernetes client.

pub mod report;
