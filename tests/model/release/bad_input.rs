//! What users write wrong, and what the world does wrong: a condition each, and nothing broken.

use rstest::rstest;
use serde_json::{Value, json};
use timetracker_operator::plan::Severity;
use timetracker_operator::release::decide;
use timetracker_operator::release::observed::{RegistryProblem, RegistrySeen, RegistryView};

use super::deliveries::delivered;
use super::world::World;
use super::{condition, current, image, settle};

fn message(world: &World) -> String {
    let conditions = world.release().status.unwrap().conditions;
    conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap().message
}

/// A specification that can't be read stalls, names the remedy, and what runs goes on.
#[rstest]
#[case(json!({"repository": "ghcr.io/DRYTRIX/TimeTracker", "semver": "*"}), "InvalidSpecification", "drytrix/timetracker")]
#[case(json!({"version": "5.1.0", "semver": "*"}), "InvalidSpecification", "exactly one")]
#[case(json!({}), "InvalidSpecification", "exactly one")]
#[case(json!({"semver": ">=5 <6"}), "InvalidSpecification", ">=5, <6")]
#[case(json!({"version": "5.1"}), "InvalidSpecification", "5.10.0")]
#[case(json!({"tag": "a b"}), "InvalidSpecification", "tag")]
#[case(json!({"digest": "sha256:1"}), "InvalidSpecification", "digest")]
fn a_specification_that_is_wrong_is_refused_with_the_remedy(
    #[case] image: Value,
    #[case] reason: &str,
    #[case] shown: &str,
) {
    let mut world = delivered();
    world.change_release(|release| release["spec"]["image"] = image);
    settle(&mut world);
    assert_eq!(condition(&world, "Ready"), ("False".into(), reason.into()));
    assert_eq!(condition(&world, "Stalled").0, "True");
    assert!(message(&world).contains(shown), "{}", message(&world));
    assert_eq!((current(&world).as_deref(), condition(&world, "Available").0.as_str()), (Some("5.1.0"), "True"));
}

#[test]
fn values_that_are_wrong_stall_and_name_the_key() {
    let mut world = delivered();
    world
        .change_release(|release| release["spec"]["values"] = json!({"env": [{"name": "DATABASE_URL", "value": "x"}]}));
    settle(&mut world);
    assert_eq!(condition(&world, "Ready"), ("False".into(), "ValuesInvalid".into()));
    assert!(message(&world).contains("DATABASE_URL"));
    assert_eq!(condition(&world, "Available").0, "True");
}

#[test]
fn a_database_removed_from_the_specification_is_still_the_embedded_one() {
    let mut world = delivered();
    world.change_release(|release| release["spec"]["database"] = json!({"embedded": {}}));
    settle(&mut world);
    world.change_release(|release| {
        release["spec"].as_object_mut().unwrap().remove("database");
    });
    settle(&mut world);
    assert_eq!(condition(&world, "Ready"), ("True".into(), "Delivered".into()));
}

