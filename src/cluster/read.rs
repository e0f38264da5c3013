//! Reads: live, bounded in time, and never from a cache.
//!
//! Decisions about Jobs and databases must not rest on a stale cache, and one list by label costs a millisecond.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::Cluster;

/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A read that failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The API server refused or could not be reached.
    #[error("reading {what}: {source}")]
    Api {
        /// Kind, namespace and name or selector.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("reading {what}: the API server did not answer within {} seconds", PATIENCE.as_secs())]
    Timeout {
        /// Kind, namespace and name or selector.
        what: String,
    },
}

impl ReadError {
    /// A static word for conditions and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Api { source, .. } => {
                if let kube::Error::Api(status) = source.as_ref() {
                    return if status.is_forbidden() { "Forbidden" } else { "ApiRefused" };
                }
                "ApiUnreachable"
            }
            Self::Timeout { .. } => "ApiTimeout",
        }
    }
}

impl Cluster {
    async fn bounded<T>(&self, what: String, call: impl Future<Output = kube::Result<T>>) -> Result<T, ReadError> {
        match timeout(PATIENCE, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(ReadError::Api { what, source: Box::new(source) }),
            Err(_) => Err(ReadError::Timeout { what }),
        }
    }

    /// The object as the API server has it now.
    ///
    /// # Errors
    /// When the API server refuses or does not answer. An object that does not exist is `None`.
    pub async fn get<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, ReadError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.bounded(format!("{} {namespace}/{name}", K::kind(&())), api.get_opt(name)).await
    }

    /// Whether there is such an object. Only its metadata is read.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn exists<K>(&self, namespace: &str, name: &str) -> Result<bool, ReadError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let what = format!("metadata of {} {namespace}/{name}", K::kind(&()));
        Ok(self.bounded(what, api.get_metadata_opt(name)).await?.is_some())
    }

    /// All objects with these labels as the API server has them now.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn list<K>(&self, namespace: &str, labels: &str) -> Result<Vec<K>, ReadError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let what = format!("{} {namespace}/[{labels}]", K::plural(&()));
        let parameters = ListParams::default().labels(labels);
        Ok(self.bounded(what, api.list(&parameters)).await?.items)
    }

    /// The objects with these fields as the API server has them now, at most a hundred.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn select<K>(&self, namespace: &str, fields: &str) -> Result<Vec<K>, ReadError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let what = format!("{} {namespace}/[{fields}]", K::plural(&()));
        let parameters = ListParams::default().fields(fields).limit(100);
        Ok(self.bounded(what, api.list(&parameters)).await?.items)
    }

    /// All objects with these labels in all namespaces as the API server has them now.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn list_everywhere<K>(&self, labels: &str) -> Result<Vec<K>, ReadError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let what = format!("{} of all namespaces/[{labels}]", K::plural(&()));
        let parameters = ListParams::default().labels(labels);
        Ok(self.bounded(what, api.list(&parameters)).await?.items)
    }

    /// The last lines of a container's log, at most `limit` bytes.
    ///
    /// # Errors
    /// When the API server or the node's kubelet refuses or does not answer.
    pub async fn logs(&self, namespace: &str, pod: &str, container: &str, limit: u32) -> Result<String, ReadError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let parameters = LogParams {
            container: Some(container.to_owned()),
            limit_bytes: Some(i64::from(limit)),
            ..LogParams::default()
        };
        self.bounded(format!("log of {namespace}/{pod}/{container}"), api.logs(pod, &parameters)).await
    }
}
