//! One delivery after the other, undisturbed: what stands at the end.

use serde_json::json;
use timetracker_operator::api::names::Digest;

use super::world::{Image, Migration, NAME, World};
use super::{condition, current, deployed, image, range, settle};

fn ready(world: &World) -> (String, String) {
    condition(world, "Ready")
}

fn yes(reason: &str) -> (String, String) {
    ("True".into(), reason.into())
}

fn no(reason: &str) -> (String, String) {
    ("False".into(), reason.into())
}

pub fn delivered() -> World {
    let mut world = World::new(range());
    world.push("5.1.0", image("5.1.0", "one", 1));
    settle(&mut world);
    world
}

fn migrations(world: &World) -> u32 {
    world.database.completed.values().sum()
}

fn quarantined(world: &World) -> Vec<String> {
    let status = world.release().status.unwrap();
    status.quarantined.into_iter().map(|entry| entry.version).collect()
}

#[test]
fn the_first_version_is_migrated_and_rolled_out() {
    let world = delivered();
    assert_eq!((current(&world).as_deref(), ready(&world)), (Some("5.1.0"), yes("Delivered")));
    assert_eq!((migrations(&world), world.database.head), (1, Some("one")));
    assert_eq!(condition(&world, "Available").0, "True");
    for absent in ["Reconciling", "Stalled"] {
        assert_eq!(condition(&world, absent), Default::default());
    }
    let kinds = ["Secret", "StatefulSet", "Service", "ServiceAccount", "PersistentVolumeClaim", "Deployment"];
    for kind in kinds {
        assert!(world.objects.keys().any(|(known, _)| known == kind), "{kind}");
    }
}

#[test]
fn a_newer_tag_is_noticed_migrated_and_rolled_out() {
    let mut world = delivered();
    world.push("5.2.0", image("5.2.0", "two", 2));
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), migrations(&world)), (Some("5.2.0"), 2));
    assert_eq!(deployed(&world), Some(Digest::of(b"5.2.0")));
    assert_eq!(world.release().status.unwrap().history.len(), 2);
}

#[test]
fn a_version_without_a_new_revision_is_only_rolled_out() {
    let mut world = delivered();
    world.push("5.1.1", image("5.1.1", "one", 1));
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), migrations(&world)), (Some("5.1.1"), 1));
    let migrations = world.created.keys().filter(|(kind, name)| kind == "Job" && name.contains("migrate"));
    assert_eq!(migrations.count(), 1, "that of 5.1.0");
}

#[test]
fn more_than_one_replica_is_delivered_with_a_word_of_warning() {
    let mut world = delivered();
    let message = |world: &World| {
        let conditions = world.release().status.unwrap().conditions;
        conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap().message
    };
    assert_eq!(message(&world), "5.1.0 runs");
    world.change_release(|release| release["spec"]["values"] = json!({"replicaCount": 3}));
    settle(&mut world);
    assert_eq!(ready(&world), yes("Delivered"));
    assert!(message(&world).contains("scheduled e-mails are sent 3 times"), "{}", message(&world));
}

#[test]
fn a_broken_version_is_taken_back_and_quarantined_and_its_successor_delivered() {
    let mut world = delivered();
    world.push("5.2.0", super::Image { serves: false, ..image("5.2.0", "two", 2) });
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), ready(&world)), (Some("5.1.0"), yes("Delivered")));
    assert_eq!(condition(&world, "Quarantined"), yes("CrashLoop"));
    assert_eq!(deployed(&world), Some(Digest::of(b"5.1.0")));
    assert_eq!(quarantined(&world), ["5.2.0"]);
    world.push("5.2.1", image("5.2.1", "two", 2));
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), condition(&world, "Quarantined").0.as_str()), (Some("5.2.1"), "False"));
    assert_eq!(migrations(&world), 2, "the schema of 5.2.0 was there already");
}

