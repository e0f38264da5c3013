//! A second tree beside the checkout: the commit that a change is compared with.
//!
//! The job's own image may have no Git: whoever needs the tree before finds it as a folder.

use std::io;
use std::path::PathBuf;

use super::failure::SourceError;
use super::git::Git;
use crate::api::names::GitRef;

/// Which commit, and where its tree goes.
#[derive(Debug, Clone)]
pub(in crate::agent) struct BaseOptions {
    /// The branch that the change is for: the base is where both part. Absent: the commit's first parent.
    pub(in crate::agent) branch: Option<GitRef>,
    /// Not there afterwards when the commit has no parent.
    pub(in crate::agent) destination: PathBuf,
}

/// Lays the tree down. The whole history must be here.
pub(super) async fn lay_down(git: &Git, commit: &str, wanted: &BaseOptions) -> Result<(), SourceError> {
    let destination = &wanted.destination;
    // An earlier container of this pod may have filled it.
    match std::fs::remove_dir_all(destination) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(SourceError::Local(format!("{}: {error}", destination.display()))),
    }
    let Some(base) = commit_of(git, commit, wanted).await? else {
        return Ok(());
    };
    let Some(path) = destination.to_str() else {
        return Err(SourceError::Local(format!("{} is no text", destination.display())));
    };
    git.run(&["worktree", "prune"]).await?;
    git.run(&["worktree", "add", "--quiet", "--force", "--detach", "--", path, &base]).await.map(|_| ())
}

async fn commit_of(git: &Git, commit: &str, wanted: &BaseOptions) -> Result<Option<String>, SourceError> {
    let Some(branch) = &wanted.branch else {
        // `--quiet`: a first commit has no parent, and that is no error.
        let parent = git.run(&["rev-parse", "--quiet", "--verify", &format!("{commit}^1^{{commit}}")]).await;
        return Ok(parent.ok().map(|parent| parent.trim().to_owned()).filter(|parent| !parent.is_empty()));
    };
    let reference = format!("refs/remotes/origin/{branch}");
    if !git.has_commit(&reference).await {
        return Err(SourceError::NoReference(format!("refs/heads/{branch}")));
    }
    let parted = git.run(&["merge-base", "--", &reference, commit]).await;
    let parted =
        parted.map_err(|_| SourceError::Other(format!("the commit has no history in common with `{branch}`")))?;
    Ok(parted.lines().next().map(|line| line.trim().to_owned()))
}
