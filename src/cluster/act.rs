//! The only writer: checks the lease before each effect, is done before the lease is over, and recognises its own work
//! when an answer was lost.

use std::time::Duration;

use kube::api::{
    Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
    ValidationDirective,
};
use kube::core::{Request, Status};
use serde::de::IgnoredAny;
use tokio::time::timeout;

use super::Cluster;
use super::write::{FIELD_MANAGER, HASH_ANNOTATION, Manifest, Target, Write};
use crate::api::names::Digest;

/// How long one write may take at most; near the end of the term it may take less.
const PATIENCE: Duration = Duration::from_secs(30);

/// A write that was not done, or of which we don't know.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// Another operator leads, or our term is over.
    #[error("{what}: not written, this operator does not lead (any more)")]
    NotLeading {
        /// Verb, kind, namespace and name.
        what: String,
    },
    /// The object changed since it was read.
    #[error("{what}: changed since it was read")]
    Conflict {
        /// Verb, kind, namespace and name.
        what: String,
    },
    /// An object of that name exists and is not ours.
    #[error("{what}: an object of that name exists and was not made by this operator: rename or delete it")]
    Foreign {
        /// Verb, kind, namespace and name.
        what: String,
    },
    /// A quota, an admission policy or the schema refuses it.
    #[error("{what}: refused: {message}")]
    Refused {
        /// Verb, kind, namespace and name.
        what: String,
        /// The API server's words.
        message: String,
        /// Whether a ResourceQuota refused it.
        quota: bool,
    },
    /// The API server could not be reached or answered with an error of its own.
    #[error("{what}: {source}")]
    Api {
        /// Verb, kind, namespace and name.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time: it may be done or not.
    #[error("{what}: the API server did not answer within {} seconds", limit.as_secs())]
    Timeout {
        /// Verb, kind, namespace and name.
        what: String,
        /// How long it had: what was left of the term, at most half a minute.
        limit: Duration,
    },
}

impl ActError {
    /// A static word for conditions and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotLeading { .. } => "NotLeading",
            Self::Conflict { .. } => "Conflict",
            Self::Foreign { .. } => "ForeignObject",
            Self::Refused { quota: true, .. } => "QuotaExceeded",
            Self::Refused { quota: false, .. } => "Refused",
            Self::Api { .. } => "ApiError",
            Self::Timeout { .. } => "ApiTimeout",
        }
    }

    /// Why, in the API server's own words where it refused.
    #[must_use]
    pub fn why(&self) -> String {
        if let Self::Refused { message, .. } = self { refusal_words(message).to_owned() } else { self.to_string() }
    }

    /// Whether it is enough to observe again at once.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

/// The API server's words on why it refused an object, without the object's name, which they begin with.
#[must_use]
pub(super) fn refusal_words(message: &str) -> &str {
    let after = |sign: &str| message.split_once(sign).map(|(_, words)| words.trim());
    after(" is forbidden: ").or_else(|| after(" is invalid: ")).filter(|words| !words.is_empty()).unwrap_or(message)
}

fn described(verb: &str, target: &Target) -> String {
    format!("{verb} {} {}/{}", target.resource.kind, target.namespace, target.name)
}

fn classify(what: String, error: kube::Error) -> ActError {
    if let kube::Error::Api(status) = error {
        return classify_status(what, *status);
    }
    ActError::Api { what, source: Box::new(error) }
}

fn classify_status(what: String, status: Status) -> ActError {
    if status.is_conflict() {
        ActError::Conflict { what }
    } else if status.is_forbidden() || status.is_invalid() || status.code == 400 {
        let quota = status.message.contains("exceeded quota");
        ActError::Refused { what, message: status.message, quota }
    } else {
        ActError::Api { what, source: Box::new(kube::Error::Api(Box::new(status))) }
    }
}

