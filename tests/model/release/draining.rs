//! What runs is stopped before a migration that may take away what its code needs, and comes back where it can.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use timetracker_operator::api::names::Digest;
use timetracker_operator::api::release::ReleaseStep;
use timetracker_operator::release::observed::Purpose;
use timetracker_operator::release::{decide, names};

use super::world::{Image, Migration, NAME, UID, World};
use super::{condition, current, deployed, image, range, reconcile, settle};

/// 5.1.0 runs, which can't run on a newer schema.
fn before() -> World {
    let mut world = World::new(range());
    world.push("5.1.0", Image { tolerates: 1, ..image("5.1.0", "one", 1) });
    settle(&mut world);
    world
}

/// The same, and a version that takes away what 5.1.0 needs.
fn with(migration: Migration) -> World {
    let mut world = before();
    world.push("5.2.0", Image { migration, ..image("5.2.0", "two", 2) });
    world
}

fn step(world: &mut World) {
    reconcile(world);
    world.tick();
}

fn replicas(world: &World) -> i64 {
    world.get("Deployment", NAME).unwrap()["spec"]["replicas"].as_i64().unwrap()
}

fn noted(world: &World) -> Option<&str> {
    let annotations = world.get("Deployment", NAME)?.pointer("/metadata/annotations")?;
    annotations.get("timetracker.dev/drained-replicas")?.as_str()
}

fn message(world: &World, kind: &str) -> String {
    let conditions = world.release().status.unwrap().conditions;
    conditions.into_iter().find(|condition| condition.type_ == kind).map(|found| found.message).unwrap_or_default()
}

fn migrations(world: &World) -> Vec<String> {
    let names = world.objects.keys().filter(|(kind, name)| kind == "Job" && name.contains("migrate"));
    names.map(|(_, name)| name.clone()).collect()
}

/// Whether the database was read after the delivery of 5.2.0 failed.
fn was_looked_at(world: &World) -> bool {
    let name = names::job(NAME, UID, &Purpose::InspectBack { revision: 2 }, 1);
    world.created.contains_key(&("Job".to_owned(), name))
}

/// Goes on until the pods are asked to stop.
fn until_drained(world: &mut World) {
    for _ in 0..40 {
        if replicas(world) == 0 {
            return;
        }
        step(world);
    }
    panic!("never drained");
}

/// Nobody is left in the dark: a site without pods is told to be down, and why.
fn is_told(world: &World) {
    if replicas(world) > 0 {
        return;
    }
    assert_eq!(condition(world, "Available"), ("False".into(), "Drained".into()));
    let ready = condition(world, "Ready");
    assert_ne!(ready.0, "True", "{ready:?}");
    let message = message(world, "Ready");
    let says =
        ["the site is down", "before the migration", "can't be read"].iter().any(|words| message.contains(words));
    assert!(says, "{ready:?}: {message}");
}

#[test]
fn a_contracting_version_is_migrated_to_once_the_last_old_pod_is_gone() {
    let mut world = before();
    world.change_release(|release| release["spec"]["values"] = json!({"replicaCount": 2}));
    settle(&mut world);
    world.push("5.2.0", image("5.2.0", "two", 2));
    let (mut told, mut events) = (Vec::new(), Vec::new());
    for _ in 0..60 {
        events.extend(decide(&world.observe(), world.now).events.into_iter().map(|event| (event.reason, event.note)));
        step(&mut world);
        if replicas(&world) == 0 {
            assert_eq!(noted(&world), Some("2"), "in the same apply");
        }
        told.push((condition(&world, "Ready"), message(&world, "Ready")));
    }
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), replicas(&world), noted(&world)), (Some("5.2.0"), 2, None));
    assert_eq!(condition(&world, "Available").0, "True");
    let drains: Vec<_> = told.iter().filter(|((_, reason), _)| reason == "Draining").collect();
    let ((ready, _), first) = drains.first().unwrap();
    assert_eq!(ready, "Unknown");
    assert_eq!(
        first,
        "pod web of 5.1.0 stops before the migration to 5.2.0, for 5.1.0 might not run on its schema (missing columns: table0.until1)"
    );
    let drains: Vec<_> = events.iter().filter(|(reason, _)| *reason == "Draining").collect();
    let [(_, note)] = drains.as_slice() else { panic!("{events:?}") };
    assert!(note.starts_with("5.1.0 is stopped") && note.contains("table0.until1"), "{note}");
}

