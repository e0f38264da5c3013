//! Reads everything that a decision about one run needs.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};

use crate::api::pipeline::Pipeline;
use crate::api::run::PipelineRun;
use crate::api::source::SourceRepository;

/// The world around one run.
///
/// The run is read first, then Jobs, then pods: a Job that the run's status names and that is not listed was deleted,
/// and a finished Job whose pod is not listed lost it.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The run.
    pub run: PipelineRun,
    /// Its pipeline, read only as long as the run has not begun.
    pub pipeline: Option<Pipeline>,
    /// The pipeline's repository, read only as long as the run has not begun.
    pub repository: Option<SourceRepository>,
    /// The revision that the run executes, or would execute.
    pub revision: Option<ControllerRevision>,
    /// The Jobs that the run controls.
    pub jobs: Vec<Job>,
    /// The pods of those Jobs.
    pub pods: Vec<Pod>,
    /// The claims that the run controls.
    pub claims: Vec<ConfigMap>,
    /// The hash of the trusted authorities in the namespace.
    pub trust: Option<String>,
    /// The hash of the NetworkPolicy in the namespace.
    pub policy: Option<String>,
    /// Room for Jobs.
    pub room: Room,
}

/// How many Jobs may still be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Unfinished Jobs of all runs in the namespace.
    pub in_namespace: u32,
    /// Unfinished Jobs of all runs everywhere.
    pub everywhere: u32,
}
