//! Every interruption of the operator, and what users and nodes do to its pods.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use timetracker_operator::pipelines::names;

use super::scenario::{Expected, Job, Scenario, scenario};
use super::world::{Fate, RUN, RunPlan, World};

/// One step of an interleaving.
#[derive(Debug, Clone)]
enum Step {
    /// Kubelet, scheduler, Job controller.
    World,
    Reconcile,
    /// The operator dies, or loses the answer, after that many writes.
    Crash(usize),
    /// Another leader observes now…
    Observe,
    /// …and acts on it later.
    ActLate,
    DeleteStatus,
    /// A quota for Jobs; `None`: there is none.
    Quota(Option<usize>),
    /// Whether the artifact store takes nothing.
    StoreDown(bool),
    /// Someone deletes a pod.
    DeletePod(usize),
    EvictPod(usize),
    DeleteJob(usize),
    Cancel,
    DeleteRun,
}

fn harmless() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::World),
        3 => Just(Step::Reconcile),
        3 => (0..5usize).prop_map(Step::Crash),
        2 => Just(Step::Observe),
        2 => Just(Step::ActLate),
        1 => Just(Step::DeleteStatus),
        1 => proptest::option::of(0..3usize).prop_map(Step::Quota),
        1 => any::<bool>().prop_map(Step::StoreDown),
    ]
}

fn destructive() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => harmless(),
        1 => (0..4usize).prop_map(Step::DeletePod),
        1 => (0..4usize).prop_map(Step::EvictPod),
        1 => (0..4usize).prop_map(Step::DeleteJob),
    ]
}

fn ending() -> impl Strategy<Value = Step> {
    prop_oneof![10 => destructive(), 1 => Just(Step::Cancel), 1 => Just(Step::DeleteRun)]
}

static INTERLEAVINGS: AtomicU64 = AtomicU64::new(0);

struct Play {
    world: World,
    held: Option<RunPlan>,
    /// Cells that lost a pod or a Job.
    hurt: BTreeSet<String>,
    ended_early: bool,
    /// Jobs that were deleted while another leader still held a plan: the lease is what keeps it from making them again.
    doubted: BTreeSet<String>,
    /// The cells of those.
    doubted_cells: BTreeSet<String>,
}

impl Play {
    fn of(scenario: &Scenario, steps: &[Step]) -> Self {
        let count = INTERLEAVINGS.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_multiple_of(100) {
            eprintln!("{count} interleavings");
        }
        let mut play = Self {
            world: scenario.world(),
            held: None,
            hurt: BTreeSet::new(),
            ended_early: false,
            doubted: BTreeSet::new(),
            doubted_cells: BTreeSet::new(),
        };
        for step in steps {
            play.step(step);
        }
        if let Some(plan) = play.held.take() {
            play.world.act(&plan, usize::MAX);
        }
        play.world.quota = None;
        play.world.settle();
        play
    }

    fn step(&mut self, step: &Step) {
        let world = &mut self.world;
        match step {
            Step::World => world.step(),
            Step::Reconcile => world.reconcile(),
            Step::Crash(after) => {
                if let Some(plan) = world.plan() {
                    world.act(&plan, *after);
                }
                world.logs.forget();
            }
            Step::StoreDown(down) => world.logs.refused = *down,
            Step::Observe => self.held = world.plan(),
            Step::ActLate => {
                if let Some(plan) = self.held.take() {
                    world.act(&plan, usize::MAX);
                }
            }
            Step::DeleteStatus => world.delete_status(),
            Step::Quota(most) => world.quota = *most,
            Step::DeletePod(which) | Step::EvictPod(which) | Step::DeleteJob(which) => {
                let pods = world.living_pods();
                let Some((name, cell)) = pods.get(*which).cloned() else { return };
                // One loss for each cell: the default is one retry.
                if !self.hurt.insert(cell.clone()) {
                    return;
                }
                match step {
                    Step::DeletePod(_) => world.delete_pod(&name),
                    Step::EvictPod(_) => world.evict_pod(&name),
                    _ => {
                        // What a deletion leaves is told by the status: both at once can't be told from a fresh run.
                        world.reconcile_told();
                        // So are a deletion of which nothing but the status tells, as the next attempt finds no room, and its loss.
                        if self.held.is_some() || world.quota.is_some() {
                            self.doubted.insert(name.clone());
                            self.doubted_cells.insert(cell);
                        }
                        world.delete_job(&name);
                        world.reconcile();
                    }
                }
            }
            Step::Cancel => {
                self.ended_early = true;
                world.cancel();
            }
            Step::DeleteRun => {
                self.ended_early = true;
                world.delete_run();
            }
        }
    }

