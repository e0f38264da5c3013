//! `agent collect` against a store that answers as it is told.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use tempfile::TempDir;
use timetracker_operator::agent::report::{CollectReport, TestCounts};
use timetracker_operator::api::names::Digest;

use crate::support::waiting::wait_for;
use crate::{Agent, Finished};

/// What was put, by path, with the token it came with.
pub type Stored = Arc<Mutex<BTreeMap<String, (String, Vec<u8>)>>>;

/// A store that answers so.
pub fn store(status: &'static str) -> (String, Stored) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stored = Stored::default();
    let log = Arc::clone(&stored);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            receive(stream, status, &log);
        }
    });
    (url, stored)
}

fn receive(mut stream: TcpStream, status: &str, stored: &Stored) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    let mut next = |reader: &mut BufReader<TcpStream>| {
        line.clear();
        reader.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    let request = next(&mut reader);
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = next(&mut reader).split_once(':') {
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if let Some(length) = headers.get("content-length") {
        body.resize(length.parse().unwrap(), 0);
        reader.read_exact(&mut body).unwrap();
    } else {
        loop {
            let size = usize::from_str_radix(&next(&mut reader), 16).unwrap();
            let start = body.len();
            body.resize(start + size, 0);
            reader.read_exact(&mut body[start..]).unwrap();
            next(&mut reader);
            if size == 0 {
                break;
            }
        }
    }
    let path = request.split_whitespace().nth(1).unwrap().to_owned();
    stored.lock().unwrap().insert(path, (headers["authorization"].clone(), body));
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
}

fn cobertura(hits: &[u8]) -> String {
    let lines: String = hits.iter().map(|hits| format!("<line number=\"1\" hits=\"{hits}\"/>")).collect();
    format!("<coverage line-rate=\"0.5\"><class><lines>{lines}</lines></class></coverage>")
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

/// A job's volume, with a report, outputs, a log and an artifact.
fn volume() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "reports/junit.xml",
        r#"<testsuites><testsuite name="s"><testcase name="a"/><testcase name="b"><failure message="m"/></testcase>
           </testsuite></testsuites>"#,
    );
    write("reports/coverage.xml", &cobertura(&[1, 0]));
    write("reports/.coverage", "raw data");
    write("outputs", "version=5.10.0\n");
    write("logs/head.log", "the start");
    write("logs/tail.log", "the end");
    write("workspace/htmlcov/index.html", "covered");
    write("secret/file", "not the job's");
    symlink("../../secret/file", directory.path().join("workspace/htmlcov/link")).unwrap();
    symlink("../secret", directory.path().join("workspace/away")).unwrap();
    write("token", "t0ken\n");
    directory
}

/// Runs the collector of such a volume, and tells it that the job has ended.
pub fn collect(volume: &Path, store: &str, options: &[&str]) -> Finished {
    let path = |name: &str| volume.join(name).to_str().unwrap().to_owned();
    let (reports, outputs, logs) = (path("reports"), path("outputs"), path("logs"));
    let (workspace, token) = (path("workspace"), path("token"));
    let agent = Agent::new(["collect", "--store", store, "--namespace", "ci", "--run", "run-1", "--job", "unit-tests"])
        .arguments(["--reports", &reports, "--outputs", &outputs, "--output", "version", "--logs", &logs])
        .arguments(["--workspace", &workspace, "--token-file", &token])
        .arguments(options.iter().copied())
        .start();
    wait_for("the agent to listen for signals", || {
        let status = fs::read_to_string(format!("/proc/{}/status", agent.child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        // Signal 15 is the fifteenth bit.
        (u64::from_str_radix(&caught, 16).unwrap() & (1 << 14) != 0).then_some(())
    });
    agent.signal(Signal::TERM);
    agent.finish()
}

#[test]
fn counts_outputs_logs_and_artifacts_are_told_and_kept() {
    let (volume, (url, stored)) = (volume(), store("201 Created"));
    let coverage = format!("coverage-html={}/workspace/htmlcov/", volume.path().display());
    let options = ["--artifact", &coverage, "--artifact", "away=away/file"];
    let finished = collect(volume.path(), &url, &options);
    assert_eq!(finished.code, Some(0));
    assert!(finished.report.len() <= 1_024, "{}", finished.report);
    let report: CollectReport = finished.report();
    assert_eq!(report.tests, Some(TestCounts { passed: 1, failed: 1, skipped: 0, flaky: 0 }));
    assert_eq!((report.coverage, report.uploaded), (Some(5_000), 6));
    assert_eq!(report.coverage_data, 1);
    assert_eq!(report.outputs["version"], "5.10.0");
    let problem = report.problem.unwrap();
    assert!(problem.contains("`away` was not kept"), "{problem}");

    let stored = stored.lock().unwrap();
    let (token, summary) = &stored["/v1/artifacts/ci/run-1/unit-tests/summary.json"];
    assert_eq!((token.as_str(), Some(Digest::of(summary))), ("Bearer t0ken", report.summary));
    assert_eq!(stored["/v1/artifacts/ci/run-1/unit-tests/log-head.txt"].1, b"the start");
    assert_eq!(stored["/v1/artifacts/ci/run-1/unit-tests/log-tail.txt"].1, b"the end");
    let kept = |name: &str| names(&stored[&format!("/v1/artifacts/ci/run-1/unit-tests/{name}")].1);
    assert_eq!(kept("test-results-unit-tests"), ["coverage.xml", "junit.xml"]);
    assert_eq!(kept("coverage-data-unit-tests"), [".coverage"]);
    assert_eq!(kept("coverage-html"), ["index.html"], "links are left out");
}

#[test]
fn a_store_that_is_down_or_refuses_costs_the_artifacts_and_not_the_result() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("http://{closed}"), store("403 Forbidden").0, "ftp://x".to_owned()] {
        let volume = volume();
        let finished = collect(volume.path(), &url, &["--upload-timeout", "5s"]);
        let report: CollectReport = finished.report();
        assert_eq!((report.tests.unwrap().run(), report.uploaded), (2, 0));
        assert!(report.problem.is_some());
    }
}

