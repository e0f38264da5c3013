//! Who may read, and how what hostile code made is handed out.

use rstest::rstest;

use crate::support::*;

const RUN: &str = "/v1/artifacts/ci/run-1";

#[rstest]
#[tokio::test]
async fn a_browser_neither_shows_nor_runs_what_it_downloads(#[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &[]).await;
    let path = LOG.replace("log-head.txt", "report.html");
    assert_eq!(store.put(&path, &store.own(), "<script>alert(1)</script>").await, 201);
    let answer = store.get(&path).await;
    assert_eq!(answer.status(), 200);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(header("content-disposition"), "attachment; filename=\"report.html\"");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(header("content-security-policy").starts_with("default-src 'none'; sandbox"));
    assert_eq!(header("content-length"), "25");
}

#[rstest]
#[tokio::test]
async fn a_run_is_listed_for_programs_and_for_people(#[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &[]).await;
    store.put(LOG, &store.own(), "text").await;
    store.put(&LOG.replace("head", "tail"), &store.own(), "end").await;
    let listing: serde_json::Value = store.get(RUN).await.json().await.unwrap();
    assert_eq!(listing["artifacts"].as_array().unwrap().len(), 2);
    assert_eq!(listing["artifacts"][0]["path"], LOG);
    assert_eq!(listing["artifacts"][0]["job"], JOB);
    assert_eq!(listing["artifacts"][1]["size"], 3);
    assert_eq!(listing["truncated"], false);
    let page = client().get(store.url(RUN)).header("Accept", "text/html,*/*").send().await.unwrap();
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    assert!(page.text().await.unwrap().contains(&format!("<a href=\"{LOG}\">log-head.txt</a>")));
    assert_eq!(store.get("/v1/artifacts/ci/run-2").await.status(), 404);
}

#[rstest]
#[tokio::test]
async fn a_pod_reads_its_own_run_and_no_other(#[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &[]).await;
    store.put(LOG, &store.own(), "text").await;
    for path in [LOG, RUN] {
        let token = |namespace, pod| store.issuer.reading_token(namespace, pod);
        let writing = store.issuer.token("ci", POD);
        assert_eq!(store.get_from_pod(path, None).await, 401);
        assert_eq!(store.get_from_pod(path, Some("nonsense")).await, 401);
        assert_eq!(store.get_from_pod(path, Some(&token("ci", "run-1-9876543210-abcde"))).await, 200);
        assert_eq!(store.get_from_pod(path, Some(&writing)).await, 401, "a collector's token reads nothing");
        assert_eq!(store.get_from_pod(path, Some(&token("ci", "run-2-9876543210-abcde"))).await, 403);
        assert_eq!(store.get_from_pod(path, Some(&token("other", POD))).await, 403);
    }
}

#[rstest]
#[tokio::test]
async fn a_token_for_reading_writes_nothing(#[values(In::Directory, In::Bucket)] place: In) {
    let store = store(place, &[]).await;
    let token = store.issuer.reading_token("ci", POD);
    assert_eq!(store.put(LOG, &token, "text").await, 401);
    assert!(store.files().is_empty());
}

#[tokio::test]
async fn a_web_page_whose_name_points_to_the_loopback_reads_nothing() {
    let store = store(In::Directory, &[]).await;
    store.put(LOG, &store.own(), "text").await;
    assert_eq!(store.get(LOG).await.status(), 200);
    let rebound = client().get(store.url(LOG)).header("Host", format!("evil.example.org:{}", store.address.port()));
    assert_eq!(rebound.send().await.unwrap().status(), 401);
    let wrong = client().get(store.url(LOG)).header("Authorization", "Basic Zm9v");
    assert_eq!(wrong.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn the_token_for_reading_reads_everything_and_writes_nothing() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("token");
    std::fs::write(&file, "a-long-enough-secret\n").unwrap();
    let store = store(In::Directory, &["--read-token-file", file.to_str().unwrap()]).await;
    store.put(LOG, &store.own(), "text").await;
    assert_eq!(store.get_from_pod(LOG, Some("a-long-enough-secret")).await, 200);
    assert_eq!(store.get_from_pod(LOG, Some("a-long-enough-secreT")).await, 401);
    assert_eq!(store.put(LOG, "a-long-enough-secret", "changed").await, 401);
    assert_eq!(store.get(LOG).await.text().await.unwrap(), "text");
}

#[tokio::test]
async fn health_needs_no_token() {
    let store = store(In::Directory, &[]).await;
    assert_eq!(store.get_from_pod("/healthz", None).await, 200);
}
