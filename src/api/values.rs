//! Helm values of the TimeTracker application, typed. The chart `timetracker` and `spec.values` share them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pod::EnvironmentVariable;

/// Helm values of the TimeTracker application. Everything has a default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Values {
    /// Number of pods, default 1. More than one sends scheduled e-mails twice: the app's scheduler runs in every process.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    pub replica_count: Option<i32>,
    /// The address users open, for example `https://time.example.org`. With `http:` cookies are sent without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^https?://[a-z0-9.-]+(:[0-9]{1,5})?/?$"))]
    pub url: Option<String>,
    /// Time zone, default `Europe/Rome` as in the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = "^[A-Za-z0-9_+/-]+$"))]
    pub timezone: Option<String>,
    /// ISO 4217 code of the currency, default `EUR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
    pub currency: Option<String>,
    /// How the site is reached inside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceValues>,
    /// How the site is reached from outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressValues>,
    /// Requests and limits of the app's container. Default: requests 100m and 256Mi, limit 1Gi memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Extra environment variables. `DATABASE_URL`, `SECRET_KEY`, `TT_SKIP_DB_CLEANUP` and `TT_BOOTSTRAP_MODE` are the
    /// operator's and refused here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<EnvironmentVariable>,
    /// The volume for uploads and the installation's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence: Option<PersistenceValues>,
    /// Who administrates the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<AdminValues>,
    /// Extra annotations of the app's pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the app's pods tolerate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Rules on which nodes and beside which pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
}

/// How the site is reached inside the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceValues {
    /// Default `ClusterIP`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub service_type: Option<ServiceType>,
    /// The Service's port, default 80.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Extra annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Kinds of Service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Inside the cluster only.
    #[default]
    ClusterIP,
    /// A port on every node.
    NodePort,
    /// A load balancer of the platform.
    LoadBalancer,
}

/// How the site is reached from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressValues {
    /// Whether an Ingress is made; its host is that of `url`.
    pub enabled: bool,
    /// Name of the IngressClass.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub class_name: Option<String>,
    /// Secret with the certificate; without it the Ingress has no TLS section.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub tls_secret_name: Option<String>,
    /// Extra annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The volume for uploads and the installation's identity (`/data`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PersistenceValues {
    /// Default true. Without it uploads are lost with the pod and the set-up wizard comes again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Default `5Gi`. Only grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^[0-9]+(\\.[0-9]+)?(Ki|Mi|Gi|Ti|K|M|G|T)?$"))]
    pub size: Option<String>,
    /// Name of a StorageClass; default is the cluster's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
}

/// Who administrates the site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AdminValues {
    /// Names of users who become administrators when they first log in. Default `admin`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub usernames: Vec<String>,
}
