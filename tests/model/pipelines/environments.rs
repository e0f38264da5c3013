//! Runs whose jobs share an environment.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use timetracker_operator::config::Artifacts;
use timetracker_operator::pipelines::Settings;

use super::world::{Fate, RUN, World};

fn pipeline() -> Value {
    json!({
        "repositoryRef": {"name": "r"},
        "defaults": {"environment": {"python": "3.11", "requirements": ["requirements.txt"]}},
        "jobs": [
            {"name": "unit", "run": "pytest"},
            {"name": "lint", "run": "flake8", "when": "event == 'Manual'"},
            {"name": "plain", "image": "busybox", "run": "true"},
        ],
        "finally": [{"name": "last", "run": "true"}, {"name": "tell", "image": "busybox", "run": "true"}],
    })
}

fn world(pipeline: Value, exit: i32) -> World {
    world_with(pipeline, exit, None, Value::Null)
}

fn world_with(pipeline: Value, exit: i32, images: Option<&str>, pull_request: Value) -> World {
    let artifacts = Some(Artifacts { url: "http://store:8080".to_owned(), token_file: None });
    let settings = Settings { artifacts, ..Settings::default() };
    let fate = Fate { exit, failed_tests: 0, steps: 3, traps: false };
    let fates = BTreeMap::from([("environment".to_owned(), fate)]);
    let revision = json!({"commit": "a".repeat(40), "pullRequest": pull_request});
    let run = json!({"pipelineRef": {"name": "p"}, "revision": revision});
    let mut world = World::new(pipeline, run, fates, settings);
    if images.is_some() {
        world.messages.insert("(environment)".to_owned(), identified(Value::Null));
    }
    world.add_repository(images);
    world
}

/// What the job says that names the environment and looks for its image.
fn identified(image: Value) -> String {
    let hash = format!("sha256:{}", "0".repeat(64));
    json!({"outcome": "Identified", "hash": hash, "platform": "amd64", "files": 1, "image": image}).to_string()
}

fn phases(world: &World, run: &str) -> BTreeMap<String, (String, String)> {
    let status = world.run_of(run).unwrap().status.unwrap();
    let all = status.jobs.into_iter();
    all.map(|job| (job.name, (format!("{:?}", job.phase), job.message.unwrap_or_default()))).collect()
}

#[test]
fn jobs_start_behind_their_environment_and_the_others_beside_it() {
    let mut world = world(pipeline(), 0);
    world.settle();
    let all = phases(&world, RUN);
    assert!(all.values().all(|(phase, _)| phase == "Succeeded"), "{all:?}");
    assert_eq!(world.cell_executions["environment"], 1);
    let started: Vec<&str> = world.starts.iter().map(|(cell, _)| cell.as_str()).collect();
    let place = |name: &str| started.iter().position(|cell| *cell == name).unwrap();
    assert!(place("environment") < place("unit") && place("environment") < place("lint"), "{started:?}");
    let (_, beside) = &world.starts[place("unit")];
    assert!(!beside.contains("environment"), "it has ended: {:?}", world.starts);
    assert!(place("plain") < place("unit"), "{started:?}");
    let first = world.run_of(RUN).unwrap().status.unwrap().jobs[0].name.clone();
    assert_eq!(first, "environment", "it is shown before the jobs that use it");
}

#[test]
fn without_its_environment_no_job_runs_and_each_says_so() {
    let mut world = world(pipeline(), 1);
    world.settle();
    let all = phases(&world, RUN);
    assert_eq!(all["environment"].0, "Failed");
    for name in ["unit", "lint", "last"] {
        assert_eq!(all[name], ("Skipped".to_owned(), "has no environment: job environment is Failed".to_owned()));
        assert!(!world.cell_executions.contains_key(name));
    }
    assert_eq!((all["plain"].0.as_str(), all["tell"].0.as_str()), ("Succeeded", "Succeeded"));
    let conditions = world.run_of(RUN).unwrap().status.unwrap().conditions;
    let verdict = conditions.into_iter().find(|condition| condition.type_ == "Succeeded").unwrap();
    assert_eq!((verdict.status.as_str(), verdict.reason.as_str()), ("False", "CommandFailure"), "{verdict:?}");
    assert!(verdict.message.starts_with("job environment: "), "{verdict:?}");
}

