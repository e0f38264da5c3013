//! The values of our charts: their JSON schemas, which Helm checks before it renders anything.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::GenerateError;
use super::pipeline_values::PipelineValues;
use crate::config::Configuration;

/// Values of the chart `timetracker-operator`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorValues {
    /// Replaces the chart's name in the names of the objects.
    #[serde(default)]
    pub name_override: String,
    /// Replaces the whole name of the operator's objects.
    #[serde(default)]
    pub fullname_override: String,
    /// The operator's image.
    pub image: ImageValues,
    /// The agent's image: what runs in the pods of Jobs.
    pub agent_image: ImageValues,
    /// Secrets with registry credentials for these two images.
    #[serde(default)]
    pub image_pull_secrets: Vec<NameValue>,
    /// Namespaces whose resources are reconciled, with one Role in each and no ClusterRole. Empty: all namespaces.
    pub watch_namespaces: Vec<String>,
    /// The operator's configuration file; what is given here wins over what the chart derives from the other values.
    pub config: Configuration,
    /// The custom resource definitions.
    pub crds: CrdValues,
    /// ServiceAccount and permissions.
    pub service_account: ServiceAccountValues,
    /// The operator's container.
    pub resources: ResourceRequirements,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// Rules on which nodes and beside which pods.
    pub affinity: Affinity,
    /// Name of a PriorityClass for the operator's pods.
    pub priority_class_name: String,
    /// Extra annotations of the operator's pod.
    pub pod_annotations: BTreeMap<String, String>,
    /// Extra labels of the operator's pod.
    pub pod_labels: BTreeMap<String, String>,
    /// How the operator logs.
    pub log: LogValues,
    /// Metrics.
    pub metrics: MetricsValues,
    /// NetworkPolicies of the operator's and the artifact store's pods.
    pub network_policy: NetworkPolicyValues,
    /// PodDisruptionBudget of the operator.
    pub pod_disruption_budget: Switch,
    /// The artifact store.
    pub artifacts: ArtifactsValues,
    /// A certificate bundle that the operator and the pods of Jobs trust.
    #[serde(rename = "trustedCA")]
    pub trusted_ca: TrustedCaValues,
    /// The PriorityClass `timetracker-ci` for the pods of pipelines.
    pub priority_class: Switch,
    /// Values that a parent chart shares.
    #[serde(default)]
    pub global: Value,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageValues {
    /// `host/path`, lower case.
    #[schemars(length(min = 1))]
    pub repository: String,
    /// Default: the chart's appVersion.
    pub tag: String,
    /// Wins over `tag`.
    #[schemars(regex(pattern = "^(sha256:[0-9a-f]{64})?$"))]
    pub digest: String,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Always.
    Always,
    /// When the node has none.
    IfNotPresent,
    /// Never.
    Never,
}

/// A name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NameValue {
    /// The name of an object.
    pub name: String,
}

/// The custom resource definitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrdValues {
    /// Whether the chart installs them. They stay when the chart is uninstalled.
    pub install: bool,
}

/// ServiceAccount and permissions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccountValues {
    /// Whether the chart makes it.
    pub create: bool,
    /// Default: the operator's name.
    pub name: String,
    /// Extra annotations.
    pub annotations: BTreeMap<String, String>,
}

/// How the operator logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogValues {
    /// A filter of tracing's, for example `info,timetracker_operator=debug`.
    pub filter: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricsValues {
    /// Whether a Service for `/metrics` is made.
    pub enabled: bool,
    /// A ServiceMonitor of the Prometheus operator.
    pub service_monitor: ServiceMonitorValues,
}

/// A ServiceMonitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceMonitorValues {
    /// Whether it is made; its CRD must be there.
    pub enabled: bool,
    /// How often it is read, for example `30s`.
    pub interval: String,
    /// Extra labels by which Prometheus selects it.
    pub labels: BTreeMap<String, String>,
}

/// NetworkPolicies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkPolicyValues {
    /// Whether they are made.
    pub enabled: bool,
    /// Who may read metrics: the `from` peers of a NetworkPolicy. Empty: every pod of the cluster.
    pub metrics_from: Vec<Value>,
    /// Ports on which the API server is reached: its Service's, and those on which it listens. The artifact store reads
    /// there the keys by which it knows whose token an upload carries.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 65535)))]
    pub api_server_ports: Vec<u16>,
}

/// Something that can be switched on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Whether it is made.
    pub enabled: bool,
}

/// The artifact store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArtifactsValues {
    /// Whether it is installed; without it nothing is kept but what the status of a run says.
    pub enabled: bool,
    /// How long artifacts are kept, for example `720h`.
    #[schemars(regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub retention: String,
    /// Its volume.
    pub persistence: PersistenceValues,
    /// A bucket instead of the volume.
    pub s3: BucketValues,
    /// How many pods it has; more than one only with a bucket.
    #[schemars(range(min = 1, max = 10))]
    pub replicas: u8,
    /// Its ServiceAccount, which has no permission in the cluster.
    pub service_account: AccountValues,
    /// Its container.
    pub resources: ResourceRequirements,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that its pod tolerates.
    pub tolerations: Vec<Toleration>,
}

