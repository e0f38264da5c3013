#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::job::ReportKind;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

fn expected(agent: bool, collector: bool) -> Expectations {
    Expectations {
        agent,
        collector,
        reports: if collector { vec![ReportKind::JUnit] } else { Vec::new() },
        outputs: vec!["version".to_owned()],
        ..Expectations::within(Duration::from_secs(60))
    }
}

fn job(annotations: Value) -> Job {
    let metadata = json!({"name": "j", "creationTimestamp": at(0).to_string(), "annotations": annotations});
    serde_json::from_value(json!({ "metadata": metadata })).unwrap()
}

fn pod(phase: &str, status: Value, annotations: Value) -> Pod {
    let mut status = status;
    status["phase"] = json!(phase);
    let metadata = json!({"name": "j", "creationTimestamp": at(0).to_string(), "annotations": annotations});
    let spec = json!({"nodeName": "n", "containers": [{"name": "job", "resources": {"limits": {"memory": "64Mi"}}}]});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
}

fn container(name: &str, state: Value) -> Value {
    json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

fn ended(code: i32, reason: &str, message: &str) -> Value {
    let state = json!({"terminated": {"exitCode": code, "reason": reason, "message": message,
        "startedAt": at(5).to_string(), "finishedAt": at(10).to_string()}});
    json!({"containerStatuses": [container("job", state)]})
}

fn with_collector(mut status: Value, message: &str) -> Value {
    let state = json!({"terminated": {"exitCode": 0, "message": message, "finishedAt": at(12).to_string()}});
    status["initContainerStatuses"] = json!([container("collector", state)]);
    status
}

fn result(judgement: Judgement) -> JobResult {
    match judgement {
        Judgement::Over { result, .. } => result,
        Judgement::Going(going) => panic!("still going: {going:?}"),
    }
}

fn still(judgement: Judgement) -> Going {
    match judgement {
        Judgement::Going(going) => going,
        Judgement::Over { result, .. } => panic!("over: {result:?}"),
    }
}

#[rstest]
#[case(1, "Error", "", FailureClass::CommandFailure, "exit code 1")]
#[case(
    137,
    "OOMKilled",
    r#"{"exitCode":137,"timedOut":false,"terminated":false,"seconds":5,"memoryPeak":67108864,"logBytes":0}"#,
    FailureClass::OutOfMemory,
    "64Mi, peak 64 MiB"
)]
#[case(
    124,
    "Error",
    r#"{"exitCode":124,"timedOut":true,"terminated":false,"seconds":60,"memoryPeak":null,"logBytes":0}"#,
    FailureClass::DeadlineExceeded,
    "60 s"
)]
#[case(128, "StartError", "exec: \"/bin/sh\": no such file", FailureClass::Configuration, "/bin/sh")]
#[case(137, "ContainerStatusUnknown", "", FailureClass::NodeLost, "lost track")]
fn a_failed_command_is_told_with_its_evidence(
    #[case] code: i32,
    #[case] reason: &str,
    #[case] message: &str,
    #[case] class: FailureClass,
    #[case] evidence: &str,
) {
    let pod = pod("Failed", ended(code, reason, message), json!({}));
    let told = result(judge(&job(json!({})), Some(&pod), &expected(true, false), at(20)));
    assert_eq!(told.failure, Some(class));
    assert!(told.message.unwrap().contains(evidence));
}

/// The report of a command that ended by itself, in a pod that its own deadline ended later: only that ends what an
/// injected container keeps alive.
#[rstest]
#[case(3, false, FailureClass::CommandFailure, "exit code 3")]
#[case(143, true, FailureClass::DeadlineExceeded, "timeout of 60 s")]
fn a_pod_that_its_deadline_ended_tells_how_its_command_ended(
    #[case] code: i32,
    #[case] terminated: bool,
    #[case] class: FailureClass,
    #[case] evidence: &str,
) {
    let report = json!({"exitCode": code, "timedOut": false, "terminated": terminated, "seconds": 5,
        "memoryPeak": null, "logBytes": 0});
    let mut pod = pod("Failed", ended(code, "Error", &report.to_string()), json!({}));
    pod.status.as_mut().unwrap().reason = Some("DeadlineExceeded".to_owned());
    let told = result(judge(&job(json!({})), Some(&pod), &expected(true, false), at(20)));
    assert_eq!((told.failure, told.message.unwrap().contains(evidence)), (Some(class), true));
}