#[test]
fn an_environment_that_only_forgiven_jobs_use_fails_nothing_else() {
    let mut forgiven = pipeline();
    forgiven["finally"] = json!([]);
    for job in forgiven["jobs"].as_array_mut().unwrap() {
        job["continueOnError"] = json!(true);
    }
    let mut world = world(forgiven, 1);
    world.settle();
    assert_eq!(phases(&world, RUN)["unit"].0, "Skipped");
    let conditions = world.run_of(RUN).unwrap().status.unwrap().conditions;
    assert!(conditions.iter().any(|one| one.type_ == "Succeeded" && one.status == "True"), "{conditions:?}");
}

#[test]
fn a_repeated_run_makes_the_environment_only_if_a_job_needs_it_again() {
    let mut plain = pipeline();
    plain["finally"] = json!([]);
    let mut world = world(plain, 0);
    world.fates.insert("unit".to_owned(), Fate { exit: 1, failed_tests: 0, steps: 1, traps: false });
    world.settle();
    world.fates.clear();
    world.cell_executions.clear();
    let again = |of: &str| json!({"pipelineRef": {"name": "p"}, "revision": {"commit": "a".repeat(40)}, "rerunOf": {"name": of}});
    world.add_run("again", again(RUN));
    world.settle();
    let executed: Vec<&str> = world.cell_executions.keys().map(String::as_str).collect();
    assert_eq!(executed, ["environment", "unit"], "{:?}", phases(&world, "again"));
    world.cell_executions.clear();
    world.add_run("once-more", again("again"));
    world.settle();
    assert!(world.cell_executions.is_empty(), "{:?}", world.cell_executions);
}

#[test]
fn a_cancelled_run_leaves_no_job_waiting_for_its_environment() {
    let mut world = world(pipeline(), 0);
    for _ in 0..3 {
        world.reconcile();
        world.step();
    }
    world.cancel();
    world.settle();
    assert!(world.is_over());
    let all = phases(&world, RUN);
    assert_eq!((all["environment"].0.as_str(), all["unit"].0.as_str()), ("Cancelled", "Cancelled"), "{all:?}");
    assert_eq!(all["last"].0, "Skipped", "{all:?}");
    assert_eq!(all["tell"].0, "Succeeded", "{all:?}");
}

const IMAGES: &str = "ghcr.io/o/app";

#[test]
fn an_image_is_made_beside_the_jobs_and_holds_nothing_up() {
    let mut world = world_with(pipeline(), 0, Some(IMAGES), Value::Null);
    let published = json!({"outcome": "Published", "image": format!("{IMAGES}-environment@sha256:0"), "found": false});
    world.messages.insert("environment-publish".to_owned(), published.to_string());
    world.fates.insert("environment-publish".to_owned(), Fate { exit: 0, failed_tests: 0, steps: 40, traps: false });
    // The world is at rest while nothing but a long command goes on.
    for _ in 0..20 {
        world.settle();
    }
    let all = phases(&world, RUN);
    assert!(all.values().all(|(phase, _)| phase == "Succeeded"), "{all:?}");
    let last = world.starts.iter().find(|(cell, _)| cell == "last").unwrap();
    assert!(last.1.contains("environment-publish"), "finally does not wait for it: {:?}", world.starts);
    let shown = world.run_of(RUN).unwrap().status.unwrap().jobs.last().unwrap().name.clone();
    assert_eq!(shown, "environment-publish");
}

#[test]
fn an_image_that_can_not_be_pushed_fails_nothing_else() {
    let mut world = world_with(pipeline(), 0, Some(IMAGES), Value::Null);
    let failed = json!({"outcome": "Failed", "failure": "Unreachable", "message": "denied"});
    world.messages.insert("environment-publish".to_owned(), failed.to_string());
    world.fates.insert("environment-publish".to_owned(), Fate { exit: 1, failed_tests: 0, steps: 1, traps: false });
    world.settle();
    let all = phases(&world, RUN);
    assert_eq!(all["environment-publish"], ("Failed".to_owned(), "environment: denied".to_owned()));
    let conditions = world.run_of(RUN).unwrap().status.unwrap().conditions;
    assert!(conditions.iter().any(|one| one.type_ == "Succeeded" && one.status == "True"), "{conditions:?}");
}