    fn phases(&self) -> Expected {
        let status = self.world.run().unwrap().status.unwrap();
        status.jobs.iter().map(|job| (job.name.clone(), format!("{:?}", job.phase))).collect()
    }

    /// What holds in the end whatever happened.
    fn assert_sound(&self, scenario: &Scenario) {
        let world = &self.world;
        assert!(world.is_over(), "the run never ends");
        if let Some(plan) = world.plan() {
            assert!(plan.effects.is_empty(), "effects at the fixed point: {:?}", plan.effects);
            assert_eq!(plan.status, None, "a status at the fixed point");
        }
        assert!(world.living_pods().is_empty(), "pods go on: {:?}", world.living_pods());
        for (name, times) in &world.executions {
            assert!(*times <= 1 || self.doubted.contains(name), "{name} was executed {times} times");
        }
        for cell in scenario.once_cells() {
            let times = world.cell_executions.get(&cell).copied().unwrap_or(0);
            assert!(times <= 1, "{cell} has effects Once and was executed {times} times");
        }
        match world.run() {
            Some(run) => {
                let held = run.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == names::FINALIZER);
                assert!(!held, "a finished run is held");
            }
            None => {
                let left: Vec<_> =
                    ["Job", "Pod", "ControllerRevision"].iter().flat_map(|kind| world.store.names(kind)).collect();
                assert!(left.is_empty(), "orphans of {RUN}: {left:?}");
            }
        }
        for (cell, running) in &world.starts {
            // One that was made again by a leader whose lease is over may run beside what needs it.
            let needed = scenario.needed_cells();
            for need in needed[cell].iter().filter(|need| !self.doubted_cells.contains(*need)) {
                assert!(!running.contains(need), "{cell} was started while {need}, which it needs, ran");
            }
        }
    }
}

fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(cases);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2_000, ..ProptestConfig::default() }
}

#[test]
fn a_late_leader_that_begins_a_deleted_run_leaves_nothing() {
    let mut world = World::new(
        serde_json::json!({"jobs": [{"name": "a", "image": "x", "run": "true"}]}),
        serde_json::json!({"pipelineRef": {"name": "p"}}),
        std::collections::BTreeMap::new(),
        timetracker_operator::pipelines::Settings::default(),
    );
    let held = world.plan().unwrap();
    world.cancel();
    world.act(&held, usize::MAX);
    world.delete_run();
    world.settle();
    assert_eq!(world.store.names("ControllerRevision"), Vec::<String>::new());
}

/// The late leader makes a deleted attempt again while the next one is on its way: nobody records its end.
#[test]
fn a_job_that_a_late_leader_makes_takes_no_room_when_it_has_ended() {
    let job = |needs: &[usize], cells: usize| Job { needs: needs.to_vec(), cells, ..Job::succeeding() };
    let scenario = Scenario { jobs: vec![job(&[], 1), job(&[0], 2), job(&[1], 1)], finally: None, limit: 1 };
    let mut steps = vec![Step::World, Step::Reconcile];
    steps.extend(std::iter::repeat_n(Step::World, 8));
    steps.extend([Step::Observe, Step::Reconcile, Step::World, Step::DeleteJob(0)]);
    let play = Play::of(&scenario, &steps);
    assert!(!play.doubted.is_empty(), "a Job was deleted while another leader held a plan");
    play.assert_sound(&scenario);
}

/// The run's status is written behind the last Job that is refused: a deletion before that can't be told of.
#[test]
fn a_job_that_is_deleted_beside_ones_that_can_not_be_made_is_not_executed_again_under_its_name() {
    let two = Job { cells: 2, ..Job::succeeding() };
    let impossible = Job { impossible: true, ..two.clone() };
    let scenario = Scenario { jobs: vec![two, impossible, Job::succeeding()], finally: None, limit: 3 };
    let mut steps = vec![Step::Reconcile, Step::Reconcile];
    steps.extend(std::iter::repeat_n(Step::World, 3));
    steps.push(Step::DeleteJob(0));
    Play::of(&scenario, &steps).assert_sound(&scenario);
}

