//! Runs that repeat what failed in an earlier one, whatever is interrupted.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use timetracker_operator::api::run::PipelineRun;
use timetracker_operator::pipelines::names;

use super::scenario::{Scenario, scenario};
use super::world::{Fate, World, image_of};

const AGAIN: &str = "again";

#[derive(Debug, Clone)]
enum Step {
    World,
    Reconcile,
    Crash(usize),
    DeleteStatus,
    /// The earlier run goes once the new one has begun.
    DeleteEarlier,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        4 => Just(Step::World),
        4 => Just(Step::Reconcile),
        3 => (0..5usize).prop_map(Step::Crash),
        1 => Just(Step::DeleteStatus),
        1 => Just(Step::DeleteEarlier),
    ];
    proptest::collection::vec(one, 0..50)
}

fn phases(world: &World, run: &str) -> BTreeMap<String, (String, String)> {
    let status = world.run_of(run).unwrap().status.unwrap();
    let all = status.jobs.into_iter();
    all.map(|job| (job.name, (format!("{:?}", job.phase), job.message.unwrap_or_default()))).collect()
}

fn reason(run: &PipelineRun) -> (String, String) {
    let conditions = run.status.clone().unwrap().conditions;
    let found = conditions.into_iter().find(|condition| condition.type_ == "Succeeded").unwrap();
    (found.reason, found.message)
}

/// A world in which the run is over, what failed was repaired, and the run is to be repeated.
fn repeated(scenario: &Scenario) -> (World, Scenario) {
    let mut world = scenario.world();
    world.settle();
    let mut repaired = scenario.clone();
    for job in repaired.jobs.iter_mut().chain(repaired.finally.as_mut()) {
        job.exit = 0;
        job.failed_tests = 0;
    }
    world.fates = repaired.world().fates;
    world.cell_executions.clear();
    world.add_run(AGAIN, json!({"pipelineRef": {"name": "p"}, "rerunOf": {"name": "run"}}));
    (world, repaired)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(32),
        failure_persistence: None, max_shrink_iters: 500, ..ProptestConfig::default()
    })]

    #[test]
    fn only_what_failed_and_what_depends_on_it_is_done_again(scenario in scenario(), steps in steps()) {
        let mut scenario = scenario;
        for job in scenario.jobs.iter_mut().chain(scenario.finally.as_mut()) {
            job.once = false;
        }
        let (mut world, repaired) = repeated(&scenario);
        for step in &steps {
            match step {
                Step::World => world.step(),
                Step::Reconcile => world.reconcile_of(AGAIN),
                Step::Crash(after) => {
                    if let Some(plan) = world.plan_of(AGAIN) {
                        world.act_of(AGAIN, &plan, *after);
                    }
                }
                Step::DeleteStatus => world.delete_status_of(AGAIN),
                Step::DeleteEarlier if world.begun.iter().any(|run| run == AGAIN) => world.delete_run(),
                Step::DeleteEarlier => {}
            }
        }
        world.settle();
        prop_assert!(world.is_over_of(AGAIN));
        let plan = world.plan_of(AGAIN).unwrap();
        prop_assert!(plan.effects.is_empty() && plan.status.is_none(), "not at rest: {:?}", plan);
        let (before, after) = (scenario.expected(), repaired.expected());
        let reused = scenario.reused();
        for (cell, (phase, message)) in phases(&world, AGAIN) {
            prop_assert_eq!(&phase, &after[&cell], "{}", cell);
            prop_assert_eq!(message == "reused from run", reused.contains(&cell), "{} was {}: {}", cell, before[&cell], message);
            let times = world.cell_executions.get(&cell).copied().unwrap_or_default();
            let runs = !reused.contains(&cell) && repaired.executes(&cell);
            prop_assert_eq!(times, u32::from(runs), "{}: executions", cell);
        }
    }
}

fn two_jobs(earlier: serde_json::Value) -> World {
    let pipeline = json!({"jobs": [{"name": "a", "image": "x", "run": "true"}, {"name": "b", "image": "x", "run": "true",
        "needs": ["a"]}]});
    World::new(pipeline, earlier, BTreeMap::new(), timetracker_operator::pipelines::Settings::default())
}

