//! The values of the chart `timetracker-pipelines`. They become parts of manifests and scripts, so their forms are narrow.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Values of the chart `timetracker-pipelines`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineValues {
    /// The SourceRepository that the pipelines check out, in the same namespace.
    #[schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub repository: String,
    /// The image that the jobs run in.
    #[schemars(length(max = 512), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"))]
    pub image: String,
    /// Packages that are installed once, instead of the image.
    pub environment: EnvironmentValues,
    /// Requests and limits of each job's command.
    pub resources: ResourceRequirements,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// What is measured, and how much must be covered.
    pub coverage: CoverageValues,
    /// The upload to Codecov.
    pub codecov: CodecovValues,
    /// Values that a parent chart shares.
    #[serde(default)]
    pub global: Value,
}

/// Packages that are installed once, instead of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentValues {
    /// Python's version, `3.11`.
    #[schemars(regex(pattern = "^3\\.[0-9]{1,2}$"))]
    pub python: String,
    /// Requirement files, relative to the repository; none: the image.
    #[schemars(length(max = 8), inner(length(min = 1, max = 256)))]
    pub requirements: Vec<String>,
}

/// What is measured, and how much must be covered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CoverageValues {
    /// The app's package or folder.
    #[schemars(length(max = 200), regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_./-]*$"))]
    pub source: String,
    /// The least percentage of covered lines, of all tests together.
    #[schemars(range(min = 0, max = 100))]
    pub threshold: i32,
}

/// The upload to Codecov.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CodecovValues {
    /// Whether there is one.
    pub enabled: bool,
    /// A Secret with the key `token`; empty: without a token.
    #[schemars(length(max = 63), regex(pattern = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"))]
    pub token_secret: String,
    /// Codecov's flags.
    #[schemars(length(max = 16), inner(length(max = 64), regex(pattern = "^[A-Za-z0-9_./-]+$")))]
    pub flags: Vec<String>,
    /// Whether an upload that fails also fails the run.
    pub fail_on_error: bool,
}