/// The end was written down with an earlier second than the deletion.
#[rstest]
#[case(143)]
#[case(0)]
fn what_was_told_to_terminate_in_a_pod_that_is_being_deleted_was_deleted(#[case] code: i32) {
    let report = json!({"exitCode": code, "timedOut": false, "terminated": true, "seconds": 1,
        "memoryPeak": null, "logBytes": 0});
    let mut pod = pod("Failed", ended(code, "Error", &report.to_string()), json!({}));
    let told = result(judge(&job(json!({})), Some(&pod), &expected(true, false), at(20)));
    assert_eq!(told.failure, Some(FailureClass::Infrastructure));
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(131)));
    pod.metadata.deletion_grace_period_seconds = Some(120);
    let told = result(judge(&job(json!({})), Some(&pod), &expected(true, false), at(20)));
    assert_eq!(told.failure, Some(FailureClass::PodDeleted));
}

#[rstest]
#[case(3, 5, FailureClass::CommandFailure)]
#[case(137, 5, FailureClass::DeadlineExceeded)]
#[case(3, 60, FailureClass::DeadlineExceeded)]
fn a_plain_pod_that_its_deadline_ended_tells_how_its_command_ended(
    #[case] code: i32,
    #[case] seconds: i64,
    #[case] class: FailureClass,
) {
    let mut status = ended(code, "Error", "");
    status["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = json!(at(3 + seconds).to_string());
    status["containerStatuses"][0]["state"]["terminated"]["startedAt"] = json!(at(3).to_string());
    let mut pod = pod("Failed", status, json!({}));
    pod.status.as_mut().unwrap().reason = Some("DeadlineExceeded".to_owned());
    let told = result(judge(&job(json!({})), Some(&pod), &expected(false, false), at(200)));
    assert_eq!(told.failure, Some(class), "{told:?}");
}

#[rstest]
#[case(
    "exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1",
    START_LIMIT,
    FailureClass::Unschedulable
)]
#[case(
    "error looking up service account ns/typo: serviceaccount \"typo\" not found",
    REFERENCE_LIMIT,
    FailureClass::Configuration
)]
#[case(
    "violates PodSecurity \"restricted:latest\": runAsNonRoot != true",
    REFERENCE_LIMIT,
    FailureClass::Configuration
)]
#[case("Internal error occurred: failed calling webhook \"w\": timeout", START_LIMIT, FailureClass::Unschedulable)]
fn why_no_pod_can_be_made_is_told_and_fails_the_job_in_time(
    #[case] why: &str,
    #[case] limit: Duration,
    #[case] class: FailureClass,
) {
    let job = job(json!({}));
    let judged = |second: u64| {
        let now = at(i64::try_from(second).unwrap());
        still(unmade(judge(&job, None, &expected(true, false), now), &job, Some(why), now))
    };
    let early = judged(6);
    assert_eq!((early.phase, early.stop.is_none()), (JobPhase::Starting, true));
    assert_eq!(early.message, Some(format!("no pod can be made: {why}")));
    assert!(matches!(early.look, Next::After(look) if look <= UNMADE_INTERVAL), "{:?}", early.look);
    let late = judged(limit.as_secs());
    assert_eq!(late.stop.map(|(class, _)| class), Some(class));
}

