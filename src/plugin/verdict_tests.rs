use insta::assert_snapshot;
use rstest::rstest;

use super::*;
use crate::api::run::TestStatus;
use crate::plugin::failures::FailedTest;
use crate::plugin::line::paint;
use crate::plugin::views::{failed, job, run, tests as counts};

fn told(run: &RunView, failed: &[FailedJob]) -> String {
    paint(&report(run, failed, &Invocation::of(Some("ci"), None)), false)
}

fn green() -> RunView {
    let mut view = run(
        RunState::Succeeded,
        vec![job("smoke", JobPhase::Succeeded, Some(3)), job("notify", JobPhase::Skipped, None)],
    );
    view.message = "1 of 2 jobs succeeded, none failed".to_owned();
    view.tests = Some(counts(31, 0));
    view.coverage = Some("81.3".to_owned());
    view
}

fn red() -> RunView {
    let mut view = run(
        RunState::Failed,
        vec![
            failed("unit-tests (models)", FailureClass::TestFailure, "2 of 31 tests failed"),
            job("after", JobPhase::Skipped, None),
        ],
    );
    view.message = "job unit-tests (models): TestFailure: 2 of 31 tests failed.".to_owned();
    view.tests = Some(counts(29, 2));
    view
}

#[test]
fn a_success_is_ticked_item_by_item() {
    assert_snapshot!(told(&green(), &[]), @r"

    ci-x7k2p succeeded after 2 min 12 s: 1 of 2 jobs succeeded, none failed

      ✓ every job succeeded, or was skipped by its own condition: 1 of 2 succeeded, 1 skipped
      ✓ tests really ran, none failed: 31 passed, 0 failed, 1 skipped
      ✓ coverage not below a threshold: 81.3 %
      – vulnerabilities: none reported
    ");
}

#[test]
fn a_failure_names_the_tests_how_to_repeat_them_and_what_to_do_next() {
    let test = |name: &str, message: &str| FailedTest {
        name: name.to_owned(),
        classname: Some("tests.test_models.TestUser".to_owned()),
        message: message.to_owned(),
        ..FailedTest::default()
    };
    let failed = FailedJob {
        name: "unit-tests (models)".to_owned(),
        tests: Ok(vec![test("test_a", "AssertionError: 1 != 2\nmore"), test("test_b[\u{1b}[2J]", "\u{1b}]0;x\u{7}")]),
        flaky: Vec::new(),
    };
    assert_snapshot!(told(&red(), &[failed]), @r"

    ci-x7k2p failed after 2 min 12 s: job unit-tests (models): TestFailure: 2 of 31 tests failed.

      ✗ every job succeeded, or was skipped by its own condition: 0 of 2 succeeded, 1 failed, 1 skipped
      ✗ tests really ran, none failed: 29 passed, 2 failed, 1 skipped
      – coverage: not measured
      – vulnerabilities: none reported

    failed tests of unit-tests (models)
      tests/test_models.py::TestUser::test_a
          AssertionError: 1 != 2
      test_b[\x1b[2J]
          \x1b]0;x\x07
    repeat them here
      python -m pytest tests/test_models.py::TestUser::test_a

    next  kubectl timetracker --namespace ci logs ci-x7k2p 'unit-tests (models)'
          kubectl timetracker --namespace ci artifacts ci-x7k2p
          kubectl timetracker --namespace ci rerun ci-x7k2p --failed  # only what failed
    ");
}

#[test]
fn flaky_tests_of_a_green_run_are_counted_and_named() {
    let mut view = green();
    view.tests = Some(TestStatus { flaky: 1, ..counts(31, 0) });
    let test = FailedTest {
        name: "tests.test_models::test_a".to_owned(),
        message: "timed out".to_owned(),
        ..FailedTest::default()
    };
    let flaky = FailedJob { name: "smoke".to_owned(), tests: Ok(Vec::new()), flaky: vec![test] };
    assert_snapshot!(told(&view, &[flaky]), @r"

    ci-x7k2p succeeded after 2 min 12 s: 1 of 2 jobs succeeded, none failed

      ✓ every job succeeded, or was skipped by its own condition: 1 of 2 succeeded, 1 skipped
      ✓ tests really ran, none failed: 31 passed, 0 failed, 1 skipped, 1 flaky
      ✓ coverage not below a threshold: 81.3 %
      – vulnerabilities: none reported

    flaky tests of smoke: they failed, and passed when run again
      tests/test_models.py::test_a
          timed out
    ");
}

#[test]
fn tests_that_can_not_be_looked_up_are_no_reason_to_say_nothing() {
    let failed = FailedJob {
        name: "unit".to_owned(),
        tests: Err("the artifact store does not answer".to_owned()),
        flaky: Vec::new(),
    };
    let text = told(&red(), &[failed]);
    assert!(text.contains("the failed tests of unit are not at hand: the artifact store does not answer"), "{text}");
    assert!(text.contains("kubectl timetracker --namespace ci logs ci-x7k2p 'unit-tests (models)'"), "{text}");
}

#[test]
fn hundreds_of_failed_tests_are_counted_not_listed() {
    let test = |at| FailedTest { name: format!("test_{at}"), ..FailedTest::default() };
    let failed = FailedJob { name: "unit".to_owned(), tests: Ok((0..200).map(test).collect()), flaky: Vec::new() };
    let text = told(&red(), &[failed]);
    assert!(text.contains("… and 180 more") && text.lines().count() < 45, "{text}");
}

#[test]
fn a_run_that_was_refused_says_why_and_ticks_nothing() {
    let mut view = run(RunState::Failed, Vec::new());
    view.message = "InvalidParameter: no parameter typo".to_owned();
    assert_eq!(told(&view, &[]), "\nci-x7k2p failed after 2 min 12 s: InvalidParameter: no parameter typo\n\n");
}

#[test]
fn a_run_under_way_has_no_verdict() {
    assert_eq!(told(&run(RunState::Going, Vec::new()), &[]), "");
}

#[rstest]
#[case::none_measured(&[job("a", JobPhase::Succeeded, None)], None, None, [Tick::Met, Tick::NotMeasured, Tick::NotMeasured, Tick::NotMeasured])]
#[case::skipped_only(&[job("a", JobPhase::Succeeded, None)], Some((0, 0)), None, [Tick::Met, Tick::Unmet, Tick::NotMeasured, Tick::NotMeasured])]
#[case::none_collected(&[failed("a", FailureClass::NoTestsCollected, "m")], None, None, [Tick::Unmet, Tick::Unmet, Tick::NotMeasured, Tick::NotMeasured])]
#[case::below(&[failed("a", FailureClass::CoverageBelowThreshold, "m")], Some((9, 0)), Some("12.0"), [Tick::Unmet, Tick::Met, Tick::Unmet, Tick::NotMeasured])]
#[case::scan(&[failed("a", FailureClass::VulnerabilitiesFound, "m")], Some((9, 0)), Some("80.0"), [Tick::Unmet, Tick::Met, Tick::Met, Tick::Unmet])]
#[case::cancelled(&[job("a", JobPhase::Cancelled, None)], None, None, [Tick::Unmet, Tick::NotMeasured, Tick::NotMeasured, Tick::NotMeasured])]
fn nothing_is_ticked_that_was_not_measured(
    #[case] jobs: &[JobView],
    #[case] tests: Option<(i64, i64)>,
    #[case] coverage: Option<&str>,
    #[case] expected: [Tick; 4],
) {
    let succeeded = jobs.iter().all(|job| job.phase == JobPhase::Succeeded);
    let mut view = run(if succeeded { RunState::Succeeded } else { RunState::Failed }, jobs.to_vec());
    view.tests = tests.map(|(passed, failed)| counts(passed, failed));
    view.coverage = coverage.map(str::to_owned);
    let ticks: Vec<Tick> = criteria(&view).iter().map(|criterion| criterion.tick).collect();
    assert_eq!(ticks, expected);
}

#[test]
fn commands_carry_the_options_that_were_given_as_single_words() {
    let invocation = Invocation::of(Some("ci"), Some("it's"));
    assert_eq!(
        invocation.command(&["logs", "r", "unit (a)"]),
        r"kubectl timetracker --namespace ci --context 'it'\''s' logs r 'unit (a)'"
    );
    assert_eq!(Invocation::default().command(&["status"]), "kubectl timetracker status");
}