#[test]
fn an_additive_version_is_migrated_to_while_the_old_one_serves() {
    let mut world = super::deliveries::delivered();
    world.push("5.2.0", image("5.2.0", "two", 2));
    while migrations(&world).len() < 2 {
        step(&mut world);
        assert_eq!((replicas(&world), deployed(&world)), (1, Some(Digest::of(b"5.1.0"))));
    }
    assert!(world.get("Pod", "web").is_some_and(|pod| pod.pointer("/metadata/deletionTimestamp").is_none()));
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.2.0"));
}

#[test]
fn without_the_contract_of_what_runs_nothing_is_proved_and_it_stops() {
    let mut world = super::deliveries::delivered();
    world.objects.retain(|(kind, _), _| kind != "ConfigMap");
    world.push("5.2.0", image("5.2.0", "two", 2));
    until_drained(&mut world);
    step(&mut world);
    assert!(message(&world, "Ready").contains("its schema contract is not kept"), "{}", message(&world, "Ready"));
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), replicas(&world)), (Some("5.2.0"), 1));
}

#[test]
fn a_migration_that_fails_cleanly_brings_back_what_was_stopped() {
    let mut world = with(Migration::Fails);
    until_drained(&mut world);
    step(&mut world);
    for _ in 0..60 {
        step(&mut world);
        let (ready, available) = (condition(&world, "Ready").0, condition(&world, "Available").0);
        assert!(ready != "True" || available == "True", "Ready before it serves again");
    }
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), replicas(&world), noted(&world)), (Some("5.1.0"), 1, None));
    assert_eq!(condition(&world, "Ready"), ("True".into(), "Delivered".into()));
    assert_eq!(condition(&world, "Quarantined"), ("True".into(), "MigrationFailed".into()));
    assert!(!was_looked_at(&world), "the schema is as it was: nothing is looked at first");
}

#[test]
fn a_migration_that_fails_half_way_brings_it_back_if_its_contract_holds() {
    let mut world = with(Migration::FailsHalfWay);
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), replicas(&world), noted(&world)), (Some("5.1.0"), 1, None));
    assert_eq!((condition(&world, "Ready").0.as_str(), condition(&world, "Available").0.as_str()), ("True", "True"));
}

#[test]
fn what_can_t_run_on_the_schema_stays_stopped_and_that_the_site_is_down_is_told() {
    let mut world = with(Migration::FailsAtTheEnd);
    settle(&mut world);
    assert_eq!((replicas(&world), noted(&world), deployed(&world)), (0, Some("1"), Some(Digest::of(b"5.1.0"))));
    assert_eq!(condition(&world, "Ready"), ("False".into(), "NoWayBack".into()));
    assert!(message(&world, "Stalled").contains("Until then the site is down: the pods of 5.1.0 stay stopped"));
    assert_eq!(message(&world, "Available"), "its pod is stopped for a migration");
    world.push("5.2.1", image("5.2.1", "two", 2));
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), replicas(&world), noted(&world)), (Some("5.2.1"), 1, None));
    assert_eq!(condition(&world, "Ready").0, "True");
}

#[test]
fn three_attempts_that_left_the_schema_as_it_was_bring_back_what_was_stopped_and_wait_for_a_person() {
    let mut world = with(Migration::Interrupted);
    settle(&mut world);
    assert_eq!((migrations(&world).len(), replicas(&world), noted(&world)), (4, 1, None), "one of 5.1.0, three more");
    assert_eq!(condition(&world, "Ready"), ("False".into(), "MigrationUnfinished".into()));
    assert_eq!(condition(&world, "Available").0, "True");
    assert!(!message(&world, "Stalled").contains("site is down"), "{}", message(&world, "Stalled"));
}

