//! Tests that failed are run again: `agent exec` and `agent collect` with a real pytest.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use timetracker_operator::agent::report::{CollectReport, ExecReport, TestCounts};

use crate::collect::{collect, store};
use crate::support::cache;
use crate::{Agent, Finished};

/// A test that fails the first time, others that never or always do, and names of all kinds.
const SUITE: &str = r#"
import os, pathlib, pytest, subprocess, sys

def first_time(name):
    path = pathlib.Path(os.environ["STATE"]) / name
    known = path.exists()
    path.touch()
    return not known

@pytest.mark.smoke
def test_flaky():
    assert not first_time("flaky"), "only the first time"

@pytest.mark.parametrize("text", ["a b", "é\n$(id)'\"[::]", "\ud800"])
def test_named(text):
    assert text == "a b" or not first_time(text.encode("utf-8", "surrogatepass").hex())

@pytest.fixture
def resource():
    yield
    assert not first_time("teardown")

def test_with_teardown(resource):
    assert not first_time("call")

@pytest.mark.smoke
def test_once():
    assert first_time("once"), "it is run a second time"

def test_that_starts_a_pytest(tmp_path):
    (tmp_path / "test_inner.py").write_text("def test_inner(): assert False")
    run = subprocess.run([sys.executable, "-m", "pytest", str(tmp_path)])
    assert run.returncode == 1

@pytest.mark.skip
def test_skipped(): pass

@pytest.mark.xfail
def test_expected_to_fail(): assert False
"#;

/// Tests of the suite: 9, of which one is skipped; one more counts as skipped because it is expected to fail.
const GREEN: TestCounts = TestCounts { passed: 7, failed: 0, skipped: 2, flaky: 4 };

/// A job's volume with these files in its working directory.
fn volume(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for folder in ["reports", "logs", "workspace", "state", "home"] {
        fs::create_dir(directory.path().join(folder)).unwrap();
    }
    let own = ("pytest.ini", "[pytest]\nmarkers = smoke\n");
    for (name, text) in files.iter().chain([&own]) {
        fs::write(directory.path().join("workspace").join(name), text).unwrap();
    }
    fs::write(directory.path().join("token"), "t0ken").unwrap();
    directory
}

/// Runs the script as a job's pod does, with two further rounds.
fn exec(volume: &Path, timeout: &str, script: &str) -> Finished {
    let path = |name: &str| volume.join(name).to_str().unwrap().to_owned();
    Agent::new(["exec", "--timeout", timeout, "--grace", "1s", "--log-dir", &path("logs")])
        .arguments(["--pytest-plugins", &path("home/pytest"), "--rerun-failed-tests", "2"])
        .arguments(["--workdir", &path("workspace"), "--", "/bin/sh", "-e", "-c", script])
        .env("REPORTS", &path("reports"))
        .env("COVERAGE_FILE", &path("reports/.coverage"))
        .env("STATE", &path("state"))
        .env("PYTHONPATH", cache::pytest().to_str().unwrap())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .run()
}

fn collected(volume: &Path) -> CollectReport {
    let (url, _) = store("201 Created");
    let finished = collect(volume, &url, &["--reruns", "2"]);
    assert!(finished.report.len() <= 1_024, "{}", finished.report);
    finished.report()
}

fn log(volume: &Path) -> String {
    fs::read_to_string(volume.join("logs/head.log")).unwrap()
}

