//! Installing, upgrading and uninstalling, by Helm and by kustomize, while a site runs.
//!
//! Alone in its run: the other tests need the operator that this one takes away.

mod leadership;
mod namespaces;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::releases::{SITE, delivered, release};
use crate::runs;
use crate::stage::{OPERATOR, OPERATOR_NAMESPACE, Stage, on_stage, output, program, repository, setting, try_output};
use crate::waiting::{comes_true, status, until};

/// The image as `config/default` names it.
const IMAGE: &str = "ghcr.io/drytrix/timetracker-operator";

fn helm(arguments: &[&str]) -> String {
    output(program(setting("TIMETRACKER_HELM")).args(arguments).args(["--namespace", OPERATOR_NAMESPACE]))
}

fn chart() -> String {
    repository().join("charts/timetracker-operator").display().to_string()
}

/// A folder that installs `config/default` with the image of this digest, as one does who pins what runs: under a tag alone a
/// node keeps the image that it pulled when the tag stood for another one.
fn overlay(digest: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    // kustomize takes relative paths only.
    let depth = folder.path().canonicalize().unwrap().components().count() - 1;
    let base = repository().canonicalize().unwrap().join("config/default");
    let base = format!("{}{}", "../".repeat(depth), base.strip_prefix("/").unwrap().display());
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [base], "images": [{ "name": IMAGE, "digest": digest }],
    });
    std::fs::write(folder.path().join("kustomization.yaml"), kustomization.to_string()).unwrap();
    folder
}

/// Everything of kustomize's but what must stay: definitions (and so all our resources) and the namespace.
fn kustomized(folder: &Path) -> Vec<Value> {
    let text = output(Command::new("kubectl").arg("kustomize").arg(folder));
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let stays = |object: &Value| matches!(object["kind"].as_str(), Some("CustomResourceDefinition" | "Namespace"));
    documents.into_iter().filter(|object| !object.is_null() && !stays(object)).collect()
}

fn with_file(content: &str, arguments: &[&str]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    output(program("kubectl").args(arguments).arg("--filename").arg(file.path()))
}

async fn operator_is_ready() {
    let target = format!("deployment/{OPERATOR}");
    output(program("kubectl").args([
        "rollout",
        "status",
        &target,
        "--namespace",
        OPERATOR_NAMESPACE,
        "--timeout=180s",
    ]));
}

