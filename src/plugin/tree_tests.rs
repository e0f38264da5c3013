#![allow(clippy::unwrap_used)]

use insta::assert_snapshot;

use super::*;
use crate::api::run::FailureClass;
use crate::plugin::line::paint;
use crate::plugin::views::{failed, job, run, running, step};

fn drawn(view: &RunView, width: usize, rows: usize) -> String {
    let lines = frame(view, width, rows);
    assert!(lines.len() <= rows, "{} lines in {rows} rows", lines.len());
    assert!(lines.iter().all(|line| line.columns() <= width), "{lines:?}");
    paint(&lines, false)
}

fn under_way() -> RunView {
    let starting = JobView {
        message: Some("0/1 nodes are available: insufficient cpu".to_owned()),
        ..job("unit-tests (api)", JobPhase::Starting, Some(3))
    };
    let again = JobView { attempt: 2, ..job("unit-tests (utils)", JobPhase::Queued, None) };
    run(
        RunState::Going,
        vec![
            job("smoke-tests", JobPhase::Succeeded, Some(12)),
            failed("unit-tests (models)", FailureClass::TestFailure, "2 of 31 tests failed"),
            running("unit-tests (routes)"),
            starting,
            again,
            job("integration-tests", JobPhase::Waiting, None),
            job("coverage-report", JobPhase::Skipped, None),
        ],
    )
}

