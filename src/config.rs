//! The operator's own configuration: one typed file. A file with an unknown key or a wrong type refuses to start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The operator's configuration. Everything has a default but the images' versions follow the operator's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Configuration {
    /// Namespaces whose resources are reconciled; empty: all.
    pub watch_namespaces: Vec<String>,
    /// Images by role.
    pub images: Images,
    /// How registries are reached.
    pub registry: RegistryAccess,
    /// A PEM bundle that the operator and the pods of Jobs trust besides the public authorities.
    pub trusted_ca_file: Option<PathBuf>,
    /// Proxy settings for the pods of Jobs.
    pub proxy: Proxy,
    /// How much runs at once.
    pub limits: Limits,
    /// The PriorityClass of pipelines' pods, unless a pipeline names another one; absent: none.
    pub priority_class_name: Option<String>,
    /// The artifact store; absent: nothing is kept but what the status says.
    pub artifacts: Option<Artifacts>,
    /// Whether `http:` addresses of GitHub's API are accepted (tests only).
    pub allow_plain_http: bool,
}

/// Images by role, each `repository:tag` or `repository@digest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Images {
    /// The agent: a static binary beside Git.
    pub agent: String,
    /// Postgres by major version.
    pub postgres: BTreeMap<String, String>,
}

/// How registries are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RegistryAccess {
    /// Endpoints to ask instead of a host, for example `ghcr.io: registry.example.org:5000`.
    pub mirrors: BTreeMap<String, String>,
    /// Hosts (with port) that are asked without TLS.
    pub plain_http: Vec<String>,
    /// Further hosts that may receive a registry's credentials, because its token service lives there.
    pub token_hosts: BTreeMap<String, Vec<String>>,
}

/// Proxy settings for the pods of Jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Proxy {
    /// For `http:` addresses.
    pub http: Option<String>,
    /// For `https:` addresses.
    pub https: Option<String>,
    /// Hosts that are asked directly.
    pub no_proxy: Option<String>,
}

/// How much runs at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Jobs of pipelines at once in all namespaces.
    pub jobs: u32,
    /// Jobs of pipelines at once in one namespace.
    pub jobs_per_namespace: u32,
    /// Resources of one kind that are reconciled at once.
    pub concurrent_reconciles: u16,
}

/// The artifact store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Artifacts {
    /// Where pods reach it, for example `http://timetracker-artifacts.timetracker-system:8080`.
    pub url: String,
    /// The file with the operator's own token for the store, by which it keeps the logs of pods without the agent; absent: it
    /// keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl Default for Images {
    fn default() -> Self {
        Self {
            agent: concat!("ghcr.io/drytrix/timetracker-agent:", env!("CARGO_PKG_VERSION")).to_owned(),
            postgres: BTreeMap::from([("16".to_owned(), "docker.io/library/postgres:16".to_owned())]),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { jobs: 20, jobs_per_namespace: 10, concurrent_reconciles: 8 }
    }
}

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file can't be read.
    #[error("configuration {path}: can't be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no such configuration.
    #[error("configuration {path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A value makes no sense.
    #[error("configuration {path}: {field}: {message}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        field: &'static str,
        /// Why, and what to write instead.
        message: String,
    },
}

impl Configuration {
    /// Reads the file.
    ///
    /// # Errors
    /// When it can't be read, has unknown keys or wrong types, or a value makes no sense.
    pub fn read(path: &Path) -> Result<Self, ConfigurationError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigurationError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigurationError> {
        let configuration: Self = if text.trim().is_empty() {
            Self::default()
        } else {
            serde_saphyr::from_str(text)
                .map_err(|error| ConfigurationError::Parse { path: path.to_owned(), message: error.to_string() })?
        };
        configuration.check(path)?;
        Ok(configuration)
    }

    fn check(&self, path: &Path) -> Result<(), ConfigurationError> {
        let refuse = |field, message: &str| {
            Err(ConfigurationError::Value { path: path.to_owned(), field, message: message.to_owned() })
        };
        if self.limits.jobs == 0 || self.limits.jobs_per_namespace == 0 {
            return refuse("limits", "jobs and jobsPerNamespace must be at least 1");
        }
        if self.limits.concurrent_reconciles == 0 {
            return refuse("limits.concurrentReconciles", "must be at least 1: 0 would mean unbounded");
        }
        if !self.images.postgres.contains_key("16") {
            return refuse("images.postgres", "needs an image for version \"16\"");
        }
        Ok(())
    }

    /// The image of that Postgres major version.
    #[must_use]
    pub fn postgres_image(&self, major: &str) -> Option<&str> {
        self.images.postgres.get(major).map(String::as_str)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Configuration, ConfigurationError> {
        Configuration::parse(Path::new("test.yaml"), text)
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(parse("").unwrap(), Configuration::default());
    }

    #[test]
    fn an_unknown_key_refuses_to_start_and_is_named() {
        let error = parse("limits: {jobz: 3}").unwrap_err().to_string();
        assert!(error.contains("jobz"), "{error}");
    }

    #[test]
    fn unbounded_concurrency_is_refused() {
        assert!(parse("limits: {concurrentReconciles: 0}").is_err());
    }
}
