#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use futures::StreamExt as _;
use tempfile::NamedTempFile;
use tokio::net::TcpListener;

use super::*;
use crate::cluster::fake::FakeApi;

type Uploads = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A store that takes everything that has the token.
async fn store() -> (SocketAddr, Uploads) {
    async fn take(State(uploads): State<Uploads>, headers: HeaderMap, uri: Uri, body: Bytes) -> StatusCode {
        if headers["authorization"] != "Bearer secret" {
            return StatusCode::UNAUTHORIZED;
        }
        uploads.lock().unwrap().push((uri.path().to_owned(), body.to_vec()));
        StatusCode::CREATED
    }
    let uploads = Uploads::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(take).with_state(Arc::clone(&uploads));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, uploads)
}

fn token() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret\n").unwrap();
    file
}

fn keeper(cluster: Cluster, store: SocketAddr, token: &NamedTempFile) -> Keeper {
    Keeper::new(cluster, &format!("http://{store}/"), token.path().to_owned())
}

fn wanted(number: usize, look: Look) -> Wanted {
    Wanted {
        namespace: "ci".to_owned(),
        run: "run-1".to_owned(),
        job: "run-1-0123456789".to_owned(),
        pod: format!("run-1-0123456789-{number:05}"),
        uid: number.to_string(),
        look,
    }
}

fn standing(keeper: &Keeper, uid: &str) -> Option<Standing> {
    keeper.standing(std::iter::once(uid)).remove(uid)
}

/// Keeps the log, which then reads so, and waits for its end.
async fn kept(keeper: &Keeper, api: &mut FakeApi, look: Look, log: &[u8]) -> Option<Standing> {
    let mut ended = Box::pin(keeper.ended());
    keeper.keep(wanted(1, look));
    keeper.await_end("ci", "run-1", &["1".to_owned()]);
    assert_eq!(standing(keeper, "1"), Some(Standing::UnderWay));
    api.next().await.answer_bytes(log.to_vec());
    assert_eq!(ended.next().await, Some(("ci".to_owned(), "run-1".to_owned())));
    standing(keeper, "1")
}

fn taken(uploads: &Uploads) -> Vec<(String, String)> {
    let uploads = std::mem::take(&mut *uploads.lock().unwrap());
    let prefix = "/v1/artifacts/ci/run-1/run-1-0123456789/";
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    uploads.into_iter().map(|(path, body)| (path.strip_prefix(prefix).unwrap().to_owned(), text(body))).collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[tokio::test]
async fn a_log_is_kept_while_it_grows_and_said_to_be_complete_at_its_end() {
    let ((cluster, mut api), (address, uploads), token) = (FakeApi::cluster(), store().await, token());
    let keeper = keeper(cluster, address, &token);
    let passing = kept(&keeper, &mut api, Look::Passing, b"one\n").await;
    assert!(matches!(passing, Some(Standing::Kept { look: Look::Passing, .. })));
    assert_eq!(taken(&uploads), owned(&[("log.json", r#"{"complete":false,"bytes":4}"#), ("log-head.txt", "one\n")]));
    kept(&keeper, &mut api, Look::Passing, b"one\n").await;
    assert_eq!(taken(&uploads), [], "nothing was printed meanwhile");
    kept(&keeper, &mut api, Look::Final, b"one\ntwo\n").await;
    let complete = r#"{"complete":true,"bytes":8}"#;
    assert_eq!(taken(&uploads), owned(&[("log-head.txt", "one\ntwo\n"), ("log.json", complete)]));
}

#[tokio::test]
async fn the_head_of_a_log_that_kubelet_has_rotated_away_stays() {
    let ((cluster, mut api), (address, uploads), token) = (FakeApi::cluster(), store().await, token());
    let keeper = keeper(cluster, address, &token);
    kept(&keeper, &mut api, Look::Passing, b"first file\n").await;
    taken(&uploads);
    let log = b"second file\n";
    kept(&keeper, &mut api, Look::Final, log).await;
    let expected = owned(&[("log-tail.txt", "second file\n"), ("log.json", r#"{"complete":true}"#)]);
    assert_eq!(taken(&uploads), expected);
    kept(&keeper, &mut api, Look::Final, log).await;
    assert_eq!(taken(&uploads), []);
}

#[tokio::test]
async fn what_can_t_be_read_or_brought_away_is_counted_and_nothing_is_kept() {
    let ((cluster, mut api), (address, uploads)) = (FakeApi::cluster(), store().await);
    let wrong = NamedTempFile::new().unwrap();
    let keeper = keeper(cluster, address, &wrong);
    for expected in 1..=2 {
        match kept(&keeper, &mut api, Look::Final, b"x").await {
            Some(Standing::Failed { look: Look::Final, tries, why, .. }) => {
                assert_eq!((tries, why.as_str()), (expected, "the store answered 401"));
            }
            other => unreachable!("{other:?}"),
        }
    }
    assert_eq!(taken(&uploads), []);
    keeper.forget(std::iter::once("1"));
    assert_eq!(standing(&keeper, "1"), None);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_never_answer_take_a_bounded_number_of_tasks_and_a_bounded_time() {
    let ((cluster, mut api), token) = (FakeApi::cluster(), token());
    let keeper = keeper(cluster, "127.0.0.1:9".parse().unwrap(), &token);
    let all: Vec<String> = (0..3 * SLOTS).map(|number| number.to_string()).collect();
    for number in 0..3 * SLOTS {
        keeper.keep(wanted(number, Look::Final));
        keeper.keep(wanted(number, Look::Final));
    }
    let mut open = Vec::new();
    for _ in 0..SLOTS {
        open.push(api.next().await);
    }
    assert!(timeout(Duration::from_secs(1), api.next()).await.is_err(), "the others wait for their turn");
    let states = |keeper: &Keeper| keeper.standing(all.iter().map(String::as_str));
    let begun = tokio::time::Instant::now();
    while states(&keeper).values().any(|standing| *standing == Standing::UnderWay) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(begun.elapsed() <= PATIENCE + Duration::from_secs(2), "{:?}", begun.elapsed());
    let failed = |standing: &Standing| matches!(standing, Standing::Failed { tries: 1, .. });
    assert!(states(&keeper).values().all(failed), "{:?}", states(&keeper));
}

#[tokio::test]
async fn whoever_waits_for_what_has_ended_is_told_at_once() {
    let ((cluster, _api), token) = (FakeApi::cluster(), token());
    let keeper = keeper(cluster, "127.0.0.1:9".parse().unwrap(), &token);
    let mut ended = Box::pin(keeper.ended());
    keeper.await_end("ci", "run-1", &["1".to_owned()]);
    assert_eq!(ended.next().await, Some(("ci".to_owned(), "run-1".to_owned())));
}