#[test]
fn a_run_that_can_not_be_repeated_is_refused_with_the_reason() {
    let again = json!({"pipelineRef": {"name": "p"}, "rerunOf": {"name": "run"}});
    let commit = |digit: &str| json!({"pipelineRef": {"name": "p"}, "revision": {"commit": digit.repeat(40)}});
    let refused = |world: &mut World, spec: serde_json::Value| {
        world.add_run(AGAIN, spec);
        world.reconcile_of(AGAIN);
        reason(&world.run_of(AGAIN).unwrap())
    };
    let mut going = two_jobs(json!({"pipelineRef": {"name": "p"}}));
    going.reconcile();
    let (why, message) = refused(&mut going, again.clone());
    assert_eq!(why, "InvalidRerun");
    assert!(message.contains("still going"), "{message}");

    let mut other_commit = two_jobs(commit("a"));
    other_commit.settle();
    let mut spec = commit("b");
    spec["rerunOf"] = json!({"name": "run"});
    let (why, message) = refused(&mut other_commit, spec);
    assert_eq!(why, "InvalidRerun");
    assert!(message.contains("another commit"), "{message}");

    let mut missing = two_jobs(json!({"pipelineRef": {"name": "p"}}));
    let mut spec = again.clone();
    spec["rerunOf"] = json!({"name": "zebra"});
    assert_eq!(refused(&mut missing, spec).0, "InvalidRerun", "waited for first");
    missing.settle();
    let (_, message) = reason(&missing.run_of(AGAIN).unwrap());
    assert!(message.contains("zebra does not exist"), "{message}");
}

#[test]
fn a_job_that_is_defined_otherwise_now_runs_again_and_so_does_what_needs_it() {
    let mut world = two_jobs(json!({"pipelineRef": {"name": "p"}}));
    world.settle();
    let pipeline = json!({"spec": {"jobs": [{"name": "a", "image": "x", "run": "true"}, {"name": "b", "image": "y",
        "run": "true", "needs": ["a"]}]}});
    world.store.patch("Pipeline", "p", &pipeline);
    world.add_run(AGAIN, json!({"pipelineRef": {"name": "p"}, "rerunOf": {"name": "run"}}));
    world.settle();
    assert_eq!((world.cell_executions["a"], world.cell_executions["b"]), (1, 2));
}

/// Two jobs in the image `x`, of which the second failed, and the same repeated.
fn half_repeated(between: impl FnOnce(&mut World)) -> World {
    let mut world = two_jobs(json!({"pipelineRef": {"name": "p"}}));
    world.fates.insert("b".to_owned(), Fate { exit: 1, failed_tests: 0, steps: 1, traps: false });
    world.image_ids.insert("x".to_owned(), image_of("docker.io/library/x", "old"));
    world.settle();
    world.fates.clear();
    between(&mut world);
    world.add_run(AGAIN, json!({"pipelineRef": {"name": "p"}, "rerunOf": {"name": "run"}}));
    world
}