#[test]
fn a_job_without_a_pod_says_nothing_that_is_not_known() {
    let job = job(json!({}));
    let early = still(judge(&job, None, &expected(true, false), at(1)));
    assert_eq!((early.message, early.stop), (None, None));
    assert!(matches!(early.look, Next::After(look) if look <= Duration::from_secs(5)), "{:?}", early.look);
    let late = still(judge(&job, None, &expected(true, false), at(900)));
    assert_eq!(late.stop.map(|(class, _)| class), Some(FailureClass::Unschedulable));
}

#[test]
fn a_success_with_the_words_passed_is_a_success_by_its_exit_code_alone() {
    // OOM of a child that the script survived: reason OOMKilled, exit code 0.
    let pod = pod("Succeeded", ended(0, "OOMKilled", ""), json!({}));
    let told = result(judge(&job(json!({})), Some(&pod), &expected(false, false), at(20)));
    assert_eq!((told.phase, told.seconds), (JobPhase::Succeeded, Some(5)));
}

#[rstest]
#[case(0, r#"{"tests":{"passed":3,"failed":1,"skipped":0}}"#, Some(FailureClass::TestFailure))]
#[case(1, r#"{"tests":{"passed":3,"failed":1,"skipped":0}}"#, Some(FailureClass::TestFailure))]
#[case(0, r#"{"tests":{"passed":0,"failed":0,"skipped":7}}"#, Some(FailureClass::NoTestsCollected))]
#[case(5, r#"{"tests":{"passed":0,"failed":0,"skipped":0}}"#, Some(FailureClass::NoTestsCollected))]
#[case(0, r#"{"problem":"junit.xml: not XML"}"#, Some(FailureClass::NoTestsCollected))]
#[case(0, "garbage", Some(FailureClass::Infrastructure))]
#[case(0, r#"{"tests":{"passed":3,"failed":0,"skipped":1}}"#, None)]
#[case(2, r#"{"tests":{"passed":3,"failed":0,"skipped":1}}"#, Some(FailureClass::CommandFailure))]
fn exit_0_counts_only_with_tests_that_really_ran(
    #[case] code: i32,
    #[case] report: &str,
    #[case] class: Option<FailureClass>,
) {
    let pod = pod("Running", with_collector(ended(code, "Completed", ""), report), json!({}));
    let told = result(judge(&job(json!({})), Some(&pod), &expected(true, true), at(20)));
    assert_eq!(told.failure, class, "{told:?}");
}

