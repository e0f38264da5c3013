//! Reads: live, bounded in time, and never from a cache.
//!
//! Decisions about Jobs and databases must not rest on a stale cache, and one list by label costs a millisecond.

use std::fmt::Debug;
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures::io::AsyncReadExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams, ObjectList};
use kube::core::{DeserializeGuard, ObjectMeta, Request};
use kube::{Api, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{Cluster, Lean, ManagedFields, Omission};

/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much of a log is held at once, in bytes.
const LOG_BUFFER: usize = 16 << 10;

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
    /// The answer broke off.
    #[error("reading {what}: the answer broke off: {source}")]
    BrokenOff {
        /// Kind, namespace and name.
        what: String,
        /// Why.
        source: io::Error,
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
            Self::BrokenOff { .. } => "ApiBrokenOff",
        }
    }
}

/// The part of a list that is read.
#[derive(Deserialize)]
struct Items<K> {
    items: Option<Vec<K>>,
}

/// The objects of a list.
fn bare<K: Clone, O: Omission>(list: ObjectList<Lean<K, O>>) -> Vec<K> {
    list.items.into_iter().map(|lean| lean.0).collect()
}

/// The items of a list. The guard copies each object twice, so it is used only when something can't be decoded.
fn guarded<K>(text: &str) -> serde_json::Result<Vec<DeserializeGuard<K>>>
where
    K: Resource + DeserializeOwned,
{
    let readable = serde_json::from_str::<Items<Lean<K>>>(text);
    if let Ok(list) = readable {
        return Ok(list.items.into_iter().flatten().map(|object| DeserializeGuard(Ok(object.0))).collect());
    }
    Ok(serde_json::from_str::<Items<DeserializeGuard<K>>>(text)?.items.unwrap_or_default())
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
        let api: Api<Lean<K>> = Api::namespaced(self.client.clone(), namespace);
        let read = self.bounded(format!("{} {namespace}/{name}", K::kind(&())), api.get_opt(name)).await?;
        Ok(read.map(|lean| lean.0))
    }

    /// The object's metadata as the API server has it now.
    ///
    /// # Errors
    /// When the API server refuses or does not answer. An object that does not exist is `None`.
    pub async fn metadata<K>(&self, namespace: &str, name: &str) -> Result<Option<ObjectMeta>, ReadError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let what = format!("metadata of {} {namespace}/{name}", K::kind(&()));
        Ok(self.bounded(what, api.get_metadata_opt(name)).await?.map(|found| found.metadata))
    }

    /// All objects with these labels as the API server has them now.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn list<K>(&self, namespace: &str, labels: &str) -> Result<Vec<K>, ReadError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        self.list_lean::<K, ManagedFields>(namespace, labels).await
    }

    /// The same without the fields of `O`.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn list_lean<K, O: Omission>(&self, namespace: &str, labels: &str) -> Result<Vec<K>, ReadError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<Lean<K, O>> = Api::namespaced(self.client.clone(), namespace);
        let what = format!("{} {namespace}/[{labels}]", K::plural(&()));
        let parameters = ListParams::default().labels(labels);
        Ok(bare(self.bounded(what, api.list(&parameters)).await?))
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

    /// All objects with these labels in a namespace, or in all, those that this operator can't decode among them.
    ///
    /// For custom resources, whose definition may be newer than this operator: one that can't be decoded must not hide
    /// all others.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn list_guarded<K>(
        &self,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<DeserializeGuard<K>>, ReadError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let what = format!("{} {}/[{labels}]", K::plural(&()), namespace.unwrap_or("of all namespaces"));
        let read = async {
            let parameters = ListParams::default().labels(labels);
            let request = Request::new(api.resource_url()).list(&parameters).map_err(kube::Error::BuildRequest)?;
            let text = self.client.request_text(request).await?;
            guarded(&text).map_err(kube::Error::SerdeError)
        };
        let found: Vec<DeserializeGuard<K>> = self.bounded(what, read).await?;
        for object in &found {
            if let Err(invalid) = &object.0 {
                self.undecodable.inc();
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                // The controller of its kind warns of it, once.
                tracing::debug!(kind = %K::kind(&()), namespace, name, error = %invalid.error, "can't be decoded");
            }
        }
        Ok(found)
    }

    /// All objects with these labels in all namespaces as the API server has them now, without the fields of `O`.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn list_everywhere<K, O: Omission>(&self, labels: &str) -> Result<Vec<K>, ReadError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<Lean<K, O>> = Api::all(self.client.clone());
        let what = format!("{} of all namespaces/[{labels}]", K::plural(&()));
        let parameters = ListParams::default().labels(labels);
        Ok(bare(self.bounded(what, api.list(&parameters)).await?))
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

    /// Hands a container's log to `take` as it comes, from its start or from so many lines before its end, and no more than
    /// `limit` bytes of it: nothing else is held in memory, and of a log that grows faster than it is read there is an end.
    /// Returns whether that was all of it. Kubelet counts a line of more than 16 KiB as several.
    ///
    /// # Errors
    /// When the API server or the node's kubelet refuses, does not answer in time or breaks off.
    pub async fn read_log(
        &self,
        [namespace, pod, container]: [&str; 3],
        last_lines: Option<u32>,
        limit: usize,
        mut take: impl FnMut(&[u8]) + Send,
    ) -> Result<bool, ReadError> {
        let what = format!("log of {namespace}/{pod}/{container}");
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let parameters = LogParams {
            container: Some(container.to_owned()),
            tail_lines: last_lines.map(i64::from),
            // One more, by which it is seen that there is more.
            limit_bytes: i64::try_from(limit.saturating_add(1)).ok(),
            ..LogParams::default()
        };
        let read = async {
            let opened = api.log_stream(pod, &parameters).await;
            let mut log =
                pin!(opened.map_err(|source| ReadError::Api { what: what.clone(), source: Box::new(source) })?);
            let mut buffer = vec![0; LOG_BUFFER];
            let mut left = limit;
            loop {
                let read = log.read(&mut buffer).await;
                let count = read.map_err(|source| ReadError::BrokenOff { what: what.clone(), source })?;
                if count == 0 {
                    return Ok(true);
                }
                take(buffer.get(..count.min(left)).unwrap_or_default());
                if count > left {
                    return Ok(false);
                }
                left -= count;
            }
        };
        match timeout(PATIENCE, read).await {
            Ok(read) => read,
            Err(_) => Err(ReadError::Timeout { what: what.clone() }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::run::PipelineRun;
    use crate::cluster::fake::FakeApi;

    fn run(name: &str, phase: &str) -> serde_json::Value {
        json!({
            "apiVersion": "timetracker.dev/v1alpha1", "kind": "PipelineRun",
            "metadata": {"name": name, "namespace": "ci"},
            "spec": {"pipelineRef": {"name": "p"}},
            "status": {"jobs": [{"name": "a", "phase": phase}]},
        })
    }

    #[tokio::test]
    async fn an_object_that_can_t_be_decoded_hides_none_of_a_list() {
        let (cluster, mut api) = FakeApi::cluster();
        let server = async {
            let asked = api.next().await;
            assert_eq!(asked.path, "/apis/timetracker.dev/v1alpha1/namespaces/ci/pipelineruns");
            assert!(asked.query.contains("labelSelector=x%3Dy"), "{}", asked.query);
            let items = [run("good", "Succeeded"), run("newer", "Hibernated"), run("also-good", "Failed")];
            asked.answer(200, &json!({"kind": "PipelineRunList", "apiVersion": "v1", "metadata": {}, "items": items}));
        };
        let listed = cluster.list_guarded::<PipelineRun>(Some("ci"), "x=y");
        let (found, ()) = tokio::join!(listed, server);
        let found: Vec<(String, bool)> =
            found.unwrap().iter().map(|object| (object.name_any(), object.0.is_ok())).collect();
        let expected = [("good", true), ("newer", false), ("also-good", true)];
        assert_eq!(found, expected.map(|(name, readable)| (name.to_owned(), readable)));
        assert_eq!(cluster.undecodable().get(), 1);
    }

    #[tokio::test]
    async fn a_list_that_is_refused_is_an_error_and_not_empty() {
        let (cluster, mut api) = FakeApi::cluster();
        let server = async { api.next().await.refuse(403, "Forbidden") };
        let (found, ()) = tokio::join!(cluster.list_guarded::<PipelineRun>(None, "x=y"), server);
        assert_eq!(found.unwrap_err().reason(), "Forbidden");
    }
}