#[test]
fn a_migration_of_which_nothing_is_known_is_followed_by_a_look_at_the_schema() {
    let mut world = with(Migration::Refused);
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), replicas(&world), noted(&world)), (Some("5.1.0"), 1, None));
    assert_eq!((condition(&world, "Ready").0.as_str(), condition(&world, "Available").0.as_str()), ("True", "True"));
    assert_eq!(condition(&world, "UpdatePending"), ("True".into(), "DatabaseRefused".into()));
    assert!(was_looked_at(&world));
}

#[test]
fn where_nobody_can_say_what_a_migration_left_the_site_stays_down_until_a_person_answers() {
    let mut world = with(Migration::Ambiguous);
    settle(&mut world);
    is_told(&world);
    assert_eq!((replicas(&world), condition(&world, "Stalled").1.as_str()), (0, "MigrationAmbiguous"));
    assert!(message(&world, "Stalled").contains("Until then the site is down"), "{}", message(&world, "Stalled"));
    world.images.get_mut(&"5.2.0".parse().unwrap()).unwrap().migration = Migration::Works;
    world.change_release(|release| {
        let digest = Digest::of(b"5.2.0").to_string();
        release["metadata"]["annotations"] = json!({"timetracker.dev/retry": digest});
    });
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), replicas(&world), noted(&world)), (Some("5.2.0"), 1, None));
}

/// The version that runs is asked for again, or held: it comes back only if it can run.
#[rstest]
#[case::pinned(json!({"image": {"version": "5.1.0"}}))]
#[case::held(json!({"hold": {"reason": "audit"}}))]
fn a_stopped_version_that_is_asked_for_again_is_looked_at_first(#[case] change: Value) {
    for restored in [false, true] {
        let mut world = with(Migration::FailsAtTheEnd);
        settle(&mut world);
        if restored {
            world.database.head = Some("one");
            world.database.level = 1;
        }
        world.change_release(|release| {
            for (key, value) in change.as_object().unwrap() {
                release["spec"][key] = value.clone();
            }
        });
        settle(&mut world);
        is_told(&world);
        assert_eq!(replicas(&world), i64::from(restored));
        assert_eq!(condition(&world, "Stalled").1, if restored { "" } else { "NoWayBack" });
        assert_eq!(world.database.completed.len(), 1, "nothing was migrated");
    }
}

#[test]
fn a_pod_that_does_not_end_is_named_and_waited_for() {
    let mut world = with(Migration::Works);
    world.pods_stick = true;
    until_drained(&mut world);
    for _ in 0..30 {
        step(&mut world);
    }
    assert_eq!((migrations(&world).len(), world.database.level), (1, 1), "that of 5.1.0");
    assert_eq!(condition(&world, "Reconciling"), ("True".into(), "PodsDontEnd".into()));
    let told = message(&world, "Ready");
    assert!(told.starts_with("pod web was to be gone by 20") && told.contains("see to its node"), "{told}");
    assert!(world.plan(&world.observe()).is_empty(), "told once");
    world.pods_stick = false;
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.2.0"));
}

/// A pod with the site's labels that nobody of ours made, as one that was orphaned. One that is over hinders nothing.
#[rstest]
#[case("Running", Some("StrayPod"))]
#[case("Failed", None)]
fn a_stray_pod_with_the_site_s_labels_is_waited_for_while_it_runs(#[case] phase: &str, #[case] reason: Option<&str>) {
    let mut world = with(Migration::Works);
    let labels = json!({"app.kubernetes.io/instance": "site", "app.kubernetes.io/component": "app",
        "app.kubernetes.io/managed-by": "timetracker-operator"});
    let body = json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": phase},
        "metadata": {"name": "stray", "namespace": "prod", "labels": labels}});
    world.insert(("Pod".into(), "stray".into()), body);
    until_drained(&mut world);
    for _ in 0..30 {
        step(&mut world);
    }
    match reason {
        Some(reason) => {
            assert_eq!(condition(&world, "Ready"), ("Unknown".into(), reason.into()));
            assert!(message(&world, "Ready").starts_with("pod stray has the labels"), "{}", message(&world, "Ready"));
            assert_eq!(world.database.level, 1);
        }
        None => assert_eq!(world.database.level, 2),
    }
    world.objects.remove(&("Pod".to_owned(), "stray".to_owned()));
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.2.0"));
}