#[rstest]
#[case(0, r#""passed":4,"failed":0"#, None, "1 flaky, passed when run again: tests.test_a::t")]
#[case(1, r#""passed":3,"failed":1"#, Some(FailureClass::TestFailure), "1 of 4 tests failed; 1 flaky")]
#[case(2, r#""passed":4,"failed":0"#, Some(FailureClass::CommandFailure), "exit code 2; 1 flaky")]
fn flaky_tests_are_named_and_excuse_nothing_else(
    #[case] code: i32,
    #[case] counts: &str,
    #[case] class: Option<FailureClass>,
    #[case] message: &str,
) {
    let report = format!(r#"{{"tests":{{{counts},"skipped":0,"flaky":1}},"flaky":["tests.test_a::t"]}}"#);
    let pod = pod("Running", with_collector(ended(code, "Completed", ""), &report), json!({}));
    let told = result(judge(&job(json!({})), Some(&pod), &expected(true, true), at(20)));
    assert_eq!((told.failure, told.tests.unwrap().flaky), (class, 1));
    assert!(told.message.as_deref().unwrap().starts_with(message), "{told:?}");
}

#[test]
fn with_a_collector_the_result_is_final_at_its_end() {
    let unfinished = pod("Running", ended(0, "Completed", ""), json!({}));
    let going = still(judge(&job(json!({})), Some(&unfinished), &expected(true, true), at(20)));
    assert_eq!((going.phase, going.stop), (JobPhase::Running, None));
    assert_eq!(going.message.as_deref(), Some("reports and artifacts are being collected"));
    let hanging = still(judge(&job(json!({})), Some(&unfinished), &expected(true, true), at(10 + 301)));
    let (class, message) = hanging.stop.unwrap();
    assert_eq!(
        (class, message.as_str()),
        (FailureClass::Infrastructure, "the collector did not end after the command")
    );
    assert_eq!(hanging.message, Some(message));
}

#[test]
fn only_declared_outputs_are_kept() {
    let report = r#"{"tests":{"passed":1,"failed":0,"skipped":0},"outputs":{"version":"1","PATH":"/evil"}}"#;
    let pod = pod("Succeeded", with_collector(ended(0, "Completed", ""), report), json!({}));
    let told = result(judge(&job(json!({})), Some(&pod), &expected(true, true), at(20)));
    assert_eq!(told.outputs.into_iter().collect::<Vec<_>>(), [("version".to_owned(), "1".to_owned())]);
}

#[test]
fn what_ended_before_it_was_stopped_keeps_its_own_result() {
    let stop = |second| {
        let stop = Stop { class: FailureClass::Cancelled, message: "m".to_owned(), at: at(second) };
        json!({ names::STOP_ANNOTATION: serde_json::to_string(&stop).unwrap() })
    };
    let status = ended(0, "Completed", "");
    let before = pod("Failed", status.clone(), stop(11));
    assert_eq!(
        result(judge(&job(json!({})), Some(&before), &expected(false, false), at(20))).phase,
        JobPhase::Succeeded
    );
    // A process that traps TERM and exits 0.
    let after = pod("Failed", status, stop(9));
    assert_eq!(
        result(judge(&job(json!({})), Some(&after), &expected(false, false), at(20))).phase,
        JobPhase::Cancelled
    );
}

#[rstest]
#[case("InvalidImageName", "bad", 0, FailureClass::Configuration)]
#[case("ErrImagePull", "manifest unknown", 0, FailureClass::Configuration)]
#[case("ImagePullBackOff", "429 too many requests", 300, FailureClass::ImagePull)]
#[case("CreateContainerConfigError", "secret not found", 30, FailureClass::Configuration)]
#[case("ContainerCreating", "", 900, FailureClass::Infrastructure)]
fn what_never_starts_is_given_up_after_its_own_time(
    #[case] reason: &str,
    #[case] message: &str,
    #[case] after: i64,
    #[case] class: FailureClass,
) {
    let status =
        json!({"containerStatuses": [container("job", json!({"waiting": {"reason": reason, "message": message}}))]});
    let pod = pod("Pending", status, json!({}));
    if after > 0 {
        let before = still(judge(&job(json!({})), Some(&pod), &expected(false, false), at(after - 1)));
        assert_eq!(before.stop, None);
    }
    let then = still(judge(&job(json!({})), Some(&pod), &expected(false, false), at(after)));
    assert_eq!(then.stop.map(|(class, _)| class), Some(class));
}

#[test]
fn a_commit_that_does_not_exist_is_a_matter_of_configuration() {
    let message = r#"{"outcome":"Failed","failure":"NotFound","message":"no such commit"}"#;
    let state = json!({"terminated": {"exitCode": 1, "message": message, "finishedAt": at(3).to_string()}});
    let pod = pod("Failed", json!({"initContainerStatuses": [container("source", state)]}), json!({}));
    let told = result(judge(&job(json!({})), Some(&pod), &expected(true, false), at(20)));
    assert_eq!(told.failure, Some(FailureClass::Configuration));
    assert!(told.message.unwrap().contains("no such commit"));
}

#[test]
fn a_plain_pod_is_stopped_at_its_timeout() {
    let running =
        json!({"containerStatuses": [container("job", json!({"running": {"startedAt": at(100).to_string()}}))]});
    let pod = pod("Running", running, json!({}));
    let before = still(judge(&job(json!({})), Some(&pod), &expected(false, false), at(159)));
    assert_eq!((before.stop, before.look), (None, Next::After(Duration::from_secs(1))));
    let after = still(judge(&job(json!({})), Some(&pod), &expected(false, false), at(160)));
    assert_eq!(after.stop.map(|(class, _)| class), Some(FailureClass::DeadlineExceeded));
    // The agent counts for itself.
    assert_eq!(still(judge(&job(json!({})), Some(&pod), &expected(true, false), at(999))).stop, None);
}

#[test]
fn nothing_follows_a_deleted_pod_before_it_is_gone() {
    let running =
        json!({"containerStatuses": [container("job", json!({"running": {"startedAt": at(1).to_string()}}))]});
    let mut deleted = pod("Running", running, json!({}));
    deleted.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(130)));
    deleted.metadata.deletion_grace_period_seconds = Some(120);
    still(judge(&job(json!({})), Some(&deleted), &expected(false, false), at(100)));
    let told = result(judge(&job(json!({})), Some(&deleted), &expected(false, false), at(161)));
    assert_eq!(told.failure, Some(FailureClass::PodDeleted));
}