#[test]
fn an_old_version_is_never_started_on_a_schema_that_it_cannot_read() {
    let mut world = World::new(range());
    world.push("5.1.0", super::Image { tolerates: 1, ..image("5.1.0", "one", 1) });
    settle(&mut world);
    world.push("5.2.0", super::Image { serves: false, ..image("5.2.0", "two", 2) });
    settle(&mut world);
    assert_eq!(ready(&world), no("NoWayBack"));
    assert_eq!(condition(&world, "Stalled"), yes("NoWayBack"));
    assert_eq!(deployed(&world), Some(Digest::of(b"5.2.0")), "what failed stays, the old one would break");
    world.push("5.2.1", image("5.2.1", "two", 2));
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), ready(&world)), (Some("5.2.1"), yes("Delivered")));
    assert_eq!(quarantined(&world), ["5.2.0"]);
}

#[test]
fn a_migration_that_fails_cleanly_leaves_what_runs_alone() {
    let mut world = delivered();
    let before = world.get("Deployment", NAME).unwrap()["metadata"]["generation"].clone();
    world.push("5.2.0", super::Image { migration: Migration::Fails, ..image("5.2.0", "two", 2) });
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), ready(&world)), (Some("5.1.0"), yes("Delivered")));
    assert_eq!(condition(&world, "Quarantined"), yes("MigrationFailed"));
    assert_eq!(world.get("Deployment", NAME).unwrap()["metadata"]["generation"], before);
}

#[test]
fn a_migration_that_fails_half_way_is_taken_back_only_if_the_old_code_still_fits() {
    let mut world = delivered();
    world.push("5.2.0", super::Image { migration: Migration::FailsHalfWay, ..image("5.2.0", "two", 2) });
    settle(&mut world);
    assert_eq!(ready(&world), yes("Delivered"));
    assert_eq!(condition(&world, "Quarantined"), yes("MigrationFailed"));
}

#[test]
fn a_migration_that_swallowed_its_error_never_reaches_the_roll_out() {
    let mut world = delivered();
    world.push("5.2.0", super::Image { migration: Migration::Swallows, ..image("5.2.0", "two", 2) });
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), deployed(&world)), (Some("5.1.0"), Some(Digest::of(b"5.1.0"))));
    assert_eq!(quarantined(&world), ["5.2.0"]);
}

#[test]
fn a_pinned_version_that_fails_is_taken_back_and_stalls() {
    let mut world = World::new(json!({"image": {"version": "5.1.0"}, "rollout": {"soak": "0s", "timeout": "60s"}}));
    world.push("5.1.0", image("5.1.0", "one", 1));
    world.push("5.2.0", super::Image { serves: false, ..image("5.2.0", "two", 2) });
    settle(&mut world);
    assert_eq!(ready(&world), yes("Delivered"));
    world.change_release(|release| release["spec"]["image"]["version"] = json!("5.2.0"));
    settle(&mut world);
    assert_eq!((ready(&world), current(&world).as_deref()), (no("CrashLoop"), Some("5.1.0")));
    assert_eq!(condition(&world, "Stalled"), yes("CrashLoop"));
    assert_eq!(deployed(&world), Some(Digest::of(b"5.1.0")));
}

#[test]
fn the_retry_annotation_lifts_a_quarantine_once() {
    let mut world = delivered();
    world.push("5.2.0", super::Image { serves: false, ..image("5.2.0", "two", 2) });
    settle(&mut world);
    let digest = Digest::of(b"5.2.0");
    world.change_release(|release| {
        release["metadata"]["annotations"] = json!({"timetracker.dev/retry": digest.to_string()});
    });
    settle(&mut world);
    let tries = |world: &World| world.objects.keys().filter(|(kind, _)| kind == "ControllerRevision").count();
    assert_eq!(tries(&world), 3, "tried once more, and not for ever");
    world.images.get_mut(&"5.2.0".parse().unwrap()).unwrap().serves = true;
    world.change_release(|release| {
        release["metadata"]["annotations"] = json!({"timetracker.dev/retry": format!("{digest},again")});
    });
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.2.0"));
}

#[test]
fn a_first_version_that_fails_has_nothing_to_go_back_to_and_says_so() {
    let mut world = World::new(range());
    world.push("5.1.0", super::Image { serves: false, ..image("5.1.0", "one", 1) });
    settle(&mut world);
    assert_eq!(ready(&world), no("NothingToGoBackTo"));
    world.push("5.1.1", image("5.1.1", "one", 1));
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), ready(&world)), (Some("5.1.1"), yes("Delivered")));
}

