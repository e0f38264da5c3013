//! The table of the status contract, row by row, and what kstatus asks of every row.

use rstest::rstest;
use serde_json::{Value, json};
use timetracker_operator::api::conditions::{Statement, Verdict};
use timetracker_operator::api::release::ReleaseStep;
use timetracker_operator::release::observed::Observed;
use timetracker_operator::release::status::{Pending, Situation, statements};

use super::deliveries::delivered;
use super::world::World;
use super::{image, settle};

/// What runs satisfies the specification.
fn satisfied() -> Observed {
    delivered().observe()
}

/// Another version is pinned than the one that runs.
fn unsatisfied() -> Observed {
    let mut world = delivered();
    world.change_release(|release| release["spec"]["image"] = json!({"version": "5.9.0"}));
    world.observe()
}

fn preparing(step: ReleaseStep) -> Situation {
    Situation::Preparing { step, message: "m".into() }
}

fn changing(step: ReleaseStep) -> Situation {
    Situation::Changing { step, reason: "R", message: "m".into() }
}

fn waiting() -> Situation {
    Situation::Waiting { step: ReleaseStep::Database, reason: "DatabaseNotReady", message: "m".into() }
}

fn person() -> Situation {
    Situation::NeedsPerson { reason: "DowngradeNotAllowed", message: "m".into() }
}

fn stalled() -> Situation {
    Situation::Stalled { reason: "CrashLoop", message: "m".into() }
}

fn settled() -> Situation {
    Situation::Settled { pending: None }
}

fn held() -> Situation {
    Situation::Held { message: "audit".into() }
}

fn verdict(told: &[Statement], kind: &str) -> Option<Verdict> {
    told.iter().find(|statement| statement.kind == kind).map(|statement| statement.verdict)
}

const T: Option<Verdict> = Some(Verdict::True);
const F: Option<Verdict> = Some(Verdict::False);
const U: Option<Verdict> = Some(Verdict::Unknown);
const ABSENT: Option<Verdict> = None;

#[rstest]
#[case::candidate_in_pick(satisfied(), preparing(ReleaseStep::Pick), T, ABSENT, ABSENT, T)]
#[case::candidate_in_inspect(satisfied(), preparing(ReleaseStep::Inspect), T, ABSENT, ABSENT, T)]
#[case::candidate_in_rehearse(satisfied(), preparing(ReleaseStep::Rehearse), T, ABSENT, ABSENT, T)]
#[case::candidate_in_back_up(satisfied(), preparing(ReleaseStep::BackUp), T, ABSENT, ABSENT, T)]
#[case::draining(satisfied(), changing(ReleaseStep::Drain), U, T, ABSENT, T)]
#[case::migrating(satisfied(), changing(ReleaseStep::Migrate), U, T, ABSENT, T)]
#[case::rolling_out(satisfied(), changing(ReleaseStep::RollOut), U, T, ABSENT, T)]
#[case::going_back(satisfied(), changing(ReleaseStep::GoBack), U, T, ABSENT, T)]
#[case::pinned_under_way(unsatisfied(), preparing(ReleaseStep::Inspect), U, T, ABSENT, T)]
#[case::transient_cause(unsatisfied(), waiting(), U, T, ABSENT, T)]
#[case::delivered(satisfied(), settled(), T, ABSENT, ABSENT, F)]
#[case::policy_picked_waits(satisfied(), waiting(), T, ABSENT, ABSENT, T)]
#[case::policy_picked_waits_for_a_person(satisfied(), person(), T, ABSENT, ABSENT, T)]
#[case::pinned_waits_for_a_person(unsatisfied(), person(), F, ABSENT, ABSENT, T)]
#[case::pinned_failed(unsatisfied(), stalled(), F, ABSENT, T, F)]
#[case::held_and_right(satisfied(), held(), T, ABSENT, ABSENT, F)]
#[case::held_and_not(unsatisfied(), held(), U, ABSENT, ABSENT, F)]
#[case::suspended_and_right(satisfied(), Situation::Suspended, T, ABSENT, ABSENT, F)]
#[case::suspended_and_not(unsatisfied(), Situation::Suspended, U, ABSENT, ABSENT, F)]
fn each_situation_has_its_conditions(
    #[case] observed: Observed,
    #[case] situation: Situation,
    #[case] ready: Option<Verdict>,
    #[case] reconciling: Option<Verdict>,
    #[case] stalled: Option<Verdict>,
    #[case] pending: Option<Verdict>,
) {
    let told = statements(&observed, &situation);
    let found = ["Ready", "Reconciling", "Stalled", "UpdatePending"].map(|kind| verdict(&told, kind));
    assert_eq!(found, [ready, reconciling, stalled, pending]);
    for kind in ["Available", "Quarantined"] {
        assert!(verdict(&told, kind).is_some(), "{kind} is always told");
    }
    let mut kinds: Vec<&str> = told.iter().map(|statement| statement.kind).collect();
    kinds.sort_unstable();
    let count = kinds.len();
    kinds.dedup();
    assert_eq!(kinds.len(), count, "a condition is told twice");
}

