//! How an attempt ended, and why one is stopped: what is written down in the world.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::core::ObjectMeta;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::agent::report::{MarkerCounts, TestCounts};
use crate::api::conditions::printable;
use crate::api::names::{CommitSha, ImageReference};
use crate::api::run::{FailureClass, JobPhase};

/// The longest message of a job, in bytes.
pub const MAX_JOB_MESSAGE: usize = 150;

/// How an attempt ended: an annotation on its Job, so that it outlives the pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobResult {
    /// Succeeded, Failed or Cancelled.
    pub phase: JobPhase,
    /// The class of failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureClass>,
    /// The evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Seconds that the command took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
    /// When the command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// Test counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestCounts>,
    /// Test counts by marker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub markers: BTreeMap<String, MarkerCounts>,
    /// Line coverage in hundredths of a percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<u32>,
    /// The outputs that the job declared and wrote.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// The commit that a branch or tag names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitSha>,
    /// The image in which the command ran, by its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageReference>,
    /// The images in which its services ran, by their names and digests; those that are not known are missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, ImageReference>,
}

impl JobResult {
    /// It did what it should.
    #[must_use]
    pub fn succeeded() -> Self {
        Self {
            phase: JobPhase::Succeeded,
            failure: None,
            message: None,
            seconds: None,
            finished: None,
            tests: None,
            markers: BTreeMap::new(),
            coverage: None,
            outputs: BTreeMap::new(),
            commit: None,
            image: None,
            services: BTreeMap::new(),
        }
    }

    /// It did not.
    #[must_use]
    pub fn failed(class: FailureClass, message: &str) -> Self {
        let phase = if class == FailureClass::Cancelled { JobPhase::Cancelled } else { JobPhase::Failed };
        Self {
            phase,
            failure: Some(class),
            message: Some(printable(message.trim(), MAX_JOB_MESSAGE)),
            ..Self::succeeded()
        }
    }

    /// The same, with something to know beside what it says already.
    #[must_use]
    pub fn noted(self, note: &str) -> Self {
        let message = match &self.message {
            Some(message) => format!("{message}; {note}"),
            None => note.to_owned(),
        };
        Self { message: Some(printable(message.trim(), MAX_JOB_MESSAGE)), ..self }
    }

    /// The same, ended at that time after that many seconds.
    #[must_use]
    pub fn ended(self, finished: Option<Timestamp>, seconds: Option<i64>) -> Self {
        Self { finished: finished.or(self.finished), seconds: seconds.or(self.seconds), ..self }
    }
}

/// Why and when an attempt was told to stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// The class of failure that it then has.
    pub class: FailureClass,
    /// The evidence.
    pub message: String,
    /// When: an end before that is the command's own.
    pub at: Timestamp,
}

impl Stop {
    /// The result of what was stopped.
    #[must_use]
    pub fn result(&self) -> JobResult {
        JobResult::failed(self.class, &self.message).ended(Some(self.at), None)
    }
}

/// How a run ended: an annotation on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Succeeded, Failed or Cancelled.
    pub phase: JobPhase,
    /// A CamelCase word for the conditions.
    pub reason: String,
    /// Names the job, the cause and the next step.
    pub message: String,
    /// When the last job ended.
    pub completed: Timestamp,
}

/// Reads one of the annotations above. One that can't be read counts as absent: somebody else wrote it.
#[must_use]
pub fn annotation<T: DeserializeOwned>(metadata: &ObjectMeta, name: &str) -> Option<T> {
    let text = metadata.annotations.as_ref()?.get(name)?;
    serde_json::from_str(text).ok()
}
