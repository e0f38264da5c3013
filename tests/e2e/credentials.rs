//! Repositories behind a lock: the token of `credentialsSecretRef` opens them, and is nowhere else.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::git;
use crate::runs::{BOUND, PYTHON, RUN, begin, ended, pipeline};
use crate::stage::{Stage, on_stage};
use crate::waiting::{condition, is_true, status};

const TOKEN: &str = "canary-token-of-the-repository";
const SECRET: &str = "git";

fn secret(name: &str, key: &str, value: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { key: value } })
}

/// A repository behind that server, with the credentials of the Secret of the same name.
async fn repository(stage: &Stage, name: &str, server: &git::Served) {
    let spec = json!({ "cloneURL": server.clone_url(), "credentialsSecretRef": { "name": name } });
    stage.create("SourceRepository", name, spec).await;
}

/// The containers of a pod that have anything of that Secret, by their names.
fn holders(pod: &Value) -> Vec<&str> {
    let lists = ["initContainers", "containers"].map(|list| &pod["spec"][list]);
    let containers = lists.into_iter().flat_map(|list| list.as_array().into_iter().flatten());
    containers
        .filter(|container| {
            let variables = container["env"].as_array().into_iter().flatten();
            let from = |variable: &Value| variable["valueFrom"]["secretKeyRef"]["name"] == SECRET;
            variables.into_iter().any(from) || container["envFrom"].to_string().contains(SECRET)
        })
        .map(|container| container["name"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_opens_the_repository_and_reaches_no_other_container() {
    on_stage("locked", |stage| async move {
        let server = git::server().locked(TOKEN);
        stage.apply(&secret(SECRET, "token", TOKEN));
        repository(&stage, SECRET, &server).await;
        // In the environment, and in every file of the checkout and of the home folder. The script does not spell it.
        let encoded = base64::engine::general_purpose::STANDARD.encode(TOKEN);
        let script = format!(
            "test -d app\ntoken=$(echo {encoded} | base64 -d)\n\
             if env | grep -q \"$token\" || grep -rqs \"$token\" . \"$HOME\"; then echo 'the token is here'; exit 7; fi\n"
        );
        let report = r#"echo '<testsuite tests="1"><testcase name="a"/></testsuite>' > "$REPORTS/junit.xml""#;
        let mut definition = pipeline(json!([
            { "name": "plain", "run": script },
            { "name": "agent", "reports": ["JUnit"], "run": format!("{script}{report}"),
              "services": [{ "name": "postgres", "postgres": { "version": "16" } }] },
        ]));
        definition["repositoryRef"] = json!({ "name": SECRET });
        begin(&stage, definition, json!({ "revision": { "branch": "main" } })).await;
        let status = ended(&stage).await;
        assert!(is_true(&status, "Succeeded"), "{status:#}");
        assert_eq!(status["commit"], json!(git::server().commit("main")), "{status:#}");

        let pods: Value = serde_json::from_str(&stage.kubectl(&["get", "pods", "--output=json"])).unwrap();
        assert!(!pods.to_string().contains(TOKEN), "{pods:#}");
        let mut found: Vec<Vec<&str>> = pods["items"].as_array().unwrap().iter().map(holders).collect();
        found.sort_unstable();
        assert_eq!(found, [["job"], ["source"], ["source"]], "who resolves the branch, and who fetches: {pods:#}");
        for pod in pods["items"].as_array().unwrap() {
            let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
            let mounted = volumes.into_iter().any(|volume| volume["secret"]["secretName"] == SECRET);
            assert!(!mounted, "{pod:#}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_missing_or_wrong_are_told_with_their_name() {
    on_stage("lock", |stage| async move {
        let server = git::server().locked(TOKEN);
        stage.apply(&secret("keyless", "password", TOKEN));
        stage.apply(&secret("wrong", "token", "guessed"));
        let commit = json!({ "commit": git::server().commit("v1.1.0") });
        let rows = [
            ("absent", commit.clone(), "secret \"absent\" not found"),
            ("keyless", commit.clone(), "couldn't find key token in Secret"),
            ("wrong", commit, "refuses"),
            // Before the first job, where a branch is resolved.
            ("absent", json!({ "branch": "main" }), "secret \"absent\" not found"),
            ("wrong", json!({ "branch": "main" }), "refuses"),
        ];
        for name in ["absent", "keyless", "wrong"] {
            repository(&stage, name, &server).await;
            let mut definition = pipeline(json!([{ "name": "job", "image": PYTHON, "run": "true" }]));
            definition["repositoryRef"] = json!({ "name": name });
            stage.create("Pipeline", name, definition).await;
        }
        let run = |index: usize| format!("{RUN}-{index}");
        for (index, (name, revision, _)) in rows.iter().enumerate() {
            let spec = json!({ "pipelineRef": { "name": name }, "revision": revision });
            stage.create("PipelineRun", &run(index), spec).await;
        }
        for (index, (name, _, words)) in rows.iter().enumerate() {
            let status = status(&stage, "PipelineRun", &run(index), "its end", BOUND, |status| {
                !status["completionTime"].is_null()
            })
            .await;
            let succeeded = condition(&status, "Succeeded");
            assert_eq!(succeeded["reason"], "Configuration", "{name}: {status:#}");
            assert!(succeeded["message"].as_str().unwrap().contains(words), "{name}: {words:?} is not in {status:#}");
            assert!(!status.to_string().contains(TOKEN) && !status.to_string().contains("guessed"), "{status:#}");
        }
    })
    .await;
}
