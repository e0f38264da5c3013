//! The migration files, read by the image's own Alembic.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::agent::frame::MAX_DOCUMENT_BYTES;
use crate::agent::process::{Limits, PassOn, Stopped, Terminate};
use crate::agent::python::{self, Script};
use crate::api::names::{Revision, Revisions};
use crate::schema::check::{MigrationFile, MigrationFiles};

const SCRIPT: &str = include_str!("revisions.py");
/// The most revisions that a history may have.
const MAX_REVISIONS: usize = 10_000;

/// Why the files can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    #[error("Python can't be started: {0}")]
    Start(std::io::Error),
    #[error("reading the migrations was stopped after {0} s")]
    TimedOut(u64),
    #[error("told to stop")]
    Terminated,
    #[error("the migrations can't be read (exit code {code}): {output}")]
    Ended { code: i32, output: String },
    #[error("{0}")]
    Broken(String),
    #[error("the answer about the migrations can't be used: {0}")]
    Answer(String),
}

/// What the script writes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Answer {
    Broken { broken: Vec<String> },
    Read { revisions: BTreeMap<String, Described>, heads: Vec<String> },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    file: String,
    parents: Vec<String>,
    has_downgrade: bool,
}

/// Reads the migrations in `folder` of a tree.
pub(super) async fn read(
    python: &OsString,
    tree: &Path,
    folder: &Path,
    environment: Vec<(String, OsString)>,
    timeout: Duration,
    terminate: &mut Terminate,
) -> Result<MigrationFiles, FilesError> {
    let mut environment = environment;
    environment.push(("TT_AGENT_MIGRATIONS".into(), folder.into()));
    let script = Script {
        interpreter: vec![python.clone(), "-".into()],
        text: SCRIPT,
        environment,
        directory: Some(tree.to_owned()),
        pass_on: PassOn::StandardOutput,
    };
    let limits = Limits { timeout, grace: Duration::from_secs(5) };
    let result = python::run(script, limits, terminate, std::future::pending()).await.map_err(FilesError::Start)?;
    match (result.ended.stopped, result.ended.code) {
        (Some(Stopped::TimedOut), _) => Err(FilesError::TimedOut(timeout.as_secs())),
        (Some(Stopped::Terminated | Stopped::Abandoned), _) => Err(FilesError::Terminated),
        (None, 0) => parse(&result.document),
        (None, code) => Err(FilesError::Ended { code, output: result.output }),
    }
}

fn parse(document: &[u8]) -> Result<MigrationFiles, FilesError> {
    if document.len() > MAX_DOCUMENT_BYTES {
        return Err(FilesError::Answer(format!("it is longer than {MAX_DOCUMENT_BYTES} bytes")));
    }
    let (described, heads) = match serde_json::from_slice(document) {
        Ok(Answer::Broken { broken }) => return Err(FilesError::Broken(broken.join("; "))),
        Ok(Answer::Read { revisions, heads }) => (revisions, heads),
        Err(error) => return Err(FilesError::Answer(error.to_string())),
    };
    if described.len() > MAX_REVISIONS {
        return Err(FilesError::Answer(format!("there are more than {MAX_REVISIONS} revisions")));
    }
    let mut revisions = BTreeMap::new();
    for (name, file) in described {
        let parents = parsed(&file.parents)?;
        revisions
            .insert(revision(&name)?, MigrationFile { file: file.file, parents, has_downgrade: file.has_downgrade });
    }
    Ok(MigrationFiles { revisions, heads: parsed(&heads)? })
}

fn parsed(names: &[String]) -> Result<Revisions, FilesError> {
    names.iter().map(|name| revision(name)).collect()
}

fn revision(name: &str) -> Result<Revision, FilesError> {
    name.parse().map_err(|error| FilesError::Answer(format!("{error}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn revisions_are_read_and_names_checked() {
        let read =
            parse(br#"{"revisions": {"b": {"file": "b.py", "parents": ["a"], "hasDowngrade": true}}, "heads": ["b"]}"#);
        assert_eq!(read.unwrap().heads.to_string(), "b");
        assert!(parse(br#"{"revisions": {}, "heads": ["$(id)"]}"#).is_err());
        let broken = parse(br#"{"broken": ["a.py, line 3: invalid syntax"]}"#).unwrap_err();
        assert_eq!(broken.to_string(), "a.py, line 3: invalid syntax");
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(document in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&document);
        }
    }
}
