#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server that gives this answer to one request, and what was asked.
async fn answering(answer: &'static [u8]) -> (Store, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let count = stream.read(&mut asked).await.unwrap();
        stream.write_all(answer).await.unwrap();
        String::from_utf8_lossy(asked.get(..count).unwrap_or_default()).into_owned()
    });
    (Store::at(&format!("http://{address}")).unwrap(), asked)
}

fn listing(body: &str) -> &'static [u8] {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    Box::leak(answer.into_bytes().into_boxed_slice())
}

#[tokio::test]
async fn entries_whose_names_lead_elsewhere_are_left_out() {
    let entries = [
        ("r-1", "good.txt"),
        ("r-1", "../evil"),
        ("r-1", "a/b"),
        ("r-1", ".hidden"),
        ("r-1", "esc\\u001b[2J"),
        ("..", "x"),
        ("R/../..", "x"),
        ("r-1", ""),
    ];
    let entries: Vec<String> =
        entries.iter().map(|(job, name)| format!(r#"{{"job":"{job}","name":"{name}","size":1}}"#)).collect();
    let body = format!(r#"{{"namespace":"ci","run":"r","truncated":true,"artifacts":[{}]}}"#, entries.join(","));
    let (store, asked) = answering(listing(&body)).await;
    let found = store.list("ci", "r").await.unwrap();
    let names: Vec<&str> = found.artifacts.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!((names, found.truncated), (vec!["good.txt"], true));
    assert!(asked.await.unwrap().starts_with("GET /v1/artifacts/ci/r HTTP/1.1\r\n"));
}

#[rstest]
#[case(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "no such thing")]
#[case(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "answered 403")]
#[case(b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n", "answered 302")]
#[case(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<htm", "does not answer")]
#[case(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<html", "can't be used")]
#[case(b"nonsense\r\n\r\n", "does not answer")]
#[tokio::test]
async fn an_answer_that_is_no_listing_is_told(#[case] answer: &'static [u8], #[case] expected: &str) {
    let (store, _) = answering(answer).await;
    let told = store.list("ci", "r").await.unwrap_err().to_string();
    assert!(told.contains(expected), "{told}");
}

#[tokio::test]
async fn a_content_longer_than_asked_for_is_not_kept_in_memory() {
    let (store, _) = answering(listing(&"x".repeat(1000))).await;
    let told = store.read(["ci", "r", "r-1", "summary.json"], 999).await.unwrap_err().to_string();
    assert!(told.contains("longer than 999 bytes"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = Store::at(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let (answer, _silent) = tokio::join!(store.list("ci", "r"), listener.accept());
    assert!(matches!(answer, Err(StoreError::Unreachable(_))), "{answer:?}");
    assert!(Duration::from_secs(1) < ANSWER);
}

#[rstest]
#[case(["ci", "r", "r-1", "../x"])]
#[case(["ci", "..", "r-1", "x"])]
#[case(["ci", "r", "a/b", "x"])]
#[case(["ci", "r", "r-1", "x\r\nHost: y"])]
#[tokio::test]
async fn names_that_would_change_the_path_are_never_asked_for(#[case] names: [&str; 4]) {
    let store = Store::at("http://127.0.0.1:1").unwrap();
    assert!(matches!(store.get(names).await, Err(StoreError::Name(_))));
}

#[rstest]
#[case("https://127.0.0.1:1")]
#[case("http://user@127.0.0.1:1")]
#[case("http://127.0.0.1:1/elsewhere")]
#[case("ftp://x")]
#[case("http://")]
fn only_plain_addresses_of_plain_http_are_taken(#[case] address: &str) {
    assert!(matches!(Store::at(address), Err(StoreError::Address(_))));
}

#[rstest]
#[case("http://timetracker-artifacts.timetracker-system:8080/ci/run-1", Some("timetracker-system"))]
#[case("http://timetracker-artifacts.ops.svc.cluster.local:8080", Some("ops"))]
#[case("http://10.0.0.1:8080", None)]
#[case("http://localhost:8080", None)]
#[case("no address", None)]
fn the_stores_namespace_is_told_by_its_address(#[case] address: &str, #[case] expected: Option<&str>) {
    assert_eq!(namespace_of(address).as_deref(), expected);
}
