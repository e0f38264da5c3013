//! The plugin as it is called: what it makes, what it refuses, what it says and how it ends.

use std::process::{Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::{in_namespace, kubeconfig, object, resources};

/// How long the plugin may take on a busy machine.
const BOUND: Duration = Duration::from_secs(60);
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The plugin in a namespace, without what the environment may say about terminals.
fn plugin(namespace: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-timetracker"));
    command.env("KUBECONFIG", kubeconfig()).args(["--namespace", namespace]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Its exit code, and what it prints.
async fn called(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = timeout(BOUND, command.output()).await.expect("in time").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

async fn answered(namespace: &str, words: &[&str]) -> String {
    let (code, out, error) = called(&mut plugin(namespace, words)).await;
    assert_eq!(code, 0, "{words:?}: {out}{error}");
    out
}

async fn refused(namespace: &str, words: &[&str], expected: &str) {
    let (code, out, error) = called(&mut plugin(namespace, words)).await;
    assert_eq!(code, 2, "{words:?}: {out}{error}");
    assert!(error.contains(expected), "{words:?}: {error}");
}

async fn create(client: &Client, namespace: &str, kind: &str, name: &str, spec: &str) {
    let api = resources(client, namespace, kind);
    api.create(&PostParams::default(), &object(kind, name, spec)).await.unwrap();
}

/// Ends a run as the operator does: with the outcome that makes it touch the run never again.
async fn end(client: &Client, namespace: &str, name: &str, phase: &str, jobs: Value) {
    let api = resources(client, namespace, "PipelineRun");
    let verdict = if phase == "Succeeded" { "True" } else { "False" };
    let reason = if phase == "Succeeded" { "Succeeded" } else { "CommandFailure" };
    let (now, message) = ("2026-01-01T00:00:00Z", "job unit: CommandFailure: exit code 1");
    let outcome = json!({ "phase": phase, "reason": reason, "message": message, "completed": now });
    let annotations = json!({ "metadata": { "annotations": { "timetracker.dev/outcome": outcome.to_string() } } });
    api.patch(name, &PatchParams::default(), &Patch::Merge(annotations)).await.unwrap();
    let condition = |kind: &str| json!({ "type": kind, "status": verdict, "reason": reason, "message": message, "lastTransitionTime": now });
    let status = json!({ "status": {
        "observedGeneration": 1, "commit": COMMIT, "shortCommit": "0123456", "startTime": now, "completionTime": now,
        "conditions": [condition("Succeeded"), condition("Ready")], "jobs": jobs,
    } });
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

#[tokio::test]
async fn a_run_is_made_as_asked_for_and_marked_as_made_by_hand() {
    in_namespace("ttr-plugin", |client, namespace| async move {
        let name = format!("{}-x", "a".repeat(38));
        let spec = "{repositoryRef: {name: r}, params: [{name: version}], jobs: [{name: a, run: 'true'}]}";
        create(&client, &namespace, "Pipeline", &name, spec).await;
        let words = ["run", &name, "--no-wait", "--branch", "feature/$(X)", "--param", "version=5.0 = x"];
        let made = answered(&namespace, &words).await;
        let made = made.trim();
        assert!(made.starts_with(&"a".repeat(34)) && made.len() == 40, "{made}");
        let run = resources(&client, &namespace, "PipelineRun").get(made).await.unwrap();
        assert_eq!(
            run.data["spec"],
            json!({
                "pipelineRef": { "name": name }, "revision": { "branch": "feature/$(X)" },
                "params": [{ "name": "version", "value": "5.0 = x" }], "cancel": false,
            })
        );
        assert_eq!(run.metadata.labels.unwrap()["timetracker.dev/event"], "Manual");
        let named = ["run", &name, "--no-wait", "--name", "mine", "--commit", COMMIT];
        assert_eq!(answered(&namespace, &named).await, "mine\n");
        refused(&namespace, &named, "the API server refuses it: ").await;
    })
    .await;
}

#[tokio::test]
async fn a_run_that_makes_no_sense_is_refused_before_it_is_made() {
    in_namespace("ttr-plugin", |client, namespace| async move {
        let jobs = "jobs: [{name: a, run: 'true'}]";
        create(&client, &namespace, "Pipeline", "ci", &format!("{{repositoryRef: {{name: r}}, {jobs}}}")).await;
        create(&client, &namespace, "Pipeline", "plain", &format!("{{params: [{{name: one}}], {jobs}}}")).await;
        for (words, expected) in [
            (vec!["run", "typo"], format!("namespace {namespace} has no Pipeline named typo; it has: ci, plain")),
            (vec!["run", "ci"], "pipeline ci checks out r: say --commit, --branch or --tag".to_owned()),
            (vec!["run", "ci", "--commit", "0123456"], "`0123456` is not a commit".to_owned()),
            (vec!["run", "ci", "--branch", "a", "--tag", "b"], "cannot be used with".to_owned()),
            (vec!["run", "plain", "-p", "two=2"], "pipeline plain has no parameter two; it has: one".to_owned()),
            (vec!["run", "plain", "-p", "one"], "expected NAME=VALUE".to_owned()),
            (vec!["run", "plain", "--name", "Not a name"], "the API server refuses it: ".to_owned()),
            (vec!["run", "plain", "--name", &"x".repeat(41)], "at most 40 characters".to_owned()),
            (vec!["status", "nothing"], "has no TimeTrackerRelease and no PipelineRun named nothing".to_owned()),
            (vec!["logs", "nothing"], "has no PipelineRun named nothing".to_owned()),
            (vec!["history", "no\u{1b}[2Jthing"], "no\\x1b[2Jthing".to_owned()),
            (vec!["artifacts", "../ci"], "../ci".to_owned()),
        ] {
            refused(&namespace, &words, &expected).await;
        }
        let runs = resources(&client, &namespace, "PipelineRun").list(&Default::default()).await.unwrap();
        assert_eq!(runs.items.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_run_is_cancelled_once_and_not_after_its_end() {
    in_namespace("ttr-plugin", |client, namespace| async move {
        create(&client, &namespace, "PipelineRun", "one", "pipelineRef: {name: ci}").await;
        assert!(answered(&namespace, &["cancel", "one"]).await.contains("run one is told to stop"));
        let run = resources(&client, &namespace, "PipelineRun").get("one").await.unwrap();
        assert_eq!(run.data["spec"]["cancel"], json!(true));
        create(&client, &namespace, "PipelineRun", "over", "pipelineRef: {name: ci}").await;
        end(&client, &namespace, "over", "Failed", json!([])).await;
        refused(&namespace, &["cancel", "over"], "run over has ended already: there is nothing to stop").await;
    })
    .await;
}

#[tokio::test]
async fn a_run_is_repeated_whole_or_in_part_on_the_same_commit() {
    in_namespace("ttr-plugin", |client, namespace| async move {
        let spec = "{pipelineRef: {name: ci}, revision: {branch: develop}, params: [{name: a, value: b}]}";
        create(&client, &namespace, "PipelineRun", "first", spec).await;
        refused(&namespace, &["rerun", "first", "--failed"], "run first is not over").await;
        end(&client, &namespace, "first", "Failed", json!([{ "name": "unit", "phase": "Failed" }])).await;
        let expected = json!({
            "pipelineRef": { "name": "ci" }, "revision": { "commit": COMMIT }, "params": [{ "name": "a", "value": "b" }], "cancel": false,
        });
        answered(&namespace, &["rerun", "first", "--no-wait", "--name", "whole"]).await;
        answered(&namespace, &["rerun", "first", "--failed", "--no-wait", "--name", "part"]).await;
        let api = resources(&client, &namespace, "PipelineRun");
        assert_eq!(api.get("whole").await.unwrap().data["spec"], expected);
        let mut part = expected;
        part["rerunOf"] = json!({ "name": "first" });
        // What succeeded is taken over only if all is the same, its revision too.
        part["revision"] = json!({ "branch": "develop" });
        assert_eq!(api.get("part").await.unwrap().data["spec"], part);
    })
    .await;
}

#[tokio::test]
async fn a_status_shows_what_others_wrote_and_never_obeys_it() {
    in_namespace("ttr-plugin", |client, namespace| async move {
        create(&client, &namespace, "PipelineRun", "red", "{pipelineRef: {name: ci}, revision: {branch: develop}}").await;
        let jobs = json!([
            { "name": "unit (\u{1b}[2J)", "phase": "Failed", "failure": "CommandFailure", "message": "exit\u{7} 1", "seconds": 3 },
            { "name": "after", "phase": "Skipped" },
        ]);
        end(&client, &namespace, "red", "Failed", jobs).await;
        let told = answered(&namespace, &["status", "red"]).await;
        for expected in ["✗ red  failed", "unit", "CommandFailure: exit\\x07 1", "0 of 2 succeeded, 1 failed, 1 skipped", "rerun red --failed"] {
            assert!(told.contains(expected), "{expected:?} is not in {told}");
        }
        assert!(!told.contains(['\u{1b}', '\u{7}']), "{told:?}");
        let overview = answered(&namespace, &["status"]).await;
        assert!(overview.contains("red  ci        0123456   CommandFailure  2/2"), "{overview}");
    })
    .await;
}

/// What a process prints, line by line.
fn lines(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

async fn until(lines: &mut Lines<BufReader<ChildStdout>>, expected: &str) {
    let found = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(expected) {
                return;
            }
        }
        panic!("it ended without {expected:?}");
    };
    timeout(BOUND, found).await.unwrap_or_else(|_| panic!("no {expected:?}"));
}

/// Says that the run waits: the first line of whoever watches it.
async fn wait_for(client: &Client, namespace: &str, name: &str, message: &str) {
    let condition = json!({ "type": "Succeeded", "status": "Unknown", "reason": "WaitingForApproval",
        "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let status = json!({ "status": { "observedGeneration": 1, "conditions": [condition] } });
    let api = resources(client, namespace, "PipelineRun");
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// A run from whose state the operator, should one be there, keeps its hands off: it waits for a person.
const FOREIGN: &str = "{pipelineRef: {name: ci}, revision: {commit: 0123456789abcdef0123456789abcdef01234567, pullRequest: {number: 1, base: main, fork: true}}}";

#[tokio::test]
async fn whoever_watches_ends_as_the_run_does() {
    in_namespace("ttr-plugin", |client, namespace| async move {
        for (name, phase, code) in [("good", "Succeeded", 0), ("bad", "Failed", 1)] {
            create(&client, &namespace, "PipelineRun", name, FOREIGN).await;
            wait_for(&client, &namespace, name, "for approval").await;
            let mut child = plugin(&namespace, &["watch", name]).spawn().unwrap();
            let mut told = lines(&mut child);
            until(&mut told, "waiting: ").await;
            let jobs = json!([{ "name": "unit", "phase": phase, "seconds": 3 }]);
            end(&client, &namespace, name, phase, jobs).await;
            until(&mut told, &format!("{name} {} after", phase.to_lowercase())).await;
            let ended = timeout(BOUND, child.wait()).await.unwrap().unwrap();
            assert_eq!(ended.code(), Some(code), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_interrupt_stops_the_watching_and_not_the_run() {
    in_namespace("ttr-plugin", |client, namespace| async move {
        create(&client, &namespace, "PipelineRun", "long", FOREIGN).await;
        wait_for(&client, &namespace, "long", "for approval").await;
        let mut child = plugin(&namespace, &["watch", "long"]).spawn().unwrap();
        let mut told = lines(&mut child);
        until(&mut told, "waiting: ").await;
        let process = child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &process]).status().unwrap().success());
        let Output { status, stderr, .. } = timeout(BOUND, child.wait_with_output()).await.unwrap().unwrap();
        let error = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(130), "{error}");
        let hint = format!("run long goes on; kubectl timetracker --namespace {namespace} cancel long stops it");
        assert!(error.contains(&hint), "{error}");
        let run = resources(&client, &namespace, "PipelineRun").get("long").await.unwrap();
        assert_eq!(run.data["spec"]["cancel"], json!(false));
    })
    .await;
}

#[tokio::test]
async fn a_run_that_is_deleted_ends_the_watching_with_a_sentence() {
    in_namespace("ttr-plugin", |client, namespace| async move {
        create(&client, &namespace, "PipelineRun", "gone", FOREIGN).await;
        wait_for(&client, &namespace, "gone", "for approval").await;
        let mut child = plugin(&namespace, &["watch", "gone"]).spawn().unwrap();
        until(&mut lines(&mut child), "waiting: ").await;
        resources(&client, &namespace, "PipelineRun").delete("gone", &Default::default()).await.unwrap();
        let Output { status, stderr, .. } = timeout(BOUND, child.wait_with_output()).await.unwrap().unwrap();
        let error = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{error}");
        assert!(error.contains("it was deleted, or never made"), "{error}");
    })
    .await;
}

/// A kubeconfig like that of the cluster, changed.
fn changed_kubeconfig(change: impl FnOnce(&mut Kubeconfig)) -> tempfile::NamedTempFile {
    let mut config = Kubeconfig::read_from(kubeconfig()).unwrap();
    change(&mut config);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_saphyr::to_string(&config).unwrap()).unwrap();
    file
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    in_namespace("ttr-plugin", |client, namespace| async move {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
        let account = serde_json::from_value(json!({ "metadata": { "name": "stranger" } })).unwrap();
        accounts.create(&PostParams::default(), &account).await.unwrap();
        let request = serde_json::from_value(json!({ "spec": { "audiences": [] } })).unwrap();
        let answer = accounts.create_token_request("stranger", &PostParams::default(), &request).await.unwrap();
        let token = answer.status.unwrap().token;
        let file = changed_kubeconfig(|config| {
            for user in &mut config.auth_infos {
                let user = user.auth_info.get_or_insert_default();
                *user = kube::config::AuthInfo { token: Some(token.clone().into()), ..Default::default() };
            }
        });
        for (words, expected) in [
            (vec!["status"], "verb list on timetrackerreleases.timetracker.dev"),
            (vec!["run", "ci"], "verb get on pipelines.timetracker.dev"),
            (vec!["cancel", "one"], "verb get on pipelineruns.timetracker.dev"),
            (vec!["history", "site"], "verb get on timetrackerreleases.timetracker.dev"),
        ] {
            let (code, out, error) = called(plugin(&namespace, &words).env("KUBECONFIG", file.path())).await;
            assert_eq!((code, out.as_str()), (2, ""), "{words:?}: {error}");
            let whole = format!("not allowed: this needs the {expected} in namespace {namespace}");
            assert!(error.contains(&whole), "{words:?}: {error}");
        }
    })
    .await;
}

/// Forwards connections to the API server until it is dropped, which cuts them.
async fn forward(listener: &TcpListener, target: &str) {
    let mut open = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let target = target.to_owned();
        open.spawn(async move {
            if let Ok(mut far) = TcpStream::connect(&target).await {
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_while_watching_is_made_again() {
    in_namespace("ttr-plugin", |client, namespace| async move {
        create(&client, &namespace, "PipelineRun", "cut", FOREIGN).await;
        wait_for(&client, &namespace, "cut", "for approval").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut target = String::new();
        let file = changed_kubeconfig(|config| {
            let cluster = config.clusters[0].cluster.as_mut().unwrap();
            let server: http::Uri = cluster.server.take().unwrap().parse().unwrap();
            target = server.authority().unwrap().to_string();
            cluster.server = Some(format!("https://{address}"));
            cluster.tls_server_name = cluster.tls_server_name.take().or_else(|| server.host().map(str::to_owned));
        });
        let mut child = plugin(&namespace, &["watch", "cut"]).env("KUBECONFIG", file.path()).spawn().unwrap();
        let mut told = lines(&mut child);
        tokio::select! {
            () = forward(&listener, &target) => {}
            () = until(&mut told, "waiting: ") => {}
        }
        // All connections are cut now, and what happens meanwhile is seen by nobody.
        let jobs = json!([{ "name": "unit", "phase": "Succeeded", "seconds": 3 }]);
        end(&client, &namespace, "cut", "Succeeded", jobs).await;
        tokio::select! {
            () = forward(&listener, &target) => {}
            () = until(&mut told, "cut succeeded after") => {}
        }
        assert_eq!(timeout(BOUND, child.wait()).await.unwrap().unwrap().code(), Some(0));
    })
    .await;
}

#[tokio::test]
async fn kubectl_is_given_names_to_complete() {
    in_namespace("ttr-plugin", |client, namespace| async move {
        create(&client, &namespace, "Pipeline", "nightly", "jobs: [{name: a, run: 'true'}]").await;
        create(&client, &namespace, "PipelineRun", "nightly-1", "pipelineRef: {name: nightly}").await;
        let complete = |words: &'static [&'static str]| {
            let namespace = namespace.clone();
            async move {
                let words: Vec<&str> = ["__complete", "--", "-n", &namespace].iter().chain(words).copied().collect();
                let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-timetracker"));
                called(command.env("KUBECONFIG", kubeconfig()).args(words)).await.1
            }
        };
        assert_eq!(complete(&["run", ""]).await, "nightly\n:4\n");
        assert_eq!(complete(&["logs", "-f", "night"]).await, "nightly-1\n:4\n");
        assert_eq!(complete(&["logs", "x"]).await, ":4\n");
        assert!(complete(&["can"]).await.starts_with("cancel\tStop a run"));
    })
    .await;
}
