//! Revisions whose progress was removed, damaged, or written by a newer operator: never a reason to start an older image.

use rstest::rstest;
use serde_json::{Value, json};
use timetracker_operator::api::names::Digest;

use super::deliveries::delivered;
use super::world::{Image, World};
use super::{condition, current, deployed, image, reconcile, settle};

const PROGRESS: &str = "timetracker.dev/progress";
const FROM_A_NEWER_OPERATOR: &str = r#"{"phase":"Rehearsed","copy":"site-copy","time":"2027-01-01T00:00:00Z"}"#;

/// 5.1.0, which can't run on the schema of 5.2.0.
fn before_a_contracting_version() -> World {
    let mut world = World::new(super::range());
    world.push("5.1.0", Image { tolerates: 1, ..image("5.1.0", "one", 1) });
    settle(&mut world);
    world.push("5.2.0", image("5.2.0", "two", 2));
    world
}

fn revision<'a>(world: &'a mut World, name: &str) -> &'a mut Value {
    world.objects.get_mut(&("ControllerRevision".to_owned(), name.to_owned())).unwrap()
}

/// Sets the annotation, or removes it.
fn annotate(world: &mut World, name: &str, progress: Option<&str>) -> Option<String> {
    let annotations = revision(world, name)["metadata"]["annotations"].as_object_mut().unwrap();
    let before = match progress {
        Some(text) => annotations.insert(PROGRESS.to_owned(), json!(text)),
        None => annotations.remove(PROGRESS),
    };
    before.and_then(|text| text.as_str().map(str::to_owned))
}

fn message(world: &World) -> String {
    let conditions = world.release().status.unwrap().conditions;
    conditions.into_iter().find(|condition| condition.type_ == "Stalled").unwrap().message
}

/// What the message tells a person to write on the revision.
fn advised(message: &str) -> String {
    message.split_once(&format!("{PROGRESS}='")).unwrap().1.trim_end_matches('\'').to_owned()
}

fn revisions(world: &World) -> usize {
    world.objects.keys().filter(|(kind, _)| kind == "ControllerRevision").count()
}

#[rstest]
#[case::removed(None, "has no annotation")]
#[case::garbage(Some("}{"), "not known here")]
#[case::of_a_newer_operator(Some(FROM_A_NEWER_OPERATOR), "Rehearsed")]
fn a_delivered_revision_that_can_t_be_read_stalls_and_leaves_what_runs(
    #[case] progress: Option<&str>,
    #[case] cause: &str,
) {
    let mut world = before_a_contracting_version();
    settle(&mut world);
    let before = annotate(&mut world, "site-r2", progress).unwrap();
    settle(&mut world);
    assert_eq!(deployed(&world), Some(Digest::of(b"5.2.0")), "5.1.0 can't run on this schema");
    assert_eq!(condition(&world, "Ready"), ("False".into(), "RevisionUnreadable".into()));
    assert_eq!(condition(&world, "Stalled").0, "True");
    assert_eq!(condition(&world, "Available").0, "True");
    assert_eq!(current(&world).as_deref(), Some("5.2.0"), "what was told last");
    for part in ["site-r2", cause, "kubectl -n prod annotate"] {
        assert!(message(&world).contains(part), "{}", message(&world));
    }
    assert_eq!(revisions(&world), 2, "nothing was pinned over it");
    annotate(&mut world, "site-r2", Some(&before));
    settle(&mut world);
    assert_eq!((condition(&world, "Ready").0.as_str(), revisions(&world)), ("True", 2));
}

#[test]
fn the_way_out_that_the_message_names_delivers_the_same_version_anew() {
    let mut world = before_a_contracting_version();
    settle(&mut world);
    annotate(&mut world, "site-r2", None);
    settle(&mut world);
    let advised = advised(&message(&world));
    annotate(&mut world, "site-r2", Some(&advised));
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), condition(&world, "Ready").0.as_str()), (Some("5.2.0"), "True"));
    assert_eq!((deployed(&world), revisions(&world)), (Some(Digest::of(b"5.2.0")), 3));
    assert_eq!(world.database.completed[&Digest::of(b"5.2.0")], 1, "nothing is migrated twice");
}

/// Whatever a person does with the revision: an image never runs on a schema that its code can't read.
#[test]
fn at_no_moment_of_a_delivery_does_an_unreadable_revision_start_an_image_that_can_t_run() {
    let mut moments = 0;
    for steps in 1..40 {
        for progress in [None, Some(FROM_A_NEWER_OPERATOR)] {
            let mut world = before_a_contracting_version();
            for _ in 0..steps {
                reconcile(&mut world);
                world.tick();
            }
            // Before it is pinned there is nothing to damage; after it is delivered, that is the test above.
            if revisions(&world) < 2 || current(&world).as_deref() == Some("5.2.0") {
                continue;
            }
            moments += 1;
            let stood = deployed(&world);
            annotate(&mut world, "site-r2", progress);
            settle(&mut world);
            assert_eq!((deployed(&world), revisions(&world)), (stood, 2), "after {steps} steps");
            assert_eq!(condition(&world, "Ready").1, "RevisionUnreadable");
            let advised = advised(&message(&world));
            annotate(&mut world, "site-r2", Some(&advised));
            settle(&mut world);
            assert_eq!(current(&world).as_deref(), Some("5.2.0"), "after {steps} steps");
            assert_eq!(world.database.completed[&Digest::of(b"5.2.0")], 1, "after {steps} steps");
        }
    }
    assert!(moments > 8, "{moments}");
}

#[test]
fn a_revision_of_a_form_that_only_a_newer_operator_knows_asks_for_that_operator() {
    let mut world = delivered();
    revision(&mut world, "site-r1")["data"] = json!({"objects": []});
    settle(&mut world);
    assert_eq!(condition(&world, "Ready"), ("False".into(), "RevisionUnreadable".into()));
    assert!(message(&world).ends_with("Upgrade the operator to the version that wrote it"), "{}", message(&world));
    assert_eq!(deployed(&world), Some(Digest::of(b"5.1.0")));
}

#[test]
fn an_unreadable_revision_behind_a_delivered_one_hinders_nothing() {
    let mut world = before_a_contracting_version();
    settle(&mut world);
    annotate(&mut world, "site-r1", Some("}{"));
    settle(&mut world);
    assert_eq!(condition(&world, "Ready").0, "True");
    world.push("5.3.0", image("5.3.0", "three", 3));
    settle(&mut world);
    assert_eq!((current(&world).as_deref(), revisions(&world)), (Some("5.3.0"), 3));
}

#[test]
fn a_stalled_history_makes_no_new_secret_and_prunes_nothing() {
    let mut world = delivered();
    annotate(&mut world, "site-r1", None);
    world.objects.remove(&("Secret".to_owned(), "site-secret-key".to_owned()));
    let before: Vec<_> = world.objects.keys().cloned().collect();
    settle(&mut world);
    assert_eq!(world.objects.keys().cloned().collect::<Vec<_>>(), before);
}

#[test]
fn a_suspended_release_does_not_claim_that_nothing_was_delivered() {
    let mut world = delivered();
    annotate(&mut world, "site-r1", None);
    world.change_release(|release| release["spec"]["suspend"] = json!(true));
    settle(&mut world);
    let conditions = world.release().status.unwrap().conditions;
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert!(ready.message.contains("site-r1 can't be read"), "{}", ready.message);
}
