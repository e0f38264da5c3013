//! The examples of the documents, as the operator takes them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use timetracker_operator::api::pipeline::PipelineSpec;
use timetracker_operator::api::release::TimeTrackerReleaseSpec;
use timetracker_operator::api::run::PipelineRunSpec;
use timetracker_operator::api::source::SourceRepositorySpec;
use timetracker_operator::config::Artifacts;
use timetracker_operator::pipelines::{Settings, names};

use super::world::{RUN, World};

#[path = "../../support/examples.rs"]
mod written;

fn specs_of(kind: &str) -> Vec<(String, Value)> {
    let objects =
        written::examples().into_iter().filter_map(|example| Some((example.place.clone(), example.object()?)));
    objects
        .filter(|(_, object)| object["kind"] == kind)
        .map(|(place, object)| (place, object["spec"].clone()))
        .collect()
}

/// The fields that nothing reads.
fn unread<T: serde::de::DeserializeOwned>(spec: &Value) -> Result<Vec<String>, String> {
    let mut unread = Vec::new();
    let read: Result<T, _> = serde_ignored::deserialize(spec, |path| unread.push(path.to_string()));
    read.map(|_| unread).map_err(|error| error.to_string())
}

#[test]
fn every_example_has_only_fields_that_there_are() {
    let mut seen = BTreeSet::new();
    for (kind, read) in [
        ("Pipeline", unread::<PipelineSpec> as fn(&Value) -> Result<Vec<String>, String>),
        ("PipelineRun", unread::<PipelineRunSpec>),
        ("SourceRepository", unread::<SourceRepositorySpec>),
        ("TimeTrackerRelease", unread::<TimeTrackerReleaseSpec>),
    ] {
        for (place, spec) in specs_of(kind) {
            assert_eq!(read(&spec), Ok(Vec::new()), "{place}");
            seen.insert(kind);
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn every_pipeline_of_the_examples_begins() {
    let pipelines = specs_of("Pipeline");
    assert!(pipelines.len() >= 18, "{}", pipelines.len());
    for (place, spec) in pipelines {
        let mut spec = spec;
        spec["repositoryRef"] = json!({"name": "r"});
        let artifacts = Artifacts { url: "http://store:8080".to_owned(), token_file: None };
        let settings = Settings { artifacts: Some(artifacts), ..Settings::default() };
        let run = json!({"pipelineRef": {"name": "p"}, "revision": {"branch": "main"}});
        let mut world = World::new(spec, run, BTreeMap::new(), settings);
        world.add_repository(None);
        for _ in 0..3 {
            world.reconcile();
        }
        let run = world.run().unwrap();
        let began = run.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(names::STARTED_ANNOTATION));
        assert!(began, "{place} {RUN}: {:#?}", run.status);
    }
}