/// The store's volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersistenceValues {
    /// Whether it is a claim; otherwise artifacts are lost with the pod.
    pub enabled: bool,
    /// Size of the claim.
    #[schemars(regex(pattern = "^[0-9]+(\\.[0-9]+)?(Ki|Mi|Gi|Ti|K|M|G|T)?$"))]
    pub size: String,
    /// Empty: the cluster's default.
    pub storage_class_name: String,
    /// An existing claim to use instead.
    pub existing_claim: String,
}

/// A bucket of Amazon S3 or of a server that speaks its protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BucketValues {
    /// Its name; empty: artifacts are kept on the volume.
    #[schemars(regex(pattern = "^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$"))]
    pub bucket: String,
    /// Its region. Empty: what `AWS_REGION` says, or us-east-1.
    #[schemars(regex(pattern = "^[A-Za-z0-9-]*$"))]
    pub region: String,
    /// The server's address, for example `https://s3.example.org`. Empty: Amazon's.
    #[schemars(regex(pattern = "^(https?://[^/@?# ]+/?)?$"))]
    pub endpoint: String,
    /// What the names of all objects begin with. What is old below it is removed, whoever put it there.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"))]
    pub prefix: String,
    /// Whether the bucket's name is part of the path instead of the host's name. Absent: with an endpoint it is.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// Whether the endpoint may be one without TLS.
    pub allow_http: bool,
    /// A Secret in the operator's namespace with the keys `access-key-id`, `secret-access-key` and perhaps
    /// `session-token`. Empty: the identity that Amazon gives to the pod by its ServiceAccount.
    pub credentials_secret: String,
}

/// A ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountValues {
    /// Extra annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A certificate bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedCaValues {
    /// Name of a ConfigMap in the operator's namespace; empty: only the public authorities are trusted.
    pub config_map: String,
    /// The key with the PEM text.
    pub key: String,
}

/// The schema of the operator chart's values.
///
/// # Errors
/// When it can't be written as JSON.
pub(super) fn operator_schema() -> Result<Value, GenerateError> {
    Ok(values_schema::<OperatorValues>())
}

/// The schema of the values of the chart `timetracker-pipelines`.
pub(super) fn pipelines_schema() -> Value {
    values_schema::<PipelineValues>()
}

fn values_schema<T: JsonSchema>() -> Value {
    let mut schema = schemars::generate::SchemaSettings::draft07()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    without_foreign_parts(&mut schema);
    // Parts of a values file are given alone, so that nothing is required but what Helm itself fills in.
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("required");
    }
    schema
}

/// The schema of the chart `timetracker`: the release's spec, beside what names the object. Unknown keys are refused.
pub(super) fn release_schema(crds: &[(String, Value)]) -> Value {
    let spec = crds
        .iter()
        .find(|(name, _)| name == "timetrackerreleases.timetracker.dev")
        .and_then(|(_, crd)| crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec"));
    let mut spec = spec.cloned().unwrap_or_default();
    closed(&mut spec);
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        spec.insert("title".to_owned(), json!("Values of the chart timetracker: the spec of one TimeTrackerRelease"));
        spec.remove("required");
        if let Some(properties) = spec.get_mut("properties").and_then(Value::as_object_mut) {
            let text = |description: &str| json!({ "type": "string", "maxLength": 40, "description": description });
            let map = |description: &str| json!({ "type": "object", "additionalProperties": { "type": "string" }, "description": description });
            properties.insert("nameOverride".to_owned(), text("The object's name; default is the Helm release's."));
            properties.insert("labels".to_owned(), map("Extra labels of the TimeTrackerRelease."));
            properties.insert("annotations".to_owned(), map("Extra annotations of the TimeTrackerRelease."));
            properties.insert("global".to_owned(), json!({ "description": "Values that a parent chart shares." }));
        }
    }
    spec
}

/// What only the API server understands, away; keys that are not listed, refused.
fn closed(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    if schema.get("x-kubernetes-int-or-string").is_some() {
        schema.insert("type".to_owned(), json!(["integer", "string"]));
    }
    schema.retain(|key, _| !key.starts_with("x-kubernetes-") && key != "format");
    if schema.contains_key("properties") {
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    each_below(schema, closed);
}

/// Descriptions of embedded Kubernetes types, away: they are ten times the rest.
fn without_foreign_parts(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("format");
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties.iter_mut() {
            if super::schema::EMBEDDED.contains(&name.as_str()) {
                strip_below(property);
            }
        }
    }
    each_below(schema, without_foreign_parts);
}

fn strip_below(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    each_below(schema, |inner| {
        if let Some(inner) = inner.as_object_mut() {
            inner.remove("description");
        }
        strip_below(inner);
    });
}

fn each_below(schema: &mut Map<String, Value>, change: fn(&mut Value)) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(change);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            change(inner);
        }
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(inner) = schema.get_mut(key).and_then(Value::as_array_mut) {
            inner.iter_mut().for_each(change);
        }
    }
}