#[test]
fn a_full_node_quarantines_nothing() {
    let mut world = delivered();
    world.full_node = true;
    world.push("5.2.0", image("5.2.0", "two", 2));
    for _ in 0..100 {
        super::reconcile(&mut world);
        world.tick();
    }
    assert_eq!((current(&world).as_deref(), condition(&world, "Ready").0.as_str()), (Some("5.1.0"), "True"));
    assert_eq!(condition(&world, "UpdatePending"), yes("Unschedulable"));
    assert!(quarantined(&world).is_empty());
    world.full_node = false;
    world.objects.retain(|(kind, _), body| {
        kind != "Pod" || body.pointer("/status/phase").is_none_or(|phase| phase != "Pending")
    });
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.2.0"));
}

#[test]
fn a_database_that_is_down_blames_nobody() {
    let mut world = delivered();
    world.database.down = true;
    world.push("5.2.0", image("5.2.0", "two", 2));
    for _ in 0..100 {
        super::reconcile(&mut world);
        world.tick();
    }
    assert_eq!(condition(&world, "UpdatePending"), yes("DatabaseNotReady"));
    world.database.down = false;
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), quarantined(&world).len()), (Some("5.2.0"), 0));
}

#[test]
fn drift_is_healed_and_what_the_values_no_longer_name_is_pruned() {
    let mut world = delivered();
    world.objects.remove(&("Service".to_owned(), NAME.to_owned()));
    world.objects.get_mut(&("Deployment".to_owned(), NAME.to_owned())).unwrap()["spec"]["replicas"] = json!(0);
    settle(&mut world);
    assert!(world.get("Service", NAME).is_some());
    assert_eq!(world.get("Deployment", NAME).unwrap()["spec"]["replicas"], 1);
    let values = json!({"url": "https://time.example.org", "ingress": {"enabled": true}});
    world.change_release(|release| release["spec"]["values"] = values);
    settle(&mut world);
    assert!(world.get("Ingress", NAME).is_some());
    world.change_release(|release| release["spec"]["values"] = json!({}));
    settle(&mut world);
    assert!(world.get("Ingress", NAME).is_none());
    assert_eq!((ready(&world), migrations(&world)), (yes("Delivered"), 1));
}

#[test]
fn volumes_grow_by_patching_the_claims() {
    let mut world = delivered();
    world.change_release(|release| {
        release["spec"]["database"] = json!({"embedded": {"storage": {"size": "20Gi"}}});
        release["spec"]["values"] = json!({"persistence": {"size": "8Gi"}});
    });
    settle(&mut world);
    let size = |name: &str| {
        world.get("PersistentVolumeClaim", name).unwrap()["spec"]["resources"]["requests"]["storage"].clone()
    };
    assert_eq!((size("data-site-postgres-0"), size("site-data")), (json!("20Gi"), json!("8Gi")));
}

#[test]
fn a_held_release_keeps_what_runs_and_goes_on_afterwards() {
    let mut world = delivered();
    world.change_release(|release| release["spec"]["hold"] = json!({"reason": "audit"}));
    world.push("5.2.0", image("5.2.0", "two", 2));
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), ready(&world)), (Some("5.1.0"), yes("Held")));
    world.change_release(|release| {
        release["spec"].as_object_mut().unwrap().remove("hold");
    });
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.2.0"));
}

#[test]
fn holding_an_earlier_digest_goes_back_to_it_without_a_migration() {
    let mut world = delivered();
    world.push("5.2.0", image("5.2.0", "two", 2));
    settle(&mut world);
    let digest = Digest::of(b"5.1.0").to_string();
    world.change_release(|release| release["spec"]["hold"] = json!({"reason": "regression", "digest": digest}));
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), ready(&world)), (Some("5.1.0"), yes("Held")));
    assert_eq!((migrations(&world), world.database.head), (2, Some("two")));
}