impl Cluster {
    fn dynamic(&self, target: &Target) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &target.namespace, &target.resource)
    }

    /// Does one write, if we lead.
    ///
    /// # Errors
    /// When we don't lead, or the API server refuses or does not answer. After [`ActError::Timeout`] and
    /// [`ActError::Api`] the write may have been done: the next observation tells.
    pub async fn act(&self, write: &Write) -> Result<(), ActError> {
        let what = match write {
            Write::Apply(manifest) => described("apply", &manifest.target()),
            Write::Create(manifest) => described("create", &manifest.target()),
            Write::Delete { target, .. } => described("delete", target),
            Write::Merge { target, .. } => described("patch", target),
            Write::Status { target, .. } => described("patch status of", target),
        };
        let Some(left) = self.leadership.left() else {
            return Err(ActError::NotLeading { what });
        };
        tracing::debug!(write = what, "acting");
        self.writes.inc();
        // What is begun now is broken off when the term ends: another may write then.
        let limit = left.min(PATIENCE);
        match timeout(limit, self.write(what.clone(), write)).await {
            Ok(done) => done,
            Err(_) => Err(ActError::Timeout { what, limit }),
        }
    }

    async fn write(&self, what: String, write: &Write) -> Result<(), ActError> {
        match write {
            Write::Apply(manifest) => {
                let parameters = PatchParams {
                    field_validation: Some(ValidationDirective::Strict),
                    ..PatchParams::apply(FIELD_MANAGER).force()
                };
                let request =
                    self.requests(&manifest.target()).patch(&manifest.name, &parameters, &Patch::Apply(&manifest.body));
                self.send(request).await.map_err(|error| classify(what, error))
            }
            Write::Create(manifest) => self.create(what, manifest).await,
            Write::Delete { target, uid } => {
                let parameters = DeleteParams {
                    propagation_policy: Some(PropagationPolicy::Background),
                    preconditions: uid
                        .as_ref()
                        .map(|uid| Preconditions { uid: Some(uid.clone()), resource_version: None }),
                    ..DeleteParams::default()
                };
                unless_gone(self.send(self.requests(target).delete(&target.name, &parameters)).await, what)
            }
            Write::Merge { target, patch } => {
                let parameters =
                    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                let request = self.requests(target).patch(&target.name, &parameters, &Patch::Merge(patch));
                // What is patched was deleted meanwhile: the next observation decides.
                unless_gone(self.send(request).await, what)
            }
            Write::Status { target, status } => {
                let patch = serde_json::json!({ "status": status });
                let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
                let request = self.requests(target).patch_subresource("status", &target.name, &parameters, &patch);
                unless_gone(self.send(request).await, what)
            }
        }
    }

    /// Requests about objects of the target's kind in its namespace.
    fn requests(&self, target: &Target) -> Request {
        Request::new(self.dynamic(target).resource_url())
    }

    /// The object that a write answers with is what was written, which nobody reads: it is not taken apart.
    async fn send(&self, request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> kube::Result<()> {
        let request = request.map_err(kube::Error::BuildRequest)?;
        self.client.request::<IgnoredAny>(request).await.map(|_| ())
    }

    /// Creates, or recognises what an earlier attempt created whose answer was lost.
    async fn create(&self, what: String, manifest: &Manifest) -> Result<(), ActError> {
        let mut body = manifest.body.clone();
        let hash = Digest::of(body.to_string().as_bytes()).to_string();
        if let Some(metadata) = body.get_mut("metadata").and_then(|metadata| metadata.as_object_mut()) {
            let annotations = metadata.entry("annotations").or_insert_with(|| serde_json::json!({}));
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert(HASH_ANNOTATION.to_owned(), hash.clone().into());
            }
        }
        let object: DynamicObject = serde_json::from_value(body).map_err(|source| ActError::Api {
            what: what.clone(),
            source: Box::new(kube::Error::SerdeError(source)),
        })?;
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let text =
            serde_json::to_string(&object).map_err(|source| classify(what.clone(), kube::Error::SerdeError(source)))?;
        let request = self.requests(&manifest.target()).create(&parameters, escaped(text).into_bytes());
        match self.send(request).await {
            Ok(()) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let api = self.dynamic(&manifest.target());
                let existing = api.get_opt(&manifest.name).await.map_err(|error| classify(what.clone(), error))?;
                match existing {
                    Some(existing) if is_ours(&existing, &object, &hash) => Ok(()),
                    Some(_) => Err(ActError::Foreign { what }),
                    None => Err(ActError::Conflict { what }),
                }
            }
            Err(error) => Err(classify(what, error)),
        }
    }
}

