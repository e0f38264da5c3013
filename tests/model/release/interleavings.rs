//! Every interruption at every place: the end is that of the undisturbed run.

use std::sync::LazyLock;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use timetracker_operator::api::names::Digest;
use timetracker_operator::cluster::Write;
use timetracker_operator::release::observed::Observed;

use super::world::{Migration, UID, World};
use super::{Image, condition, current, deployed, image, range, settle};

/// What happens to the operator or to the world.
#[derive(Debug, Clone)]
enum Event {
    /// A whole reconcile.
    Reconcile,
    /// Killed after so many writes of a plan: before the next, or after it with the answer lost, which is the same.
    Crash(usize),
    /// A reconcile that decides on what was observed some events ago, while another leader went on.
    Stale(usize),
    /// The status is deleted, as a backup tool's restore does.
    StatusDeleted,
    /// A running Job's pod is lost, its command done or not.
    PodLost(bool),
    /// The same writes are sent again.
    Repeated,
    /// The world goes on.
    Tick,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Reconcile),
        4 => (0..6_usize).prop_map(Event::Crash),
        2 => (1..6_usize).prop_map(Event::Stale),
        1 => Just(Event::StatusDeleted),
        1 => any::<bool>().prop_map(Event::PodLost),
        1 => Just(Event::Repeated),
        4 => Just(Event::Tick),
    ]
}

/// What is delivered while the events happen.
#[derive(Debug, Clone, Copy)]
enum Scenario {
    First,
    Additive,
    ImageOnly,
    Broken,
    BrokenContracting,
    MigrationFails,
    MigrationHalfWay,
    Swallowed,
    Contracting,
    ContractingFails,
    ContractingHalfWay,
    ContractingFailsAtTheEnd,
}

const SCENARIOS: [Scenario; 12] = [
    Scenario::First,
    Scenario::Additive,
    Scenario::ImageOnly,
    Scenario::Broken,
    Scenario::BrokenContracting,
    Scenario::MigrationFails,
    Scenario::MigrationHalfWay,
    Scenario::Swallowed,
    Scenario::Contracting,
    Scenario::ContractingFails,
    Scenario::ContractingHalfWay,
    Scenario::ContractingFailsAtTheEnd,
];

fn start(scenario: Scenario) -> World {
    let mut world = World::new(range());
    let contracts = matches!(
        scenario,
        Scenario::BrokenContracting
            | Scenario::Contracting
            | Scenario::ContractingFails
            | Scenario::ContractingHalfWay
            | Scenario::ContractingFailsAtTheEnd
    );
    let tolerates = if contracts { 1 } else { u32::MAX };
    world.push("5.1.0", Image { tolerates, ..image("5.1.0", "one", 1) });
    if matches!(scenario, Scenario::First) {
        return world;
    }
    settle(&mut world);
    let next = image("5.2.0", "two", 2);
    world.push(
        "5.2.0",
        match scenario {
            Scenario::First | Scenario::Additive | Scenario::Contracting => next,
            Scenario::ImageOnly => image("5.2.0", "one", 1),
            Scenario::Broken | Scenario::BrokenContracting => Image { serves: false, ..next },
            Scenario::MigrationFails | Scenario::ContractingFails => Image { migration: Migration::Fails, ..next },
            Scenario::MigrationHalfWay | Scenario::ContractingHalfWay => {
                Image { migration: Migration::FailsHalfWay, ..next }
            }
            Scenario::ContractingFailsAtTheEnd => Image { migration: Migration::FailsAtTheEnd, ..next },
            Scenario::Swallowed => Image { migration: Migration::Swallows, ..next },
        },
    );
    world
}

/// Everything of the end that must not depend on what happened on the way.
#[derive(Debug, PartialEq)]
struct End {
    current: Option<String>,
    deployed: Option<Digest>,
    replicas: Option<i64>,
    conditions: Vec<(String, String)>,
    database: (Option<&'static str>, u32),
    migrations: Vec<(Digest, u32)>,
    deliveries: Vec<(Value, String)>,
    objects: Vec<(String, String)>,
    quarantined: Vec<Digest>,
}

fn end(world: &World) -> End {
    let status = world.release().status.unwrap();
    let deliveries = world
        .objects
        .iter()
        .filter(|((kind, _), _)| kind == "ControllerRevision")
        .map(|(_, body)| {
            let progress: Value =
                serde_json::from_str(body["metadata"]["annotations"]["timetracker.dev/progress"].as_str().unwrap())
                    .unwrap();
            (body["data"]["target"]["version"].clone(), progress["phase"].to_string())
        })
        .collect();
    let lasting = |kind: &String| !["Pod", "Job", "ControllerRevision"].contains(&kind.as_str());
    End {
        current: current(world),
        deployed: deployed(world),
        replicas: world.get("Deployment", "site").and_then(|live| live["spec"]["replicas"].as_i64()),
        conditions: ["Ready", "Stalled", "Reconciling", "Available", "Quarantined", "UpdatePending"]
            .map(|kind| condition(world, kind))
            .to_vec(),
        database: (world.database.head, world.database.level),
        migrations: world.database.completed.clone().into_iter().collect(),
        deliveries,
        objects: world.objects.keys().filter(|(kind, _)| lasting(kind)).cloned().collect(),
        quarantined: status.quarantined.into_iter().map(|entry| entry.digest).collect(),
    }
}

struct Run {
    world: World,
    seen: Vec<Observed>,
    last: Vec<Write>,
}

impl Run {
    fn happen(&mut self, event: &Event) {
        let observed = self.world.observe();
        self.seen.push(observed.clone());
        match event {
            Event::Reconcile => self.act(&observed, usize::MAX),
            Event::Crash(after) => self.act(&observed, *after),
            Event::Stale(ago) => {
                let stale = self.seen[self.seen.len().saturating_sub(1 + ago)].clone();
                self.act(&stale, usize::MAX);
            }
            Event::StatusDeleted => self.world.delete_status(),
            Event::PodLost(finished) => self.world.lose_a_pod(*finished),
            Event::Repeated => {
                for write in self.last.clone() {
                    let _ = self.world.write(&write);
                }
            }
            Event::Tick => self.world.tick(),
        }
        assert!(self.world.database.running <= 1, "two migrations at once");
    }

