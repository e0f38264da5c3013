//! Runs that are disturbed in each of their phases: nothing is done twice, nothing vanished counts as success.

use std::collections::BTreeSet;
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::git;
use crate::kill::kill_operator;
use crate::releases_disturbed::delete_status;
use crate::runs::{BOUND, LONG, RUN, begin, ended, job, pipeline, source};
use crate::stage::{Stage, on_stage, setting};
use crate::waiting::{condition, is_true, status, until};
use crate::witness::Witness;

/// Phases of a run by its jobs': fetching its commit, running, and what runs last of all.
const PHASES: [(&str, &str); 3] = [("work", "Starting"), ("work", "Running"), ("last", "Running")];

/// A run with a checkout, a job and a last one.
async fn slow(stage: &Stage) {
    source(stage).await;
    let mut definition = pipeline(json!([{ "name": "work", "run": "test -d app; sleep 4" }]));
    definition["finally"] = json!([{ "name": "last", "checkout": { "enabled": false }, "run": "sleep 4" }]);
    definition["repositoryRef"] = json!({ "name": "timetracker" });
    begin(stage, definition, json!({ "revision": { "commit": git::server().commit("v1.1.0") } })).await;
}

fn is_in(status: &Value, phase: (&str, &str)) -> bool {
    let jobs = status["jobs"].as_array().into_iter().flatten();
    jobs.into_iter().any(|job| job["name"] == phase.0 && job["phase"] == phase.1)
}

/// Waits for a phase that is not among these; `None` once the run is over.
async fn next_phase(stage: &Stage, met: &BTreeSet<(&str, &str)>) -> Option<(&'static str, &'static str)> {
    let fresh = |status: &Value| PHASES.into_iter().find(|phase| !met.contains(phase) && is_in(status, *phase));
    let status = status(stage, "PipelineRun", RUN, "the next phase", BOUND, |status| {
        fresh(status).is_some() || !status["completionTime"].is_null()
    })
    .await;
    fresh(&status)
}