#[test]
fn a_pull_request_publishes_nothing() {
    let pull_request = json!({"number": 7, "base": "main", "fork": false});
    let mut world = world_with(pipeline(), 0, Some(IMAGES), pull_request);
    world.settle();
    let all = phases(&world, RUN);
    let why = "a pull request's run publishes no image".to_owned();
    assert_eq!(all["environment-publish"], ("Skipped".to_owned(), why));
    assert!(!world.cell_executions.contains_key("environment-publish"));
    assert_eq!(all["unit"].0, "Succeeded");
}

#[test]
fn an_environment_that_failed_is_not_published() {
    let mut world = world_with(pipeline(), 1, Some(IMAGES), Value::Null);
    world.settle();
    assert_eq!(phases(&world, RUN)["environment-publish"].0, "Skipped");
    assert!(!world.cell_executions.contains_key("environment-publish"));
}

#[test]
fn a_run_whose_image_is_there_installs_nothing() {
    let mut world = world_with(pipeline(), 1, Some(IMAGES), Value::Null);
    let image = format!("{IMAGES}-environment@sha256:0");
    world.messages.insert("(environment)".to_owned(), identified(json!(image)));
    world.settle();
    let all = phases(&world, RUN);
    assert_eq!((all["environment"].0.as_str(), all["unit"].0.as_str()), ("Succeeded", "Succeeded"), "{all:?}");
    assert_eq!(all["environment-publish"].1, "its image is there already");
    let executed: Vec<&str> = world.cell_executions.keys().map(String::as_str).collect();
    assert_eq!(executed, ["(environment)", "last", "lint", "plain", "tell", "unit"]);
}

#[test]
fn an_environment_that_can_not_be_named_fails_as_such() {
    let mut world = world_with(pipeline(), 0, Some(IMAGES), Value::Null);
    let failed = json!({"outcome": "Failed", "failure": "Requirements", "message": "no such file"});
    world.messages.insert("(environment)".to_owned(), failed.to_string());
    world.settle();
    let all = phases(&world, RUN);
    assert_eq!(all["environment"], ("Failed".to_owned(), "environment: no such file".to_owned()));
    assert_eq!(all["unit"].0, "Skipped");
    assert!(!world.cell_executions.contains_key("environment"));
}

/// A world in which two runs need the same new environment, and how long installing it takes.
fn two_runs(steps: u32, first: Value, second: Value) -> World {
    let mut world = world_with(pipeline(), 0, Some(IMAGES), first);
    world.fates.insert("environment".to_owned(), Fate { exit: 0, failed_tests: 0, steps, traps: false });
    let published = json!({"outcome": "Published", "image": format!("{IMAGES}-environment@sha256:0"), "found": false});
    world.messages.insert("environment-publish".to_owned(), published.to_string());
    let revision = json!({"commit": "b".repeat(40), "pullRequest": second});
    world.add_run("second", json!({"pipelineRef": {"name": "p"}, "revision": revision}));
    world
}

fn pull_request() -> Value {
    json!({"number": 7, "base": "main", "fork": false})
}

/// Reconciles all runs in turn beside the world, until that many steps are done.
fn go_on(world: &mut World, steps: u32) {
    for _ in 0..steps {
        for run in world.store.names("PipelineRun") {
            world.reconcile_of(&run);
        }
        world.step();
    }
}

/// How often an environment was installed or published while that was going on already.
fn beside(world: &World) -> usize {
    let making = |cell: &str| matches!(cell, "environment" | "environment-publish");
    let starts = world.starts.iter().filter(|(cell, _)| making(cell));
    starts.filter(|(cell, running)| running.iter().any(|other| other != cell && making(other))).count()
}

/// The run whose Jobs install now.
fn installing(world: &World) -> Vec<String> {
    let going = world.living_pods().into_iter().filter(|(_, cell)| cell == "environment");
    going.map(|(name, _)| name.rsplit_once('-').unwrap().0.to_owned()).collect()
}