fn plain_job(steps: u32) -> World {
    let mut world = World::new(
        serde_json::json!({"jobs": [{"name": "a", "image": "x", "run": "true"}, {"name": "b", "image": "x", "run": "true",
            "needs": ["a"]}]}),
        serde_json::json!({"pipelineRef": {"name": "p"}}),
        std::collections::BTreeMap::from([
            ("a".to_owned(), Fate { exit: 0, failed_tests: 0, steps, traps: false }),
            ("b".to_owned(), Fate { exit: 0, failed_tests: 0, steps: 1, traps: false }),
        ]),
        timetracker_operator::pipelines::Settings::default(),
    );
    world.logs.refused = true;
    world
}

fn messages(world: &World) -> Vec<(String, String, Option<String>)> {
    let status = world.run().unwrap().status.unwrap();
    status.jobs.into_iter().map(|job| (job.name, format!("{:?}", job.phase), job.message)).collect()
}

/// What needs a command does not wait for the log of it: only the run's end does, and not for ever.
#[test]
fn a_store_that_takes_nothing_costs_logs_and_says_so_and_the_run_goes_on() {
    let mut world = plain_job(1);
    while world.starts.len() < 2 {
        world.reconcile();
        world.step();
        assert!(!world.is_over());
    }
    assert!(world.store.names("Job").iter().all(|job| {
        let annotations = &world.store.get("Job", job).unwrap()["metadata"]["annotations"];
        annotations[names::LOG_ANNOTATION].is_null()
    }));
    world.settle();
    let why = Some("the log was not kept: the store answered 507".to_owned());
    let expected = ["a", "b"].map(|name| (name.to_owned(), "Succeeded".to_owned(), why.clone()));
    assert_eq!(messages(&world), expected);
    assert!(world.is_over() && world.plan().unwrap().effects.is_empty());
}

#[test]
fn a_store_that_comes_back_in_time_costs_nothing_and_lost_pods_leave_what_they_had() {
    let mut world = plain_job(60);
    for _ in 0..10 {
        world.reconcile();
        world.step();
    }
    world.logs.refused = false;
    for _ in 0..35 {
        world.reconcile();
        world.step();
    }
    let kept = world.logs.kept_before.clone();
    assert_eq!(kept.len(), 1, "once a minute");
    let (pod, _) = world.living_pods()[0].clone();
    world.lose_pod(&pod);
    world.logs.forget();
    world.fates.get_mut("a").unwrap().steps = 1;
    world.settle();
    let expected = ["a", "b"].map(|name| (name.to_owned(), "Succeeded".to_owned(), None));
    assert_eq!(messages(&world), expected);
    assert_eq!(world.logs.kept.len(), 2, "the second attempt's, and the other job's");
}

/// Kubelet's last deletion makes it look as if that of the user had come after the end.
#[test]
fn a_process_that_ends_with_0_because_its_pod_is_deleted_has_not_succeeded_whenever_that_is_seen() {
    for unseen in 0..4 {
        let mut world = plain_job(60);
        world.fates.get_mut("a").unwrap().traps = true;
        while world.starts.is_empty() {
            world.reconcile();
            world.step();
        }
        let (pod, _) = world.living_pods()[0].clone();
        world.delete_pod(&pod);
        for _ in 0..unseen {
            world.step();
        }
        world.fates.get_mut("a").unwrap().steps = 1;
        world.settle();
        let cells: Vec<&str> = world.starts.iter().map(|(cell, _)| cell.as_str()).collect();
        assert_eq!(cells, ["a", "a", "b"], "its end was unseen for {unseen} steps");
    }
}

