//! Several runs beside each other: limits and their queue, concurrency groups, whatever is interrupted.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use timetracker_operator::api::run::PipelineRun;
use timetracker_operator::pipelines::{Settings, names};

use super::world::{Fate, RUN, World};

#[derive(Debug, Clone)]
enum Step {
    World,
    Reconcile(usize),
    /// The operator dies, or loses the answer, after that many writes for that run.
    Crash(usize, usize),
    DeleteStatus(usize),
    Create,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Group {
    None,
    Waits,
    Cancels,
}

#[derive(Debug, Clone)]
struct Crowd {
    runs: usize,
    jobs: usize,
    limit: u32,
    group: Group,
}

fn crowd(groups: Vec<Group>) -> impl Strategy<Value = Crowd> {
    (1..4usize, 1..5usize, 1..5u32, prop::sample::select(groups)).prop_map(|(runs, jobs, limit, group)| Crowd {
        runs,
        jobs,
        limit,
        group,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        4 => Just(Step::World),
        6 => (0..6usize).prop_map(Step::Reconcile),
        3 => (0..6usize, 0..5usize).prop_map(|(run, after)| Step::Crash(run, after)),
        1 => (0..6usize).prop_map(Step::DeleteStatus),
        1 => Just(Step::Create),
    ];
    proptest::collection::vec(one, 0..80)
}

fn spec() -> Value {
    json!({"pipelineRef": {"name": "p"}})
}

impl Crowd {
    fn world(&self) -> World {
        let jobs: Vec<Value> =
            (0..self.jobs).map(|job| json!({"name": format!("job-{job}"), "image": "x", "run": "true"})).collect();
        let mut pipeline = json!({ "jobs": jobs });
        if self.group != Group::None {
            pipeline["concurrency"] =
                json!({"group": "'deploy-' + event", "cancelInProgress": self.group == Group::Cancels});
        }
        let fate = Fate { exit: 0, failed_tests: 0, steps: 2, traps: false };
        let fates: BTreeMap<String, Fate> = (0..self.jobs).map(|job| (format!("job-{job}"), fate.clone())).collect();
        let mut settings = Settings::default();
        settings.limits.jobs = self.limit;
        let mut world = World::new(pipeline, spec(), fates, settings);
        for number in 1..self.runs {
            world.add_run(&format!("{RUN}-{number}"), spec());
        }
        world
    }

    fn play(&self, steps: &[Step]) -> World {
        let mut world = self.world();
        for step in steps {
            let names = world.store.names("PipelineRun");
            let of = |which: &usize| names[which % names.len()].clone();
            match step {
                Step::World => world.step(),
                Step::Reconcile(which) => world.reconcile_of(&of(which)),
                Step::Crash(which, after) => {
                    let name = of(which);
                    if let Some(plan) = world.plan_of(&name) {
                        world.act_of(&name, &plan, *after);
                    }
                }
                Step::DeleteStatus(which) => world.delete_status_of(&of(which)),
                Step::Create if names.len() < 6 => world.add_run(&format!("{RUN}-{}", names.len()), spec()),
                Step::Create => {}
            }
        }
        world.settle();
        world
    }

    fn assert_sound(&self, world: &World) {
        assert!(world.most_busy <= usize::try_from(self.limit).unwrap(), "{} jobs at once", world.most_busy);
        if self.group != Group::None {
            assert!(world.most_going <= 1, "{} runs of one group at once", world.most_going);
        }
        for run in world.all_runs() {
            let name = run.metadata.name.clone().unwrap();
            assert!(world.is_over_of(&name), "{name} never ends");
            let plan = world.plan_of(&name).unwrap();
            assert!(plan.effects.is_empty() && plan.status.is_none(), "not at rest: {plan:?}");
            let labels = run.metadata.labels.unwrap_or_default();
            assert!(!labels.contains_key(names::WAITING_LABEL), "{name} still waits");
        }
        for (name, times) in &world.executions {
            assert_eq!(*times, 1, "{name} was executed {times} times");
        }
    }
}

fn reason(run: &PipelineRun) -> String {
    let conditions = run.status.clone().unwrap().conditions;
    conditions.into_iter().find(|condition| condition.type_ == "Succeeded").unwrap().reason
}

fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(cases);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 500, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn the_limit_is_never_passed_and_every_run_gets_its_turn(crowd in crowd(vec![Group::None]), steps in steps()) {
        let world = crowd.play(&steps);
        crowd.assert_sound(&world);
        for run in world.all_runs() {
            prop_assert_eq!(reason(&run), "Succeeded");
        }
    }

    #[test]
    fn runs_of_a_group_follow_each_other(crowd in crowd(vec![Group::Waits]), steps in steps()) {
        let world = crowd.play(&steps);
        crowd.assert_sound(&world);
        for run in world.all_runs() {
            prop_assert_eq!(reason(&run), "Succeeded");
        }
    }

    #[test]
    fn the_newest_run_of_a_group_replaces_the_others(crowd in crowd(vec![Group::Cancels]), steps in steps()) {
        let world = crowd.play(&steps);
        crowd.assert_sound(&world);
        let mut runs = world.all_runs();
        runs.sort_by_key(|run| (run.metadata.creation_timestamp.clone().map(|time| time.0), run.metadata.name.clone()));
        let newest = runs.pop().unwrap();
        prop_assert_eq!(reason(&newest), "Succeeded");
        for run in runs {
            prop_assert!(["Succeeded", "Superseded"].contains(&reason(&run).as_str()), "{}", reason(&run));
        }
    }
}

#[test]
fn undisturbed_runs_of_a_group_begin_in_the_order_of_their_creation() {
    let crowd = Crowd { runs: 4, jobs: 2, limit: 4, group: Group::Waits };
    let world = crowd.play(&[]);
    crowd.assert_sound(&world);
    assert_eq!(world.begun, ["run", "run-1", "run-2", "run-3"]);
}

#[test]
fn a_job_that_ended_unseen_and_is_recorded_later_frees_its_room_once() {
    let crowd = Crowd { runs: 1, jobs: 4, limit: 2, group: Group::Waits };
    let steps = [Step::DeleteStatus(0), Step::Reconcile(0), Step::Reconcile(0), Step::Crash(0, 1), Step::World];
    crowd.assert_sound(&crowd.play(&steps));
}

#[test]
fn of_the_runs_that_a_trigger_made_only_the_newest_stay() {
    let pipeline = json!({"jobs": [{"name": "a", "image": "x", "run": "true"}], "historyLimits": {"succeeded": 2}});
    let mut world = World::new(pipeline, spec(), BTreeMap::new(), Settings::default());
    world.settle();
    for number in 1..6 {
        let name = format!("{RUN}-{number}");
        world.add_run(&name, spec());
        world.store.patch("PipelineRun", &name, &json!({"metadata": {"labels": {names::EVENT_LABEL: "Push"}}}));
        world.settle();
    }
    assert_eq!(world.store.names("PipelineRun"), ["run", "run-4", "run-5"]);
    let left: Vec<String> = world.store.names("Job");
    assert_eq!(left.len(), 3, "the Jobs of deleted runs are gone: {left:?}");
}
