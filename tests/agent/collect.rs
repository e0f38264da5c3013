//! `agent collect` against a store that answers as it is told.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::{CWD, FileType, Mode};
use rustix::process::Signal;
use tempfile::TempDir;
use timetracker_operator::agent::report::{CollectReport, TestCounts};
use timetracker_operator::api::names::Digest;

use crate::support::waiting::wait_for;
use crate::{Agent, Finished, Started};

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
    let agent = start(volume, store, options);
    agent.signal(Signal::TERM);
    agent.finish()
}

/// Starts the collector of such a volume; it listens for its signal then.
fn start(volume: &Path, store: &str, options: &[&str]) -> Started {
    let path = |name: &str| volume.join(name).to_str().unwrap().to_owned();
    let (reports, outputs) = (path("reports"), path("outputs"));
    let asked = ["--reports", &reports, "--outputs", &outputs, "--output", "version"];
    start_for_the_log(volume, store, &[&asked, options].concat())
}

/// Starts it for a job that reports nothing.
fn start_for_the_log(volume: &Path, store: &str, options: &[&str]) -> Started {
    let path = |name: &str| volume.join(name).to_str().unwrap().to_owned();
    let (logs, workspace, token) = (path("logs"), path("workspace"), path("token"));
    let agent = Agent::new(["collect", "--store", store, "--namespace", "ci", "--run", "run-1", "--job", "unit-tests"])
        .arguments(["--logs", &logs, "--workspace", &workspace, "--token-file", &token])
        .arguments(options.iter().copied())
        .start();
    wait_for("the agent to listen for signals", || {
        let status = fs::read_to_string(format!("/proc/{}/status", agent.child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        // Signal 15 is the fifteenth bit.
        (u64::from_str_radix(&caught, 16).unwrap() & (1 << 14) != 0).then_some(())
    });
    agent
}

/// What was kept under that name, as text.
fn kept(stored: &Stored, name: &str) -> Option<String> {
    let path = format!("/v1/artifacts/ci/run-1/unit-tests/{name}");
    stored.lock().unwrap().get(&path).map(|(_, content)| String::from_utf8(content.clone()).unwrap())
}

#[test]
fn the_log_of_a_job_that_goes_on_is_kept_and_marked_as_incomplete() {
    let (volume, (url, stored)) = (volume(), store("201 Created"));
    let agent = start(volume.path(), &url, &["--snapshot-every", "100ms"]);
    wait_for("a first look at the log", || kept(&stored, "log-tail.txt"));
    assert_eq!(kept(&stored, "log.json").unwrap(), r#"{"complete":false,"bytes":16}"#);
    fs::write(volume.path().join("logs/tail.log"), "the end, which has grown").unwrap();
    wait_for("another look", || kept(&stored, "log-tail.txt").filter(|tail| tail.ends_with("grown")));
    // What a pod leaves that is gone now.
    assert_eq!(kept(&stored, "log.json").unwrap(), r#"{"complete":false,"bytes":33}"#);
    assert_eq!((kept(&stored, "log-head.txt").unwrap().as_str(), kept(&stored, "summary.json")), ("the start", None));
    agent.signal(Signal::TERM);
    agent.finish();
    assert_eq!(kept(&stored, "log.json").unwrap(), r#"{"complete":true,"bytes":33}"#);
}

#[test]
fn of_a_job_that_reports_nothing_the_log_alone_is_kept() {
    let (volume, (url, stored)) = (volume(), store("201 Created"));
    let agent = start_for_the_log(volume.path(), &url, &[]);
    agent.signal(Signal::TERM);
    let report: CollectReport = agent.finish().report();
    assert_eq!((report.uploaded, report.problem, report.tests), (3, None, None));
    let names: Vec<String> = stored.lock().unwrap().keys().cloned().collect();
    let expected = ["log-head.txt", "log-tail.txt", "log.json"];
    assert_eq!(names, expected.map(|name| format!("/v1/artifacts/ci/run-1/unit-tests/{name}")));
}

#[test]
fn a_store_that_is_down_disturbs_no_job_that_goes_on() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let volume = volume();
    let url = format!("http://{closed}");
    let options = ["--snapshot-every", "10ms", "--upload-timeout", "1s"];
    let report: CollectReport = collect(volume.path(), &url, &options).report();
    assert_eq!(report.tests.unwrap().run(), 2);
}

#[test]
fn a_services_log_is_kept_of_a_job_that_failed_and_of_no_other() {
    let exec = |code: i32| {
        format!(
            r#"{{"exitCode":{code},"timedOut":false,"terminated":false,"seconds":1,"memoryPeak":null,"logBytes":16}}"#
        )
    };
    let passed = "<testsuites><testsuite name=\"s\"><testcase name=\"a\"/></testsuite></testsuites>";
    for (exec, junit, expected) in [
        (Some(exec(0)), Some(passed), false),
        (Some(exec(1)), Some(passed), true),
        (None, Some(passed), true),
        (Some(exec(0)), None, true),
    ] {
        let (volume, (url, stored)) = (volume(), store("201 Created"));
        let write = |path: &str, text: &str| fs::write(volume.path().join(path), text).unwrap();
        fs::create_dir(volume.path().join("postgres")).unwrap();
        write("postgres/head.log", "database system is ready\n");
        write("postgres/tail.log", "FATAL: too many clients\n");
        write("postgres/left-out", "700");
        exec.iter().for_each(|report| write("logs/exec.json", report));
        junit.iter().for_each(|report| write("reports/junit.xml", report));
        let service = format!("postgres={}", volume.path().join("postgres").display());
        collect(volume.path(), &url, &["--service-log", &service, "--service-log", "absent=/none"]);
        let log = "database system is ready\n\n[timetracker: 700 bytes were not kept]\nFATAL: too many clients\n";
        let told = kept(&stored, "service-log-postgres.txt");
        assert_eq!(told.as_deref(), expected.then_some(log), "{exec:?} {junit:?}");
        assert_eq!(kept(&stored, "service-log-absent.txt"), None);
    }
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
    assert_eq!((report.coverage, report.uploaded), (Some(5_000), 7));
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

#[test]
fn a_device_is_no_report_and_no_artifact_and_that_is_said() {
    let (volume, (url, stored)) = (volume(), store("201 Created"));
    let make = |path: &str| {
        let (kind, zero) = (FileType::CharacterDevice, rustix::fs::makedev(1, 5));
        rustix::fs::mknodat(CWD, volume.path().join(path), kind, Mode::from_raw_mode(0o666), zero)
    };
    // Only root makes devices; the container of the tests is root's.
    if make("reports/zero.xml").is_err() {
        return;
    }
    for path in ["reports/zero.sarif", "workspace/zero", "workspace/htmlcov/zero"] {
        make(path).unwrap();
    }
    let options = ["--artifact", "coverage-html=htmlcov", "--artifact", "endless=zero"];
    let report: CollectReport = collect(volume.path(), &url, &options).report();
    assert_eq!((report.tests.unwrap().run(), report.findings), (2, None));
    let problem = report.problem.unwrap();
    for said in [
        "report `zero.sarif` is neither a file nor a folder, and was left out",
        "report `zero.xml` is neither a file nor a folder, and was left out",
        "`endless` was not kept: neither a file nor a folder",
    ] {
        assert!(problem.contains(said), "{problem}");
    }
    let stored = stored.lock().unwrap();
    assert_eq!(names(&stored["/v1/artifacts/ci/run-1/unit-tests/coverage-html"].1), ["index.html"]);
    assert!(!stored.keys().any(|path| path.ends_with("/endless")), "{:?}", stored.keys());
}
