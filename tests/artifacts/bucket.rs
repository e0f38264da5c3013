//! What only a bucket does: it is elsewhere, may be wrong, and may go away.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rstest::rstest;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::s3::{BUCKET, Server};
use crate::support::*;

const RUN: &str = "/v1/artifacts/ci/run-1";
const DAY: Duration = Duration::from_secs(86_400);

/// The program, writing into the file what it says.
fn program(keys: &Path, listen: &str, arguments: &[String], log: &Path) -> Child {
    let output = File::create(log).unwrap();
    let mut store = Command::new(env!("CARGO_BIN_EXE_timetracker-operator"));
    store.args(["artifacts", "--listen", listen, "--jwks-file"]).arg(keys).args(arguments).env_clear();
    store.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap()
}

/// Starts the program with these arguments, and returns what it says as soon as it has said these words.
async fn said(server: &Server, change: impl FnOnce(&mut Vec<String>), words: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (keys, log) = (folder.path().join("keys.json"), folder.path().join("log"));
    fs::write(&keys, key_set(&[&Issuer::elliptic("key-1")])).unwrap();
    let mut arguments = server.arguments("of-programs");
    change(&mut arguments);
    let mut store = program(&keys, "127.0.0.1:0", &arguments, &log);
    let text = || fs::read_to_string(&log).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !text().contains(words) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _ = store.kill();
    let _ = store.wait();
    assert!(text().contains(words), "{words}: {}", text());
    text()
}

fn set(arguments: &mut [String], option: &str, value: &str) {
    let at = arguments.iter().position(|argument| argument == option).unwrap();
    arguments[at + 1] = value.to_owned();
}

#[tokio::test]
async fn a_wrong_secret_key_is_told_with_bucket_cause_and_next_step() {
    let server = Server::shared();
    let wrong = tempfile::tempdir().unwrap();
    fs::write(wrong.path().join("access-key-id"), "test-key").unwrap();
    fs::write(wrong.path().join("secret-access-key"), "not-the-secret").unwrap();
    let change = |arguments: &mut Vec<String>| set(arguments, "--s3-credentials", wrong.path().to_str().unwrap());
    let log = said(&server, change, "put both into the Secret again").await;
    assert!(log.contains(&format!("bucket `{BUCKET}` at http://127.0.0.1:")), "{log}");
    assert!(log.contains("it answered SignatureDoesNotMatch"), "{log}");
    assert!(!log.contains("not-the-secret") && !log.contains("AWS4-HMAC"), "{log}");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_told() {
    let change = |arguments: &mut Vec<String>| set(arguments, "--s3-bucket", "no-such-bucket");
    let log = said(&Server::shared(), change, "make the bucket, or name another one").await;
    assert!(log.contains("bucket `no-such-bucket`") && log.contains("it answered NoSuchBucket"), "{log}");
}

#[tokio::test]
async fn an_endpoint_where_nothing_listens_is_told() {
    let change = |arguments: &mut Vec<String>| set(arguments, "--s3-endpoint", "http://127.0.0.1:1");
    let log = said(&Server::shared(), change, "look whether the endpoint is right").await;
    assert!(log.contains("Connection refused"), "{log}");
}

#[rstest]
#[case::no_tls(|arguments: &mut Vec<String>| arguments.retain(|argument| argument != "--s3-allow-http"), "it has no TLS")]
#[case::no_name(|arguments: &mut Vec<String>| set(arguments, "--s3-bucket", "../etc"), "is no name of a bucket")]
#[case::no_prefix(|arguments: &mut Vec<String>| set(arguments, "--s3-prefix", ""), "can't be the prefix")]
#[case::no_files(|arguments: &mut Vec<String>| set(arguments, "--s3-credentials", "/nonexistent"), "/nonexistent/access-key-id")]
#[case::no_credentials(|arguments: &mut Vec<String>| {
    let at = arguments.iter().position(|argument| argument == "--s3-credentials").unwrap();
    arguments.drain(at..at + 2);
}, "there are no credentials: expected --s3-credentials")]
#[case::both(|arguments: &mut Vec<String>| {
    arguments.extend(["--directory".to_owned(), "/tmp".to_owned()]);
}, "cannot be used with")]
#[tokio::test]
async fn settings_that_make_no_sense_refuse_to_start(#[case] change: fn(&mut Vec<String>), #[case] words: &str) {
    said(&Server::shared(), change, words).await;
}

