//! What of their Jobs and pods runs have no use for: it is not decoded.
//!
//! What a Job's pod is to be, the operator wrote itself; and of a pod most is said for kubelet.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use crate::cluster::{Lean, MANAGED_FIELDS, Omission, Omit, Omitted};

/// A Job as decisions about runs read it.
pub type LeanJob = Lean<Job, OfJob>;

/// A pod as decisions about runs read it.
pub type LeanPod = Lean<Pod, OfPod>;

/// What is not read of a Job.
#[derive(Debug, Clone)]
pub struct OfJob;

/// What is not read of a pod.
#[derive(Debug, Clone)]
pub struct OfPod;

impl Omission for OfJob {
    const OMITTED: Omitted = &[MANAGED_FIELDS, ("spec", Omit::Whole)];
}

impl Omission for OfPod {
    const OMITTED: Omitted = &[MANAGED_FIELDS, ("spec", Omit::Within(OF_POD_SPEC))];
}

const OF_POD_SPEC: Omitted = &[
    ("affinity", Omit::Whole),
    ("containers", Omit::Within(OF_CONTAINER)),
    ("imagePullSecrets", Omit::Whole),
    ("initContainers", Omit::Within(OF_CONTAINER)),
    ("securityContext", Omit::Whole),
    ("tolerations", Omit::Whole),
    ("topologySpreadConstraints", Omit::Whole),
];

const OF_CONTAINER: Omitted = &[
    ("args", Omit::Whole),
    ("command", Omit::Whole),
    ("env", Omit::Whole),
    ("envFrom", Omit::Whole),
    ("lifecycle", Omit::Whole),
    ("livenessProbe", Omit::Whole),
    ("ports", Omit::Whole),
    ("readinessProbe", Omit::Whole),
    ("securityContext", Omit::Whole),
    ("startupProbe", Omit::Whole),
    ("volumeDevices", Omit::Whole),
    ("volumeMounts", Omit::Whole),
];