#[test]
fn of_two_runs_one_installs_and_the_other_waits_for_its_image() {
    let mut world = two_runs(30, Value::Null, Value::Null);
    go_on(&mut world, 12);
    assert_eq!(installing(&world), [RUN]);
    let waiting = phases(&world, "second");
    let (phase, message) = &waiting["environment"];
    assert_eq!(phase, "Waiting");
    assert!(message.starts_with("waits until 2025-") && message.contains("for run run, which makes"), "{message}");
    let status = world.run_of("second").unwrap().status.unwrap();
    let succeeded = status.conditions.iter().find(|condition| condition.type_ == "Succeeded").unwrap();
    assert!(succeeded.message.ends_with("waits for run run, which makes the same environment"), "{succeeded:?}");
    for _ in 0..20 {
        world.settle();
    }
    for run in [RUN, "second"] {
        assert!(phases(&world, run).values().all(|(phase, _)| phase == "Succeeded"), "{:?}", phases(&world, run));
        let annotations = world.run_of(run).unwrap().metadata.annotations.unwrap();
        assert!(!annotations.contains_key("timetracker.dev/follows"), "{annotations:?}");
    }
    assert_eq!(beside(&world), 0, "{:?}", world.starts);
}

/// The operator dies after any of its first writes, once, in any of the reconciles of both runs.
#[test]
fn wherever_the_operator_dies_one_installs_at_a_time_and_both_come_to_their_end() {
    for crash in 0..16 {
        for writes in 0..3 {
            let mut world = two_runs(2, Value::Null, Value::Null);
            for step in 0..24 {
                for run in ["run", "second"] {
                    match world.plan_of(run) {
                        Some(plan) if step == crash => world.act_of(run, &plan, writes),
                        Some(plan) => world.act_of(run, &plan, usize::MAX),
                        None => {}
                    }
                }
                assert!(installing(&world).len() <= 1, "crash {crash} after {writes}: {:?}", installing(&world));
                world.step();
            }
            world.settle();
            assert!(world.is_over_of(RUN) && world.is_over_of("second"), "crash {crash} after {writes}");
            assert_eq!(beside(&world), 0, "crash {crash} after {writes}: {:?}", world.starts);
        }
    }
}

#[test]
fn whoever_waits_takes_over_from_a_run_that_ends_without_an_image() {
    for how in ["cancel", "delete", "fail"] {
        let mut world = two_runs(30, Value::Null, Value::Null);
        go_on(&mut world, 12);
        assert_eq!(installing(&world), [RUN]);
        match how {
            "cancel" => world.cancel(),
            "delete" => world.delete_run(),
            _ => {
                let name = world.living_pods().into_iter().find(|(_, cell)| cell == "environment").unwrap().0;
                world.fates.get_mut("environment").unwrap().steps = 1;
                world.fates.get_mut("environment").unwrap().exit = 1;
                go_on(&mut world, 4);
                assert!(world.living_pods().iter().all(|(living, _)| *living != name));
                world.fates.get_mut("environment").unwrap().exit = 0;
            }
        }
        for _ in 0..10 {
            world.settle();
        }
        let all = phases(&world, "second");
        assert_eq!(all["unit"].0, "Succeeded", "{how}: {all:?}");
        assert_eq!(beside(&world), 0, "{how}: {:?}", world.starts);
    }
}

#[test]
fn nobody_waits_for_a_pull_request() {
    let mut world = two_runs(30, pull_request(), Value::Null);
    go_on(&mut world, 12);
    assert_eq!(installing(&world), [RUN, "second"]);
}

#[test]
fn a_run_waits_for_a_bounded_time_and_then_installs_itself() {
    for second in [Value::Null, pull_request()] {
        let mut world = two_runs(1000, Value::Null, second);
        go_on(&mut world, 12);
        assert_eq!(installing(&world), [RUN]);
        world.clock += 14 * 60;
        go_on(&mut world, 3);
        assert_eq!(installing(&world), [RUN]);
        world.clock += 60;
        go_on(&mut world, 3);
        assert_eq!(installing(&world), [RUN, "second"]);
    }
}

#[test]
fn a_run_that_waits_for_an_environment_can_be_cancelled() {
    let mut world = two_runs(30, Value::Null, Value::Null);
    go_on(&mut world, 12);
    world.store.patch("PipelineRun", "second", &json!({"spec": {"cancel": true}}));
    go_on(&mut world, 12);
    assert!(world.is_over_of("second"));
    assert_eq!(phases(&world, "second")["environment"].0, "Cancelled");
    assert_eq!(installing(&world), [RUN]);
}
