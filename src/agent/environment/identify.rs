//! The hash of an environment: of everything that determines what pip installs, as far as the repository says it.

use std::path::PathBuf;

use clap::Args;

use super::registry::{Known, RegistryOptions};
use super::requirements;
use crate::agent::message::Secrets;
use crate::agent::report::{EnvironmentFailure, EnvironmentReport};
use crate::api::names::{CommitSha, Digest};

/// Changes when the same files would come to another environment: the way of installing, its place, its layout.
const FORMAT: &str = "timetracker-environment/1";

/// What is to be identified.
#[derive(Debug, Args)]
pub(super) struct IdentifyOptions {
    /// The repository's files.
    #[arg(long, default_value = "/workspace")]
    workspace: PathBuf,
    /// The commit, for messages.
    #[arg(long)]
    commit: Option<CommitSha>,
    /// The Python version, such as `3.11`.
    #[arg(long)]
    python: String,
    /// A requirement file, relative to the workspace; in pip's order.
    #[arg(long = "requirement", required = true)]
    requirements: Vec<String>,
    /// A variable that pip will see: NAME=VALUE.
    #[arg(long = "variable")]
    variables: Vec<String>,
    #[command(flatten)]
    registry: RegistryOptions,
    /// Where the image's reference is written, if there is one.
    #[arg(long)]
    known: Option<PathBuf>,
}

/// Names the environment, and says whether there is an image of it.
pub(super) async fn identify(options: &IdentifyOptions, secrets: &Secrets) -> EnvironmentReport {
    let files = match requirements::read(&options.workspace, &options.requirements) {
        Ok(files) => files,
        Err(error) => {
            let at = options.commit.as_ref().map(|commit| format!(" (commit {})", commit.short())).unwrap_or_default();
            let message = secrets.message(&format!("{error}{at}"));
            return EnvironmentReport::Failed { failure: EnvironmentFailure::Requirements, message };
        }
    };
    let platform = platform();
    let mut parts: Vec<&[u8]> = vec![FORMAT.as_bytes(), options.python.as_bytes(), platform.as_bytes()];
    let counts = [options.variables.len(), options.requirements.len()].map(|count| count.to_string());
    for (count, list) in counts.iter().zip([&options.variables, &options.requirements]) {
        parts.push(count.as_bytes());
        parts.extend(list.iter().map(String::as_bytes));
    }
    for file in &files {
        parts.extend([file.path.as_bytes(), file.text.as_bytes()]);
    }
    let count = u32::try_from(files.len()).unwrap_or(u32::MAX);
    let hash = hash(&parts);
    let (image, stale, problem) = match looked_up(options, &hash).await {
        Ok(Some((image, stale))) => (Some(image), stale, None),
        Ok(None) => (None, false, None),
        // Then it is installed: without the registry as if it had none.
        Err(why) => (None, false, Some(secrets.message(&why))),
    };
    EnvironmentReport::Identified { hash, platform: platform.to_owned(), files: count, image, stale, problem }
}

/// The image, by its digest, and whether it lacks this week's tag.
async fn looked_up(options: &IdentifyOptions, hash: &Digest) -> Result<Option<(String, bool)>, String> {
    let Some(repository) = options.registry.repository() else { return Ok(None) };
    let (image, stale) = match options.registry.known(repository, hash).await {
        Known::Yes { digest, stale } => (repository.at(&digest), stale),
        Known::No => return Ok(None),
        Known::Unclear(why) => return Err(why),
    };
    if let Some(path) = &options.known {
        std::fs::write(path, &image).map_err(|error| format!("{} can't be written: {error}", path.display()))?;
    }
    Ok(Some((image, stale)))
}

/// Each part with its length before it: no two lists of parts are the same bytes.
fn hash(parts: &[&[u8]]) -> Digest {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(*part);
    }
    Digest::of(&bytes)
}

/// The processor in Kubernetes' words: what pip installs runs on this one only.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_one_part_ends_makes_a_difference() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_ne!(hash(&[b"a", b""]), hash(&[b"a"]));
    }
}
