//! What the agent tells of environments.

use serde::{Deserialize, Serialize};

use crate::api::names::Digest;

/// The report of `agent environment`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub enum EnvironmentReport {
    /// It has a name.
    Identified {
        /// The hash of what determines it.
        hash: Digest,
        /// The processor that it is for, as Kubernetes calls it: `amd64`.
        platform: String,
        /// How many requirement files there are, included ones counted.
        files: u32,
        /// The image that holds it, by digest, if there is one.
        #[serde(default)]
        image: Option<String>,
        /// Whether that image is to be given this week's tag.
        #[serde(default)]
        stale: bool,
        /// Why it can't be told whether there is one, at most 600 bytes.
        #[serde(default)]
        problem: Option<String>,
    },
    /// An image holds it.
    Published {
        /// The image, by digest, as the registry told it.
        image: String,
        /// Whether it was there already.
        found: bool,
        /// How many images were deleted that nobody has used for long.
        #[serde(default)]
        removed: u32,
        /// Why not more, at most 600 bytes.
        #[serde(default)]
        problem: Option<String>,
    },
    /// It is one archive.
    Packed {
        /// How many files it holds.
        files: u32,
        /// Their length in bytes.
        bytes: u64,
    },
    /// It is where the job finds it.
    Unpacked {
        /// How many files it holds.
        files: u32,
        /// Their length in bytes.
        bytes: u64,
    },
    /// It is not.
    Failed {
        /// What kind of failure.
        failure: EnvironmentFailure,
        /// The cause and the next step, at most 600 bytes, without credentials.
        message: String,
    },
}

/// Why there is no environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvironmentFailure {
    /// The requirement files can't be used: missing, leading out of the repository, in a circle.
    Requirements,
    /// What was installed is no archive of files, or too large.
    Archive,
    /// The registry does not allow it with these credentials, or leads elsewhere.
    Denied,
    /// The store or the registry does not answer, or refuses. Tried again.
    Unreachable,
}