#[test]
fn a_recorded_result_outlives_its_pod() {
    let recorded = JobResult::succeeded().ended(Some(at(10)), Some(5));
    let annotated = job(json!({ names::RESULT_ANNOTATION: serde_json::to_string(&recorded).unwrap() }));
    assert_eq!(
        judge(&annotated, None, &expected(false, false), at(20)),
        Judgement::Over { result: recorded, recorded: true }
    );
}

#[test]
fn a_job_without_a_pod_is_given_up_after_a_quarter_of_an_hour() {
    assert_eq!(still(judge(&job(json!({})), None, &expected(false, false), at(899))).stop, None);
    let then = still(judge(&job(json!({})), None, &expected(false, false), at(900)));
    assert_eq!(then.stop.map(|(class, _)| class), Some(FailureClass::Unschedulable));
}

#[test]
fn a_foreign_container_that_never_ends_is_ended() {
    let lingering = pod("Running", ended(0, "Completed", ""), json!({}));
    assert_eq!(lingers(&lingering, at(10)), Some(LINGER_LIMIT));
    assert_eq!(lingers(&lingering, at(10 + 150)), Some(Duration::ZERO));
    assert_eq!(lingers(&pod("Succeeded", ended(0, "Completed", ""), json!({})), at(500)), None);
}

#[test]
fn a_volumes_missing_secret_is_told_at_once_and_given_up_after_half_a_minute() {
    let creating =
        json!({"containerStatuses": [container("job", json!({"waiting": {"reason": "ContainerCreating"}}))]});
    let mut pod = pod("Pending", creating, json!({}));
    pod.spec.as_mut().unwrap().volumes =
        serde_json::from_value(json!([{"name": "v", "secret": {"secretName": "absent"}}])).unwrap();
    let judged = |second| judge(&job(json!({})), Some(&pod), &expected(false, false), at(second));
    // Whether it waits for the Secret is asked after five seconds.
    assert_eq!(still(judged(2)).look, Next::After(Duration::from_secs(3)));
    let text = "Secret absent does not exist";
    let told = still(lacking(judged(6), Some(&pod), Some(text), at(6)));
    assert_eq!(
        (told.message.as_deref(), told.stop, told.look),
        (Some(text), None, Next::After(Duration::from_secs(24)))
    );
    let then = still(lacking(judged(30), Some(&pod), Some(text), at(30)));
    assert_eq!(then.stop, Some((FailureClass::Configuration, text.to_owned())));
    assert_eq!(lacking(judged(30), Some(&pod), None, at(30)), judged(30));
}