#[test]
fn a_run_under_way_is_a_tree_of_jobs_and_of_the_steps_of_those_that_run() {
    assert_snapshot!(drawn(&under_way(), 100, 40), @r"
    ▶ ci-x7k2p  running  2 min 12 s  3/7  [██████░░░░░░░░░░]  comprehensive-ci at 1a2b3c4
    ├─ ✓ smoke-tests        12 s
    ├─ ✗ unit-tests         [████░░░░░░░░░░░░]  1/4
    │  ├─ ✗ models          2 min 5 s  TestFailure: 2 of 31 tests failed
    │  ├─ ▶ routes          1 min 10 s
    │  │  ├─ ✓ source    2 s
    │  │  ├─ ✓ postgres  1 s
    │  │  ├─ ▶ run       1 min 6 s of at most 10 min  [█░░░░░░░░░░░░░░░]
    │  │  └─ ○ collect
    │  ├─ ▶ api             3 s  0/1 nodes are available: insufficient cpu
    │  └─ ○ utils           attempt 2  queued
    ├─ ○ integration-tests
    └─ – coverage-report    skipped
    ");
}

#[test]
fn on_a_narrow_terminal_there_are_no_bars_and_lines_are_cut() {
    assert_snapshot!(drawn(&under_way(), 40, 40), @r"
    ▶ ci-x7k2p  running  2 min 12 s  3/7  c…
    ├─ ✓ smoke-tests        12 s
    ├─ ✗ unit-tests         1/4
    │  ├─ ✗ models          2 min 5 s  Test…
    │  ├─ ▶ routes          1 min 10 s
    │  │  ├─ ✓ source    2 s
    │  │  ├─ ✓ postgres  1 s
    │  │  ├─ ▶ run       1 min 6 s of at mo…
    │  │  └─ ○ collect
    │  ├─ ▶ api             3 s  0/1 nodes …
    │  └─ ○ utils           attempt 2  queu…
    ├─ ○ integration-tests
    └─ – coverage-report    skipped
    ");
}

#[test]
fn on_a_low_terminal_first_steps_and_then_quiet_jobs_make_room() {
    assert_snapshot!(drawn(&under_way(), 80, 10), @r"
    ▶ ci-x7k2p  running  2 min 12 s  3/7  [██████░░░░░░░░░░]  comprehensive-ci at 1…
    ├─ ✓ smoke-tests        12 s
    ├─ ✗ unit-tests         [████░░░░░░░░░░░░]  1/4
    │  ├─ ✗ models          2 min 5 s  TestFailure: 2 of 31 tests failed
    │  ├─ ▶ routes          1 min 10 s  run
    │  ├─ ▶ api             3 s  0/1 nodes are available: insufficient cpu
    │  └─ ○ utils           attempt 2  queued
    ├─ ○ integration-tests
    └─ – coverage-report    skipped
    ");
    assert_snapshot!(drawn(&under_way(), 80, 7), @r"
    ▶ ci-x7k2p  running  2 min 12 s  3/7  [██████░░░░░░░░░░]  comprehensive-ci at 1…
    ├─ ✗ unit-tests         [████░░░░░░░░░░░░]  1/4
    │  ├─ ✗ models          2 min 5 s  TestFailure: 2 of 31 tests failed
    │  ├─ ▶ routes          1 min 10 s  run
    │  └─ ▶ api             3 s  0/1 nodes are available: insufficient cpu
    └─ … 1 succeeded, 1 skipped, 1 queued, 1 waiting
    ");
    assert_snapshot!(drawn(&under_way(), 80, 3), @r"
    ▶ ci-x7k2p  running  2 min 12 s  3/7  [██████░░░░░░░░░░]  comprehensive-ci at 1…
    ├─ ✗ unit-tests         [████░░░░░░░░░░░░]  1/4
    … 4 more lines
    ");
}

#[test]
fn hundreds_of_jobs_never_need_more_than_the_terminal_has() {
    let jobs = (0..256).map(|cell| running(&format!("unit (cell-{cell}, x)"))).collect();
    let view = run(RunState::Going, jobs);
    for (width, rows) in [(1, 1), (10, 2), (80, 24), (200, 60)] {
        drawn(&view, width, rows);
    }
}

#[test]
fn names_that_others_chose_neither_act_nor_break_the_columns() {
    let view = run(
        RunState::Going,
        vec![
            job("テスト (日本語)", JobPhase::Succeeded, Some(1)),
            job("evil\u{1b}[2J\u{202e}", JobPhase::Succeeded, Some(2)),
            failed(&"long-".repeat(20), FailureClass::CommandFailure, "exit\r\ncode \u{9b}1m"),
        ],
    );
    assert_snapshot!(drawn(&view, 90, 20), @r"
    ▶ ci-x7k2p  running  2 min 12 s  3/3  [████████████████]  comprehensive-ci at 1a2b3c4
    ├─ ✓ テスト                            [████████████████]  1/1
    │  └─ ✓ 日本語                         1 s
    ├─ ✓ evil\x1b[2J\u{202e}               2 s
    └─ ✗ long-long-long-long-long-long-l…  2 min 5 s  CommandFailure: exit\r\ncode \x9b1m
    ");
}

#[test]
fn a_run_that_waits_says_what_for() {
    let mut view = run(RunState::Waiting, Vec::new());
    view.message = "pull request 7 comes from a fork: read its code, then set spec.approvedCommit".to_owned();
    assert_snapshot!(drawn(&view, 60, 20), @r"
    ○ ci-x7k2p  waiting  2 min 12 s  comprehensive-ci at 1a2b3c4
       pull request 7 comes from a fork: read its code, then se…
    ");
}

#[test]
fn a_run_that_is_over_has_no_steps_even_while_its_pods_are_there() {
    let mut done = running("a");
    done.phase = JobPhase::Cancelled;
    done.steps = vec![step("run", StepState::Failed, Some(3))];
    let mut view = run(RunState::Cancelled, vec![done]);
    view.cancelling = true;
    assert_snapshot!(drawn(&view, 80, 20), @r"
    ■ ci-x7k2p  cancelled  2 min 12 s  1/1  [████████████████]  comprehensive-ci at…
    └─ ■ a  1 min 10 s  cancelled
    ");
}

#[test]
fn a_bar_is_full_only_when_all_is_done() {
    assert_eq!(bar(0, 0), format!("[{}]", "░".repeat(BAR)));
    assert!(bar(299, 300).contains('░'));
    assert!(!bar(300, 300).contains('░'));
    assert!(!bar(900, 300).contains('░'));
}
