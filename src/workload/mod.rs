//! Pods that the operator makes for one purpose: how they are built, and how their end is read.
//!
//! Shared by delivery (migration, inspection) and pipelines (jobs), so that both know the same truths:
//! a pod that vanished never succeeded, kubelet expands `$(VAR)`, and every pod is restricted. Pure.

mod outcome;
mod restricted;
mod trust;
mod waiting;

pub use outcome::{ContainerEnd, Loss, Lost, PodPhase, container_end, job_is_finished, pod_phase, read_report};
pub use restricted::{JobParts, escape_env, job, restricted_container, restricted_pod};
pub use trust::{TRUST_FILE, network_variables, trust_config_map, trust_mount, trust_volume};
pub use waiting::{WaitCause, Waiting};