#[test]
fn pods_that_somebody_starts_meanwhile_are_stopped_again() {
    let mut world = with(Migration::Works);
    until_drained(&mut world);
    world.objects.get_mut(&("Deployment".to_owned(), NAME.to_owned())).unwrap()["spec"]["replicas"] = json!(3);
    step(&mut world);
    assert_eq!(replicas(&world), 0);
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), replicas(&world)), (Some("5.2.0"), 1));
}

#[test]
fn a_note_that_somebody_forged_on_what_runs_changes_nothing() {
    let mut world = before();
    let deployment = world.objects.get_mut(&("Deployment".to_owned(), NAME.to_owned())).unwrap();
    deployment["metadata"]["annotations"]["timetracker.dev/drained-replicas"] = json!("1");
    settle(&mut world);
    assert_eq!((condition(&world, "Ready").0.as_str(), condition(&world, "Available").0.as_str()), ("True", "True"));
}

#[test]
fn what_is_told_does_not_grow_with_each_look_at_the_schema() {
    let mut world = with(Migration::FailsAtTheEnd);
    let mut lengths = Vec::new();
    for version in ["5.1.0", "5.0.0", "5.1.0", "5.0.0", "5.1.0"] {
        settle(&mut world);
        lengths.push(message(&world, "Stalled").len());
        world.change_release(|release| release["spec"]["image"] = json!({"version": version}));
    }
    assert!(lengths.iter().all(|length| (1..400).contains(length)), "{lengths:?}");
}

#[test]
fn a_newer_tag_waits_for_a_delivery_that_the_site_is_stopped_for() {
    let mut world = with(Migration::Works);
    until_drained(&mut world);
    world.push("5.3.0", image("5.3.0", "three", 3));
    settle(&mut world);
    let migrated = |version: &[u8]| world.database.completed.contains_key(&Digest::of(version));
    assert_eq!((current(&world).as_deref(), migrated(b"5.2.0"), migrated(b"5.3.0")), (Some("5.3.0"), true, true));
}

#[test]
fn a_delivery_called_off_before_its_migration_brings_back_what_was_stopped() {
    let mut world = with(Migration::Works);
    until_drained(&mut world);
    world.change_release(|release| release["spec"]["image"] = json!({"version": "5.1.0"}));
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), replicas(&world), noted(&world)), (Some("5.1.0"), 1, None));
    assert_eq!((condition(&world, "Ready").0.as_str(), world.database.level), ("True", 1));
}

#[test]
fn a_release_suspended_while_its_site_is_stopped_says_that_it_is_down() {
    let mut world = with(Migration::Works);
    until_drained(&mut world);
    world.change_release(|release| release["spec"]["suspend"] = json!(true));
    settle(&mut world);
    assert_eq!(condition(&world, "Ready"), ("Unknown".into(), "Suspended".into()));
    let told = message(&world, "Ready");
    assert!(told.contains("the site is down") && told.contains("set spec.suspend to false"), "{told}");
    is_told(&world);
    assert_eq!(world.release().status.unwrap().candidate.unwrap().step, ReleaseStep::Drain);
    world.change_release(|release| release["spec"]["suspend"] = json!(false));
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.2.0"));
}

#[test]
fn progress_of_older_operators_can_be_read_and_drains_nothing() {
    let mut world = with(Migration::Works);
    while migrations(&world).len() < 2 {
        step(&mut world);
        let Some(revision) = world.objects.get_mut(&("ControllerRevision".to_owned(), "site-r2".to_owned())) else {
            continue;
        };
        let progress = &mut revision["metadata"]["annotations"]["timetracker.dev/progress"];
        let mut parsed: Value = serde_json::from_str(progress.as_str().unwrap()).unwrap();
        if parsed["phase"] == "Inspected" {
            // As it was written before there was a drain, and its pods are gone for another reason.
            parsed.as_object_mut().unwrap().remove("drain");
            *progress = json!(parsed.to_string());
            world.objects.remove(&("Pod".to_owned(), "web".to_owned()));
        }
    }
    assert_eq!(replicas(&world), 1);
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.2.0"));
}

