//! What an image's code needs of its database.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::api::names::{Digest, Revision, Revisions};

/// What the code of one image needs: dumped from its own SQLAlchemy metadata by running it, once per digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaContract {
    /// The Alembic heads of the image's own migrations.
    pub heads: Revisions,
    /// All revisions that its migrations know. Empty in contracts that were read before this was asked.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub known: BTreeSet<Revision>,
    /// Tables by name, each with its columns by name.
    pub tables: BTreeMap<String, BTreeMap<String, NeededColumn>>,
}

/// One column as the code declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NeededColumn {
    /// Whether the code itself may write NULL.
    pub nullable: bool,
    /// Whether the code declares that the server fills the column when an insert leaves it out: a default, an identity, a
    /// computed column. Contracts that were kept before this was asked say no, which proves less and breaks nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filled_by_server: bool,
}

impl SchemaContract {
    /// Those of a database's revisions that the image's migrations don't know: from there they lead nowhere.
    #[must_use]
    pub fn unknown(&self, revisions: &Revisions) -> Revisions {
        let known = |revision: &&Revision| self.known.is_empty() || self.known.contains(*revision);
        revisions.iter().filter(|revision| !known(revision)).cloned().collect()
    }

    /// The digest of the contract's canonical JSON (maps are ordered, so equal contracts have equal digests).
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }
}
