//! Logs that the operator keeps: by its account alone, and nothing but logs.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::*;

const ACCOUNT: &str = "system:serviceaccount:timetracker-system:timetracker-operator";
const FOLDER: &str = "/v1/artifacts/ci/run-1/run-1-0123456789";

/// What the token of the operator's pod says.
fn operators() -> Value {
    let mut claims = claims("timetracker-system", "timetracker-operator-5d8f7c9b4-x7k2p");
    claims["aud"] = json!(["timetracker-artifacts-logs"]);
    claims["sub"] = json!(ACCOUNT);
    claims
}

async fn with_account(place: In) -> Store {
    store(place, &["--log-account", ACCOUNT]).await
}

#[rstest]
#[tokio::test]
async fn the_operator_keeps_the_log_of_any_job_and_replaces_it(#[values(In::Directory, In::Bucket)] place: In) {
    let store = with_account(place).await;
    let token = store.issuer.sign(&operators());
    let other = "/v1/artifacts/other/run-2/run-2-9876543210";
    for path in [FOLDER, other] {
        for name in ["log-head.txt", "log-tail.txt", "log.json"] {
            assert_eq!(store.put(&format!("{path}/{name}"), &token, "first").await, 201, "{path}/{name}");
            assert_eq!(store.put(&format!("{path}/{name}"), &token, "second").await, 201, "{path}/{name}");
        }
    }
    assert_eq!(store.get(LOG).await.text().await.unwrap(), "second");
    // The job's own collector goes on as ever.
    assert_eq!(store.put(LOG, &store.own(), "own").await, 201);
}

#[rstest]
#[case::another_artifact(&format!("{FOLDER}/summary.json"))]
#[case::an_artifact_of_the_job(&format!("{FOLDER}/report"))]
#[case::a_service(&format!("{FOLDER}/service-log-postgres.txt"))]
#[case::nearly_a_log(&format!("{FOLDER}/log-head.txt.gz"))]
#[case::no_job_of_that_run("/v1/artifacts/ci/run-1/run-2-0123456789/log-head.txt")]
#[case::no_hash("/v1/artifacts/ci/run-1/run-1-mine/log-head.txt")]
#[tokio::test]
async fn the_operators_token_writes_nothing_but_logs_of_jobs(#[case] path: &str) {
    let store = with_account(In::Directory).await;
    assert_eq!(store.put(path, &store.issuer.sign(&operators()), "x").await, 403);
    assert!(store.files().is_empty());
}

#[rstest]
// Pods may ask for a token of any audience, but only of their own account.
#[case::a_jobs_pod("sub", json!("system:serviceaccount:ci:default"), 403)]
#[case::the_same_name_elsewhere("sub", json!("system:serviceaccount:ci:timetracker-operator"), 403)]
#[case::more_behind_the_name("sub", json!("system:serviceaccount:timetracker-system:timetracker-operator-2"), 403)]
#[case::nobody("sub", Value::Null, 403)]
#[case::for_the_api_server("aud", json!(["https://kubernetes.default.svc"]), 401)]
#[case::for_reading("aud", json!(["timetracker-artifacts-read"]), 401)]
// That one opens a pod's own folder, and the operator's pod has none.
#[case::for_collectors("aud", json!(["timetracker-artifacts"]), 403)]
#[case::for_both("aud", json!(["timetracker-artifacts", "timetracker-artifacts-logs"]), 403)]
#[case::over("exp", json!(1), 401)]
#[case::not_yet("nbf", json!(4_000_000_000_u64), 401)]
#[tokio::test]
async fn no_other_token_writes_a_log_of_a_job_that_is_not_its_own(
    #[case] claim: &str,
    #[case] value: Value,
    #[case] expected: u16,
) {
    let store = with_account(In::Directory).await;
    let mut claims = operators();
    claims[claim] = value;
    assert_eq!(store.put(LOG, &store.issuer.sign(&claims), "x").await, expected);
    assert!(store.files().is_empty());
}

#[tokio::test]
async fn a_token_that_somebody_else_signed_writes_nothing() {
    let store = with_account(In::Directory).await;
    let stranger = Issuer::elliptic("key-1");
    assert_eq!(store.put(LOG, &stranger.sign(&operators()), "x").await, 401);
}

#[tokio::test]
async fn the_operators_token_reads_nothing() {
    let store = with_account(In::Directory).await;
    let token = store.issuer.sign(&operators());
    assert_eq!(store.put(LOG, &token, "x").await, 201);
    assert_eq!(store.get_from_pod(LOG, Some(&token)).await, 401);
    assert_eq!(store.get_from_pod("/v1/artifacts/ci/run-1", Some(&token)).await, 401);
}

#[tokio::test]
async fn a_store_that_was_told_no_account_takes_logs_from_collectors_alone() {
    let store = store(In::Directory, &[]).await;
    assert_eq!(store.put(LOG, &store.issuer.sign(&operators()), "x").await, 401);
    assert_eq!(store.put(LOG, &store.own(), "x").await, 201);
}
