//! The revisions that runs under way execute, read once: the API server lets nobody change what they hold.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt;

/// How many are remembered.
const MOST: usize = 100;
/// The longest that is remembered, in bytes: few pipelines are as long.
const LONGEST: usize = 64 * 1024;

/// Revisions by the uid of the run that executes them.
///
/// Only one that the run owns is remembered: it lives as long as the run does, unless somebody deletes it. Then this
/// operator goes on with what it remembers, and the next one asks the pipeline.
#[derive(Debug, Default)]
pub struct Revisions {
    of_runs: Mutex<HashMap<String, ControllerRevision>>,
}

impl Revisions {
    /// The revision of that name, if the run was seen to own it.
    #[must_use]
    pub fn get(&self, run: &str, name: &str) -> Option<ControllerRevision> {
        let of_runs = self.of_runs.lock().unwrap_or_else(PoisonError::into_inner);
        of_runs.get(run).filter(|revision| revision.name_any() == name).cloned()
    }

    /// Remembers a revision that was read, if the run owns it.
    pub fn remember(&self, run: &str, revision: &ControllerRevision) {
        let is_owned = revision.owner_references().iter().any(|owner| owner.uid == run);
        let length = revision.data.as_ref().map_or(0, |data| data.0.to_string().len());
        if !is_owned || length > LONGEST {
            return;
        }
        let mut of_runs = self.of_runs.lock().unwrap_or_else(PoisonError::into_inner);
        // Runs that were deleted on their way are never forgotten one by one; all others are read once more.
        if of_runs.len() >= MOST {
            of_runs.clear();
        }
        of_runs.insert(run.to_owned(), revision.clone());
    }

    /// Forgets that of a run that is over.
    pub fn forget(&self, run: &str) {
        self.of_runs.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn revision(name: &str, owner: &str, length: usize) -> ControllerRevision {
        let owner = json!({"apiVersion": "timetracker.dev/v1alpha1", "kind": "PipelineRun", "name": "r", "uid": owner});
        serde_json::from_value(json!({
            "metadata": {"name": name, "ownerReferences": [owner]}, "revision": 1, "data": {"x": "y".repeat(length)},
        }))
        .unwrap()
    }

    #[test]
    fn only_what_the_run_owns_is_remembered_until_the_run_is_over() {
        let revisions = Revisions::default();
        revisions.remember("one", &revision("p-1", "another", 1));
        assert!(revisions.get("one", "p-1").is_none());
        revisions.remember("one", &revision("p-1", "one", 1));
        assert!(revisions.get("one", "p-1").is_some());
        assert!(revisions.get("one", "p-2").is_none() && revisions.get("two", "p-1").is_none());
        revisions.forget("one");
        assert!(revisions.get("one", "p-1").is_none());
    }

    #[test]
    fn neither_many_runs_nor_long_pipelines_fill_the_memory() {
        let revisions = Revisions::default();
        revisions.remember("long", &revision("p-1", "long", LONGEST));
        assert!(revisions.get("long", "p-1").is_none());
        for run in 0..=MOST {
            let run = run.to_string();
            revisions.remember(&run, &revision("p-1", &run, 1));
        }
        assert!(revisions.get(&MOST.to_string(), "p-1").is_some());
        assert_eq!(revisions.of_runs.lock().unwrap().len(), 1);
    }
}