#[rstest]
#[case(r#"{"coverage":5000}"#, None, None)]
#[case(
    r#"{"coverage":4999}"#,
    Some(FailureClass::CoverageBelowThreshold),
    Some("49.9 % of the lines are covered, at least 50 % must be")
)]
#[case(
    r#"{"problem":"report `coverage.xml` is unreadable: x"}"#,
    Some(FailureClass::CoverageBelowThreshold),
    Some("nothing was measured: report")
)]
#[case("garbage", Some(FailureClass::Infrastructure), Some("can't be proved"))]
fn a_coverage_report_must_have_measured_its_threshold(
    #[case] report: &str,
    #[case] failure: Option<FailureClass>,
    #[case] evidence: Option<&str>,
) {
    let pod = pod("Succeeded", with_collector(ended(0, "Completed", ""), report), json!({}));
    let goal = crate::pipelines::steps::CoverageGoal { threshold: Some(5_000) };
    let expected = Expectations { reports: vec![ReportKind::Coverage], coverage: Some(goal), ..expected(true, true) };
    let told = result(judge(&job(json!({})), Some(&pod), &expected, at(20)));
    assert_eq!(told.failure, failure);
    assert!(evidence.is_none_or(|evidence| told.message.as_ref().unwrap().contains(evidence)), "{told:?}");
}

const CHECKED: &str = r#"{"migration":{"outcome":"Checked","verdict":"VERDICT","warnings":1,"step":null,"expands":true,
    "seconds":3,"message":"downgrade: it leaves another schema"}}"#;

#[rstest]
#[case::passed(0, CHECKED.replace("VERDICT", "Passed"), None, None)]
#[case::warning(0, CHECKED.replace("VERDICT", "Warning"), None, Some("1 warning(s): downgrade: it leaves"))]
#[case::failed(1, CHECKED.replace("VERDICT", "Failed"), Some(FailureClass::CommandFailure), Some("downgrade: it"))]
#[case::forged_success(1, CHECKED.replace("VERDICT", "Passed"), Some(FailureClass::CommandFailure), Some("exit code 1"))]
#[case::forged_failure(0, CHECKED.replace("VERDICT", "Failed"), Some(FailureClass::Infrastructure), Some("nothing is proved"))]
#[case::no_report(0, "{}".to_owned(), Some(FailureClass::Infrastructure), Some("nothing is proved"))]
#[case::killed(137, "{}".to_owned(), Some(FailureClass::CommandFailure), Some("exit code 137"))]
#[case::no_server(
    1,
    r#"{"migration":{"outcome":"Failed","failure":"Unreachable","message":"no answer"}}"#.to_owned(),
    Some(FailureClass::ServiceNotReady),
    Some("no answer")
)]
#[case::refused(
    1,
    r#"{"migration":{"outcome":"Failed","failure":"Configuration","message":"is not empty"}}"#.to_owned(),
    Some(FailureClass::Configuration),
    Some("is not empty")
)]
fn a_migration_check_is_told_in_its_own_words(
    #[case] code: i32,
    #[case] report: String,
    #[case] failure: Option<FailureClass>,
    #[case] evidence: Option<&str>,
) {
    let reason = if code == 0 { "Completed" } else { "Error" };
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let pod = pod(phase, with_collector(ended(code, reason, ""), &report), json!({}));
    let expected = Expectations { reports: Vec::new(), migration: true, ..expected(true, true) };
    let told = result(judge(&job(json!({})), Some(&pod), &expected, at(20)));
    assert_eq!(told.failure, failure, "{told:?}");
    assert!(evidence.is_none_or(|evidence| told.message.as_ref().unwrap().contains(evidence)), "{told:?}");
}

