//! Why the plugin has no answer, in words that say what to do.

use std::io;
use std::path::PathBuf;

use super::store::StoreError;
use crate::api::names::NameError;

/// What one request to the API server needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    verb: &'static str,
    resource: &'static str,
    namespace: String,
}

/// Why the plugin has no answer.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No usable kubeconfig.
    #[error("no API server: {0}")]
    Connect(String),
    /// Who asks is not known to the API server.
    #[error("the API server does not know you: check the credentials of this context (kubectl config get-contexts)")]
    Unauthorized,
    /// A permission is missing.
    #[error(
        "not allowed: this needs the verb {verb} on {resource} in namespace {namespace} (kubectl auth can-i {verb} {resource} --namespace {namespace})"
    )]
    Forbidden {
        /// The verb.
        verb: &'static str,
        /// The resource with its group.
        resource: &'static str,
        /// Where.
        namespace: String,
    },
    /// The API server does not know our resources.
    #[error(
        "the cluster does not know {0}: the operator is not installed in it (helm install timetracker-operator …), or this is another cluster than you think"
    )]
    NotInstalled(&'static str),
    /// The API server refuses what it was given.
    #[error("the API server refuses it: {0}")]
    Refused(String),
    /// The API server answers with something else, or not at all.
    #[error("could not {verb} {resource} in namespace {namespace}: {why}")]
    Api {
        /// The verb.
        verb: &'static str,
        /// The resource with its group.
        resource: &'static str,
        /// Where.
        namespace: String,
        /// Why.
        why: String,
    },
    /// Nothing of that name.
    #[error("namespace {namespace} has no {kind} named {name}{hint}")]
    NotFound {
        /// The kind, in a word.
        kind: &'static str,
        /// The name.
        name: String,
        /// Where.
        namespace: String,
        /// What there is instead, as a further sentence; or empty.
        hint: String,
    },
    /// The command makes no sense as it was given.
    #[error("{0}")]
    Usage(String),
    /// A commit that can't be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What no object can be named.
    #[error("`{0}` can't be a name: lower-case letters, digits, dashes and dots")]
    NoName(String),
    /// The artifact store has no answer.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A file can't be written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The output can't be written.
    #[error("can't write: {0}")]
    Write(#[from] io::Error),
}

impl PluginError {
    /// Whether asking again would bring the same answer.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Unauthorized | Self::Forbidden { .. } | Self::NotInstalled(_))
    }

    /// Whether whoever read the output has gone: nothing that anybody wants to be told.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl Access {
    /// The verb on the resource there.
    #[must_use]
    pub fn new(verb: &'static str, resource: &'static str, namespace: &str) -> Self {
        Self { verb, resource, namespace: namespace.to_owned() }
    }

    /// What the API server's answer to it means.
    #[must_use]
    pub fn error(&self, error: kube::Error) -> PluginError {
        let Self { verb, resource, namespace } = self.clone();
        let kube::Error::Api(status) = &error else {
            return PluginError::Api { verb, resource, namespace, why: chain(&error) };
        };
        match status.code {
            401 => PluginError::Unauthorized,
            403 if status.reason == "Forbidden" && !is_policy(&status.message) => {
                PluginError::Forbidden { verb, resource, namespace }
            }
            404 if is_unknown_resource(status) => PluginError::NotInstalled(resource),
            400 | 403 | 409 | 422 => PluginError::Refused(status.message.clone()),
            _ => PluginError::Api { verb, resource, namespace, why: status.message.clone() },
        }
    }

    /// The same, in a box.
    #[must_use]
    pub fn boxed(&self, error: kube::Error) -> Box<PluginError> {
        Box::new(self.error(error))
    }

    /// `None` when the object is not there; an error for everything else, a missing definition included.
    ///
    /// # Errors
    /// As [`Access::error`].
    pub fn found<K>(&self, answer: Result<K, kube::Error>) -> Result<Option<K>, PluginError> {
        match answer {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 && !is_unknown_resource(&status) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }
}

/// A 404 about no object in particular is about the resource itself.
fn is_unknown_resource(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_none_or(|details| details.name.is_empty())
}

/// Admission says no with the same code as authorization does, but with words that matter.
fn is_policy(message: &str) -> bool {
    ["exceeded quota", "denied the request", "admission", "is being terminated"]
        .iter()
        .any(|word| message.contains(word))
}

/// The error and its causes: kube's own words alone often say nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kube::core::Status;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn told(answer: Value) -> String {
        let status: Status = serde_json::from_value(answer).unwrap();
        let access = Access::new("create", "pipelineruns.timetracker.dev", "ci");
        access.error(kube::Error::Api(Box::new(status))).to_string()
    }

    #[rstest]
    #[case::forbidden(
        json!({"code": 403, "reason": "Forbidden", "message": "pipelineruns is forbidden: User \"x\" cannot create"}),
        "not allowed: this needs the verb create on pipelineruns.timetracker.dev in namespace ci (kubectl auth can-i create pipelineruns.timetracker.dev --namespace ci)")]
    #[case::quota(
        json!({"code": 403, "reason": "Forbidden", "message": "forbidden: exceeded quota: runs"}),
        "the API server refuses it: forbidden: exceeded quota: runs")]
    #[case::unknown(
        json!({"code": 404, "reason": "NotFound", "message": "the server could not find the requested resource", "details": {}}),
        "the cluster does not know pipelineruns.timetracker.dev: the operator is not installed in it (helm install timetracker-operator …), or this is another cluster than you think")]
    #[case::text(
        json!({"code": 404, "message": "404 page not found\n"}),
        "the cluster does not know pipelineruns.timetracker.dev: the operator is not installed in it (helm install timetracker-operator …), or this is another cluster than you think")]
    #[case::invalid(
        json!({"code": 422, "reason": "Invalid", "message": "spec.params: Duplicate value"}),
        "the API server refuses it: spec.params: Duplicate value")]
    #[case::stranger(
        json!({"code": 401, "reason": "Unauthorized", "message": "Unauthorized"}),
        "the API server does not know you: check the credentials of this context (kubectl config get-contexts)")]
    #[case::down(
        json!({"code": 503, "message": "etcd is down"}),
        "could not create pipelineruns.timetracker.dev in namespace ci: etcd is down")]
    fn an_answer_of_the_api_server_is_told_with_what_to_do(#[case] answer: Value, #[case] expected: &str) {
        assert_eq!(told(answer), expected);
    }

    #[test]
    fn an_object_that_is_not_there_is_no_error_but_a_missing_definition_is() {
        let access = Access::new("get", "pipelines.timetracker.dev", "ci");
        let answer = |details: Value| {
            let status: Status = serde_json::from_value(json!({"code": 404, "details": details})).unwrap();
            access.found::<()>(Err(kube::Error::Api(Box::new(status))))
        };
        assert!(matches!(answer(json!({"name": "x"})), Ok(None)));
        assert!(matches!(answer(json!({})), Err(PluginError::NotInstalled(_))));
    }
}