/// Waits until readiness is told with that status.
async fn wait_for_readiness(store: &Store, status: u16) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while store.get_from_pod("/readyz", None).await != status {
        assert!(tokio::time::Instant::now() < deadline, "waited 30 s for {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn while_the_server_is_down_uploads_and_downloads_get_503_and_readiness_says_so() {
    let server = Arc::new(Server::start());
    let store = store(In::BucketOf(Arc::clone(&server)), &["--probe-interval", "200ms"]).await;
    wait_for_readiness(&store, 200).await;
    assert_eq!(store.put(LOG, &store.own(), "before").await, 201);
    server.crash();
    let refused = client().put(store.url(LOG)).bearer_auth(store.own()).body("after").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert!(refused.text().await.unwrap().contains("the bucket can't be used"));
    assert_eq!(store.get(LOG).await.status(), 503, "not as if there were none");
    assert_eq!(store.get(RUN).await.status(), 503);
    wait_for_readiness(&store, 503).await;
    assert_eq!(store.get("/healthz").await.status(), 200, "a restart would not help");
    server.resume();
    wait_for_readiness(&store, 200).await;
    assert_eq!(store.get(LOG).await.text().await.unwrap(), "before");
    assert_eq!(store.put(LOG, &store.own(), "after").await, 201);
}

#[tokio::test]
async fn a_bucket_that_was_deleted_is_not_told_as_an_artifact_that_is_missing() {
    let server = Arc::new(Server::start());
    let store = store(In::BucketOf(Arc::clone(&server)), &[]).await;
    assert_eq!(store.get(LOG).await.status(), 404);
    fs::remove_dir(server.bucket()).unwrap();
    assert_eq!(store.get(LOG).await.status(), 503);
    assert_eq!(store.get(RUN).await.status(), 503);
    assert_eq!(store.put(LOG, &store.own(), "text").await, 503);
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_publishes_nothing_and_the_upload_can_be_repeated() {
    let server = Arc::new(Server::start());
    let store = store(In::BucketOf(Arc::clone(&server)), &[]).await;
    assert_eq!(store.put(LOG, &store.own(), "before").await, 201);
    let content = vec![7_u8; 2 * store.part + 5];
    let begun = store.part + (128 << 10);
    let mut stream = store.connect().await;
    stream.write_all(store.head(content.len()).as_bytes()).await.unwrap();
    stream.write_all(&content[..begun]).await.unwrap();
    wait_until("the first part", || store.unfinished(LOG) > 0).await;
    server.crash();
    // The store may answer before it has read everything.
    let _ = stream.write_all(&content[begun..]).await;
    assert_eq!(first_line(&mut stream).await, "HTTP/1.1 503 Service Unavailable");
    server.resume();
    assert_eq!(store.get(LOG).await.text().await.unwrap(), "before");
    for _ in 0..2 {
        assert_eq!(store.put(LOG, &store.own(), content.clone()).await, 201);
    }
    assert_eq!(store.get(LOG).await.bytes().await.unwrap(), content);
    assert_eq!(store.files(), [format!("ci/run-1/{JOB}/log-head.txt")]);
}

#[tokio::test]
async fn what_a_killed_store_left_unfinished_is_removed_once_it_is_old_enough() {
    let next = start_at(In::Bucket, "of-killed", Issuer::elliptic("key-1"), &[]).await;
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let log = next.keys_file.with_file_name("log");
    let mut killed = program(&next.keys_file, &address, &Server::shared().arguments("of-killed"), &log);
    wait_until("the store to listen", || std::net::TcpStream::connect(&address).is_ok()).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(next.head(3 * next.part).as_bytes()).await.unwrap();
    stream.write_all(&vec![7; next.part + (128 << 10)]).await.unwrap();
    wait_until("the first part", || next.unfinished(LOG) > 0).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(next.put(LOG, &next.own(), "text").await, 201);
    assert_eq!(next.unfinished(LOG), 1, "it may be of a store that still runs");
    // Servers tell whole seconds.
    let begun = SystemTime::now();
    wait_until("two seconds", || begun.elapsed().unwrap() > Duration::from_secs(2)).await;
    let soon = ["--upload-timeout", "500ms", "--s3-unfinished-after", "1s"];
    let last = start_at(In::Bucket, "of-killed", Issuer::elliptic("key-1"), &soon).await;
    wait_until("its removal", || last.unfinished(LOG) == 0).await;
    assert_eq!(last.get(LOG).await.text().await.unwrap(), "text");
}

fn object(folder: &Path, path: &str, age: Duration) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

#[tokio::test]
async fn more_artifacts_than_one_page_of_s3_holds_are_listed() {
    let store = store(In::Bucket, &[]).await;
    for number in 0..1100 {
        object(&store.directory, &format!("ci/run-1/run-1-000000000{}/log-{number}", number % 8), Duration::ZERO);
    }
    let listing: serde_json::Value = store.get(RUN).await.json().await.unwrap();
    assert_eq!(listing["artifacts"].as_array().unwrap().len(), 1100);
    assert_eq!(listing["truncated"], false);
}

#[tokio::test]
async fn old_runs_go_and_nothing_else_that_lies_in_the_bucket() {
    let server = Server::shared();
    let prefix = "of-retention";
    let folder = server.bucket().join(prefix);
    for number in 0..30 {
        object(&folder, &format!("ci/old/old-0123456789/log-{number}"), 40 * DAY);
    }
    object(&folder, "ci/young/young-0123456789/first", 40 * DAY);
    object(&folder, "ci/young/young-0123456789/last", DAY);
    object(&folder, "ci/old/notes", 40 * DAY);
    object(&server.bucket(), "of-others/ci/old/old-0123456789/log", 40 * DAY);
    let store = start_at(In::Bucket, prefix, Issuer::elliptic("key-1"), &["--retention", "720h"]).await;
    wait_until("the sweep", || !folder.join("ci/old/old-0123456789").exists()).await;
    assert_eq!(store.files(), ["ci/old/notes", "ci/young/young-0123456789/first", "ci/young/young-0123456789/last"]);
    assert!(server.bucket().join("of-others/ci/old/old-0123456789/log").exists());
}

#[tokio::test]
async fn a_certificate_of_an_own_authority_is_trusted_when_it_is_named() {
    let server = Arc::new(Server::start_with_tls());
    let authority = server.authority();
    let trusting = ["--s3-trusted-ca-file", authority.to_str().unwrap()];
    let trusting = start_at(In::BucketOf(Arc::clone(&server)), "of-tls", Issuer::elliptic("key-1"), &trusting).await;
    assert_eq!(trusting.put(LOG, &trusting.own(), "text").await, 201);
    let other = store(In::BucketOf(server), &[]).await;
    assert_eq!(other.put(LOG, &other.own(), "text").await, 503);
}

#[tokio::test]
async fn keys_that_were_exchanged_are_taken_without_a_restart() {
    let server = Arc::new(Server::start());
    let store = store(In::BucketOf(Arc::clone(&server)), &[]).await;
    let secret = server.credentials().join("secret-access-key");
    let right = fs::read_to_string(&secret).unwrap();
    fs::write(&secret, "withdrawn").unwrap();
    assert_eq!(store.put(LOG, &store.own(), "text").await, 503);
    fs::write(&secret, right).unwrap();
    assert_eq!(store.put(LOG, &store.own(), "text").await, 201);
}