/// A new release on a database that another one left behind: there is no history that tells which is older.
fn on_a_newer_database(tolerates: u32) -> World {
    let mut world = World::new(json!({"image": {"version": "5.1.0"}, "rollout": {"soak": "0s", "timeout": "60s"}}));
    world.push("5.1.0", Image { tolerates, ..image("5.1.0", "one", 1) });
    (world.database.head, world.database.level) = (Some("two"), 2);
    settle(&mut world);
    world
}

#[test]
fn an_older_version_runs_on_a_newer_schema_that_it_can_read_and_migrates_nothing() {
    let world = on_a_newer_database(u32::MAX);
    assert_eq!((current(&world).as_deref(), ready(&world)), (Some("5.1.0"), yes("Delivered")));
    assert_eq!((migrations(&world), world.database.head), (0, Some("two")));
    assert!(!world.created.keys().any(|(kind, name)| kind == "Job" && name.contains("migrate")));
}

#[test]
fn an_older_version_that_can_t_read_the_schema_is_refused_without_a_migration_or_blame() {
    let world = on_a_newer_database(1);
    assert_eq!((current(&world), ready(&world)), (None, no("SchemaTooNew")));
    assert!(!world.created.keys().any(|(kind, name)| kind == "Job" && name.contains("migrate")));
    assert!(quarantined(&world).is_empty());
    let conditions = world.release().status.unwrap().conditions;
    let message = &conditions.iter().find(|condition| condition.type_ == "Ready").unwrap().message;
    assert!(message.contains("Its migrations don't know two"), "{message}");
}

#[test]
fn a_suspended_release_is_not_touched() {
    let mut world = delivered();
    world.change_release(|release| release["spec"]["suspend"] = json!(true));
    world.push("5.2.0", image("5.2.0", "two", 2));
    world.objects.remove(&("Service".to_owned(), NAME.to_owned()));
    settle(&mut world);
    assert!(world.get("Service", NAME).is_none());
    assert_eq!((ready(&world), current(&world).as_deref()), (yes("Suspended"), Some("5.1.0")));
    assert_eq!(world.release().status.unwrap().observed_generation, 2);
}

#[test]
fn a_deleted_release_makes_nothing_new() {
    let mut world = delivered();
    world.push("5.2.0", image("5.2.0", "two", 2));
    world.change_release(|release| release["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z"));
    assert!(world.plan(&world.observe()).is_empty());
}

#[test]
fn what_holds_data_goes_with_the_release_only_when_it_says_so() {
    let mut world = delivered();
    let owned = |world: &World, kind: &str, name: &str| {
        world.get(kind, name).unwrap().pointer("/metadata/ownerReferences/0").is_some()
    };
    let data = [("Secret", "site-postgres"), ("Secret", "site-secret-key"), ("PersistentVolumeClaim", "site-data")];
    for (kind, name) in data {
        assert!(!owned(&world, kind, name), "{kind} {name}");
    }
    world.change_release(|release| release["spec"]["deletionPolicy"] = json!("Delete"));
    settle(&mut world);
    for (kind, name) in data {
        assert!(owned(&world, kind, name), "{kind} {name}");
    }
    let retention = world.get("StatefulSet", "site-postgres").unwrap();
    assert_eq!(retention.pointer("/spec/persistentVolumeClaimRetentionPolicy/whenDeleted").unwrap(), "Delete");
}

#[test]
fn withdrawing_a_version_that_rolls_out_checks_the_way_back_first() {
    let mut world = World::new(json!({"image": {"version": "5.1.0"}, "rollout": {"soak": "0s", "timeout": "60s"}}));
    world.push("5.1.0", super::Image { tolerates: 1, ..image("5.1.0", "one", 1) });
    world.push("5.2.0", super::Image { serves: false, ..image("5.2.0", "two", 2) });
    settle(&mut world);
    world.change_release(|release| release["spec"]["image"]["version"] = json!("5.2.0"));
    while deployed(&world) != Some(Digest::of(b"5.2.0")) {
        super::reconcile(&mut world);
        world.tick();
    }
    world.change_release(|release| release["spec"]["image"]["version"] = json!("5.1.0"));
    settle(&mut world);
    assert_eq!((ready(&world), deployed(&world)), (no("NoWayBack"), Some(Digest::of(b"5.2.0"))));
}
