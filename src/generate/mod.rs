//! What is generated from the types: CRDs, schemas of values and configuration, the field reference.
//!
//! `cargo xtask generate` writes these files; the test target `generated` fails when one of them drifts.

pub mod chart_values;
pub mod pipeline_values;
mod reference;
mod schema;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::api::pipeline::Pipeline;
use crate::api::release::TimeTrackerRelease;
use crate::api::run::PipelineRun;
use crate::api::source::SourceRepository;
use crate::config::Configuration;

/// Why something can't be generated. Each is a mistake in the types, which a test finds.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A type can't be written as JSON or read back from it.
    #[error("{what}: {source}")]
    Json {
        /// Which.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A value can't be written as YAML.
    #[error("{what}: {source}")]
    Yaml {
        /// Which.
        what: String,
        /// Why.
        source: serde_saphyr::SerializeError,
    },
}

/// A generated file: its path below the repository's root, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedFile {
    /// With `/` between folders.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// The custom resource definitions as they are installed, in the order of their names.
///
/// # Errors
/// When a type can't be written as JSON.
pub fn crds() -> Result<Vec<CustomResourceDefinition>, GenerateError> {
    crd_values()?
        .into_iter()
        .map(|(name, crd)| serde_json::from_value(crd).map_err(|source| GenerateError::Json { what: name, source }))
        .collect()
}

/// The custom resource definitions as one YAML stream, for `timetracker-operator crds`.
///
/// # Errors
/// When a type can't be written as YAML.
pub fn crds_yaml() -> Result<String, GenerateError> {
    Ok(crd_files()?.into_iter().map(|file| format!("---\n{}", file.text)).collect())
}

/// One file per custom resource definition; the paths are bare file names, for `timetracker-operator crds --dir`.
///
/// # Errors
/// When a type can't be written as YAML.
pub fn crd_files() -> Result<Vec<GeneratedFile>, GenerateError> {
    crd_values()?
        .iter()
        .map(|(name, crd)| Ok(GeneratedFile { path: format!("{name}.yaml"), text: yaml(name, crd)? }))
        .collect()
}

/// Every generated file of the repository.
///
/// # Errors
/// When a type can't be written as JSON or YAML.
pub fn files() -> Result<Vec<GeneratedFile>, GenerateError> {
    let crds = crd_values()?;
    let mut files = Vec::new();
    for (name, crd) in &crds {
        files.push(GeneratedFile { path: format!("crds/{name}.yaml"), text: yaml(name, crd)? });
        files.push(GeneratedFile {
            path: format!("charts/timetracker-operator/templates/crds/{name}.yaml"),
            text: chart_template(name, crd)?,
        });
    }
    files.push(GeneratedFile { path: "docs/reference.md".to_owned(), text: reference::page(&crds) });
    files.push(GeneratedFile {
        path: "docs/configuration.schema.json".to_owned(),
        text: json_text("configuration", &configuration_schema()?)?,
    });
    files.push(GeneratedFile {
        path: "charts/timetracker-operator/values.schema.json".to_owned(),
        text: json_text("operator chart", &chart_values::operator_schema()?)?,
    });
    files.push(GeneratedFile {
        path: "charts/timetracker-pipelines/values.schema.json".to_owned(),
        text: json_text("pipelines chart", &chart_values::pipelines_schema())?,
    });
    files.push(GeneratedFile {
        path: "charts/timetracker/values.schema.json".to_owned(),
        text: json_text("release chart", &chart_values::release_schema(&crds))?,
    });
    Ok(files)
}

/// The JSON schema of the configuration file.
///
/// # Errors
/// When it can't be written as JSON.
pub fn configuration_schema() -> Result<Value, GenerateError> {
    Ok(schemars::SchemaGenerator::default().into_root_schema_for::<Configuration>().to_value())
}

/// Name and finished JSON of each definition.
fn crd_values() -> Result<Vec<(String, Value)>, GenerateError> {
    let mut crds = [TimeTrackerRelease::crd(), Pipeline::crd(), PipelineRun::crd(), SourceRepository::crd()]
        .into_iter()
        .map(|crd| {
            let name = crd.metadata.name.clone().unwrap_or_default();
            let value =
                serde_json::to_value(&crd).map_err(|source| GenerateError::Json { what: name.clone(), source })?;
            Ok((name, schema::finish(value)))
        })
        .collect::<Result<Vec<_>, GenerateError>>()?;
    crds.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(crds)
}

/// The definition as a template of the operator's chart: a switch around it, and kept when the chart is uninstalled.
fn chart_template(name: &str, crd: &Value) -> Result<String, GenerateError> {
    let mut kept = crd.clone();
    if let Some(metadata) = kept.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.insert("annotations".to_owned(), json!({ "helm.sh/resource-policy": "keep" }));
    }
    Ok(format!("{{{{- if .Values.crds.install }}}}\n{}{{{{- end }}}}\n", yaml(name, &kept)?))
}

fn yaml(what: &str, value: &Value) -> Result<String, GenerateError> {
    let text =
        serde_saphyr::to_string(value).map_err(|source| GenerateError::Yaml { what: what.to_owned(), source })?;
    Ok(if text.ends_with('\n') { text } else { format!("{text}\n") })
}

fn json_text(what: &str, value: &Value) -> Result<String, GenerateError> {
    let text =
        serde_json::to_string_pretty(value).map_err(|source| GenerateError::Json { what: what.to_owned(), source })?;
    Ok(format!("{text}\n"))
}
