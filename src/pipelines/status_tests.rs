#![allow(clippy::unwrap_used)]

use super::super::result::JobResult;
use super::*;

fn cell(name: &str, message: &str) -> CellView {
    CellView {
        name: name.to_owned(),
        position: 0,
        phase: JobPhase::Failed,
        message: Some(message.to_owned()),
        job: Some("r".repeat(51)),
        attempt: Some(1),
        result: Some(JobResult::failed(FailureClass::CommandFailure, message).ended(None, Some(123_456))),
        forgiven: false,
    }
}

#[test]
fn a_jobs_entry_has_at_most_300_bytes() {
    for text in ["short", &"x".repeat(5_000), &"\"\\\u{7}ü🦀".repeat(500)] {
        let entry = entry(&cell(&format!("job ({})", "v🦀".repeat(200)), text));
        let size = serde_json::to_string(&entry).unwrap().len();
        assert!(size <= MAX_JOB_BYTES, "{size}: {entry:?}");
    }
}

#[test]
fn long_names_of_cells_stay_different() {
    let name = |last: &str| format!("job ({}{last})", "v".repeat(200));
    assert_ne!(shown_name(&name("a")), shown_name(&name("b")));
    assert!(shown_name(&name("a")).len() <= MAX_NAME);
    assert_eq!(shown_name("unit (models)"), "unit (models)");
}

#[test]
fn the_message_names_the_job_the_class_the_evidence_and_the_next_step() {
    let told = outcome(&[cell("unit", "exit code 2")], false, Timestamp::UNIX_EPOCH);
    assert_eq!(told.reason, "CommandFailure");
    for part in ["unit", "CommandFailure", "exit code 2", "kubectl logs job/"] {
        assert!(told.message.contains(part), "{}", told.message);
    }
}

#[test]
fn a_forgiven_failure_does_not_fail_the_run() {
    let mut forgiven = cell("lint", "exit code 1");
    forgiven.forgiven = true;
    assert_eq!(outcome(&[forgiven], false, Timestamp::UNIX_EPOCH).phase, JobPhase::Succeeded);
}

#[test]
fn every_failure_class_is_a_known_reason() {
    let all = [
        FailureClass::CommandFailure,
        FailureClass::TestFailure,
        FailureClass::NoTestsCollected,
        FailureClass::CoverageBelowThreshold,
        FailureClass::BuildFailure,
        FailureClass::VulnerabilitiesFound,
        FailureClass::OutOfMemory,
        FailureClass::DeadlineExceeded,
        FailureClass::Cancelled,
        FailureClass::Configuration,
        FailureClass::Unschedulable,
        FailureClass::Evicted,
        FailureClass::NodeLost,
        FailureClass::PodDeleted,
        FailureClass::ImagePull,
        FailureClass::ServiceNotReady,
        FailureClass::Infrastructure,
    ];
    for class in all {
        assert_eq!(known_reason(class.as_str()), class.as_str());
    }
}

#[test]
fn the_patch_takes_away_what_is_not_said_any_more() {
    let value = patch(&RunStatus::default());
    assert!(value.get("completionTime").unwrap().is_null());
    assert!(value.get("jobs").unwrap().is_null());
}