/// Its result is its own: what needs nothing of it goes on, and `finally` tells of both.
#[test]
fn a_job_that_can_not_be_made_fails_alone_and_with_its_reason() {
    let jobs = serde_json::json!([
        {"name": "never", "image": "x", "run": "true", "effects": "Once"},
        {"name": "beside", "image": "x", "run": "true"},
        {"name": "behind", "image": "x", "run": "true", "needs": ["never"]},
    ]);
    let finally = serde_json::json!([{"name": "last", "image": "x", "run": "true"}]);
    let mut world = World::new(
        serde_json::json!({"jobs": jobs, "finally": finally}),
        serde_json::json!({"pipelineRef": {"name": "p"}}),
        std::collections::BTreeMap::new(),
        timetracker_operator::pipelines::Settings::default(),
    );
    world.refused.insert("never".to_owned());
    world.settle();
    let status = world.run().unwrap().status.unwrap();
    let phases: Vec<_> = status.jobs.iter().map(|job| (job.name.as_str(), format!("{:?}", job.phase))).collect();
    let expected = [("never", "Failed"), ("beside", "Succeeded"), ("behind", "Skipped"), ("last", "Succeeded")];
    assert_eq!(phases, expected.map(|(name, phase)| (name, phase.to_owned())));
    assert_eq!(status.jobs[0].failure, Some(timetracker_operator::api::run::FailureClass::Configuration));
    assert_eq!(status.jobs[0].message.as_deref(), Some("its Job can't be made: it is invalid"));
    let condition = &status.conditions[0];
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Configuration"));
    assert!(condition.message.contains("job never"), "{}", condition.message);
}

/// A world with one job, a matrix of four cells; what each of them does.
fn matrix(more: serde_json::Value, fates: [(&str, Fate); 4]) -> World {
    let mut axes = serde_json::json!({"axes": [{"name": "cell", "values": ["a", "b", "c", "d"]}]});
    axes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let job = serde_json::json!({"name": "m", "image": "x", "run": "true", "matrix": axes});
    let fates = fates.map(|(cell, fate)| (format!("m ({cell})"), fate)).into();
    let settings = timetracker_operator::pipelines::Settings::default();
    World::new(serde_json::json!({"jobs": [job]}), serde_json::json!({"pipelineRef": {"name": "p"}}), fates, settings)
}

fn fate(exit: i32, steps: u32) -> Fate {
    Fate { exit, failed_tests: 0, steps, traps: false }
}

fn phases(world: &World) -> Vec<String> {
    world.run().unwrap().status.unwrap().jobs.iter().map(|job| format!("{:?}", job.phase)).collect()
}

#[test]
fn of_a_matrix_no_more_cells_run_at_once_than_it_says() {
    for (most, seen) in [(1, 1), (3, 3)] {
        let cells = ["a", "b", "c", "d"].map(|cell| (cell, fate(0, 3)));
        let mut world = matrix(serde_json::json!({"maxParallel": most}), cells);
        world.settle();
        assert_eq!(phases(&world), ["Succeeded"; 4]);
        assert_eq!(world.most_at_once, seen);
    }
}

#[test]
fn a_cell_that_fails_ends_the_others_unless_the_matrix_lets_them_go_on() {
    let cells = |steps| [("a", fate(0, 1)), ("b", fate(1, 3)), ("c", fate(0, steps)), ("d", fate(0, steps))];
    let mut world = matrix(serde_json::json!({"maxParallel": 3}), cells(200));
    world.settle();
    assert_eq!(phases(&world), ["Succeeded", "Failed", "Cancelled", "Cancelled"]);
    assert!(world.living_pods().is_empty());
    let told = world.run().unwrap().status.unwrap().jobs[2].message.clone();
    assert_eq!(told.as_deref(), Some("another cell of the matrix failed"));
    let mut world = matrix(serde_json::json!({"failFast": false}), cells(6));
    world.settle();
    assert_eq!(phases(&world), ["Succeeded", "Failed", "Succeeded", "Succeeded"]);
}

#[test]
fn a_command_that_fails_is_tried_again_as_often_as_its_job_says() {
    let job = serde_json::json!({"name": "m", "image": "x", "run": "true", "retries": {"failure": 2}});
    let mut world = World::new(
        serde_json::json!({"jobs": [job]}),
        serde_json::json!({"pipelineRef": {"name": "p"}}),
        [("m".to_owned(), fate(1, 1))].into(),
        timetracker_operator::pipelines::Settings::default(),
    );
    world.settle();
    assert_eq!(phases(&world), ["Failed"]);
    assert_eq!(world.cell_executions["m"], 3);
    assert_eq!(world.run().unwrap().status.unwrap().jobs[0].attempt, Some(3));
}