#[test]
fn a_change_of_the_kind_of_database_that_slipped_by_is_refused() {
    let mut world = delivered();
    let url = json!({"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}});
    world.change_release(|release| release["spec"]["database"] = url);
    settle(&mut world);
    assert_eq!(condition(&world, "Ready"), ("False".into(), "InvalidSpecification".into()));
    assert!(world.get("StatefulSet", "site-postgres").is_some());
}

#[test]
fn a_lost_secret_is_reported_and_never_replaced() {
    let mut world = delivered();
    world.objects.remove(&("Secret".to_owned(), "site-postgres".to_owned()));
    settle(&mut world);
    assert_eq!(condition(&world, "Ready"), ("False".into(), "SecretLost".into()));
    assert!(world.get("Secret", "site-postgres").is_none());
    let mut world = delivered();
    world.objects.remove(&("Secret".to_owned(), "site-secret-key".to_owned()));
    settle(&mut world);
    assert_eq!(condition(&world, "Ready").1, "SecretLost");
    assert!(world.get("Secret", "site-secret-key").is_none());
}

#[test]
fn a_version_older_than_what_runs_needs_a_word() {
    let mut world = delivered();
    world.push("5.0.0", image("5.0.0", "zero", 0));
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.1.0"));
    world.change_release(|release| release["spec"]["image"] = json!({"version": "5.0.0"}));
    settle(&mut world);
    assert_eq!(condition(&world, "Ready"), ("False".into(), "DowngradeNotAllowed".into()));
    assert_eq!(condition(&world, "Stalled").0, "");
    world.change_release(|release| release["spec"]["image"]["allowDowngrade"] = json!(true));
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.0.0"), "its code runs on the newer schema");
}

#[test]
fn a_version_tag_that_moved_is_told_and_not_followed() {
    let mut world = delivered();
    world.push("5.1.0", image("another 5.1.0", "one", 1));
    settle(&mut world);
    assert_eq!(condition(&world, "UpdatePending"), ("True".into(), "TagMoved".into()));
    assert_eq!(condition(&world, "Ready").0, "True");
    assert_eq!(super::deployed(&world), Some(timetracker_operator::api::names::Digest::of(b"5.1.0")));
}

#[test]
fn nothing_is_picked_from_a_list_that_shrank() {
    let mut world = delivered();
    let gone = world.images.remove(&"5.1.0".parse().unwrap()).unwrap();
    world.push("5.2.0", image("5.2.0", "two", 2));
    let observed = world.observe();
    let plan = decide(&observed, world.now);
    assert!(plan.effects.is_empty(), "{:?}", plan.effects);
    world.push("5.1.0", gone);
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.2.0"));
}

fn with_registry(world: &World, registry: RegistryView) -> (String, String) {
    let mut observed = world.observe();
    observed.registry = registry;
    let status = decide(&observed, world.now).status.unwrap();
    let ready = status.conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap();
    (ready.status, ready.reason)
}

#[rstest]
#[case("RegistryUnreachable", true, "Unknown")]
#[case("RegistryRateLimited", true, "Unknown")]
#[case("RegistryInvalidResponse", false, "False")]
#[case("RegistryUnauthorized", false, "False")]
#[case("ImageNotFound", false, "False")]
#[case("NoSuchPlatform", false, "False")]
fn without_anything_that_runs_the_registry_s_problem_is_the_release_s(
    #[case] reason: &'static str,
    #[case] transient: bool,
    #[case] ready: &str,
) {
    let world = World::new(super::range());
    let problem = RegistryProblem { reason, message: "m".into(), transient };
    assert_eq!(with_registry(&world, RegistryView::Failed(problem)), (ready.into(), reason.into()));
}

#[test]
fn an_empty_list_and_a_list_with_a_gap_hold() {
    let world = World::new(super::range());
    let seen = RegistrySeen::default();
    assert_eq!(with_registry(&world, RegistryView::Seen(seen)), ("False".into(), "NoMatchingTag".into()));
    let seen = RegistrySeen { gap: Some("not complete".into()), ..RegistrySeen::default() };
    assert_eq!(with_registry(&world, RegistryView::Seen(seen)), ("Unknown".into(), "TagListIncomplete".into()));
}

#[test]
fn that_a_person_is_waited_for_is_told_by_one_event() {
    let mut world = World::new(super::range());
    let told = |world: &World| decide(&world.observe(), world.now).events;
    let events = told(&world);
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((event.reason, event.severity), ("Waiting", Severity::Warning));
    assert!(event.note.contains("none of the 0 tags"), "{}", event.note);
    settle(&mut world);
    assert_eq!(told(&world), [], "it is told once");
}

#[test]
fn an_image_for_another_platform_is_passed_over_for_an_older_one_in_a_range() {
    let mut world = World::new(super::range());
    world.push("5.1.0", image("5.1.0", "one", 1));
    let mut observed = world.observe();
    let problem = RegistryProblem { reason: "NoSuchPlatform", message: "only linux/arm64".into(), transient: false };
    if let RegistryView::Seen(seen) = &mut observed.registry {
        seen.tags.push("5.2.0".parse().unwrap());
        seen.images.insert("5.2.0".parse().unwrap(), Err(problem));
    }
    let plan = decide(&observed, world.now);
    let status = plan.status.unwrap();
    let message = &status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap().message;
    assert!(message.contains("5.1.0 is picked"), "{message}");
}

#[test]
fn a_forged_status_is_recomputed_and_foreign_children_are_ignored() {
    let mut world = delivered();
    world.change_release(|release| {
        release["status"]["current"]["version"] = json!("9.9.9");
        release["status"]["quarantined"] = json!([]);
    });
    let mut forged = world.objects.values().find(|body| body["kind"] == "ControllerRevision").unwrap().clone();
    forged["metadata"]["name"] = json!("site-r99");
    forged["metadata"]["ownerReferences"][0]["uid"] = json!("somebody-else");
    forged["revision"] = json!(99);
    world.objects.insert(("ControllerRevision".into(), "site-r99".into()), forged);
    settle(&mut world);
    assert_eq!(current(&world).as_deref(), Some("5.1.0"));
    assert_eq!(world.observe().revisions.len(), 1);
}

#[test]
fn a_stranger_s_object_of_the_same_name_is_never_overwritten() {
    let mut world = World::new(super::range());
    world.push("5.1.0", image("5.1.0", "one", 1));
    let stranger = json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "ExternalName"},
        "metadata": {"name": "site", "namespace": "prod"}});
    world.insert(("Service".into(), "site".into()), stranger);
    settle(&mut world);
    assert_eq!(condition(&world, "Ready"), ("False".into(), "ForeignObject".into()));
    assert_eq!(world.get("Service", "site").unwrap()["spec"], json!({"type": "ExternalName"}));
    world.objects.remove(&("Service".to_owned(), "site".to_owned()));
    settle(&mut world);
    assert_eq!(condition(&world, "Ready").1, "Delivered");
}
