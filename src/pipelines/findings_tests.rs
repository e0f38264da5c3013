#![allow(clippy::unwrap_used)]

use rstest::rstest;
use serde_json::json;

use super::super::failure::of_end;
use super::*;
use crate::api::run::JobPhase;
use crate::workload::container_end;

fn expected(reports: Vec<ReportKind>) -> Expectations {
    Expectations { agent: true, collector: true, reports, ..Expectations::within(std::time::Duration::from_secs(60)) }
}

fn told(exit_code: i32, report: &str, reports: Vec<ReportKind>) -> JobResult {
    let ended = |name: &str, code: i32, message: &str| {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated":
            {"exitCode": code, "message": message, "finishedAt": "2026-01-01T00:00:00Z"}}})
    };
    let status = json!({"containerStatuses": [ended("job", exit_code, "")], "initContainerStatuses": [ended("collector", 0, report)]});
    let pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap();
    of_end(&container_end(&pod, "job").unwrap(), &pod, None, &expected(reports))
}

const RED: &str = r#"{"findings":{"errors":2,"warnings":1},"finding":"B602 app/a.py:6: shell=True"}"#;
const AMBER: &str = r#"{"findings":{"warnings":1,"notes":2},"finding":"B101 app/a.py:3: assert"}"#;

#[rstest]
#[case::errors_though_0(
    0,
    RED,
    Some(FailureClass::VulnerabilitiesFound),
    "2 errors, 1 warning: B602 app/a.py:6: shell=True"
)]
#[case::errors(1, RED, Some(FailureClass::VulnerabilitiesFound), "exit code 1, 2 errors, 1 warning: B602")]
#[case::warnings(0, AMBER, None, "1 warning, 2 notes: B101 app/a.py:3: assert")]
#[case::warnings_that_the_tool_fails_by(
    1,
    AMBER,
    Some(FailureClass::VulnerabilitiesFound),
    "exit code 1, 1 warning, 2 notes"
)]
#[case::nothing(0, r#"{"findings":{"suppressed":3}}"#, None, "")]
#[case::another_failure(2, r#"{"findings":{}}"#, Some(FailureClass::CommandFailure), "exit code 2")]
#[case::missing(0, "{}", Some(FailureClass::CommandFailure), "exit code 0, but: no SARIF report in $REPORTS")]
#[case::missing_and_failed(2, "{}", Some(FailureClass::CommandFailure), "exit code 2")]
#[case::unreadable(
    0,
    r#"{"findings":{"unread":1},"problem":"report `a.sarif` is unreadable: x"}"#,
    Some(FailureClass::CommandFailure),
    "exit code 0, but: report `a.sarif` is unreadable: x"
)]
#[case::errors_beside_an_unreadable_one(
    0,
    r#"{"findings":{"errors":1,"unread":1},"finding":"R f:1: m","problem":"p"}"#,
    Some(FailureClass::VulnerabilitiesFound),
    "1 error: R f:1: m"
)]
#[case::no_collector(0, "garbage", Some(FailureClass::Infrastructure), "can't be proved")]
fn what_a_scan_reports_decides_as_far_as_it_can_be_read(
    #[case] exit_code: i32,
    #[case] report: &str,
    #[case] failure: Option<FailureClass>,
    #[case] message: &str,
) {
    let result = told(exit_code, report, vec![ReportKind::SARIF]);
    assert_eq!(result.failure, failure, "{result:?}");
    assert!(result.message.as_deref().unwrap_or_default().contains(message), "{result:?}");
}

#[test]
fn findings_decide_nothing_where_no_such_report_is_asked_for() {
    assert_eq!(told(0, RED, Vec::new()).phase, JobPhase::Succeeded);
    assert_eq!(told(1, RED, Vec::new()).failure, Some(FailureClass::CommandFailure));
}

#[test]
fn failed_tests_come_before_findings() {
    let report = r#"{"tests":{"passed":1,"failed":1,"skipped":0},"findings":{"errors":1},"finding":"R f:1: m"}"#;
    for exit_code in [0, 1] {
        let result = told(exit_code, report, vec![ReportKind::JUnit, ReportKind::SARIF]);
        assert_eq!(result.failure, Some(FailureClass::TestFailure));
    }
}
