//! The cluster under test: a client, the definitions, and namespaces that are gone afterwards.

use std::future::Future;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::runtime::{conditions, wait::await_condition};
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};
use timetracker_operator::generate;

/// How long a definition may take to be served.
const ESTABLISHED: Duration = Duration::from_secs(30);

/// The kubeconfig of the cluster under test.
pub fn kubeconfig() -> PathBuf {
    if let Some(path) = std::env::var_os("TIMETRACKER_TEST_KUBECONFIG") {
        return path.into();
    }
    let state = std::env::var_os("TIMETRACKER_CLUSTER_DIR")
        .map_or_else(|| PathBuf::from("/var/lib/timetracker-cluster"), PathBuf::from);
    state.join("kubeconfig")
}

/// A program set to the cluster under test.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("KUBECONFIG", kubeconfig());
    command
}

/// A client, with the definitions of this checkout installed.
pub async fn client() -> Client {
    let path = kubeconfig();
    let file = Kubeconfig::read_from(&path)
        .unwrap_or_else(|error| panic!("no cluster (run `cargo xtask cluster up`): {}: {error}", path.display()));
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    install_definitions(&client).await;
    client
}

async fn install_definitions(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in generate::crds().unwrap() {
        let mut body = serde_json::to_value(&crd).unwrap();
        body["apiVersion"] = json!("apiextensions.k8s.io/v1");
        body["kind"] = json!("CustomResourceDefinition");
        // So that the chart, installed after these tests, takes them for its own.
        body["metadata"]["labels"] = json!({ "app.kubernetes.io/managed-by": "Helm" });
        body["metadata"]["annotations"] = json!({
            "helm.sh/resource-policy": "keep",
            "meta.helm.sh/release-name": "timetracker-operator",
            "meta.helm.sh/release-namespace": "timetracker-system",
        });
        let name = crd.name_any();
        let apply = PatchParams::apply("timetracker-apiserver-tests").force();
        api.patch(&name, &apply, &Patch::Apply(&body)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(ESTABLISHED, established).await.expect("served in time").unwrap();
    }
}

/// Runs `body` in a namespace of its own, which is deleted however it ends.
pub async fn in_namespace<F, Done>(prefix: &str, body: F)
where
    F: FnOnce(Client, String) -> Done + Send + 'static,
    Done: Future<Output = ()> + Send + 'static,
{
    let client = client().await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({ "metadata": {
        "generateName": format!("{prefix}-"),
        "labels": { "pod-security.kubernetes.io/warn": "restricted", "timetracker.dev/test": "apiserver" },
    } }))
    .unwrap();
    let name = namespaces.create(&PostParams::default(), &namespace).await.unwrap().name_any();
    let outcome = tokio::spawn(body(client, name.clone())).await;
    namespaces.delete(&name, &DeleteParams::background()).await.unwrap();
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// The API of one of our kinds.
pub fn resources(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("timetracker.dev", "v1alpha1", kind));
    let plural = if kind == "SourceRepository" { "sourcerepositories".to_owned() } else { resource.plural.clone() };
    Api::namespaced_with(client.clone(), namespace, &ApiResource { plural, ..resource })
}

/// An object of one of our kinds with the spec written in YAML.
pub fn object(kind: &str, name: &str, spec: &str) -> DynamicObject {
    let spec: Value = serde_saphyr::from_str(spec).unwrap_or_else(|error| panic!("{spec}: {error}"));
    serde_json::from_value(json!({
        "apiVersion": "timetracker.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
    }))
    .unwrap()
}

/// The API server's answer to a create that changes nothing.
pub async fn try_create(client: &Client, kind: &str, name: &str, spec: &str) -> Result<DynamicObject, String> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let answer = resources(client, "default", kind).create(&dry_run, &object(kind, name, spec)).await;
    answer.map_err(|error| error.to_string())
}