#[test]
fn a_success_says_what_it_did_without() {
    let mut status = with_collector(ended(0, "Completed", ""), r#"{"coverage":8000}"#);
    let fetched = r#"{"outcome":"Fetched","files":3,"missing":"no coverage data of smoke-tests"}"#;
    let fetch = json!({"terminated": {"exitCode": 0, "message": fetched, "finishedAt": at(3).to_string()}});
    status["initContainerStatuses"].as_array_mut().unwrap().push(container("fetch", fetch));
    let pod = pod("Succeeded", status, json!({}));
    let told = result(judge(
        &job(json!({})),
        Some(&pod),
        &Expectations { reports: Vec::new(), ..expected(true, true) },
        at(20),
    ));
    assert_eq!(told.phase, JobPhase::Succeeded);
    assert_eq!(told.message.as_deref(), Some("no coverage data of smoke-tests"));
}

#[test]
fn a_job_that_promised_coverage_and_measured_none_says_so() {
    let pod = pod("Succeeded", with_collector(ended(0, "Completed", ""), "{}"), json!({}));
    let expected = Expectations { reports: vec![ReportKind::Coverage], ..expected(true, true) };
    let told = result(judge(&job(json!({})), Some(&pod), &expected, at(20)));
    assert_eq!(told.phase, JobPhase::Succeeded);
    assert!(told.message.unwrap().contains("--cov"));
}

#[rstest]
#[case("Nothing", FailureClass::CoverageBelowThreshold)]
#[case("Unreachable", FailureClass::Infrastructure)]
fn a_fetch_that_failed_is_told_by_its_cause(#[case] failure: &str, #[case] class: FailureClass) {
    let report = format!(r#"{{"outcome":"Failed","failure":"{failure}","message":"no coverage data of a"}}"#);
    let state = json!({"terminated": {"exitCode": 1, "message": report, "finishedAt": at(3).to_string()}});
    let pod = pod("Failed", json!({"initContainerStatuses": [container("fetch", state)]}), json!({}));
    let told = result(judge(&job(json!({})), Some(&pod), &expected(true, true), at(20)));
    assert_eq!(told.failure, Some(class));
    assert!(told.message.unwrap().contains("no coverage data of a"));
}

/// A pod that made an environment: `environment` named it, the command ended so, the collector told this.
fn making(code: i32, collected: &str) -> JobResult {
    making_with(code, collected, Value::Null, Value::Null)
}

fn making_with(code: i32, collected: &str, image: Value, problem: Value) -> JobResult {
    let hash = format!("sha256:{}", "0".repeat(64));
    let named = json!({"outcome": "Identified", "hash": hash, "platform": "arm64", "files": 2, "image": image, "problem": problem}).to_string();
    let state =
        |message: &str| json!({"terminated": {"exitCode": 0, "message": message, "finishedAt": at(3).to_string()}});
    let mut status = ended(code, "Completed", "");
    status["initContainerStatuses"] =
        json!([container("environment", state(&named)), container("collector", state(collected))]);
    let pod = pod(if code == 0 { "Succeeded" } else { "Failed" }, status, json!({}));
    let outputs = vec!["error".to_owned()];
    let expected = Expectations { reports: Vec::new(), outputs, environment: true, ..expected(true, true) };
    result(judge(&job(json!({})), Some(&pod), &expected, at(20)))
}

#[test]
fn an_environment_is_what_was_read_before_foreign_code_ran() {
    let told = making(0, r#"{"uploaded": 3, "outputs": {"hash": "forged", "error": "x", "platform": "forged"}}"#);
    assert_eq!((told.phase, told.message.as_deref()), (JobPhase::Succeeded, None));
    assert_eq!(told.outputs["platform"], "arm64");
    assert!(told.outputs["hash"].starts_with("sha256:000") && told.outputs.len() == 2);
}

#[rstest]
#[case(0, r#"{"problem": "`environment` was not kept: the store answered 507"}"#, FailureClass::Infrastructure, "507")]
#[case(0, "", FailureClass::Infrastructure, "the collector left no report")]
#[case(
    1,
    r#"{"outputs": {"error": "ERROR: No matching distribution found for x"}}"#,
    FailureClass::CommandFailure,
    "exit code 1; ERROR: No matching distribution found for x"
)]
fn an_environment_that_was_not_made_or_kept_says_why(
    #[case] code: i32,
    #[case] collected: &str,
    #[case] class: FailureClass,
    #[case] why: &str,
) {
    let told = making(code, collected);
    assert_eq!(told.failure, Some(class));
    assert!(told.message.as_deref().unwrap().contains(why), "{told:?}");
}

#[test]
fn an_environment_of_which_there_is_an_image_needs_nothing_kept() {
    let told = making_with(0, r#"{"problem": "`environment` was not kept"}"#, json!("ghcr.io/a@sha256:1"), Value::Null);
    assert_eq!((told.phase, told.outputs["image"].as_str()), (JobPhase::Succeeded, "ghcr.io/a@sha256:1"));
    let unclear = making_with(0, "{}", Value::Null, json!("ghcr.io/a: denied"));
    assert_eq!((unclear.phase, unclear.message.as_deref()), (JobPhase::Succeeded, Some("ghcr.io/a: denied")));
}

#[rstest]
#[case(0, r#"{"outcome": "Published", "image": "a@sha256:0", "found": true}"#, None)]
#[case(0, "", Some(FailureClass::Infrastructure))]
#[case(
    1,
    r#"{"outcome": "Failed", "failure": "Unreachable", "message": "denied"}"#,
    Some(FailureClass::Infrastructure)
)]
#[case(1, r#"{"outcome": "Published", "image": "a@sha256:0", "found": true}"#, Some(FailureClass::Infrastructure))]
fn an_image_is_published_when_the_agent_read_it_back(
    #[case] code: i32,
    #[case] message: &str,
    #[case] failure: Option<FailureClass>,
) {
    let pod = pod(if code == 0 { "Succeeded" } else { "Failed" }, ended(code, "Completed", message), json!({}));
    let expected = Expectations { publishes: true, ..expected(false, false) };
    assert_eq!(result(judge(&job(json!({})), Some(&pod), &expected, at(20))).failure, failure);
}

