//! The Deployment of a site that is stopped for a migration.

use serde_json::Value;

use super::app::deployment_replicas;
use super::{annotate, rehashed};
use crate::release::observed::ObjectKind;

/// The annotation of a stopped site's Deployment with the number of pods that it had.
pub const DRAINED_ANNOTATION: &str = "timetracker.dev/drained-replicas";

/// `deployment` without pods. How many it had is noted in the same apply.
#[must_use]
pub fn drained(deployment: &Value) -> Value {
    let mut body = deployment.clone();
    let replicas = deployment_replicas(deployment);
    if let Some(spec) = body.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("replicas".to_owned(), Value::from(0));
    }
    annotate(&mut body, DRAINED_ANNOTATION, &replicas.to_string());
    rehashed(body)
}

/// How many pods a Deployment had before it was stopped. `None`: it is not stopped, whatever somebody noted on it.
#[must_use]
pub fn drained_replicas(body: &Value) -> Option<i64> {
    if deployment_replicas(body) != 0 {
        return None;
    }
    body.get("metadata")?.get("annotations")?.get(DRAINED_ANNOTATION)?.as_str()?.parse().ok()
}

/// The number of pods that a revision's manifests ask for.
#[must_use]
pub fn pods_wanted(manifests: &[Value]) -> i64 {
    let deployment = manifests.iter().find(|body| ObjectKind::of(body) == Some(ObjectKind::Deployment));
    deployment.map_or(1, deployment_replicas)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::release::manifests::{differs, hash_of, is_at_hash};

    #[test]
    fn a_stopped_deployment_asks_for_no_pods_and_remembers_how_many_there_were() {
        let body = json!({
            "kind": "Deployment", "metadata": { "annotations": { "timetracker.dev/hash": "sha256:1" } },
            "spec": { "replicas": 2, "template": { "spec": {} } },
        });
        let stopped = drained(&body);
        assert_eq!((deployment_replicas(&stopped), drained_replicas(&stopped)), (0, Some(2)));
        assert_eq!(stopped["spec"]["template"], body["spec"]["template"], "the pods' own template stays");
        assert_eq!(drained_replicas(&body), None);
        assert!(hash_of(&stopped).is_some() && !is_at_hash(&stopped, &body), "either is healed to the other");
        assert_eq!(drained(&body), stopped, "the same each time");
        assert!(differs(&body, &stopped) && differs(&stopped, &body));
    }

    #[test]
    fn a_note_on_what_runs_or_that_is_no_number_says_nothing() {
        let forged = |replicas: i64, note: &str| json!({ "metadata": { "annotations": { DRAINED_ANNOTATION: note } }, "spec": { "replicas": replicas } });
        let notes = [(1, "2"), (0, "many"), (0, "")].map(|(replicas, note)| drained_replicas(&forged(replicas, note)));
        assert_eq!(notes, [None, None, None]);
    }
}