/// What people do while a site is stopped.
#[derive(Debug, Clone)]
enum Act {
    Steps(usize),
    /// A version is asked for by name, or whatever is newest.
    Ask(Option<&'static str>),
    Hold(bool),
    Suspend(bool),
    Retry(&'static str),
    Publish,
    RegistryDown(bool),
    PodLost(bool),
    StatusDeleted,
}

fn act() -> impl Strategy<Value = Act> {
    let version = prop_oneof![Just("5.1.0"), Just("5.2.0"), Just("5.3.0")];
    prop_oneof![
        6 => (1..12_usize).prop_map(Act::Steps),
        2 => prop::option::of(version.clone()).prop_map(Act::Ask),
        1 => any::<bool>().prop_map(Act::Hold),
        1 => any::<bool>().prop_map(Act::Suspend),
        1 => version.prop_map(Act::Retry),
        1 => Just(Act::Publish),
        1 => any::<bool>().prop_map(Act::RegistryDown),
        1 => any::<bool>().prop_map(Act::PodLost),
        1 => Just(Act::StatusDeleted),
    ]
}

fn happen(world: &mut World, act: &Act) {
    match act {
        Act::Steps(count) => (0..*count).for_each(|_| step(world)),
        Act::Ask(Some(version)) => {
            world.change_release(|release| release["spec"]["image"] = json!({"version": version}))
        }
        Act::Ask(None) => world.change_release(|release| release["spec"]["image"] = range()["image"].clone()),
        Act::Hold(true) => world.change_release(|release| release["spec"]["hold"] = json!({"reason": "audit"})),
        Act::Hold(false) => world.change_release(|release| {
            release["spec"].as_object_mut().unwrap().remove("hold");
        }),
        Act::Suspend(suspend) => world.change_release(|release| release["spec"]["suspend"] = json!(suspend)),
        Act::Retry(version) => world.change_release(|release| {
            let digest = Digest::of(version.as_bytes());
            release["metadata"]["annotations"] = json!({"timetracker.dev/retry": digest.to_string()});
        }),
        Act::Publish => world.push("5.3.0", image("5.3.0", "three", 3)),
        Act::RegistryDown(down) => world.registry_down = *down,
        Act::PodLost(finished) => world.lose_a_pod(*finished),
        Act::StatusDeleted => world.delete_status(),
    }
}

fn any_migration() -> impl Strategy<Value = Migration> {
    prop_oneof![
        Just(Migration::Works),
        Just(Migration::Fails),
        Just(Migration::FailsHalfWay),
        Just(Migration::FailsAtTheEnd),
        Just(Migration::Swallows),
        Just(Migration::Interrupted),
        Just(Migration::Refused),
        Just(Migration::Ambiguous),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::interleavings::cases().div_ceil(2), max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Besides: the world itself refuses a migration while old pods exist that can't run on its schema.
    #[test]
    fn whatever_people_do_a_site_without_pods_is_told_to_be_down_and_why(
        migration in any_migration(),
        serves in any::<bool>(),
        acts in prop::collection::vec(act(), 0..12),
    ) {
        let mut world = with(migration);
        world.images.get_mut(&"5.2.0".parse().unwrap()).unwrap().serves = serves;
        for act in &acts {
            happen(&mut world, act);
        }
        settle(&mut world);
        is_told(&world);
        // Nothing is left that would hold a working version up.
        world.registry_down = false;
        world.change_release(|release| release["spec"] = range());
        settle(&mut world);
        is_told(&world);
        world.change_release(|release| {
            // An answer to whatever stopped until now.
            release["spec"]["rollout"]["timeout"] = json!("61s");
            release["metadata"]["annotations"] = json!({"timetracker.dev/retry": format!("{},last", Digest::of(b"5.4.0"))});
        });
        world.push("5.4.0", image("5.4.0", "four", 4));
        settle(&mut world);
        prop_assert_eq!(current(&world), Some("5.4.0".to_owned()));
        prop_assert_eq!((replicas(&world), noted(&world)), (1, None));
    }
}
