//! The agent against the real store: what one job's collector keeps, another job's fetcher brings.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use timetracker_operator::agent::report::{CollectReport, FetchFailure, FetchReport};

use rstest::rstest;

use crate::support::*;

fn agent(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_timetracker-agent"));
    command.args(["--termination-message", folder.join("message").to_str().unwrap()]).args(arguments).spawn().unwrap()
}

fn message<T: serde::de::DeserializeOwned>(folder: &Path) -> T {
    serde_json::from_str(&fs::read_to_string(folder.join("message")).unwrap()).unwrap()
}

/// Lets the collector of a job keep what is in its folder.
async fn collect(store: &Store, folder: &Path, token: &str) -> CollectReport {
    fs::write(folder.join("token"), token).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (reports, logs, token) = (path("reports"), path("logs"), path("token"));
    let url = store.url("");
    let place = ["--namespace", "ci", "--run", "run-1", "--job", JOB, "--job-name", "unit"];
    let mut arguments =
        vec!["collect", "--store", &url, "--reports", &reports, "--logs", &logs, "--token-file", &token];
    arguments.extend(place);
    let mut collector = agent(folder, &arguments);
    let status = format!("/proc/{}/status", collector.id());
    wait_until("the collector to listen for signals", || {
        let caught = fs::read_to_string(&status).unwrap();
        let caught = caught.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        u64::from_str_radix(&caught, 16).unwrap() & (1 << 14) != 0
    })
    .await;
    kill_process(Pid::from_raw(i32::try_from(collector.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
    tokio::task::spawn_blocking(move || collector.wait().unwrap()).await.unwrap();
    message(folder)
}

async fn fetch(store: &Store, folder: &Path, token: &str, reads: &str, artifact: &str) -> FetchReport {
    fs::write(folder.join("token"), token).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (destination, token, url) = (path("inputs"), path("token"), store.url(""));
    let input = format!("--input=unit={JOB}/{artifact}");
    let place = ["--namespace", "ci", "--run", "run-1", "--reads", reads, "--missing", "late", &input];
    let mut arguments = vec!["fetch", "--store", &url, "--dest", &destination, "--token-file", &token];
    arguments.extend(place);
    let mut fetcher = agent(folder, &arguments);
    tokio::task::spawn_blocking(move || fetcher.wait().unwrap()).await.unwrap();
    message(folder)
}

#[rstest]
#[tokio::test]
async fn raw_coverage_and_reports_of_one_job_reach_another_of_the_same_run(
    #[values(In::Directory, In::Bucket)] place: In,
) {
    let store = store(place, &[]).await;
    let job = tempfile::tempdir().unwrap();
    for folder in ["reports", "logs"] {
        fs::create_dir(job.path().join(folder)).unwrap();
    }
    fs::write(job.path().join("reports/.coverage"), "raw data").unwrap();
    let xml = "<coverage line-rate=\"1\"><class><lines><line hits=\"1\"/></lines></class></coverage>";
    fs::write(job.path().join("reports/coverage.xml"), xml).unwrap();
    let kept = collect(&store, job.path(), &store.own()).await;
    assert_eq!((kept.coverage, kept.coverage_data, kept.uploaded, kept.problem), (Some(10_000), 1, 3, None));

    let other = tempfile::tempdir().unwrap();
    let reading = store.issuer.reading_token("ci", "run-1-9876543210-abcde");
    for (reads, artifact, file, content) in [
        ("coverage-data", "coverage-data-unit", ".coverage.1", "raw data"),
        ("cobertura", "test-results-unit", "coverage-1.xml", xml),
    ] {
        let fetched = fetch(&store, other.path(), &reading, reads, artifact).await;
        assert!(matches!(fetched, FetchReport::Fetched { files: 1, missing: Some(_) }), "{fetched:?}");
        assert_eq!(fs::read_to_string(other.path().join("inputs").join(file)).unwrap(), content);
    }

    // Neither the token of a collector nor that of another run's job opens it.
    for token in [store.own(), store.issuer.reading_token("ci", "run-2-9876543210-abcde")] {
        let refused = fetch(&store, other.path(), &token, "coverage-data", "coverage-data-unit").await;
        assert!(matches!(refused, FetchReport::Failed { failure: FetchFailure::Unreachable, .. }), "{refused:?}");
    }
}
