//! The plugin as a developer calls it: runs a pipeline, watches it, reads its logs and takes its artifacts home.

use std::fs;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::runs::{BOUND, ENVIRONMENT, LONG, RUN, begin, ended, job, pipeline};
use crate::stage::{Stage, on_stage, program};
use crate::waiting::{condition, status, until};

/// Two tests, of which one fails, and something that a terminal would obey.
const RED: &str = r#"printf 'hello from the job \033]0;owned\007\n'
mkdir out && echo '<html>' > out/index.html
echo '<testsuite name="s"><testcase classname="tests.test_a" name="test_good"/><testcase classname="tests.test_a" name="test_bad"><failure message="1 is not 2"/></testcase></testsuite>' > "$REPORTS/junit.xml"
exit 1"#;
const GREEN: &str = r#"echo '<testsuite name="s"><testcase classname="tests.test_a" name="test_good"/></testsuite>' > "$REPORTS/junit.xml""#;

fn plugin(stage: &Stage, words: &[&str]) -> std::process::Command {
    let mut command = program(env!("CARGO_BIN_EXE_kubectl-timetracker"));
    command.args(["--namespace", &stage.namespace]).args(words).env("NO_COLOR", "1");
    command
}

/// Its exit code, and all that it prints. Not in the test's own thread: the run goes on meanwhile.
async fn called(stage: &Stage, words: &[&str]) -> (i32, String) {
    let mut command = plugin(stage, words);
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (status.code().unwrap_or(-1), text)
}