/// The images of the jobs of the repetition.
fn images(world: &World) -> Vec<String> {
    let jobs = world.store.of_kind("Job").filter(|job| job["metadata"]["labels"][names::RUN_LABEL] == AGAIN);
    jobs.map(|job| job["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn beside_what_is_taken_over_a_tag_that_was_moved_means_what_it_meant() {
    let mut world = half_repeated(|world| {
        world.image_ids.insert("x".to_owned(), image_of("docker.io/library/x", "new"));
    });
    world.settle();
    assert_eq!((world.cell_executions["a"], world.cell_executions["b"]), (1, 2));
    assert_eq!(images(&world), [image_of("x", "old")]);
    // What that run did is known as well as what it took over.
    world.add_run("once-more", json!({"pipelineRef": {"name": "p"}, "rerunOf": {"name": AGAIN}}));
    world.settle();
    assert_eq!((world.cell_executions["a"], world.cell_executions["b"]), (1, 2));
}

#[test]
fn what_ran_in_an_image_that_is_not_known_runs_again_and_says_so() {
    let forgets = |world: &mut World| {
        for name in world.store.names("Job") {
            let job = world.store.get("Job", &name).unwrap();
            let text = job["metadata"]["annotations"][names::RESULT_ANNOTATION].as_str().unwrap();
            let mut result: serde_json::Value = serde_json::from_str(text).unwrap();
            assert!(result.as_object_mut().unwrap().remove("image").is_some(), "{result}");
            let annotations = json!({ names::RESULT_ANNOTATION: result.to_string() });
            world.store.patch("Job", &name, &json!({"metadata": {"annotations": annotations}}));
        }
    };
    let mut world = half_repeated(forgets);
    let plan = world.plan_of(AGAIN).unwrap();
    let notes: Vec<&str> = plan.events.iter().map(|event| event.note.as_str()).collect();
    assert!(matches!(notes.as_slice(), [note] if note.ends_with("so they run again: a")), "{notes:?}");
    world.settle();
    assert_eq!((world.cell_executions["a"], world.cell_executions["b"]), (2, 2));
    assert_eq!(images(&world), ["x", "x"], "what the tag names now");
}

/// Two jobs beside the same service, of which the second failed, and the same repeated. `service` is what kubelet tells of
/// the service's image in the earlier run.
fn half_repeated_beside(service: &str) -> World {
    let job = |name: &str| json!({"name": name, "image": "x", "run": "true", "services": [{"name": "cache", "image": "redis:7"}]});
    let settings = timetracker_operator::pipelines::Settings::default();
    let run = json!({"pipelineRef": {"name": "p"}});
    let mut world = World::new(json!({"jobs": [job("a"), job("b")]}), run, BTreeMap::new(), settings);
    world.fates.insert("b".to_owned(), Fate { exit: 1, failed_tests: 0, steps: 1, traps: false });
    world.image_ids.insert("redis:7".to_owned(), service.to_owned());
    world.settle();
    world.fates.clear();
    world.image_ids.insert("redis:7".to_owned(), image_of("docker.io/library/redis", "new"));
    world.add_run(AGAIN, json!({"pipelineRef": {"name": "p"}, "rerunOf": {"name": "run"}}));
    world.settle();
    world
}

fn services(world: &World) -> Vec<String> {
    let jobs = world.store.of_kind("Job").filter(|job| job["metadata"]["labels"][names::RUN_LABEL] == AGAIN);
    let image = |job: &serde_json::Value| {
        let beside = job["spec"]["template"]["spec"]["initContainers"].as_array().unwrap();
        let service = beside.iter().find(|container| container["name"] == "cache").unwrap();
        service["image"].as_str().unwrap().to_owned()
    };
    jobs.map(image).collect()
}

#[test]
fn the_tag_of_a_service_that_was_moved_means_what_it_meant_or_what_ran_beside_it_runs_again() {
    let known = half_repeated_beside(&image_of("docker.io/library/redis", "old"));
    assert_eq!((known.cell_executions["a"], known.cell_executions["b"]), (1, 2));
    assert_eq!(services(&known), [image_of("redis", "old")]);
    for garbage in ["", "sha256:0", "docker.io/library/other@sha256:0"] {
        let unknown = half_repeated_beside(garbage);
        assert_eq!((unknown.cell_executions["a"], unknown.cell_executions["b"]), (2, 2), "{garbage}");
        assert_eq!(services(&unknown), ["redis:7", "redis:7"], "what the tag names now");
    }
}

#[test]
fn garbage_in_the_place_of_an_images_digest_proves_nothing() {
    let long = format!("docker.io/library/x@sha256:{}", "0".repeat(100_000));
    for garbage in ["", "sha256:0", "docker.io/library/y@sha256:0", "\u{0}@\n", long.as_str()] {
        let mut world = two_jobs(json!({"pipelineRef": {"name": "p"}}));
        world.image_ids.insert("x".to_owned(), garbage.to_owned());
        world.settle();
        world.add_run(AGAIN, json!({"pipelineRef": {"name": "p"}, "rerunOf": {"name": "run"}}));
        world.settle();
        assert_eq!((world.cell_executions["a"], world.cell_executions["b"]), (2, 2), "{garbage:.80}");
        assert_eq!(images(&world), ["x", "x"]);
    }
}

#[test]
fn a_run_that_lost_what_it_took_over_ends_instead_of_doing_it_again() {
    let mut world = two_jobs(json!({"pipelineRef": {"name": "p"}}));
    world.settle();
    world.add_run(AGAIN, json!({"pipelineRef": {"name": "p"}, "rerunOf": {"name": "run"}}));
    while !world.begun.iter().any(|run| run == AGAIN) {
        world.reconcile_of(AGAIN);
    }
    let kept: Vec<String> = world.store.names("ConfigMap").into_iter().filter(|name| name.starts_with(AGAIN)).collect();
    let [name] = kept.as_slice() else { unreachable!("{kept:?}") };
    world.store.objects.remove(&super::store::Store::key("ConfigMap", name));
    world.settle();
    assert_eq!(reason(&world.run_of(AGAIN).unwrap()).0, "DefinitionLost");
    assert_eq!((world.cell_executions["a"], world.cell_executions["b"]), (1, 1));
}
