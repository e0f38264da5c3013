//! `source` and `resolve`: a commit of a Git server as a checked-out tree, by the `git` program of the agent's image.

mod base;
mod failure;
mod git;
mod remote;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::message::Secrets;
use super::process::Terminate;
use super::report::{ResolveReport, SourceReport};
use crate::api::names::{CommitSha, GitRef};
pub(super) use base::BaseOptions;
use failure::SourceError;
use git::Git;
use remote::Remote;

/// How much of the history is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum History {
    /// The commit alone.
    Commit,
    /// Everything, with tags.
    Full,
}

/// What to fetch, and to where.
pub(super) struct SourceOptions {
    pub(super) url: String,
    pub(super) commit: CommitSha,
    /// Where the commit was seen: asked for when the server gives out no commit by its id.
    pub(super) reference: Option<GitRef>,
    pub(super) history: History,
    pub(super) destination: PathBuf,
    /// A second tree: the commit that this one is compared with.
    pub(super) base: Option<BaseOptions>,
    pub(super) timeout: Duration,
}

/// What a name is resolved in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Branch(GitRef),
    Tag(GitRef),
}

/// Checks the commit out.
pub(super) async fn source(options: &SourceOptions, terminate: &mut Terminate, secrets: &Secrets) -> SourceReport {
    let started = Instant::now();
    let fetched = tokio::select! {
        fetched = fetch(options) => fetched,
        () = tokio::time::sleep(options.timeout) => Err(SourceError::TimedOut(options.timeout.as_secs())),
        () = terminate.asked() => Err(SourceError::Terminated),
    };
    match fetched {
        Ok(()) => SourceReport::Fetched { commit: options.commit.clone(), seconds: started.elapsed().as_secs() },
        Err(error) => SourceReport::Failed { failure: error.failure(), message: secrets.message(&error.to_string()) },
    }
}

async fn fetch(options: &SourceOptions) -> Result<(), SourceError> {
    let remote = Remote::from_environment(&options.url)?;
    let git = Git::new(&options.destination, &remote);
    std::fs::create_dir_all(&options.destination)
        .map_err(|error| SourceError::Local(format!("{}: {error}", options.destination.display())))?;
    // In a volume that an earlier container of this pod has already filled, this starts over with what is there.
    let commit = options.commit.as_str();
    let format = if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    git.run(&["init", "--quiet", format]).await?;
    match options.history {
        History::Commit => match git.fetch(&remote, &["--depth=1", "--no-tags"], &[commit]).await {
            // Servers may refuse to give out what no ref of theirs points to.
            Err(SourceError::NotAdvertised(_)) => fetch_by_reference(&git, &remote, options).await?,
            fetched => fetched?,
        },
        History::Full => {
            git.fetch(&remote, &["--tags", "--force"], &["+refs/heads/*:refs/remotes/origin/*"]).await?;
            if !git.has_commit(commit).await {
                git.fetch(&remote, &["--no-tags"], &[commit]).await?;
            }
        }
    }
    if !git.has_commit(commit).await {
        return Err(SourceError::NoCommit(options.commit.clone()));
    }
    git.run(&["checkout", "--quiet", "--force", "--detach", commit]).await?;
    let head = git.run(&["rev-parse", "--verify", "HEAD"]).await?;
    if head.trim() != commit {
        return Err(SourceError::Other(format!("HEAD is {} after the checkout", head.trim())));
    }
    match &options.base {
        Some(wanted) => base::lay_down(&git, commit, wanted).await,
        None => Ok(()),
    }
}

async fn fetch_by_reference(git: &Git, remote: &Remote, options: &SourceOptions) -> Result<(), SourceError> {
    if let Some(reference) = &options.reference {
        let name = reference.as_str();
        let wanted: Vec<String> = if name.starts_with("refs/") {
            vec![name.to_owned()]
        } else {
            vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")]
        };
        for reference in wanted {
            // One of both spellings is usually not there.
            let _ = git.fetch(remote, &["--no-tags"], &[&reference]).await;
            if git.has_commit(options.commit.as_str()).await {
                return Ok(());
            }
        }
    }
    git.fetch(remote, &["--tags", "--force"], &["+refs/heads/*:refs/remotes/origin/*"]).await
}

/// Asks the server what the name stands for now. A tag object is peeled to its commit.
pub(super) async fn resolve(
    url: &str,
    named: &Named,
    timeout: Duration,
    terminate: &mut Terminate,
    secrets: &Secrets,
) -> ResolveReport {
    let resolved = tokio::select! {
        resolved = look_up(url, named) => resolved,
        () = tokio::time::sleep(timeout) => Err(SourceError::TimedOut(timeout.as_secs())),
        () = terminate.asked() => Err(SourceError::Terminated),
    };
    match resolved {
        Ok(commit) => ResolveReport::Resolved { commit },
        Err(error) => ResolveReport::Failed { failure: error.failure(), message: secrets.message(&error.to_string()) },
    }
}

async fn look_up(url: &str, named: &Named) -> Result<CommitSha, SourceError> {
    let remote = Remote::from_environment(url)?;
    let git = Git::new(&std::env::temp_dir(), &remote);
    let (kind, name) = match named {
        Named::Branch(name) => ("heads", name),
        Named::Tag(name) => ("tags", name),
    };
    let reference = format!("refs/{kind}/{name}");
    let peeled = format!("{reference}^{{}}");
    let listed = git.run(&["ls-remote", "--", remote.url(), &reference, &peeled]).await?;
    let find = |wanted: &str| {
        listed.lines().filter_map(|line| line.split_once('\t')).find(|(_, name)| *name == wanted).map(|(id, _)| id)
    };
    let id = find(&peeled).or_else(|| find(&reference)).ok_or(SourceError::NoReference(reference.clone()))?;
    id.parse().map_err(|_| SourceError::Other(format!("the server gives `{reference}` no commit id")))
}
