#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

use serde_json::{Value, json};

use super::*;
use crate::api::conditions::is_true;
use crate::api::run::JobPhase;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

fn observed(spec: Value, pipeline: Option<Value>) -> Observed {
    let metadata = json!({"name": "run", "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": "1",
        "creationTimestamp": at(0).to_string()});
    let pipeline = pipeline.map(|spec| json!({"metadata": {"name": "p"}, "spec": spec}));
    Observed {
        run: serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap(),
        pipeline: pipeline.map(|pipeline| serde_json::from_value(pipeline).unwrap()),
        repository: None,
        revision: None,
        jobs: Vec::new(),
        pods: Vec::new(),
        lacking: std::collections::BTreeMap::new(),
        unmade: std::collections::BTreeMap::new(),
        held: std::collections::BTreeMap::new(),
        claims: Vec::new(),
        trust: None,
        policy: None,
        queue: None,
        flights: None,
        history: None,
        reused: None,
        earlier: None,
        rivals: Vec::new(),
        logs: None,
    }
}

fn run() -> Value {
    json!({"pipelineRef": {"name": "p"}})
}

fn succeeded(plan: &RunPlan) -> (String, String, String) {
    let status = plan.status.as_ref().unwrap();
    let condition = find(&status.conditions, types::SUCCEEDED).unwrap();
    (condition.status.clone(), condition.reason.clone(), condition.message.clone())
}

#[test]
fn a_missing_pipeline_is_waited_for_and_then_final() {
    let early = decide(&observed(run(), None), &Settings::default(), at(10));
    assert!(early.effects.is_empty());
    let (verdict, reason, message) = succeeded(&early);
    assert_eq!((verdict.as_str(), reason.as_str()), ("Unknown", "PipelineNotFound"));
    assert!(message.contains("Pipeline p"), "{message}");
    assert!(is_true(&early.status.as_ref().unwrap().conditions, types::RECONCILING));
    let late = decide(&observed(run(), None), &Settings::default(), at(30));
    assert!(matches!(late.effects.as_slice(), [Effect::Finish { outcome, .. }] if outcome.phase == JobPhase::Failed));
    assert_eq!(succeeded(&late).0, "False");
    let status = late.status.unwrap();
    assert!(status.completion_time.is_some() && is_true(&status.conditions, types::STALLED));
}

#[test]
fn a_circle_of_needs_is_refused_before_the_first_job() {
    let job = |name: &str, need: &str| json!({"name": name, "image": "x", "run": "true", "needs": [need]});
    let pipeline = json!({"jobs": [job("a", "b"), job("b", "a")]});
    let plan = decide(&observed(run(), Some(pipeline)), &Settings::default(), at(0));
    let (verdict, reason, message) = succeeded(&plan);
    assert_eq!((verdict.as_str(), reason.as_str()), ("False", "InvalidGraph"));
    assert!(message.contains("a → b → a"), "{message}");
    assert!(matches!(plan.effects.as_slice(), [Effect::Finish { .. }]));
}

#[test]
fn a_run_begins_with_its_definition_kept_and_owned() {
    let pipeline = json!({"jobs": [{"name": "a", "image": "x", "run": "true"}]});
    let plan = decide(&observed(run(), Some(pipeline)), &Settings::default(), at(0));
    let [Effect::Restrict(_), Effect::Preserve(revision), Effect::Begin { finalizers, .. }] = plan.effects.as_slice()
    else {
        unreachable!("{:?}", plan.effects)
    };
    assert_eq!(revision.metadata.owner_references.as_ref().unwrap().len(), 1);
    assert_eq!(finalizers, &[names::FINALIZER]);
}

#[test]
fn a_forks_commit_waits_for_its_own_approval() {
    let commit = "a".repeat(40);
    let revision = json!({"commit": commit, "pullRequest": {"number": 7, "base": "main", "fork": true}});
    let pipeline = json!({"jobs": [{"name": "a", "image": "x", "run": "true"}]});
    let with = |approved: Option<&str>| {
        let mut spec = json!({"pipelineRef": {"name": "p"}, "revision": revision});
        if let Some(approved) = approved {
            spec["approvedCommit"] = json!(approved);
        }
        decide(&observed(spec, Some(pipeline.clone())), &Settings::default(), at(0))
    };
    assert!(with(None).effects.is_empty());
    assert_eq!(succeeded(&with(None)).1, "WaitingForApproval");
    assert!(with(Some(&"b".repeat(40))).effects.is_empty(), "another commit was approved");
    assert!(!with(Some(&commit)).effects.is_empty());
}

