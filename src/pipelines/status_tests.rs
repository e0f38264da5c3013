#![allow(clippy::unwrap_used)]

use super::super::result::JobResult;
use super::*;
use crate::agent::report::TestCounts;

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
        combines: false,
    }
}

#[test]
fn a_jobs_entry_has_at_most_300_bytes() {
    for text in ["short", &"x".repeat(5_000), &"\"\\\u{7}ü🦀".repeat(500)] {
        for values in ["v🦀", "\"", "\\\""] {
            let entry = entry(&cell(&format!("job ({})", values.repeat(200)), text));
            let size = serde_json::to_string(&entry).unwrap().len();
            assert!(size <= MAX_JOB_BYTES, "{size}: {entry:?}");
        }
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

fn measured(name: &str, coverage: Option<u32>, combines: bool) -> CellView {
    let result = JobResult { coverage, ..JobResult::succeeded() };
    CellView { phase: JobPhase::Succeeded, result: Some(result), combines, ..cell(name, "") }
}

#[test]
fn the_runs_coverage_is_the_combined_one_and_never_a_single_jobs_in_its_place() {
    let percent = |cells: &[CellView]| coverage_of(cells).map(|coverage| coverage.percent);
    let (one, other) = (measured("a", Some(8_137), false), measured("b", Some(4_000), false));
    assert_eq!(percent(&[one.clone(), other.clone()]).as_deref(), Some("40.0"), "of the last job");
    let total = measured("total", Some(9_199), true);
    assert_eq!(percent(&[one.clone(), total, other.clone()]).as_deref(), Some("91.9"), "cut, not rounded");
    assert_eq!(percent(&[one.clone(), other, measured("total", None, true)]), None);
    assert_eq!(entry(&one).coverage.as_deref(), Some("81.3"));
}

#[test]
fn flaky_tests_are_counted_for_each_job_and_for_the_run() {
    let with = |tests: serde_json::Value| {
        let result = serde_json::json!({"phase": "Succeeded", "tests": tests});
        CellView { result: Some(serde_json::from_value(result).unwrap()), ..cell("a", "") }
    };
    let cells = [
        with(serde_json::json!({"passed": 3, "failed": 0, "skipped": 0, "flaky": 2})),
        with(serde_json::json!({"passed": 3, "failed": 0, "skipped": 0, "flaky": 1})),
        // As an operator wrote it that knew of none.
        with(serde_json::json!({"passed": 3, "failed": 0, "skipped": 0})),
    ];
    let tests = tests_of(&cells).unwrap();
    assert_eq!((tests.passed, tests.flaky), (9, 3));
    assert_eq!(cells.each_ref().map(|cell| entry(cell).flaky), [Some(2), Some(1), None]);
}

#[test]
fn tests_are_broken_down_by_the_commonest_markers_of_all_jobs() {
    let with = |markers: serde_json::Value| {
        let result = serde_json::json!({"phase": "Succeeded", "tests": {"passed": 3, "failed": 1, "skipped": 0}, "markers": markers});
        CellView { result: Some(serde_json::from_value(result).unwrap()), ..cell("a", "") }
    };
    let many: std::collections::BTreeMap<String, (u32, u32)> = (0..60).map(|n| (format!("m{n}"), (1, n))).collect();
    let cells = [
        with(serde_json::json!({"smoke": [2, 70], "unit": [1, 80], "no marker": [9, 99]})),
        with(serde_json::json!({"smoke": [3, 30]})),
        with(serde_json::json!(many)),
    ];
    let tests = tests_of(&cells).unwrap();
    assert_eq!(tests.by_marker.get("smoke").map(String::as_str), Some("5/100"));
    assert_eq!(tests.by_marker.get("unit").map(String::as_str), Some("1/80"));
    assert_eq!((tests.by_marker.len(), tests.passed), (40, 9));
    assert!(!tests.by_marker.contains_key("no marker") && !tests.by_marker.contains_key("m3"));
}

/// A run that is over, or not, of which everything is as long as it may be.
fn worst(situation: Situation) -> RunStatus {
    let most = super::super::graph::MAX_CELLS + 2 * super::super::graph::MAX_ENVIRONMENTS;
    let counts = TestCounts { passed: u32::MAX, failed: u32::MAX, skipped: u32::MAX, flaky: u32::MAX };
    let cells: Vec<CellView> = (0..most)
        .map(|number| {
            let mut worst =
                cell(&format!("{} ({}{number})", "j".repeat(63), "\"🦀".repeat(8_000)), &"\"🦀\\".repeat(2_000));
            let result = worst.result.as_mut().unwrap();
            result.failure = Some(FailureClass::CoverageBelowThreshold);
            (result.coverage, result.seconds, result.tests) = (Some(10_000), Some(i64::MAX), Some(counts));
            let markers = (0..40).map(|marker| (format!("{:m>40}", number * 40 + marker), [u32::MAX, u32::MAX]));
            let markers: std::collections::BTreeMap<_, _> = markers.collect();
            result.markers = serde_json::from_value(serde_json::json!(markers)).unwrap();
            worst.attempt = Some(u32::MAX >> 1);
            worst
        })
        .collect();
    let run = serde_json::json!({
        "metadata": {"name": "r".repeat(40), "namespace": "n".repeat(63), "uid": "u", "generation": i64::MAX},
        "spec": {"pipelineRef": {"name": "p".repeat(40)}},
    });
    let facts = Facts {
        situation,
        cells: &cells,
        revision: Some("r".repeat(63)),
        commit: Some("a".repeat(64).parse().unwrap()),
        started: Some(Timestamp::MAX),
        artifacts: Some("a".repeat(512)),
    };
    of(&Observed::alone(serde_json::from_value(run).unwrap()), facts, Timestamp::MAX)
}

#[test]
fn the_status_of_the_largest_run_has_less_than_100_kilobytes() {
    let message = "\"🦀\\".repeat(20_000);
    let over = Outcome { phase: JobPhase::Failed, reason: "x".repeat(5_000), message, completed: Timestamp::MAX };
    let told = outcome(&[cell(&"🦀".repeat(9_000), &"🦀".repeat(9_000))], false, Timestamp::MAX);
    for situation in [
        Situation::Over(over.clone()),
        Situation::Over(told),
        Situation::Running { waits: Some("\"🦀\\".repeat(20_000)) },
        Situation::Waiting { reason: "RepositoryNotFound", message: over.message },
    ] {
        let status = worst(situation.clone());
        assert_eq!((status.jobs.len(), status.tests.as_ref().unwrap().by_marker.len()), (288, 40));
        let size = serde_json::to_string(&status).unwrap().len();
        assert!(size < 100_000, "{size} bytes");
    }
}
