use super::*;
use crate::api::run::FailureClass;
use crate::plugin::steps::StepView;
use crate::plugin::views::{failed, job, run, running, step};

fn with(seconds: i64, jobs: Vec<JobView>) -> RunView {
    RunView { seconds, ..run(RunState::Going, jobs) }
}

fn told(views: &[RunView]) -> Vec<String> {
    let before = std::iter::once(None).chain(views.iter().map(Some));
    before.zip(views).flat_map(|(before, after)| changes(before, after)).collect()
}

fn starting(steps: Vec<StepView>) -> JobView {
    JobView { steps, ..job("unit", JobPhase::Starting, Some(1)) }
}

#[test]
fn each_change_is_one_line_with_the_time_since_the_run_was_made() {
    let unseen = RunView { seconds: 0, ..run(RunState::Unseen, Vec::new()) };
    let waiting = || vec![job("unit", JobPhase::Waiting, None), job("after", JobPhase::Waiting, None)];
    let collecting = JobView {
        steps: vec![
            step("source", StepState::Done, Some(2)),
            step("postgres", StepState::Done, Some(1)),
            step("run", StepState::Failed, Some(60)),
            step("collect", StepState::Going, Some(0)),
        ],
        ..running("unit")
    };
    let over = vec![
        failed("unit", FailureClass::TestFailure, "2 of 31 tests failed"),
        JobView { message: Some("unit failed".to_owned()), ..job("after", JobPhase::Skipped, None) },
    ];
    let views = [
        unseen,
        with(1, waiting()),
        with(2, vec![starting(Vec::new())]),
        with(3, vec![starting(vec![step("source", StepState::Going, Some(0))])]),
        with(3, vec![starting(vec![step("source", StepState::Going, Some(0))])]),
        with(9, vec![running("unit")]),
        with(70, vec![collecting]),
        with(132, over.clone()),
        RunView { seconds: 132, ..run(RunState::Failed, over) },
    ];
    assert_eq!(
        told(&views),
        [
            "[  0:01] ci-x7k2p of comprehensive-ci at 1a2b3c4 runs, 2 jobs",
            "[  0:02] unit: starting",
            "[  0:03] unit: source …",
            "[  0:09] unit: source done in 2 s",
            "[  0:09] unit: postgres done in 1 s",
            "[  0:09] unit: running",
            "[  1:10] unit: collect …",
            "[  2:12] unit: failed after 2 min 5 s: TestFailure: 2 of 31 tests failed",
            "[  2:12] after: skipped: unit failed",
        ]
    );
}

#[test]
fn what_a_job_waits_for_is_said_when_it_changes_and_not_again() {
    let stuck = |message: &str| JobView { message: Some(message.to_owned()), ..starting(Vec::new()) };
    let views = [
        with(1, vec![starting(Vec::new())]),
        with(2, vec![stuck("no node has room")]),
        with(3, vec![stuck("no node has room")]),
        with(4, vec![stuck("the image is pulled")]),
    ];
    let lines = told(&views);
    assert_eq!(
        lines.get(2..).unwrap_or_default(),
        ["[  0:02] unit: waits: no node has room", "[  0:04] unit: waits: the image is pulled",]
    );
}

#[test]
fn a_second_attempt_is_told_from_its_begin() {
    let again = JobView { attempt: 2, ..starting(Vec::new()) };
    let lines = told(&[with(1, vec![starting(Vec::new())]), with(9, vec![again])]);
    assert_eq!(lines.get(2..).unwrap_or_default(), ["[  0:09] unit: attempt 2", "[  0:09] unit: starting"]);
}

#[test]
fn a_run_that_waits_or_is_cancelled_says_so_once() {
    let waiting = |message: &str| RunView { message: message.to_owned(), ..run(RunState::Waiting, Vec::new()) };
    let cancelling = RunView { cancelling: true, ..with(9, Vec::new()) };
    let lines = told(&[waiting("for approval"), waiting("for approval"), cancelling.clone(), cancelling]);
    assert_eq!(lines, ["[  2:12] waiting: for approval", "[  2:12] being cancelled"]);
}