#[test]
fn a_finished_run_is_deleted_only_when_its_ttl_says_so() {
    let finished = |spec: Value| {
        let mut observed = observed(spec, None);
        let outcome =
            Outcome { phase: JobPhase::Succeeded, reason: "Succeeded".into(), message: "m".into(), completed: at(0) };
        let text = serde_json::to_string(&outcome).unwrap();
        observed.run.annotations_mut().insert(names::OUTCOME_ANNOTATION.to_owned(), text);
        observed
    };
    let kept = decide(&finished(run()), &Settings::default(), at(100 * 24 * 3600));
    assert!(kept.effects.is_empty() && kept.next == Next::OnChange);
    let spec = json!({"pipelineRef": {"name": "p"}, "ttl": "1h"});
    let waiting = decide(&finished(spec.clone()), &Settings::default(), at(3599));
    assert_eq!((waiting.effects.len(), waiting.next), (0, Next::After(Duration::from_secs(1))));
    let over = decide(&finished(spec), &Settings::default(), at(3600));
    assert!(matches!(over.effects.as_slice(), [Effect::Expire { .. }]));
}

#[test]
fn a_branch_is_resolved_before_the_first_job() {
    let pipeline = json!({"repositoryRef": {"name": "r"}, "jobs": [{"name": "a", "image": "x", "run": "true"}]});
    let spec = json!({"pipelineRef": {"name": "p"}, "revision": {"branch": "feature/$(X)"}});
    let mut observed = observed(spec, Some(pipeline));
    let repository = json!({"metadata": {"name": "r"}, "spec": {"cloneURL": "http://git.example.org/a.git"}});
    observed.repository = Some(serde_json::from_value(repository).unwrap());
    let name = begin::revision_wanted(&observed).unwrap();
    let annotations = observed.run.annotations_mut();
    annotations.insert(names::REVISION_ANNOTATION.to_owned(), name);
    annotations.insert(names::STARTED_ANNOTATION.to_owned(), at(0).to_string());
    let plan = decide(&observed, &Settings::default(), at(1));
    let starts: Vec<_> = plan
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Start(job) => Some(job),
            _ => None,
        })
        .collect();
    let [job] = starts.as_slice() else { unreachable!("{:?}", plan.effects) };
    let text = serde_json::to_string(job).unwrap();
    assert!(text.contains("--branch=feature/$$(X)"), "{text}");
    assert!(plan.status.unwrap().jobs.iter().all(|job| job.phase == JobPhase::Waiting));
}

#[test]
fn a_run_says_where_what_it_leaves_is_kept_also_after_its_status_was_lost() {
    let store = crate::config::Artifacts { url: "http://store.tt:8080/".to_owned(), token_file: None };
    let settings = Settings { artifacts: Some(store), ..Settings::default() };
    let told = |job: Value, settings: &Settings, over: bool| {
        let pipeline = json!({"jobs": [job]});
        let mut observed = observed(run(), Some(pipeline));
        let plan = decide(&observed, settings, at(0));
        let kept = plan.effects.iter().find_map(|effect| match effect {
            Effect::Preserve(revision) => Some(revision.clone()),
            _ => None,
        });
        let revision = kept.unwrap();
        let annotations = observed.run.annotations_mut();
        annotations.insert(names::REVISION_ANNOTATION.to_owned(), revision.name_any());
        annotations.insert(names::STARTED_ANNOTATION.to_owned(), at(0).to_string());
        if over {
            let outcome = Outcome {
                phase: JobPhase::Succeeded,
                reason: "Succeeded".into(),
                message: "m".into(),
                completed: at(1),
            };
            annotations.insert(names::OUTCOME_ANNOTATION.to_owned(), serde_json::to_string(&outcome).unwrap());
        }
        observed.revision = Some(*revision);
        decide(&observed, settings, at(2)).status.unwrap().artifacts
    };
    let tests = json!({"name": "a", "image": "x", "run": "true", "reports": ["JUnit"]});
    for over in [false, true] {
        let address = told(tests.clone(), &settings, over);
        assert_eq!(address.as_deref(), Some("http://store.tt:8080/v1/artifacts/ns/run"));
    }
    assert_eq!(told(tests, &Settings::default(), false), None, "there is no store");
    assert_eq!(told(json!({"name": "a", "image": "x", "run": "true"}), &settings, false), None, "it leaves nothing");
}
