//! What a run executes: the pipeline and its repository as they were when the run started.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt;
use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::names;
use crate::api::duration::Period;
use crate::api::job::JobSpec;
use crate::api::pipeline::PipelineSpec;
use crate::api::source::SourceRepositorySpec;

/// A pipeline and where its code is, frozen when a run starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    /// The pipeline.
    pub pipeline: PipelineSpec,
    /// Where its code is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// Where code is fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The address.
    pub clone_url: String,
    /// The Secret whose key `token` opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<String>,
    /// Where images of environments are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environments: Option<ImageStore>,
}

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageStore {
    /// The repository.
    pub repository: String,
    /// The Secret of type `kubernetes.io/dockerconfigjson` that opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How long images are used after their last use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Period>,
}

impl Source {
    /// Of a SourceRepository; `None` when it says no address.
    #[must_use]
    pub fn of(repository: &SourceRepositorySpec) -> Option<Self> {
        Some(Self {
            clone_url: repository.effective_clone_url()?,
            token_secret: repository.credentials_secret_ref.as_ref().map(|secret| secret.name.clone()),
            environments: repository.image.as_ref().map(|image| ImageStore {
                repository: format!("{}-environment", image.repository),
                secret: image.push_secret_ref.as_ref().map(|secret| secret.name.clone()),
                retention: image.environment_retention.clone(),
            }),
        })
    }
}

/// A revision that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// It has no data, or data of another shape.
    #[error("ControllerRevision {name} holds no pipeline: {source}")]
    Unreadable {
        /// Its name.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl Definition {
    /// The text whose hash names the revision.
    #[must_use]
    pub fn content(&self) -> String {
        // Written through a JSON value, whose maps are ordered: the same definition is always the same text.
        serde_json::to_value(self).map(|value| value.to_string()).unwrap_or_default()
    }

    /// The name of its revision.
    #[must_use]
    pub fn revision_name(&self, pipeline: &str) -> String {
        names::revision_name(pipeline, &self.content())
    }

    /// The ControllerRevision that keeps it. Its owners are the runs that execute it: with the last of them the
    /// garbage collector takes it.
    #[must_use]
    pub fn revision(&self, namespace: &str, pipeline: &str) -> ControllerRevision {
        let mut labels = names::run_labels("", pipeline);
        labels.remove(names::RUN_LABEL);
        labels.remove("app.kubernetes.io/instance");
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(self.revision_name(pipeline)),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            data: serde_json::to_value(self).ok().map(RawExtension),
            revision: 1,
        }
    }

    /// Reads a revision.
    ///
    /// # Errors
    /// When it holds no definition.
    pub fn read(revision: &ControllerRevision) -> Result<Self, DefinitionError> {
        let data = revision.data.as_ref().map(|data| data.0.clone()).unwrap_or_default();
        serde_json::from_value(data).map_err(|source| DefinitionError::Unreadable { name: revision.name_any(), source })
    }

    /// Whether the job's pod starts with the commit in its working directory.
    #[must_use]
    pub fn checks_out(&self, job: &JobSpec) -> bool {
        let asked = job.checkout.as_ref().and_then(|checkout| checkout.enabled);
        asked.unwrap_or(self.source.is_some())
    }
}
