#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;

use serde_json::json;

use super::*;
use crate::plugin::store::Store;

fn job(name: &str, job: &str) -> JobStatus {
    serde_json::from_value(json!({"name": name, "phase": "Succeeded", "job": job})).unwrap()
}

fn entry(job: &str, name: &str) -> Entry {
    Entry { job: job.to_owned(), name: name.to_owned(), size: 3, modified: "2026-01-01T00:00:00Z".to_owned() }
}

fn artifact(folder: &str, name: &str) -> Artifact {
    Artifact { job: "unit".to_owned(), folder: folder.to_owned(), entry: entry("r-1", name) }
}

fn refused(directory: &Path, artifact: &Artifact, force: bool) -> String {
    Place::prepare(directory, artifact, force).unwrap_err().to_string()
}

#[test]
fn folders_are_named_after_jobs_where_that_is_clear() {
    let jobs = [job("unit-tests (models, 3.11)", "r-1"), job("a (b)", "r-2"), job("a-b", "r-3"), job("日本", "r-4")];
    let entries = ["r-1", "r-2", "r-3", "r-4", "r-0"].map(|job| entry(job, "x")).to_vec();
    let listing = Listing { truncated: false, artifacts: entries };
    let folders: Vec<String> = assigned(listing, &jobs).into_iter().map(|artifact| artifact.folder).collect();
    // Two that would share one, one without any letter, and an earlier attempt keep the name of their Kubernetes Job.
    assert_eq!(folders, ["unit-tests-models-3-11", "r-2", "r-3", "r-4", "r-0"]);
}

#[test]
fn a_list_is_a_table() {
    let artifacts = [artifact("unit", "log-head.txt"), artifact("unit", "x")];
    insta::assert_snapshot!(listed(&artifacts), @r"
    JOB   ARTIFACT      SIZE  KEPT AT
    unit  log-head.txt  3 B   2026-01-01T00:00:00Z
    unit  x             3 B   2026-01-01T00:00:00Z
    ");
}

#[test]
fn a_file_that_is_there_stays_unless_it_shall_be_replaced() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("unit")).unwrap();
    fs::write(directory.path().join("unit/x"), "mine").unwrap();
    assert!(
        refused(directory.path(), &artifact("unit", "x"), false).ends_with("is there already: --force replaces it")
    );
    drop(Place::prepare(directory.path(), &artifact("unit", "x"), true).unwrap());
    assert_eq!(fs::read_to_string(directory.path().join("unit/x")).unwrap(), "mine", "not before it is whole");
    assert_eq!(fs::read_dir(directory.path().join("unit")).unwrap().count(), 1, "nothing unfinished is left");
}

#[test]
fn a_link_in_the_directory_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    let directory = tempfile::tempdir().unwrap();
    symlink(outside.path(), directory.path().join("unit")).unwrap();
    assert!(refused(directory.path(), &artifact("unit", "x"), true).ends_with("is in the way: it is no folder"));
    fs::create_dir(directory.path().join("other")).unwrap();
    symlink(outside.path().join("target"), directory.path().join("other/x")).unwrap();
    assert!(refused(directory.path(), &artifact("other", "x"), false).contains("is there already"));
    // Even the name of the unfinished file may be taken by a link.
    symlink(outside.path().join("target"), directory.path().join("other/.y.partial")).unwrap();
    let mut place = Place::prepare(directory.path(), &artifact("other", "y"), false).unwrap();
    place.file.as_mut().unwrap().write_all(b"abc").unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_in_the_place_of_a_file_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("unit/x")).unwrap();
    assert!(refused(directory.path(), &artifact("unit", "x"), true).ends_with("is there already: it is a folder"));
}

/// The store itself, with one artifact in it.
async fn serving(directory: &Path) -> (Store, tokio::task::JoinHandle<()>) {
    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        own: crate::artifacts::ArtifactsArguments,
    }
    let data = directory.join("data");
    fs::create_dir_all(data.join("ci/r/r-1")).unwrap();
    fs::write(data.join("ci/r/r-1/log-head.txt"), "x".repeat(200_000)).unwrap();
    let keys = directory.join("keys.json");
    fs::write(&keys, "{}").unwrap();
    let words = ["artifacts", "--directory", data.to_str().unwrap(), "--jwks-file", keys.to_str().unwrap()];
    let arguments = <Only as clap::Parser>::parse_from(words).own;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = Store::at(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let server =
        tokio::spawn(async { crate::artifacts::serve_on(listener, arguments, std::future::pending()).await.unwrap() });
    (store, server)
}

#[tokio::test]
async fn what_the_store_has_is_listed_and_downloaded_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (store, server) = serving(directory.path()).await;
    let listing = store.list("ci", "r").await.unwrap();
    assert_eq!(
        listing.artifacts.iter().map(|entry| (entry.name.as_str(), entry.size)).collect::<Vec<_>>(),
        [("log-head.txt", 200_000)]
    );
    let found = assigned(listing, &[job("unit (a)", "r-1")]);
    let target = directory.path().join("new/folder");
    let place = Place::prepare(&target, found.first().unwrap(), false).unwrap();
    let content = store.get(["ci", "r", "r-1", "log-head.txt"]).await.unwrap();
    let path = place.fill(content, 200_000).await.unwrap();
    assert_eq!(path, target.join("unit-a/log-head.txt"));
    assert_eq!(fs::metadata(&path).unwrap().len(), 200_000);
    assert_eq!(fs::read_dir(target.join("unit-a")).unwrap().count(), 1);
    assert!(matches!(store.list("ci", "other").await, Err(StoreError::NotFound)));
    server.abort();
}

#[tokio::test]
async fn an_artifact_that_is_not_what_was_listed_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let (store, server) = serving(directory.path()).await;
    for announced in [199_999, 200_001] {
        let place = Place::prepare(directory.path(), &artifact("unit", "x"), false).unwrap();
        let content = store.get(["ci", "r", "r-1", "log-head.txt"]).await.unwrap();
        let told = place.fill(content, announced).await.unwrap_err().to_string();
        assert!(told.contains("it has changed, ask again"), "{told}");
        assert_eq!(fs::read_dir(directory.path().join("unit")).unwrap().count(), 0);
    }
    server.abort();
}
