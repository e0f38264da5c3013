//! What hostile code in a pod may try.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::*;

#[rstest]
#[case::parent("/v1/artifacts/ci/run-1/run-1-0123456789/..")]
#[case::way_up("/v1/artifacts/ci/run-1/run-1-0123456789/../../../../etc/passwd")]
#[case::encoded_way_up("/v1/artifacts/ci/run-1/run-1-0123456789/%2e%2e%2f%2e%2e%2fx")]
#[case::encoded_slash("/v1/artifacts/ci/run-1/run-1-0123456789/a%2fb")]
#[case::doubly_encoded("/v1/artifacts/ci/run-1/run-1-0123456789/%252e%252e")]
#[case::backslash("/v1/artifacts/ci/run-1/run-1-0123456789/a%5cb")]
#[case::nul("/v1/artifacts/ci/run-1/run-1-0123456789/a%00")]
#[case::no_utf8("/v1/artifacts/ci/run-1/run-1-0123456789/%ff")]
#[case::hidden("/v1/artifacts/ci/run-1/run-1-0123456789/.hidden")]
#[case::unfinished("/v1/artifacts/ci/run-1/run-1-0123456789/log%231")]
#[case::empty("/v1/artifacts/ci//run-1-0123456789/log")]
#[case::way_up_in_the_job("/v1/artifacts/ci/run-1/%2e%2e/log")]
#[case::way_up_in_the_namespace("/v1/artifacts/%2e%2e/run-1/run-1-0123456789/log")]
#[case::too_deep("/v1/artifacts/ci/run-1/run-1-0123456789/a/b")]
#[tokio::test]
async fn no_path_leads_out_of_the_folder(#[case] path: &str, #[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &[]).await;
    let request = format!(
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 4\r\n\r\ntext",
        store.own()
    );
    let line = store.raw(request.as_bytes()).await;
    assert!(line.contains(" 400 ") || line.contains(" 404 "), "{line}");
    let line = store.raw(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
    assert!(line.contains(" 400 ") || line.contains(" 404 "), "{line}");
    assert!(store.files().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_long_name_is_refused(#[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &[]).await;
    let path = |length| LOG.replace("log-head.txt", &"n".repeat(length));
    assert_eq!(store.put(&path(129), &store.own(), "text").await, 400);
    assert_eq!(store.put(&path(30_000), &store.own(), "text").await, 400);
    assert_eq!(store.put(&path(128), &store.own(), "text").await, 201);
}

#[rstest]
#[case::other_run("/v1/artifacts/ci/run-2/run-1-0123456789/log")]
#[case::other_job("/v1/artifacts/ci/run-1/run-1-9876543210/log")]
#[case::other_namespace("/v1/artifacts/cd/run-1/run-1-0123456789/log")]
#[case::prefix_of_the_run("/v1/artifacts/ci/run/run-1-0123456789/log")]
#[tokio::test]
async fn a_token_opens_only_its_own_pods_path(#[case] path: &str, #[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &[]).await;
    assert_eq!(store.put(path, &store.own(), "text").await, 403);
    assert!(store.files().is_empty());
}

#[rstest]
#[case::other_audience("/aud", json!(["https://kubernetes.default.svc"]), 401)]
#[case::no_audience("/aud", Value::Null, 401)]
#[case::expired("/exp", json!(now() - 600), 401)]
#[case::never_expires("/exp", Value::Null, 401)]
#[case::not_yet("/nbf", json!(now() + 600), 401)]
#[case::no_pod("/kubernetes.io/pod", Value::Null, 403)]
#[case::other_issuer("/iss", json!("https://elsewhere.example.org"), 401)]
#[tokio::test]
async fn a_token_with_other_claims_opens_nothing(#[case] claim: &str, #[case] value: Value, #[case] status: u16) {
    let store = store(In::Directory, &["--issuer", "https://kubernetes.default.svc"]).await;
    let mut claims = claims("ci", POD);
    *claims.pointer_mut(claim).unwrap() = value;
    assert_eq!(store.put(LOG, &store.issuer.sign(&claims), "text").await, status);
    assert_eq!(store.put(LOG, &store.own(), "text").await, 201);
}

#[tokio::test]
async fn a_forged_token_opens_nothing() {
    let store = store(In::Directory, &[]).await;
    assert_eq!(store.put(LOG, &Issuer::elliptic("key-1").token("ci", POD), "text").await, 401);
    assert_eq!(store.put(LOG, &Issuer::rsa("key-1").token("ci", POD), "text").await, 401);
    assert_eq!(store.put(LOG, &Issuer::elliptic("unknown").token("ci", POD), "text").await, 401);
    // Signed with the public key as if it were a shared secret, and not signed at all.
    let own = store.own();
    let payload = own.split('.').nth(1).unwrap();
    let header = jsonwebtoken::Header {
        kid: Some("key-1".to_owned()),
        ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256)
    };
    let secret = jsonwebtoken::EncodingKey::from_secret(store.issuer.public().to_string().as_bytes());
    let confused = jsonwebtoken::encode(&header, &claims("ci", POD), &secret).unwrap();
    assert_eq!(store.put(LOG, &confused, "text").await, 401);
    assert_eq!(store.put(LOG, &format!("eyJhbGciOiJub25lIiwia2lkIjoia2V5LTEifQ.{payload}."), "text").await, 401);
    assert_eq!(store.put(LOG, "a.b.c", "text").await, 401);
    assert_eq!(store.put(LOG, "", "text").await, 401);
    assert!(store.files().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_body_that_stands_still_is_given_up(#[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &["--idle-timeout", "200ms"]).await;
    let request = format!(
        "PUT {LOG} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {}\r\nContent-Length: 100\r\n\r\nhalf",
        store.own()
    );
    assert_eq!(store.raw(request.as_bytes()).await, "HTTP/1.1 408 Request Timeout");
    assert!(store.files().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_body_that_drips_is_given_up(#[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &["--upload-timeout", "500ms"]).await;
    let mut stream = store.connect().await;
    let head = format!(
        "PUT {LOG} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {}\r\nContent-Length: 100000\r\n\r\n",
        store.own()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let drip = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while writer.write_all(b"x").await.is_ok() {
            ticks.tick().await;
        }
    });
    let mut start = [0_u8; 12];
    timeout(Duration::from_secs(30), reader.read_exact(&mut start)).await.unwrap().unwrap();
    assert_eq!(&start, b"HTTP/1.1 408");
    drip.abort();
}

#[tokio::test]
async fn a_head_that_does_not_end_and_a_connection_that_says_nothing_are_closed() {
    let store = store(In::Directory, &["--header-timeout", "200ms"]).await;
    for start in [&b"GET /healthz HTTP/1.1\r\nHost: s\r\nX-Slow: "[..], b""] {
        let mut stream = store.connect().await;
        stream.write_all(start).await.unwrap();
        let mut rest = Vec::new();
        timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    }
    assert_eq!(store.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn many_connections_of_one_peer_are_bounded_and_their_end_frees_the_place() {
    let store = store(In::Directory, &[]).await;
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(store.connect().await);
    }
    let mut refused = store.connect().await;
    let mut byte = [0_u8];
    let read = timeout(Duration::from_secs(5), refused.read(&mut byte)).await.expect("closed at once");
    assert!(matches!(read, Ok(0) | Err(_)));
    drop(held);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while client().get(store.url("/healthz")).send().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "no place became free");
    }
}

#[tokio::test]
async fn a_head_without_end_is_bounded() {
    let store = store(In::Directory, &[]).await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: s\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let mut stream = store.connect().await;
    // The store may close before all is written.
    let _ = stream.write_all(request.as_bytes()).await;
    let line = first_line(&mut stream).await;
    assert!(line.is_empty() || line.contains(" 431 "), "{line}");
}