#[test]
fn what_a_quota_holds_back_is_told_while_the_rest_goes_on_and_runs_when_there_is_more() {
    let jobs = serde_json::json!([
        {"name": "first", "image": "x", "run": "true", "effects": "Once"},
        {"name": "second", "image": "x", "run": "true", "effects": "Once"},
    ]);
    let mut world = World::new(
        serde_json::json!({ "jobs": jobs }),
        serde_json::json!({"pipelineRef": {"name": "p"}}),
        std::collections::BTreeMap::new(),
        timetracker_operator::pipelines::Settings::default(),
    );
    world.quota = Some(1);
    let mut told = Vec::new();
    for _ in 0..40 {
        world.reconcile();
        if let Some(status) = world.run().unwrap().status {
            let second = status.jobs.get(1).map(|job| (format!("{:?}", job.phase), job.message.clone()));
            let first = status.jobs.first().map(|job| format!("{:?}", job.phase));
            told.extend(first.zip(second));
        }
        world.step();
    }
    let waits = ("Queued".to_owned(), Some("waits: exceeded quota".to_owned()));
    assert!(told.contains(&("Running".to_owned(), waits)), "{told:?}");
    assert!(world.is_over(), "{told:?}");
    let status = world.run().unwrap().status.unwrap();
    assert!(
        status.jobs.iter().all(|job| job.phase == timetracker_operator::api::run::JobPhase::Succeeded),
        "{status:?}"
    );
    assert!(world.cell_executions.values().all(|times| *times == 1), "{:?}", world.cell_executions);
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn an_undisturbed_run_does_what_its_graph_says(scenario in scenario()) {
        let play = Play::of(&scenario, &[]);
        play.assert_sound(&scenario);
        assert_eq!(play.phases(), scenario.expected());
        let succeeded = play.world.run().unwrap().status.unwrap().conditions.iter().any(|one| one.type_ == "Succeeded" && one.status == "True");
        assert_eq!(succeeded, scenario.succeeds());
        assert!(play.world.most_at_once <= usize::try_from(scenario.limit).unwrap());
    }

    #[test]
    fn crashes_lost_answers_late_leaders_and_lost_statuses_change_nothing(
        scenario in scenario(),
        steps in proptest::collection::vec(harmless(), 0..60),
    ) {
        // A crash between a claim and its Job can't be told from a Job that vanished: such a job fails, by design.
        let mut scenario = scenario;
        for job in scenario.jobs.iter_mut().chain(scenario.finally.as_mut()) {
            job.once = false;
        }
        let play = Play::of(&scenario, &steps);
        play.assert_sound(&scenario);
        assert_eq!(play.phases(), scenario.expected());
        for (cell, times) in &play.world.cell_executions {
            assert_eq!(*times, 1, "{} was executed {} times", cell, times);
        }
    }

    #[test]
    fn one_lost_pod_a_job_is_made_good(
        scenario in scenario(),
        steps in proptest::collection::vec(destructive(), 0..60),
    ) {
        let mut scenario = scenario;
        for job in scenario.jobs.iter_mut().chain(scenario.finally.as_mut()) {
            job.once = false;
        }
        let play = Play::of(&scenario, &steps);
        play.assert_sound(&scenario);
        assert_eq!(play.phases(), scenario.expected());
    }

    #[test]
    fn whatever_happens_the_world_is_left_sound(
        scenario in scenario(),
        steps in proptest::collection::vec(ending(), 0..70),
    ) {
        Play::of(&scenario, &steps).assert_sound(&scenario);
    }

    #[test]
    fn a_cancelled_run_ends_as_cancelled_or_as_it_had_ended(
        scenario in scenario(),
        steps in proptest::collection::vec(harmless(), 0..40),
        more in proptest::collection::vec(harmless(), 0..20),
    ) {
        let mut steps = steps;
        steps.push(Step::Cancel);
        steps.extend(more);
        let play = Play::of(&scenario, &steps);
        play.assert_sound(&scenario);
        let allowed = ["Succeeded", "Failed", "Skipped", "Cancelled"];
        assert!(play.phases().values().all(|phase| allowed.contains(&phase.as_str())));
        assert!(play.ended_early);
    }
}