/// Asks for a reconcile and waits for its answer: a sign of life.
async fn answers(stage: &Stage, word: &str) {
    let annotation = format!("timetracker.dev/requestedAt={word}");
    stage.kubectl(&["annotate", "--overwrite", "timetrackerrelease", SITE, &annotation]);
    status(stage, "TimeTrackerRelease", SITE, "the operator's answer", 90, |status| {
        status["lastHandledReconcileAt"] == word
    })
    .await;
    stage.ask(SITE, "/_ready").expect("the site answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_outlives_upgrade_uninstallation_and_a_change_from_helm_to_kustomize() {
    on_stage("install", |stage| async move {
        let values = helm(&["get", "values", OPERATOR, "--output=yaml"]);
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(file.path(), &values).unwrap();
        let digest: Value = serde_saphyr::from_str(&values).unwrap();
        let overlay = overlay(digest["image"]["digest"].as_str().expect("`cargo xtask` installs by digest"));
        let values = file.path().to_str().unwrap();
        stage.publish("1.0.0").await;
        stage.create("TimeTrackerRelease", SITE, release(&stage)).await;
        delivered(&stage, "1.0.0").await;
        let pod = site_pod(&stage);
        runs::begin(&stage, runs::pipeline(json!([{ "name": "job", "run": "true" }])), json!({})).await;
        runs::ended(&stage).await;

        helm(&[
            "upgrade",
            OPERATOR,
            &chart(),
            "--values",
            values,
            "--set",
            "podLabels.upgraded=yes-it-is",
            "--wait",
            "--timeout=3m",
        ]);
        operator_is_ready().await;
        answers(&stage, "after-the-upgrade").await;

        helm(&["uninstall", OPERATOR, "--wait"]);
        until("the operator to be gone", 60, || pods_of_operator().trim().is_empty()).await;
        stage.ask(SITE, "/_ready").expect("the site answers without the operator");
        stage.kubectl(&["get", "timetrackerrelease", SITE]);
        only_what_is_documented_is_left(&stage).await;

        output(
            program("kubectl").args(["apply", "--server-side", "--force-conflicts", "--kustomize"]).arg(overlay.path()),
        );
        // The embedded cluster's registry is a matter of configuration; the chart's is that of the other tests.
        let rendered = helm_configuration(values);
        with_file(
            &rendered.to_string(),
            &["apply", "--server-side", "--force-conflicts", "--namespace", OPERATOR_NAMESPACE],
        );
        output(program("kubectl").args([
            "rollout",
            "restart",
            &format!("deployment/{OPERATOR}"),
            "--namespace",
            OPERATOR_NAMESPACE,
        ]));
        operator_is_ready().await;
        answers(&stage, "after-kustomize").await;

        // All at once: the store's claim does not go before the pod that uses it.
        let all = json!({ "apiVersion": "v1", "kind": "List", "items": kustomized(overlay.path()) });
        with_file(&all.to_string(), &["delete", "--ignore-not-found", "--wait=true", "--timeout=180s"]);
        helm(&["install", OPERATOR, &chart(), "--values", values, "--take-ownership", "--wait", "--timeout=3m"]);
        operator_is_ready().await;
        answers(&stage, "after-helm-again").await;
        assert_eq!(site_pod(&stage), pod, "the site was never restarted");
    })
    .await;
}

/// Objects of these kinds as `kind/name`, without what Kubernetes and `cargo xtask` put there.
fn objects(kinds: &str, arguments: &[&str]) -> BTreeSet<String> {
    let names = output(program("kubectl").args(["get", kinds, "--output=name"]).args(arguments));
    let foreign = ["configmap/kube-root-ca.crt", "serviceaccount/default", "configmap/timetracker-trusted-ca"];
    names.lines().filter(|name| !foreign.contains(name)).map(str::to_owned).collect()
}

/// What is left of an operator that was uninstalled, as docs/operations.md says.
async fn only_what_is_documented_is_left(stage: &Stage) {
    let kinds = "deployments,replicasets,statefulsets,jobs,pods,services,endpointslices,configmaps,secrets,serviceaccounts,\
                 persistentvolumeclaims,networkpolicies,poddisruptionbudgets,roles,rolebindings,leases";
    let lease = BTreeSet::from([format!("lease.coordination.k8s.io/{OPERATOR}")]);
    let mut own = BTreeSet::new();
    comes_true(60, || {
        own = objects(kinds, &["--namespace", OPERATOR_NAMESPACE]);
        own.is_subset(&lease)
    })
    .await;
    assert_eq!(own, lease);
    let label = format!("--selector=app.kubernetes.io/instance={OPERATOR}");
    assert_eq!(objects("clusterroles,clusterrolebindings,priorityclasses", &[&label]), BTreeSet::new());
    let definitions =
        objects("customresourcedefinitions", &[]).into_iter().filter(|name| name.ends_with(".timetracker.dev"));
    assert_eq!(definitions.count(), 4, "the definitions stay, and all resources with them");
    let policies = ["timetracker-pipeline-jobs", "timetracker-pipeline-jobs-api"];
    let policies = policies.map(|name| format!("networkpolicy.networking.k8s.io/{name}"));
    assert_eq!(objects("networkpolicies", &["--namespace", &stage.namespace]), BTreeSet::from(policies));
    stage.kubectl(&["get", "configmap", "timetracker-trusted-ca"]);
}

fn site_pod(stage: &Stage) -> String {
    let selector = format!("app.kubernetes.io/instance={SITE},app.kubernetes.io/component=app");
    stage.kubectl(&["get", "pods", "--selector", &selector, "--output=jsonpath={.items[*].metadata.uid}"])
}

fn pods_of_operator() -> String {
    let selector = format!("app.kubernetes.io/instance={OPERATOR}");
    try_output(program("kubectl").args([
        "get",
        "pods",
        "--namespace",
        OPERATOR_NAMESPACE,
        "--selector",
        &selector,
        "--output=name",
    ]))
    .unwrap_or_default()
}

/// The ConfigMap that the chart makes of these values, without the authorities, whose mount kustomize's Deployment does not have.
fn helm_configuration(values: &str) -> Value {
    let without = ["--values", values, "--set", "trustedCA.configMap="];
    let chart = chart();
    let mut arguments =
        vec!["template", OPERATOR, &chart, "--kube-version", "1.33.0", "--show-only", "templates/configmap.yaml"];
    arguments.extend(without);
    serde_saphyr::from_str(&helm(&arguments)).unwrap()
}