fn says(text: &str, expected: &[&str]) {
    for words in expected {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
}

fn lane(script: &str) -> Value {
    json!({ "name": "lane", "reports": ["JUnit"], "run": script })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_made_and_watched_by_the_plugin_ends_with_its_criteria_ticked() {
    on_stage("plugin-green", |stage| async move {
        let mut definition = pipeline(json!([lane(GREEN), { "name": "after", "needs": ["lane"], "run": "true" }]));
        definition["params"] = json!([{ "name": "version" }]);
        stage.create("Pipeline", RUN, definition).await;
        let (code, told) = called(&stage, &["run", RUN, "--name", RUN, "--param", "version=5.0"]).await;
        assert_eq!(code, 0, "{told}");
        let expected = [
            "lane: source done",
            "lane: running",
            "lane: succeeded",
            "after: succeeded",
            "✓ every job succeeded, or was skipped by its own condition: 2 of 2 succeeded",
            "✓ tests really ran, none failed: 1 passed, 0 failed, 0 skipped",
        ];
        says(&told, &expected);
        assert!(!told.contains('\u{1b}'), "{told:?}");
        let run = stage.kubectl(&["get", "pipelinerun", RUN, "--output=json"]);
        let run: Value = serde_json::from_str(&run).unwrap();
        assert_eq!(run["metadata"]["labels"]["timetracker.dev/event"], "Manual");
        assert_eq!(called(&stage, &["status", RUN]).await.0, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_followed_from_job_to_job_until_the_run_ends() {
    on_stage("plugin-follow", |stage| async move {
        let slowly = "echo first of one; sleep 5; echo second of one";
        let definition = pipeline(json!([
            { "name": "one", "run": slowly },
            { "name": "two", "needs": ["one"], "reports": ["JUnit"], "run": format!("{GREEN}; echo only of two") },
        ]));
        stage.create("Pipeline", RUN, definition).await;
        stage.create("PipelineRun", RUN, json!({ "pipelineRef": { "name": RUN } })).await;
        let (code, told) = called(&stage, &["logs", "--follow", RUN]).await;
        assert_eq!(code, 0, "{told}");
        let lines: Vec<&str> = told.lines().filter(|line| line.contains(" of ")).collect();
        assert_eq!(lines, ["first of one", "second of one", "only of two"], "{told}");
        says(&told, &["==> one <==", "==> two <=="]);
        let (code, told) = called(&stage, &["logs", "--follow", RUN, "two"]).await;
        assert_eq!((code, told.contains("only of two"), told.contains("of one")), (0, true, false), "{told}");
    })
    .await;
}

/// A test that fails the first time that its pod sees it, and one that must not be run twice.
const FLAKY: &str = r#"cat > test_flaky.py <<'END'
import os, pathlib

def first_time(name):
    path = pathlib.Path(os.environ["HOME"], name)
    known = path.exists()
    path.touch()
    return not known

def test_sometimes():
    assert not first_time("sometimes"), "only the first time"

def test_always():
    assert first_time("always")
END
python -m pytest -p no:cacheprovider --junitxml "$REPORTS/junit.xml" test_flaky.py"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_passes_when_it_runs_again_is_flaky_and_named_in_a_green_run() {
    on_stage("plugin-flaky", |stage| async move {
        let mut flaky = lane(FLAKY);
        flaky["image"] = json!(ENVIRONMENT);
        flaky["retries"] = json!({ "failedTests": 2 });
        let mut broken = flaky.clone();
        broken["name"] = json!("broken");
        broken["run"] = json!(format!("{FLAKY} || true\nexit 7"));
        broken["continueOnError"] = json!(true);
        stage.create("Pipeline", RUN, pipeline(json!([flaky, broken]))).await;
        let (code, told) = called(&stage, &["run", RUN, "--name", RUN]).await;
        assert_eq!(code, 0, "{told}");
        let expected = [
            "4 passed, 0 failed, 0 skipped, 2 flaky",
            "flaky tests of lane: they failed, and passed when run again",
            "test_flaky.py::test_sometimes",
            "only the first time",
        ];
        says(&told, &expected);
        let status = ended(&stage).await;
        assert_eq!((&status["tests"]["flaky"], &status["tests"]["passed"]), (&json!(2), &json!(4)), "{status:#}");
        let lane = job(&status, "lane");
        assert_eq!((&lane["phase"], &lane["flaky"]), (&json!("Succeeded"), &json!(1)), "{status:#}");
        assert_eq!(lane["message"], "1 flaky, passed when run again: test_flaky::test_sometimes");
        let broken = job(&status, "broken");
        assert_eq!((&broken["failure"], &broken["flaky"]), (&json!("CommandFailure"), &json!(1)), "{status:#}");
        let (code, log) = called(&stage, &["logs", RUN, "lane"]).await;
        assert_eq!(code, 0, "{log}");
        says(&log, &["timetracker-agent: round 1 of 2: 1 failed", "1 passed, 1 deselected"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_named_and_its_log_and_artifacts_are_there_after_its_pod() {
    on_stage("plugin-red", |stage| async move {
        let mut red = lane(RED);
        red["artifacts"] = json!([{ "name": "page", "path": "out/" }]);
        stage.create("Pipeline", RUN, pipeline(json!([red]))).await;
        let (code, told) = called(&stage, &["run", RUN, "--name", RUN]).await;
        assert_eq!(code, 1, "{told}");
        let expected = [
            "lane: failed",
            "TestFailure: 1 of 2 tests failed",
            "✗ tests really ran, none failed: 1 passed, 1 failed, 0 skipped",
            "tests/test_a.py::test_bad",
            "1 is not 2",
            "python -m pytest tests/test_a.py::test_bad",
            "rerun run --failed",
        ];
        says(&told, &expected);

        let (code, log) = called(&stage, &["logs", RUN, "lane"]).await;
        assert_eq!((code, log.contains("hello from the job")), (0, true), "{log}");
        stage.kubectl(&["delete", "pods", "--all", "--wait=true", "--timeout=180s"]);
        let (code, kept) = called(&stage, &["logs", RUN]).await;
        assert_eq!(code, 0, "{kept}");
        says(&kept, &["the pod of lane is gone; this is what the artifact store kept", "hello from the job"]);

        let (code, listed) = called(&stage, &["artifacts", RUN]).await;
        assert_eq!(code, 0, "{listed}");
        says(&listed, &["log-head.txt", "summary.json", "test-results-lane", "page"]);
        let home = tempfile::tempdir().unwrap();
        let words = ["artifacts", RUN, "page", "--download", home.path().to_str().unwrap()];
        let (code, told) = called(&stage, &words).await;
        assert_eq!(code, 0, "{told}");
        assert!(fs::metadata(home.path().join("lane/page")).unwrap().len() > 0);
        let (code, told) = called(&stage, &words).await;
        assert_eq!((code, told.contains("is there already: --force replaces it")), (2, true), "{told}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_what_was_killed_stopped_or_cancelled_outlive_their_pods() {
    on_stage("plugin-kept", |stage| async move {
        let small = json!({ "resources": { "requests": { "memory": "32Mi" }, "limits": { "memory": "64Mi" } } });
        let greedy = "echo words of memory; python3 -c 'print(len(bytearray(300 << 20)))'";
        let postgres = json!([{ "name": "postgres", "postgres": { "version": "16" } }]);
        let jobs = json!([
            { "name": "memory", "outputs": ["none"], "run": greedy, "pod": small },
            { "name": "deadline", "outputs": ["none"], "timeout": "2s", "run": "echo words of deadline; sleep 60" },
            { "name": "database", "services": postgres, "run": "echo words of database; exit 3" },
            { "name": "cancelled", "outputs": ["none"], "run": format!("echo words of cancelled; {LONG}") },
        ]);
        let names = ["memory", "deadline", "database", "cancelled"];
        begin(&stage, pipeline(jobs), json!({})).await;
        status(&stage, "PipelineRun", RUN, "all but the last job to end", BOUND, |status| {
            let phase = |name: &str, expected: &str| {
                let mut jobs = status["jobs"].as_array().into_iter().flatten();
                jobs.any(|job| job["name"] == name && job["phase"] == expected)
            };
            names[..3].iter().all(|name| phase(name, "Failed")) && phase("cancelled", "Running")
        })
        .await;
        let (code, told) = called(&stage, &["cancel", RUN]).await;
        assert_eq!(code, 0, "{told}");
        ended(&stage).await;
        stage.kubectl(&["delete", "pods", "--all", "--wait=true", "--timeout=180s"]);
        for name in names {
            let (code, kept) = called(&stage, &["logs", RUN, name]).await;
            assert_eq!(code, 0, "{kept}");
            says(&kept, &["is gone; this is what the artifact store kept", &format!("words of {name}")]);
            assert!(!kept.contains("incomplete"), "{kept}");
        }
        let (code, kept) = called(&stage, &["logs", RUN, "database", "-c", "postgres"]).await;
        assert_eq!((code, kept.contains("database system is ready to accept connections")), (0, true), "{kept}");
        let (_, listed) = called(&stage, &["artifacts", RUN]).await;
        says(&listed, &["service-log-postgres.txt", "log.json"]);
    })
    .await;
}

/// There is no agent in these pods: the operator itself keeps what they print.
#[tokio::test(flavor = "multi_thread")]
async fn logs_of_plain_pods_outlive_them_also_when_they_flood_or_are_lost() {
    on_stage("plugin-plain", |stage| async move {
        let flood = "echo words of flood; head -c 3000000 /dev/zero | tr '\\0' x; \
            i=0; while [ $i -lt 4000 ]; do echo line $i of many; i=$((i+1)); done; echo last words; exit 4";
        let once = json!({ "infrastructure": 0 });
        let jobs = json!([
            { "name": "fails", "run": "echo words of fails; printf '\\377\\n'; exit 3" },
            { "name": "flood", "run": flood },
            { "name": "silent", "run": "true" },
            { "name": "lost", "run": format!("echo words of lost; {LONG}"), "retries": once },
        ]);
        begin(&stage, pipeline(jobs), json!({})).await;
        status(&stage, "PipelineRun", RUN, "all but the last job to end", BOUND, |status| {
            let phases: Vec<&Value> =
                status["jobs"].as_array().into_iter().flatten().map(|job| &job["phase"]).collect();
            phases == ["Failed", "Failed", "Succeeded", "Running"]
        })
        .await;
        until("the words of the job that will be lost", 60, || {
            stage.kubectl(&["logs", "--selector=timetracker.dev/job=lost"]).contains("words of lost")
        })
        .await;
        stage.kubectl(&["delete", "pods", "--selector=timetracker.dev/job=lost", "--wait=true", "--timeout=180s"]);
        let status = ended(&stage).await;
        assert_eq!(job(&status, "fails")["message"], "exit code 3", "{status:#}");
        assert_eq!(job(&status, "lost")["failure"], "PodDeleted", "{status:#}");
        stage.kubectl(&["delete", "pods", "--all", "--wait=true", "--timeout=180s"]);
        for name in ["fails", "flood", "lost"] {
            let (code, kept) = called(&stage, &["logs", RUN, name]).await;
            assert_eq!(code, 0, "{kept}");
            says(&kept, &["is gone; this is what the artifact store kept", &format!("words of {name}")]);
            assert_eq!(kept.contains("this log is incomplete"), name == "lost", "{name}: {kept}");
            if name == "flood" {
                says(&kept, &["what came in the middle was not kept", "line 3999 of many", "last words"]);
            }
        }
        let (code, kept) = called(&stage, &["logs", RUN, "silent"]).await;
        assert_eq!((code, kept.contains("no log of it was kept")), (0, true), "{kept}");
        let (_, listed) = called(&stage, &["artifacts", RUN, "--job", "flood"]).await;
        says(&listed, &["log-head.txt", "256.0 KiB", "log-tail.txt", "log.json"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_ends_whoever_watches_it() {
    on_stage("plugin-cancel", |stage| async move {
        stage.create("Pipeline", RUN, pipeline(json!([{ "name": "long", "run": LONG }]))).await;
        let watching =
            plugin(&stage, &["run", RUN, "--name", RUN]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("the run to be made", 60, || stage.kubectl(&["get", "pipelineruns", "--output=name"]).contains(RUN))
            .await;
        status(&stage, "PipelineRun", RUN, "the job to run", BOUND, |status| {
            status["jobs"].as_array().into_iter().flatten().any(|job| job["phase"] == "Running")
        })
        .await;
        let (code, told) = called(&stage, &["cancel", RUN]).await;
        assert_eq!((code, told.contains("is told to stop")), (0, true), "{told}");
        let ended = ended(&stage).await;
        assert_eq!(condition(&ended, "Succeeded")["reason"], "Cancelled", "{ended:#}");
        let output = tokio::task::spawn_blocking(|| watching.wait_with_output().unwrap()).await.unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{told}");
        says(&told, &["being cancelled", "long: cancelled", "run cancelled after"]);
    })
    .await;
}