/// A write to what is gone has nothing more to do.
fn unless_gone(done: kube::Result<()>, what: String) -> Result<(), ActError> {
    match done {
        Ok(()) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(classify(what, error)),
    }
}

/// `json` as Go writes it, with `<`, `>`, `&` and the two line separators of Unicode escaped.
///
/// The API server keeps a ControllerRevision's data as the bytes that it was sent, compares bytes to see whether they
/// changed, and re-writes them in Go's way at every patch: without this, annotating a revision whose data has a `<` is
/// refused with "field is immutable" (tried). In JSON these characters stand only in strings, so the meaning is the same.
fn escaped(json: String) -> String {
    const SPECIAL: [(char, &str); 5] =
        [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    SPECIAL.into_iter().fold(json, |text, (character, code)| text.replace(character, code))
}

/// Whether `existing` is what an earlier attempt at the same creation made: the same owner, or without one the same hash.
fn is_ours(existing: &DynamicObject, wanted: &DynamicObject, hash: &str) -> bool {
    let owner = |object: &DynamicObject| {
        object
            .metadata
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| owner.uid.clone())
    };
    match owner(wanted) {
        Some(uid) => owner(existing).as_deref() == Some(uid.as_str()),
        None => {
            let annotations = existing.metadata.annotations.as_ref();
            annotations.and_then(|annotations| annotations.get(HASH_ANNOTATION)).map(String::as_str) == Some(hash)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(metadata: serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata})).unwrap()
    }

    #[test]
    fn an_object_of_the_same_name_made_by_a_user_is_foreign() {
        let wanted = object(
            json!({"name": "a", "ownerReferences": [{"apiVersion": "x", "kind": "y", "name": "n", "uid": "1", "controller": true}]}),
        );
        let stranger = object(json!({"name": "a"}));
        let earlier_owner = object(
            json!({"name": "a", "ownerReferences": [{"apiVersion": "x", "kind": "y", "name": "n", "uid": "0", "controller": true}]}),
        );
        assert!(!is_ours(&stranger, &wanted, "h"));
        assert!(!is_ours(&earlier_owner, &wanted, "h"), "a recreated resource of the same name has another uid");
        assert!(is_ours(&wanted.clone(), &wanted, "h"));
    }

    #[test]
    fn a_refusal_is_told_without_the_name_that_it_begins_with() {
        let words = refusal_words("pods \"a-x7\" is forbidden: exceeded quota: few, requested: pods=1");
        assert_eq!(words, "exceeded quota: few, requested: pods=1");
        let words = refusal_words("Job.batch \"a\" is invalid: spec.template: Invalid value: \"2\": must be less");
        assert_eq!(words, "spec.template: Invalid value: \"2\": must be less");
        assert_eq!(refusal_words("no"), "no");
    }

    #[test]
    fn json_is_escaped_as_go_escapes_it_and_means_the_same() {
        let value = json!({"run": "a < b && c > d \u{2028}\u{2029} \\ \"q\""});
        let text = escaped(value.to_string());
        assert!(!text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn without_an_owner_the_hash_tells() {
        let wanted = object(json!({"name": "a"}));
        let ours = object(json!({"name": "a", "annotations": {HASH_ANNOTATION: "h"}}));
        assert!(is_ours(&ours, &wanted, "h"));
        assert!(!is_ours(&ours, &wanted, "other"));
    }
}