#[test]
fn a_newer_version_that_is_not_taken_is_told_without_harm() {
    let pending = Some(Pending { reason: "TagMoved", message: "m".into() });
    let told = statements(&satisfied(), &Situation::Settled { pending });
    assert_eq!((verdict(&told, "Ready"), verdict(&told, "UpdatePending")), (T, T));
}

/// What kstatus (Flux, `kubectl` plugins, Argo CD's Lua) makes of a status, at every moment of deliveries.
fn kstatus(release: &Value) -> &'static str {
    let Some(status) = release.get("status") else {
        return "InProgress";
    };
    if status["observedGeneration"] != release["metadata"]["generation"] {
        return "InProgress";
    }
    let is = |kind: &str, wanted: &str| {
        let conditions = status["conditions"].as_array().unwrap();
        conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == wanted)
    };
    assert!(!(is("Reconciling", "True") && is("Stalled", "True")), "both Reconciling and Stalled");
    if is("Stalled", "True") {
        assert!(is("Ready", "False"));
        "Failed"
    } else if is("Reconciling", "True") {
        assert!(is("Ready", "Unknown"));
        "InProgress"
    } else if is("Ready", "True") {
        "Current"
    } else {
        "InProgress"
    }
}

fn release(world: &World) -> Value {
    world.get("TimeTrackerRelease", "site").unwrap().clone()
}

#[test]
fn a_tool_that_waits_judges_right_at_every_moment() {
    let mut world = World::new(json!({"image": {"version": "5.1.0"}, "rollout": {"soak": "0s", "timeout": "60s"}}));
    world.push("5.1.0", image("5.1.0", "one", 1));
    world.push("5.2.0", image("5.2.0", "two", 2));
    world.push("5.3.0", super::Image { serves: false, ..image("5.3.0", "two", 2) });
    for (version, expected) in [("5.1.0", "Current"), ("5.2.0", "Current"), ("5.3.0", "Failed")] {
        world.change_release(|release| release["spec"]["image"]["version"] = json!(version));
        assert_eq!(kstatus(&release(&world)), "InProgress");
        for _ in 0..80 {
            super::reconcile(&mut world);
            let judged = kstatus(&release(&world));
            if judged == "Current" {
                assert_eq!(super::current(&world).as_deref(), Some(version), "told too early");
            }
            if version != "5.3.0" {
                assert_ne!(judged, "Failed");
            }
            world.tick();
        }
        settle(&mut world);
        assert_eq!(kstatus(&release(&world)), expected, "{version}");
    }
}

#[test]
fn each_condition_carries_the_generation_that_was_observed() {
    let mut world = delivered();
    world.change_release(|release| release["spec"]["rollout"]["timeout"] = json!("90s"));
    settle(&mut world);
    let status = world.release().status.unwrap();
    assert_eq!(status.observed_generation, 2);
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(2)));
}

#[test]
fn a_requested_reconcile_is_answered() {
    let mut world = delivered();
    world.change_release(|release| {
        release["metadata"]["annotations"] = json!({"timetracker.dev/requestedAt": "2026-11-23T05:00:00Z"});
    });
    settle(&mut world);
    let answered = world.release().status.unwrap().last_handled_reconcile_at;
    assert_eq!(answered.as_deref(), Some("2026-11-23T05:00:00Z"));
}
