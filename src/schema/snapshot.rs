//! What a database has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::names::{Digest, Revisions};

/// What one database has, read from its catalogue: every ordinary and partitioned table of schema `public`, except `alembic_version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaSnapshot {
    /// The rows of `alembic_version`; empty when the table is empty or absent.
    pub revisions: Revisions,
    /// Tables by name, each with its columns by name.
    pub tables: BTreeMap<String, BTreeMap<String, PresentColumn>>,
}

/// One column as the catalogue describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresentColumn {
    /// The type as `format_type` prints it, for example `character varying(255)`.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether NULL is accepted.
    pub nullable: bool,
    /// Whether the server fills the column when an insert leaves it out: a default, identity or generated column.
    pub filled_by_server: bool,
}

impl SchemaSnapshot {
    /// The digest of the snapshot's canonical JSON: equal for equal schemas at equal revisions.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    /// Whether the database has no table at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.revisions.is_empty()
    }
}
