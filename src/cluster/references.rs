//! Objects that a pod's volumes name. Kubelet waits for a missing one without a word in the pod's status, so it is
//! looked up. A missing claim needs no look: the scheduler tells. Nor does a Job's status say why it has no pod: only an
//! Event does.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodSpec, Secret, Volume};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;

use super::act::refusal_words;
use super::{Cluster, ReadError};

/// How long a pod may start before it is asked what it waits for: most start sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kinds of objects that a volume may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl Kind {
    /// The word in `kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// An object without which a pod does not start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Its kind.
    pub kind: Kind,
    /// Its name, in the pod's namespace.
    pub name: String,
}

/// Everything that the pod's volumes can't do without.
#[must_use]
pub fn references(pod: &PodSpec) -> Vec<Reference> {
    let mut found: Vec<Reference> = pod.volumes.iter().flatten().flat_map(of_volume).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn of_volume(volume: &Volume) -> Vec<Reference> {
    let needed = |kind, name: Option<&String>, optional: Option<bool>| {
        name.filter(|_| optional != Some(true)).map(|name| Reference { kind, name: name.clone() })
    };
    let secret =
        volume.secret.as_ref().and_then(|source| needed(Kind::Secret, source.secret_name.as_ref(), source.optional));
    let config_map =
        volume.config_map.as_ref().and_then(|source| needed(Kind::ConfigMap, Some(&source.name), source.optional));
    let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    let parts = projected.flat_map(|source| {
        let secret = source.secret.as_ref().and_then(|part| needed(Kind::Secret, Some(&part.name), part.optional));
        let map = source.config_map.as_ref().and_then(|part| needed(Kind::ConfigMap, Some(&part.name), part.optional));
        secret.into_iter().chain(map)
    });
    secret.into_iter().chain(config_map).chain(parts).collect()
}

/// What is left of a pod's time to start before it is asked what it waits for; nothing once it has waited long enough.
#[must_use]
pub fn patience_left(since: Option<Timestamp>, now: Timestamp) -> Duration {
    let passed = since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
    passed.map_or(Duration::ZERO, |passed| PATIENCE.saturating_sub(passed))
}

impl Cluster {
    /// What the first object says that a volume of the pod needs and that does not exist. `None`: all are there.
    ///
    /// Only metadata is read: never what a Secret holds.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn missing_reference(&self, namespace: &str, pod: &Pod) -> Result<Option<String>, ReadError> {
        for reference in pod.spec.iter().flat_map(references) {
            let is_there = match reference.kind {
                Kind::Secret => self.metadata::<Secret>(namespace, &reference.name).await?.is_some(),
                Kind::ConfigMap => self.metadata::<ConfigMap>(namespace, &reference.name).await?.is_some(),
            };
            if !is_there {
                let kind = reference.kind.as_str();
                return Ok(Some(format!("{kind} {} does not exist: a volume of the pod needs it", reference.name)));
            }
        }
        Ok(None)
    }

    /// What the Job controller said last of a pod of this Job that the API server would not let it make. `None`: nothing, or
    /// this operator may not read Events.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn why_unmade(&self, job: &Job) -> Result<Option<String>, ReadError> {
        let (Some(namespace), Some(uid)) = (job.namespace(), job.uid()) else { return Ok(None) };
        let fields = format!("reason=FailedCreate,regarding.uid={uid}");
        let events = match self.select::<Event>(&namespace, &fields).await {
            Ok(events) => events,
            // It is only asked for a better word.
            Err(error) if error.reason() == "Forbidden" => return Ok(None),
            Err(error) => return Err(error),
        };
        let newest = events.into_iter().max_by_key(|event| {
            let repeated = event.series.as_ref().map(|series| series.last_observed_time.0);
            let told = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
            repeated.or(told).or(event.event_time.as_ref().map(|time| time.0))
        });
        let note = newest.and_then(|event| event.note);
        Ok(note.map(|note| refusal_words(note.strip_prefix("Error creating: ").unwrap_or(&note)).to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_volumes_name_is_found_once_and_what_is_optional_is_left_out() {
        let pod: PodSpec = serde_json::from_value(json!({ "containers": [], "volumes": [
            { "name": "a", "secret": { "secretName": "s" } },
            { "name": "b", "secret": { "secretName": "perhaps", "optional": true } },
            { "name": "c", "configMap": { "name": "m" } },
            { "name": "e", "emptyDir": {} },
            { "name": "f", "projected": { "sources": [
                { "secret": { "name": "s" } }, { "configMap": { "name": "n" } },
                { "serviceAccountToken": { "path": "t" } },
            ] } },
        ] }))
        .unwrap();
        let found: Vec<_> = references(&pod).into_iter().map(|found| (found.kind.as_str(), found.name)).collect();
        let expected = [("Secret", "s"), ("ConfigMap", "m"), ("ConfigMap", "n")];
        assert_eq!(found, expected.map(|(kind, name)| (kind, name.to_owned())));
    }

    #[test]
    fn a_pod_that_just_began_is_left_alone() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(patience_left(Some(at(10)), at(12)), Duration::from_secs(3));
        assert_eq!(patience_left(Some(at(10)), at(15)), Duration::ZERO);
    }
}
