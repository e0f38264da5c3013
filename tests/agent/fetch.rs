//! `agent fetch` against a store that hands out what it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use timetracker_operator::agent::report::{FetchFailure, FetchReport};

use crate::{Agent, Finished};

/// What was asked for: path and token.
pub type Asked = Arc<Mutex<Vec<(String, String)>>>;

pub fn store(status: &'static str, artifacts: BTreeMap<String, Vec<u8>>) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, status, &artifacts, &log);
        }
    });
    (url, asked)
}

fn answer(mut stream: TcpStream, status: &str, artifacts: &BTreeMap<String, Vec<u8>>, asked: &Asked) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let path = lines.next().unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let token = lines
        .by_ref()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("authorization: ").map(str::to_owned))
        .last();
    asked.lock().unwrap().push((path.clone(), token.unwrap()));
    let (status, body) = match artifacts.get(path.strip_prefix("/v1/artifacts/ci/run-1/").unwrap()) {
        Some(body) => (status, body.as_slice()),
        None => ("404 Not Found", &b""[..]),
    };
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(body);
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        // Written by hand: the library refuses the hostile ones.
        let name = header.as_gnu_mut().unwrap();
        name.name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

struct Fetched {
    finished: Finished,
    directory: TempDir,
}

impl Fetched {
    fn files(&self) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(self.directory.path().join("inputs")).unwrap().flatten();
        let mut files: Vec<(String, String)> = entries
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap_or_default())
            })
            .collect();
        files.sort();
        files
    }
}

fn fetch(store: &str, reads: &str, options: &[&str]) -> Fetched {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (token, destination) = (path("token"), path("inputs"));
    std::fs::write(&token, "t0ken\n").unwrap();
    let finished = Agent::new(["fetch", "--store", store, "--namespace", "ci", "--run", "run-1", "--reads", reads])
        .arguments(["--token-file", &token, "--dest", &destination])
        .arguments(options.iter().copied())
        .run();
    Fetched { finished, directory }
}

fn artifacts(list: &[(&str, Vec<u8>)]) -> BTreeMap<String, Vec<u8>> {
    list.iter().map(|(path, body)| ((*path).to_owned(), body.clone())).collect()
}

#[test]
fn raw_coverage_of_several_jobs_lands_in_one_folder_and_what_is_missing_is_named() {
    let data = archive(&[(".coverage", "one"), (".coverage.host.1", "two"), ("junit.xml", "x")]);
    let (url, asked) = store("200 OK", artifacts(&[("run-1-a/coverage-data-unit", data)]));
    let options = [
        "--input=unit (a = b)=run-1-a/coverage-data-unit",
        "--input=smoke=run-1-b/coverage-data-smoke",
        "--missing=late",
    ];
    let fetched = fetch(&url, "coverage-data", &options);
    let expected = [(".coverage.1".to_owned(), "one".to_owned()), (".coverage.2".to_owned(), "two".to_owned())];
    assert_eq!(fetched.files(), expected);
    assert_eq!(fetched.finished.code, Some(0));
    let missing = Some("no coverage data of smoke, late (not started)".to_owned());
    assert_eq!(fetched.finished.report::<FetchReport>(), FetchReport::Fetched { files: 2, missing });
    assert!(asked.lock().unwrap().iter().all(|(_, token)| token == "Bearer t0ken"));
}

#[test]
fn only_reports_of_coverage_are_taken_of_test_results() {
    let results = archive(&[("coverage.xml", "<coverage/>"), ("junit.xml", "x"), ("sub/coverage-b.xml", "<b/>")]);
    let (url, _) = store("200 OK", artifacts(&[("run-1-a/test-results-total", results)]));
    let fetched = fetch(&url, "cobertura", &["--input=total=run-1-a/test-results-total"]);
    let names: Vec<String> = fetched.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["coverage-1.xml", "coverage-2.xml"]);
}

#[test]
fn nothing_at_all_is_a_failure_that_names_the_jobs() {
    let (url, _) = store("200 OK", artifacts(&[("run-1-a/coverage-data-unit", archive(&[("x", "y")]))]));
    let fetched = fetch(&url, "coverage-data", &["--input=unit=run-1-a/coverage-data-unit", "--missing=late"]);
    assert_eq!(fetched.finished.code, Some(1));
    let FetchReport::Failed { failure, message } = fetched.finished.report() else { panic!("it succeeded") };
    assert_eq!(failure, FetchFailure::Nothing);
    assert!(message.contains("unit, late (not started)"), "{message}");
}

#[test]
fn a_store_that_refuses_or_is_gone_is_a_failure_of_the_infrastructure() {
    let (refusing, _) = store("403 Forbidden", artifacts(&[("run-1-a/coverage-data-unit", Vec::new())]));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [refusing, format!("http://{closed}")] {
        let fetched = fetch(&url, "coverage-data", &["--input=unit=run-1-a/coverage-data-unit"]);
        let FetchReport::Failed { failure, .. } = fetched.finished.report() else { panic!("it succeeded") };
        assert_eq!(failure, FetchFailure::Unreachable);
    }
}

#[test]
fn a_hostile_archive_writes_nothing_outside_and_is_named() {
    let mut links = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    links.append_link(&mut header, ".coverage.link", "/etc/passwd").unwrap();
    let links = links.into_inner().unwrap().finish().unwrap();
    let climbing = archive(&[("../../.coverage", "climbed"), ("/.coverage", "absolute")]);
    let stored = artifacts(&[
        ("run-1-a/coverage-data-links", links),
        ("run-1-a/coverage-data-climbing", climbing),
        ("run-1-a/coverage-data-garbage", b"no archive".to_vec()),
    ]);
    let (url, _) = store("200 OK", stored);
    let inputs: Vec<String> = ["links", "climbing", "garbage"]
        .iter()
        .map(|name| format!("--input={name}=run-1-a/coverage-data-{name}"))
        .collect();
    let fetched = fetch(&url, "coverage-data", &inputs.iter().map(String::as_str).collect::<Vec<_>>());
    let expected =
        [(".coverage.1".to_owned(), "climbed".to_owned()), (".coverage.2".to_owned(), "absolute".to_owned())];
    assert_eq!(fetched.files(), expected, "under names of our own");
    let FetchReport::Fetched { missing: Some(missing), .. } = fetched.finished.report() else { panic!("it failed") };
    assert!(missing.contains("links, garbage (unreadable: "), "{missing}");
}

#[test]
fn an_archive_that_never_ends_is_cut_at_its_bound() {
    // A gigabyte of zeros, and more, in a megabyte.
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    let mut header = tar::Header::new_gnu();
    header.set_size(700 << 20);
    archive.append_data(&mut header, ".coverage", std::io::Read::take(std::io::repeat(0), 700 << 20)).unwrap();
    let bomb = archive.into_inner().unwrap().finish().unwrap();
    assert!(bomb.len() < 2 << 20, "{}", bomb.len());
    let (url, _) = store("200 OK", artifacts(&[("run-1-a/coverage-data-unit", bomb)]));
    let fetched = fetch(&url, "coverage-data", &["--input=unit=run-1-a/coverage-data-unit"]);
    assert!(fetched.files().is_empty());
    let FetchReport::Failed { message, .. } = fetched.finished.report() else { panic!("it succeeded") };
    assert!(message.contains("longer than"), "{message}");
}