    /// The first `most` writes of the plan; the first that is refused ends it.
    fn act(&mut self, observed: &Observed, most: usize) {
        let writes = self.world.plan(observed);
        for write in writes.iter().take(most) {
            if self.world.write(write).is_err() {
                break;
            }
        }
        self.last = writes;
    }
}

fn no_orphans(world: &World) {
    for ((kind, name), body) in &world.objects {
        let kept = ["TimeTrackerRelease", "Pod", "PersistentVolumeClaim", "Secret"].contains(&kind.as_str());
        let owner = body.pointer("/metadata/ownerReferences/0/uid").and_then(Value::as_str);
        assert!(kept || owner == Some(UID), "{kind} {name} has no owner");
    }
    let leftover: Vec<&String> = world
        .objects
        .keys()
        .filter(|(kind, name)| kind == "Job" && !name.contains("migrate"))
        .map(|(_, name)| name)
        .collect();
    assert!(leftover.is_empty(), "{leftover:?}");
    for ((kind, name), count) in &world.created {
        if kind == "Job" && name.contains("migrate") {
            assert_eq!(*count, 1, "migration Job {name} was made twice");
        }
    }
}

fn disturbed(world: &World, events: &[Event]) -> World {
    let mut run = Run { world: world.clone(), seen: Vec::new(), last: Vec::new() };
    for event in events {
        run.happen(event);
    }
    settle(&mut run.world);
    run.world
}

/// Where each scenario starts, and how it ends when nothing interferes.
static CALM: LazyLock<Vec<(World, End)>> = LazyLock::new(|| {
    let one = |scenario| {
        let world = start(scenario);
        let mut calm = world.clone();
        settle(&mut calm);
        (world, end(&calm))
    };
    SCENARIOS.into_iter().map(one).collect()
});

/// As many as fit beside the other tests; more with `PROPTEST_CASES`.
pub fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_on_the_way_the_end_is_the_same(
        which in 0..SCENARIOS.len(),
        events in prop::collection::vec(event(), 0..50),
    ) {
        let (world, expected) = &CALM[which];
        let world = disturbed(world, &events);
        prop_assert_eq!(&end(&world), expected, "{:?}", SCENARIOS[which]);
        no_orphans(&world);
    }
}

/// Every single crash: for each write of the undisturbed run, killed before it and killed after it.
fn crashes(which: usize) -> usize {
    let (start, expected) = &CALM[which];
    let (mut world, mut quiet, mut interleavings) = (start.clone(), 0, 0);
    while quiet < 9 {
        let writes = world.plan(&world.observe());
        for done in 0..writes.len() {
            let mut crashed = world.clone();
            for write in &writes[..done] {
                crashed.write(write).unwrap();
            }
            // Time goes on while the operator is away.
            crashed.tick();
            settle(&mut crashed);
            assert_eq!(&end(&crashed), expected, "{:?}, killed after {done} of {writes:#?}", SCENARIOS[which]);
            no_orphans(&crashed);
            interleavings += 1;
        }
        quiet = if writes.is_empty() { quiet + 1 } else { 0 };
        for write in &writes {
            world.write(write).unwrap();
        }
        world.tick();
    }
    interleavings
}

#[rstest]
fn a_crash_before_and_after_every_write_changes_nothing(#[values(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)] which: usize) {
    let interleavings = crashes(which);
    println!("{:?}: {interleavings} interleavings", SCENARIOS[which]);
    assert!(interleavings > 10, "only {interleavings}");
}

#[test]
fn a_status_deleted_in_any_phase_is_rebuilt() {
    for (which, (start, expected)) in CALM.iter().enumerate() {
        let mut world = start.clone();
        for _ in 0..40 {
            super::reconcile(&mut world);
            world.delete_status();
            world.tick();
        }
        settle(&mut world);
        assert_eq!(&end(&world), expected, "{:?}", SCENARIOS[which]);
    }
}

#[test]
fn at_the_fixed_point_nothing_is_written_for_an_hour() {
    for scenario in SCENARIOS {
        let mut world = start(scenario);
        settle(&mut world);
        for _ in 0..30 {
            world.pass(110);
            world.tick();
            let writes = world.plan(&world.observe());
            assert!(writes.is_empty(), "{scenario:?}: {writes:#?}");
        }
    }
}

#[test]
fn a_registry_that_is_down_changes_nothing_and_is_told() {
    let mut world = start(Scenario::Additive);
    world.registry_down = true;
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.1.0"));
    assert_eq!(condition(&world, "Ready").0, "True");
    assert_eq!(condition(&world, "RegistryReachable"), ("False".into(), "RegistryUnreachable".into()));
    world.change_release(|release| release["spec"]["image"] = json!({"version": "5.2.0"}));
    settle(&mut world);
    assert_eq!(condition(&world, "Ready").0, "Unknown");
    assert_eq!(condition(&world, "Reconciling").0, "True");
}