async fn succeeded_once(stage: &Stage, witness: &Witness) -> Value {
    let status = ended(stage).await;
    assert!(is_true(&status, "Succeeded") && is_true(&status, "Ready"), "{status:#}");
    for name in ["work", "last"] {
        assert_eq!((&job(&status, name)["phase"], &job(&status, name)["attempt"]), (&json!("Succeeded"), &json!(1)));
    }
    assert_eq!(witness.saw_each_once(), 2, "one pod each");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runs_status_deleted_in_each_phase_is_rebuilt_and_nothing_is_done_twice() {
    on_stage("run-status", |stage| async move {
        let witness = Witness::of(&stage);
        slow(&stage).await;
        let mut met = BTreeSet::new();
        while let Some(phase) = next_phase(&stage, &met).await {
            delete_status(&stage, "pipelinerun", RUN);
            met.insert(phase);
        }
        assert_eq!(met, BTreeSet::from(PHASES));
        let before = succeeded_once(&stage, &witness).await;
        delete_status(&stage, "pipelinerun", RUN);
        let after = succeeded_once(&stage, &witness).await;
        for field in ["completionTime", "startTime", "commit", "jobs", "pipelineRevision"] {
            assert_eq!(after[field], before[field], "{field}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_in_each_phase_of_a_run_goes_on_and_runs_each_job_once() {
    on_stage("run-killed", |stage| async move {
        let witness = Witness::of(&stage);
        slow(&stage).await;
        let mut met = BTreeSet::new();
        while let Some(phase) = next_phase(&stage, &met).await {
            kill_operator().await;
            met.insert(phase);
        }
        assert!(met.len() >= 2, "{met:?}");
        succeeded_once(&stage, &witness).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_deleted_in_each_phase_leaves_nothing() {
    on_stage("run-deleted", |stage| async move {
        // Accepts connections and never answers: a checkout that does not end.
        let silent = TcpListener::bind((setting("TIMETRACKER_TEST_GATEWAY").as_str(), 0)).unwrap();
        let url = format!("http://{}/silent", silent.local_addr().unwrap());
        stage.create("SourceRepository", "silent", json!({ "cloneURL": url })).await;
        let commit = json!({ "revision": { "commit": "0123456789abcdef0123456789abcdef01234567" } });
        let long = |name: &str| json!({ "name": name, "run": LONG });
        let mut fetching = pipeline(json!([long("work")]));
        fetching["repositoryRef"] = json!({ "name": "silent" });
        let mut last = pipeline(json!([{ "name": "first", "run": "true" }]));
        last["finally"] = json!([long("work")]);
        let rows = [
            ("fetching", fetching, commit, "Starting"),
            ("running", pipeline(json!([long("work")])), json!({}), "Running"),
            ("finally", last, json!({}), "Running"),
        ];
        for (name, definition, spec, _) in &rows {
            stage.create("Pipeline", name, definition.clone()).await;
            let mut spec = spec.clone();
            spec["pipelineRef"] = json!({ "name": name });
            stage.create("PipelineRun", name, spec).await;
        }
        for (name, _, _, phase) in &rows {
            status(&stage, "PipelineRun", name, phase, BOUND, |status| is_in(status, ("work", phase))).await;
        }
        until("the checkout to hang", 60, || {
            let fields = "--output=jsonpath={.items[*].status.initContainerStatuses[*].state.running.startedAt}";
            !stage.kubectl(&["get", "pods", fields]).trim().is_empty()
        })
        .await;
        stage.kubectl(&["delete", "pipelinerun", "--all", "--timeout=150s"]);
        until("jobs and pods to be gone", 60, || {
            stage.kubectl(&["get", "jobs,pods,controllerrevisions", "--output=name"]).trim().is_empty()
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_with_0_because_its_pod_is_deleted_has_not_succeeded() {
    on_stage("trap", |stage| async move {
        let report = r#"echo '<testsuite tests="1"><testcase name="a"/></testsuite>' > "$REPORTS/junit.xml""#;
        let trap = "trap 'exit 0' TERM; sleep 600 & wait";
        let jobs = json!([
            { "name": "plain", "retries": { "infrastructure": 0 }, "run": trap },
            { "name": "agent", "retries": { "infrastructure": 0 }, "reports": ["JUnit"], "run": format!("{report}; {trap}") },
        ]);
        begin(&stage, pipeline(jobs), json!({})).await;
        status(&stage, "PipelineRun", RUN, "both jobs to run", BOUND, |status| {
            is_in(status, ("plain", "Running")) && is_in(status, ("agent", "Running"))
        })
        .await;
        stage.kubectl(&["delete", "pods", "--all", "--wait=false"]);
        let status = ended(&stage).await;
        assert_eq!(condition(&status, "Succeeded")["status"], "False", "{status:#}");
        for name in ["plain", "agent"] {
            assert_eq!(job(&status, name)["failure"], "PodDeleted", "{status:#}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_a_secret_that_does_not_exist_is_told_within_a_minute() {
    on_stage("volume", |stage| async move {
        let volumes = json!([{ "name": "token", "mountPath": "/token", "secret": { "secretName": "absent" } }]);
        let jobs = json!([{ "name": "job", "run": "true", "pod": { "volumes": volumes } }]);
        begin(&stage, pipeline(jobs), json!({})).await;
        let status = status(&stage, "PipelineRun", RUN, "the missing Secret", 120, |status| {
            job_says(status, "Secret absent does not exist") && !status["completionTime"].is_null()
        })
        .await;
        assert_eq!(job(&status, "job")["failure"], "Configuration", "{status:#}");
    })
    .await;
}

fn job_says(status: &Value, words: &str) -> bool {
    status["jobs"].to_string().contains(words)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_and_a_commit_full_of_shell_are_only_text() {
    on_stage("shell", |stage| async move {
        let branch = "hostile/$(id)-$$(HOME)-$HOME-\"q\"-'s';exit&7";
        let message = "fix $(touch /tmp/x) $$ `id`\n\n\"quotes\" 'and' ${HOME}\n\n-- --upload-pack=x\n";
        let commit = git::server().branch(branch, message);
        source(&stage).await;
        let encoded = {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(branch)
        };
        let script = format!(
            "python3 - <<'END'\nimport base64, os, sys\n\
             sys.exit(os.environ['BRANCH'].encode() != base64.b64decode('{encoded}') or os.environ['COMMIT'] != '{commit}')\nEND\n"
        );
        let mut definition = pipeline(json!([{ "name": "job", "run": script }]));
        definition["repositoryRef"] = json!({ "name": "timetracker" });
        begin(&stage, definition, json!({ "revision": { "branch": branch } })).await;
        let status = ended(&stage).await;
        assert!(is_true(&status, "Succeeded"), "{status:#}");
        assert_eq!(status["commit"], json!(commit));
    })
    .await;
}
