//! Where a test plays: a namespace and a repository of its own; the operator, kubectl and helm as every test finds them.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::registry;

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "timetracker-system";
/// Name of its Deployment and Helm release.
pub const OPERATOR: &str = "timetracker-operator";
/// Marks what `cargo xtask` and its tests made: a cluster with other resources is somebody's.
const OWN_LABEL: &str = "timetracker.dev/made-by-xtask";

/// A variable that `cargo xtask test` sets.
pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test --tier e2e`"))
}

/// A program set to the cluster under test.
pub fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(name);
    command.env("KUBECONFIG", setting("TIMETRACKER_TEST_KUBECONFIG"));
    command
}

/// What a command prints; panics with its error output when it fails.
pub fn output(command: &mut Command) -> String {
    try_output(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What a command prints, or its error output.
pub fn try_output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The checkout.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One test's place.
#[derive(Clone)]
pub struct Stage {
    /// Talks to the API server.
    pub client: Client,
    /// Gone after the test.
    pub namespace: String,
    /// Path of the repository in the registry, so that the test alone decides which tags exist.
    pub image: String,
}

impl Stage {
    /// The API of one of our kinds.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("timetracker.dev", "v1alpha1", kind));
        let plural = if kind == "SourceRepository" { "sourcerepositories".to_owned() } else { resource.plural.clone() };
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource { plural, ..resource })
    }

    /// Creates an object of one of our kinds.
    pub async fn create(&self, kind: &str, name: &str, spec: Value) {
        let object = serde_json::from_value(json!({
            "apiVersion": "timetracker.dev/v1alpha1", "kind": kind, "spec": spec,
            "metadata": { "name": name, "labels": { OWN_LABEL: "true" } },
        }))
        .unwrap();
        let created = self.api(kind).create(&PostParams::default(), &object).await;
        created.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    }

    /// Makes a version of the sample app appear in this test's repository.
    pub async fn publish(&self, version: &str) {
        registry::copy("samples/timetracker", version, &self.image, version).await;
    }

    /// The repository as manifests name it.
    pub fn image_name(&self) -> String {
        format!("ghcr.io/{}", self.image)
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        output(program("kubectl").args(["--namespace", &self.namespace]).args(arguments))
    }

    /// Applies any object to this namespace.
    pub fn apply(&self, object: &Value) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), object.to_string()).unwrap();
        self.kubectl(&["apply", "--server-side", "--filename", file.path().to_str().unwrap()]);
    }

    /// What a Service answers to a GET, through the API server.
    pub fn ask(&self, service: &str, path: &str) -> Result<String, String> {
        let path = format!("/api/v1/namespaces/{}/services/{service}:http/proxy{path}", self.namespace);
        try_output(program("kubectl").args(["get", "--raw", &path]))
    }

    /// SQL on the embedded database of a release.
    pub fn sql(&self, release: &str, statement: &str) -> String {
        let pod = format!("{release}-postgres-0");
        let script = format!("psql -XAtq -v ON_ERROR_STOP=1 \"$DATABASE_URL\" -c \"{statement}\"");
        // Which user and database there are is the operator's affair: its Secret has the URL.
        let secret = self.kubectl(&["get", "secret", &format!("{release}-postgres"), "--output=json"]);
        let secret: Value = serde_json::from_str(&secret).unwrap();
        let url = decoded(secret["data"]["database-url"].as_str().expect("the Secret has a database-url"));
        let script = script.replace("$DATABASE_URL", &url);
        self.kubectl(&["exec", &pod, "--", "sh", "-c", &script]).trim().to_owned()
    }
}

fn decoded(text: &str) -> String {
    use base64::Engine as _;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
}

/// A client for the cluster under test.
pub async fn client() -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let path = PathBuf::from(setting("TIMETRACKER_TEST_KUBECONFIG"));
    let file = Kubeconfig::read_from(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Runs a test in a place of its own. When it fails, tells what the place looks like; `TIMETRACKER_TEST_KEEP` keeps it.
pub async fn on_stage<F, Done>(name: &str, body: F)
where
    F: FnOnce(Stage) -> Done + Send + 'static,
    Done: Future<Output = ()> + Send + 'static,
{
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let client = client().await;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let unique = format!("{name}-{seconds:x}{}", COUNTER.fetch_add(1, Ordering::Relaxed));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace =
        serde_json::from_value(json!({ "metadata": { "name": &unique, "labels": { "timetracker.dev/test": "e2e" } } }));
    namespaces.create(&PostParams::default(), &namespace.unwrap()).await.unwrap();
    let stage = Stage { client, namespace: unique.clone(), image: format!("{unique}/timetracker") };
    let outcome = tokio::spawn(body(stage.clone())).await;
    let keep = std::env::var_os("TIMETRACKER_TEST_KEEP").is_some() && outcome.is_err();
    if outcome.is_err() {
        println!("{}", diagnosis(&stage));
    }
    if !keep {
        namespaces.delete(&unique, &DeleteParams::background()).await.unwrap();
    }
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// What the place looks like, and what the operator said about it.
fn diagnosis(stage: &Stage) -> String {
    let show = |arguments: &[&str]| {
        let mut command = program("kubectl");
        try_output(command.args(["--namespace", &stage.namespace]).args(arguments)).unwrap_or_else(|error| error)
    };
    let target = format!("deployment/{OPERATOR}");
    let log = try_output(program("kubectl").args(["--namespace", OPERATOR_NAMESPACE, "logs", &target, "--tail=400"]));
    let log = log.unwrap_or_else(|error| error);
    let about: Vec<&str> = log.lines().filter(|line| line.contains(&stage.namespace)).collect();
    let about = about.iter().rev().take(25).rev().copied().collect::<Vec<_>>().join("\n");
    format!(
        "=== {}\n{}\n{}\n{}\n=== the operator about it\n{about}\n",
        stage.namespace,
        show(&["get", "timetracker", "--output=yaml"]),
        show(&["get", "jobs,pods,deployments,statefulsets", "--output=wide"]),
        show(&["get", "events", "--sort-by=.lastTimestamp"]),
    )
}
