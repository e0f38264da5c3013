//! What a collector uploads, and the bounds of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use rstest::rstest;

use crate::support::*;

#[rstest]
#[tokio::test]
async fn what_a_collector_uploads_is_kept_and_repeating_it_changes_nothing(
    #[values(In::Directory, In::Bucket)] place: In,
) {
    let store = store(place, &[]).await;
    // Two parts and a bit.
    let content: Vec<u8> = (0..2 * store.part + 7).map(|number| (number % 251) as u8).collect();
    assert_eq!(store.put(LOG, &store.own(), content.clone()).await, 201);
    assert_eq!(store.put(LOG, &store.own(), content.clone()).await, 201);
    assert_eq!(store.files(), [format!("ci/run-1/{JOB}/log-head.txt")]);
    assert_eq!(store.get(LOG).await.bytes().await.unwrap(), content);
    store.stop().await;
}

#[rstest]
#[tokio::test]
async fn an_empty_artifact_is_one(#[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &[]).await;
    assert_eq!(store.put(LOG, &store.own(), "").await, 201);
    assert_eq!(store.get(LOG).await.bytes().await.unwrap(), "");
}

#[tokio::test]
async fn an_rsa_key_as_most_clusters_have_it_is_taken() {
    let store = start(In::Directory, Issuer::rsa("rsa-1"), &[]).await;
    assert_eq!(store.put(LOG, &store.own(), "text").await, 201);
}

#[rstest]
#[tokio::test]
async fn content_that_is_not_what_its_digest_says_is_not_kept(#[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &[]).await;
    let put = async |digest: &str| {
        let request = client().put(store.url(LOG)).bearer_auth(store.own()).header("Content-Digest", digest);
        request.body("text").send().await.unwrap().status().as_u16()
    };
    let right = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(b"text")));
    let wrong = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(b"other")));
    assert_eq!(put(&wrong).await, 400);
    assert_eq!(put("sha-256=text").await, 400);
    assert!(store.files().is_empty());
    assert_eq!(put(&format!("md5=:AAAA:, {right}")).await, 201);
}

#[rstest]
#[tokio::test]
async fn an_artifact_that_is_too_large_is_refused_announced_or_not(#[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &["--max-artifact-bytes", "1000"]).await;
    let announced = format!(
        "PUT {LOG} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {}\r\nContent-Length: 1001\r\n\r\n",
        store.own()
    );
    assert_eq!(store.raw(announced.as_bytes()).await, "HTTP/1.1 413 Payload Too Large");
    let chunked = format!(
        "PUT {LOG} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n",
        store.own(),
        "x".repeat(1001)
    );
    assert_eq!(store.raw(chunked.as_bytes()).await, "HTTP/1.1 413 Payload Too Large");
    assert!(store.files().is_empty());
    assert_eq!(store.put(LOG, &store.own(), "x".repeat(1000)).await, 201);
}

#[rstest]
#[tokio::test]
async fn the_artifacts_of_a_job_are_bounded_together_and_a_replaced_one_counts_once(
    #[values(In::Directory, In::Bucket)] place: In,
) {
    let store = store(place, &["--max-job-bytes", "1000"]).await;
    let other = LOG.replace("head", "tail");
    assert_eq!(store.put(LOG, &store.own(), "x".repeat(600)).await, 201);
    assert_eq!(store.put(LOG, &store.own(), "x".repeat(600)).await, 201);
    assert_eq!(store.put(&other, &store.own(), "x".repeat(401)).await, 413);
    assert_eq!(store.put(&other, &store.own(), "x".repeat(400)).await, 201);
}

#[tokio::test]
async fn a_volume_without_room_refuses_with_507() {
    let store = store(In::Directory, &["--reserve-bytes", "9000000000000000000"]).await;
    assert_eq!(store.put(LOG, &store.own(), "text").await, 507);
    assert!(store.files().is_empty());
}

#[rstest]
#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing_and_what_was_there_before(
    #[values(In::Directory, In::Bucket)] place: In,
) {
    let store = store(place, &[]).await;
    assert_eq!(store.put(LOG, &store.own(), "before").await, 201);
    let mut stream = store.connect().await;
    stream.write_all(store.head(3 * store.part).as_bytes()).await.unwrap();
    stream.write_all(&vec![7; store.part + (128 << 10)]).await.unwrap();
    wait_until("the unfinished upload", || store.unfinished(LOG) > 0).await;
    // Meanwhile the job's other uploads wait their turn, and other jobs don't.
    assert_eq!(store.put(LOG, &store.own(), "second").await, 429);
    let other = "/v1/artifacts/ci/run-1/run-1-9876543210/log";
    assert_eq!(store.put(other, &store.issuer.token("ci", "run-1-9876543210-abcde"), "text").await, 201);
    drop(stream);
    wait_until("its end", || store.unfinished(LOG) == 0).await;
    assert_eq!(store.get(LOG).await.text().await.unwrap(), "before");
    assert_eq!(store.put(LOG, &store.own(), "after").await, 201);
}

#[rstest]
#[tokio::test]
async fn an_upload_under_way_ends_when_the_store_is_told_to_stop(#[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &[]).await;
    let mut stream = store.connect().await;
    let begun = store.part + (128 << 10);
    stream.write_all(store.head(begun + 4).as_bytes()).await.unwrap();
    stream.write_all(&vec![7; begun]).await.unwrap();
    wait_until("the upload", || store.unfinished(LOG) > 0).await;
    let kept = store.directory.join(format!("ci/run-1/{JOB}/log-head.txt"));
    let ends = async {
        stream.write_all(b"rest").await.unwrap();
        assert_eq!(first_line(&mut stream).await, "HTTP/1.1 201 Created");
        assert!(std::fs::read(kept).unwrap().ends_with(b"\x07rest"));
    };
    tokio::join!(store.stop(), ends);
}