#[rstest]
#[case("Requirements", FailureClass::Configuration)]
#[case("Archive", FailureClass::Configuration)]
#[case("Unreachable", FailureClass::Infrastructure)]
fn an_environment_that_can_not_be_named_or_brought_is_told_by_its_cause(
    #[case] failure: &str,
    #[case] class: FailureClass,
) {
    let report = format!(r#"{{"outcome":"Failed","failure":"{failure}","message":"requirement file a.txt"}}"#);
    let state = json!({"terminated": {"exitCode": 1, "message": report, "finishedAt": at(3).to_string()}});
    let pod = pod("Failed", json!({"initContainerStatuses": [container("environment", state)]}), json!({}));
    let told = result(judge(&job(json!({})), Some(&pod), &expected(true, true), at(20)));
    assert_eq!(told.failure, Some(class));
    assert!(told.message.unwrap().contains("environment: requirement file a.txt"));
}

#[test]
fn an_eviction_is_written_down_while_the_pod_shows_it_and_told_when_it_is_gone() {
    let disrupted =
        json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]});
    let mut evicted = pod("Running", disrupted, json!({}));
    evicted.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(30)));
    let seen = still(judge(&job(json!({})), Some(&evicted), &expected(false, false), at(10)));
    let loss = seen.loss.unwrap();
    assert_eq!((loss.how, loss.words.as_str()), (Loss::Evicted, "node n"));

    let written = serde_json::to_string(&loss).unwrap();
    let noted = |conditions: Value| -> Job {
        let mut job = job(json!({ names::LOSS_ANNOTATION: written }));
        job.status = serde_json::from_value(json!({ "conditions": conditions })).unwrap();
        job
    };
    let again = still(judge(&noted(json!([])), Some(&evicted), &expected(false, false), at(10)));
    assert_eq!(again.loss, None, "written down once");
    let failed = noted(json!([{"type": "Failed", "status": "True"}]));
    let gone = result(judge(&failed, None, &expected(false, false), at(40)));
    assert_eq!(gone.failure, Some(FailureClass::Evicted));
    assert!(gone.message.unwrap().ends_with("node n"));
}