fn says(text: &str, expected: &[&str]) {
    for words in expected {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
}

#[test]
fn what_failed_runs_again_alone_and_what_passes_then_is_flaky() {
    let volume = volume(&[("test_suite.py", SUITE)]);
    // The threshold holds for the first round; later ones measure nothing.
    let script = "python3 -m pytest -p no:cacheprovider --junitxml \"$REPORTS/junit.xml\" \
        --cov=test_suite --cov-fail-under=80 --cov-report=\"xml:$REPORTS/coverage.xml\"";
    let finished = exec(volume.path(), "120s", script);
    let report: ExecReport = finished.report();
    assert_eq!((finished.code, report.reruns), (Some(0), 1), "{}", finished.stdout);
    let log = log(volume.path());
    says(&log, &["timetracker-agent: round 1 of 2: 4 failed; the script runs again", "4 passed, 5 deselected"]);
    assert_eq!(log, finished.stdout);

    let report = collected(volume.path());
    assert_eq!(report.tests, Some(GREEN));
    assert_eq!(report.flaky[0], "test_suite::test_flaky");
    let smoke = report.markers["smoke"];
    assert_eq!((smoke.passed(), smoke.all()), (2, 2));
    assert!(report.coverage.unwrap() > 9_000 && report.coverage_data == 1, "{report:?}");
    assert_eq!(report.problem, None);
}

#[test]
fn workers_of_xdist_run_only_what_failed() {
    // Its own messages can't carry half a surrogate pair.
    let volume = volume(&[("test_suite.py", &SUITE.replace("\\ud800", "\\u0301"))]);
    let script = "python3 -m pytest -n 2 --cov=test_suite --cov-fail-under=80 --junitxml \"$REPORTS/junit.xml\"";
    let finished = exec(volume.path(), "120s", script);
    assert_eq!(finished.code, Some(0), "{}", finished.stdout);
    assert_eq!(collected(volume.path()).tests, Some(GREEN));
}

#[test]
fn what_fails_each_time_stays_red_after_as_many_rounds_as_there_may_be() {
    let suite = "def test_red(): assert False, 'always'\ndef test_green(): pass\n";
    let volume = volume(&[("test_suite.py", suite)]);
    let finished = exec(volume.path(), "120s", "python3 -m pytest --junitxml \"$REPORTS/junit.xml\"");
    assert_eq!((finished.code, finished.report::<ExecReport>().reruns), (Some(1), 2), "{}", finished.stdout);
    says(&finished.stdout, &["round 1 of 2: 1 failed", "round 2 of 2: 1 failed"]);
    let report = collected(volume.path());
    assert_eq!(report.tests, Some(TestCounts { passed: 1, failed: 1, skipped: 0, flaky: 0 }));
}

#[test]
fn every_pytest_of_a_script_runs_what_it_has_not_passed_itself() {
    let volume = volume(&[("test_suite.py", SUITE), ("test_other.py", "def test_other(): pass\n")]);
    let script = "python3 -m pytest --junitxml \"$REPORTS/first.xml\" test_other.py
        python3 -m pytest --junitxml \"$REPORTS/suite.xml\" test_suite.py
        python3 -m pytest --junitxml \"$REPORTS/never-before.xml\" -k other --override-ini=junit_suite_name=last";
    let finished = exec(volume.path(), "120s", script);
    assert_eq!(finished.code, Some(0), "{}", finished.stdout);
    // The first finds nothing left to run, which is no failure; the last had never come to run.
    says(&finished.stdout, &["1 deselected", "1 passed, 9 deselected"]);
    assert_eq!(collected(volume.path()).tests, Some(TestCounts { passed: 8, ..GREEN }));
}

#[test]
fn tests_that_were_not_reached_are_run_and_counted() {
    let volume = volume(&[("test_suite.py", SUITE)]);
    let script = "python3 -m pytest --exitfirst -k 'flaky or once or expected' --junitxml \"$REPORTS/junit.xml\"";
    let finished = exec(volume.path(), "120s", script);
    assert_eq!((finished.code, finished.report::<ExecReport>().reruns), (Some(0), 1), "{}", finished.stdout);
    let counts = TestCounts { passed: 2, failed: 0, skipped: 1, flaky: 1 };
    assert_eq!(collected(volume.path()).tests, Some(counts));
}

#[test]
fn a_command_that_fails_beside_its_tests_stays_failed() {
    let volume = volume(&[("test_suite.py", SUITE)]);
    let script = "python3 -m pytest --junitxml \"$REPORTS/junit.xml\" || true; echo linted; exit 3";
    let finished = exec(volume.path(), "120s", script);
    assert_eq!(finished.code, Some(3), "{}", finished.stdout);
    assert_eq!(collected(volume.path()).tests, Some(GREEN));
}

#[test]
fn what_is_no_matter_of_single_tests_is_not_run_again_and_the_log_says_so() {
    let many = "import pytest\n@pytest.mark.parametrize('n', range(101))\ndef test_many(n): assert False\n";
    let uncollected = format!("{SUITE}\nimport nothing_of_this_name\n");
    let pytest = "python3 -m pytest -q --tb=no";
    for (suite, command, expected) in [
        (many, pytest.to_owned(), "101 tests failed; more than 100"),
        (uncollected.as_str(), pytest.to_owned(), "a pytest ended with exit code 2"),
        (SUITE, format!("{pytest} --cov=nothing --cov-fail-under=90 --cov-report="), "a threshold of coverage"),
        (SUITE, format!("PYTHONPATH={} {pytest}", cache::pytest().display()), "no pytest told of its tests"),
        ("import os\ndef test_gone(): os._exit(1)\n", pytest.to_owned(), "before it had told of all its tests"),
        ("", "exit 1".to_owned(), "no pytest told of its tests"),
    ] {
        let volume = volume(&[("test_suite.py", suite)]);
        let finished = exec(volume.path(), "120s", &command);
        assert_eq!(finished.report::<ExecReport>().reruns, 0, "{}", finished.stdout);
        assert_ne!(finished.code, Some(0));
        says(&finished.stdout, &["timetracker-agent: no test is run again: ", expected]);
    }
}

#[test]
fn all_rounds_have_one_timeout() {
    let suite = "import os, pathlib, time\ndef test_slow():\n    path = pathlib.Path(os.environ['STATE'], 'x')\n    \
        if path.exists(): time.sleep(600)\n    path.touch()\n    assert False\n";
    let volume = volume(&[("test_suite.py", suite)]);
    let finished = exec(volume.path(), "8s", "python3 -m pytest --junitxml \"$REPORTS/junit.xml\"");
    let report: ExecReport = finished.report();
    assert!(report.timed_out && (8..20).contains(&report.seconds), "{report:?}");
    says(&finished.stdout, &["round 1 of 2: 1 failed"]);
}

#[test]
fn a_test_that_spoils_the_record_only_spoils_its_own_second_chance() {
    let spoil = |what: &str| {
        format!(
            "import os, pathlib\ndef test_evil():\n    record = pathlib.Path(os.environ['STATE'], '../home/pytest/rounds/round-0')\n    {what}\n    assert False\n"
        )
    };
    for what in [
        "record.write_bytes(bytes(range(256)) * 1000)",
        "record.unlink(); os.mkfifo(record)",
        "record.unlink(); record.symlink_to('/dev/zero')",
        "record.open('a').write('failed\\n' * 1000)",
        "os.truncate(record, 40 << 20)",
    ] {
        let volume = volume(&[("test_suite.py", spoil(what).as_str())]);
        let finished = exec(volume.path(), "60s", "python3 -m pytest --junitxml \"$REPORTS/junit.xml\"");
        assert_eq!((finished.code, finished.report::<ExecReport>().reruns), (Some(1), 0), "{}", finished.stdout);
        says(&finished.stdout, &["no test is run again: what pytest wrote down of its tests can't be read"]);
        assert_eq!(collected(volume.path()).tests.unwrap().failed, 1);
    }
}

#[test]
fn a_report_that_is_not_in_the_rounds_own_folder_is_missed_and_told() {
    let volume = volume(&[("test_suite.py", SUITE)]);
    let path = volume.path().join("reports/junit.xml");
    let finished = exec(volume.path(), "120s", &format!("python3 -m pytest --junitxml {}", path.display()));
    assert_eq!(finished.code, Some(0), "{}", finished.stdout);
    let problem = collected(volume.path()).problem.unwrap();
    assert!(problem.contains("left no JUnit report of that in $REPORTS"), "{problem}");
}