#[test]
fn a_hostile_report_is_a_problem_and_is_never_counted() {
    let (volume, (url, _)) = (volume(), store("201 Created"));
    let bomb = "<!DOCTYPE t [<!ENTITY a \"a\">]><testsuites><testsuite name=\"s\"><testcase name=\"&a;\"/></testsuite></testsuites>";
    fs::write(volume.path().join("reports/junit.xml"), bomb).unwrap();
    let report: CollectReport = collect(volume.path(), &url, &[]).report();
    assert_eq!(report.tests, None);
    assert!(report.problem.unwrap().contains("report `junit.xml` is unreadable"));
}

fn sarif(level: &str) -> String {
    format!(
        r#"{{"version":"2.1.0","runs":[{{"tool":{{"driver":{{"name":"s"}}}},"results":[{{"ruleId":"R1","level":"{level}",
        "message":{{"text":"bad\u001b[31m"}},"locations":[{{"physicalLocation":{{"artifactLocation":{{"uri":"app/a.py"}},
        "region":{{"startLine":3}}}}}}]}}]}}]}}"#
    )
}

#[test]
fn findings_of_scanners_are_counted_and_named() {
    let (volume, (url, stored)) = (volume(), store("201 Created"));
    fs::create_dir_all(volume.path().join("reports/retry-1")).unwrap();
    fs::write(volume.path().join("reports/a.sarif"), sarif("note")).unwrap();
    fs::write(volume.path().join("reports/b.sarif.json"), sarif("warning")).unwrap();
    // The script ran again: of one name, the last report counts.
    fs::write(volume.path().join("reports/retry-1/a.sarif"), sarif("error")).unwrap();
    let report: CollectReport = collect(volume.path(), &url, &["--reruns", "1"]).report();
    let counts = report.findings.unwrap();
    assert_eq!((counts.errors, counts.warnings, counts.notes, counts.unread), (1, 1, 0, 0));
    assert_eq!(report.finding.as_deref(), Some("R1 app/a.py:3: bad\u{fffd}[31m"));
    let stored = stored.lock().unwrap();
    let summary: serde_json::Value =
        serde_json::from_slice(&stored["/v1/artifacts/ci/run-1/unit-tests/summary.json"].1).unwrap();
    assert_eq!(summary["findingCounts"]["errors"], 1);
    assert_eq!(summary["findings"][0]["file"], "app/a.py");
    assert_eq!((&summary["findings"][0]["line"], &summary["findings"][1]["level"]), (&3.into(), &"warning".into()));
}

#[test]
fn a_sarif_report_of_200_megabytes_is_not_read_and_spoils_no_other_report() {
    let (volume, (url, _)) = (volume(), store("201 Created"));
    fs::write(volume.path().join("reports/b.sarif"), sarif("note")).unwrap();
    fs::File::create(volume.path().join("reports/a.sarif")).unwrap().set_len(200 << 20).unwrap();
    symlink("b.sarif", volume.path().join("reports/c.sarif")).unwrap();
    let report: CollectReport = collect(volume.path(), &url, &["--upload-timeout", "1s"]).report();
    assert_eq!(report.tests.unwrap().run(), 2);
    let counts = report.findings.unwrap();
    assert_eq!((counts.notes, counts.unread), (1, 1));
    let problem = report.problem.unwrap();
    assert!(problem.contains("report `a.sarif` is unreadable: longer than 33554432 bytes"), "{problem}");
}
