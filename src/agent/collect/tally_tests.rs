#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn case(name: &str, inner: &str) -> String {
    let property = "<properties><property name=\"timetracker-markers\" value=\"smoke\"/></properties>";
    format!("<testcase classname=\"tests.test_a\" name=\"{name}\">{property}{inner}</testcase>")
}

fn passed(name: &str) -> String {
    case(name, "")
}

fn failed(name: &str) -> String {
    case(name, &format!("<failure message=\"{name} is red\"/>"))
}

/// The summary of rounds, each one report of these cases.
fn told(rounds: &[&[String]]) -> Summary {
    let mut tally = Tally::new(true);
    for (round, cases) in rounds.iter().enumerate() {
        let text = format!("<testsuites><testsuite name=\"pytest\">{}</testsuite></testsuites>", cases.concat());
        let suites = junit_parser::from_reader(text.as_bytes()).unwrap();
        tally.add(&suites.suites, u32::try_from(round).unwrap());
    }
    let mut summary = Summary::default();
    tally.close(&mut summary);
    summary
}

fn counts(passed: u32, failed: u32, skipped: u32, flaky: u32) -> Option<TestCounts> {
    Some(TestCounts { passed, failed, skipped, flaky })
}

fn names(tests: &[FailedTest]) -> Vec<&str> {
    tests.iter().map(|test| test.name.rsplit_once("::").unwrap().1).collect()
}

#[test]
fn what_failed_and_passed_when_it_ran_again_is_flaky_and_counts_as_passed() {
    let summary = told(&[&[passed("a"), failed("b"), case("c", "<skipped/>")], &[passed("b")]]);
    assert_eq!(summary.tests, counts(2, 0, 1, 1));
    assert_eq!((names(&summary.flaky), summary.failures.len()), (vec!["b"], 0));
    assert_eq!(summary.flaky[0].message, "b is red", "what it said when it failed");
    assert_eq!((summary.markers["smoke"].passed(), summary.markers["smoke"].all()), (2, 3));
}

#[test]
fn what_fails_in_every_round_counts_once_as_failed() {
    let summary = told(&[&[failed("a"), failed("b")], &[failed("a"), passed("b")], &[failed("a")]]);
    assert_eq!(summary.tests, counts(1, 1, 0, 1));
    assert_eq!((names(&summary.failures), names(&summary.flaky)), (vec!["a"], vec!["b"]));
}

#[test]
fn what_is_skipped_or_missing_when_it_runs_again_stays_failed() {
    let summary = told(&[&[failed("a"), failed("b")], &[case("a", "<skipped/>")]]);
    assert_eq!(summary.tests, counts(0, 2, 0, 0));
}

#[test]
fn a_test_whose_teardown_failed_too_is_one_flaky_test() {
    let both = [failed("a"), case("a", "<error message=\"teardown\"/>"), passed("b")];
    let summary = told(&[&both, &[passed("a")]]);
    assert_eq!((summary.tests, summary.failures.len()), (counts(2, 0, 0, 1), 0));
    assert_eq!((summary.markers["smoke"].passed(), summary.markers["smoke"].all()), (2, 2));
    let summary = told(&[&both, &[passed("a"), case("a", "<error message=\"teardown\"/>")]]);
    assert_eq!(summary.tests, counts(1, 2, 0, 0), "it failed again");
}

#[test]
fn what_first_runs_in_a_later_round_counts_and_what_passes_once_more_does_not() {
    let summary = told(&[&[passed("a"), failed("b")], &[passed("a"), passed("b"), passed("c"), failed("d")]]);
    assert_eq!(summary.tests, counts(3, 1, 0, 1));
    assert_eq!(names(&summary.failures), ["d"]);
}

#[test]
fn a_test_that_passed_and_fails_later_is_no_success() {
    assert_eq!(told(&[&[passed("a")], &[failed("a")]]).tests.unwrap().failed, 1);
}

#[test]
fn reports_of_a_thousand_and_one_failures_leave_the_last_one_failed() {
    let red: Vec<String> = (0..=MAX_AGAIN).map(|test| failed(&format!("t{test}"))).collect();
    let green: Vec<String> = (0..=MAX_AGAIN).map(|test| passed(&format!("t{test}"))).collect();
    let summary = told(&[&red, &green]);
    assert_eq!((summary.tests.unwrap().failed, summary.flaky.len()), (1, MAX_NAMED));
    assert!(summary.problems.iter().any(|problem| problem.contains("in a later round")), "{:?}", summary.problems);
}

proptest! {
    #[test]
    fn no_order_of_rounds_makes_a_success_of_what_never_passed(
        rounds in prop::collection::vec(prop::collection::vec((0..4_u8, 0..3_u8), 0..12), 1..4)
    ) {
        let cases: Vec<Vec<String>> = rounds.iter().map(|round| round.iter().map(|(test, outcome)| {
            let name = format!("t{test}");
            match outcome { 0 => passed(&name), 1 => failed(&name), _ => case(&name, "<skipped/>") }
        }).collect()).collect();
        let given: Vec<&[String]> = cases.iter().map(Vec::as_slice).collect();
        let summary = told(&given);
        for test in 0..4_u8 {
            let outcomes: Vec<u8> = rounds.iter().flatten().filter(|(one, _)| *one == test).map(|(_, outcome)| *outcome).collect();
            if outcomes.contains(&1) && !outcomes.contains(&0) {
                let name = format!("t{test}");
                prop_assert!(names(&summary.failures).contains(&name.as_str()), "{:?}", summary);
            }
        }
        let last: Vec<u8> = rounds.last().unwrap().iter().map(|(_, outcome)| *outcome).collect();
        if last.contains(&1) {
            prop_assert!(summary.tests.unwrap().failed > 0);
        }
    }
}
