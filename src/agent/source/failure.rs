//! Why a commit could not be fetched, from what Git says.

use crate::agent::report::SourceFailure;
use crate::api::names::CommitSha;

/// A failed step, with Git's last words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SourceError {
    #[error("the repository's URL can't be used: {0}")]
    Url(String),
    #[error("the repository's server can't be reached: {0}")]
    Unreachable(String),
    #[error("the repository's server refuses access (check the Secret with the token): {0}")]
    AccessDenied(String),
    #[error("the repository's server has no such repository or ref (or the token may not see it): {0}")]
    NotFound(String),
    /// Not given out by its id; perhaps by a ref.
    #[error("the server does not give out this commit: {0}")]
    NotAdvertised(String),
    #[error("the repository has no commit {0}")]
    NoCommit(CommitSha),
    #[error("the repository has no `{0}`")]
    NoReference(String),
    #[error("git took longer than {0} s")]
    TimedOut(u64),
    #[error("told to stop before git was done")]
    Terminated,
    #[error("the workspace can't be written: {0}")]
    Local(String),
    #[error("git failed: {0}")]
    Other(String),
}

impl SourceError {
    pub(super) fn failure(&self) -> SourceFailure {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Terminated => SourceFailure::Unreachable,
            Self::AccessDenied(_) => SourceFailure::AccessDenied,
            Self::NotFound(_) | Self::NotAdvertised(_) | Self::NoCommit(_) | Self::NoReference(_) => {
                SourceFailure::NotFound
            }
            Self::Url(_) | Self::Local(_) | Self::Other(_) => SourceFailure::Failed,
        }
    }

    /// The class of what Git printed on standard error (in the C locale).
    pub(super) fn classify(printed: &str) -> Self {
        let text = printed.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let told = last_words(printed);
        if says(&["not our ref", "unadvertised object", "remote error: want", "does not allow request for"]) {
            Self::NotAdvertised(told)
        } else if says(&[
            "authentication failed",
            "could not read username",
            "could not read password",
            "terminal prompts disabled",
            "returned error: 401",
            "returned error: 403",
            "permission denied (publickey",
            "host key verification failed",
        ]) {
            Self::AccessDenied(told)
        } else if says(&[
            "couldn't find remote ref",
            "repository not found",
            "does not appear to be a git repository",
            "not valid: is this a git repository",
            "returned error: 404",
            "fatal: repository '",
        ]) {
            Self::NotFound(told)
        } else if says(&[
            "could not resolve host",
            "failed to connect",
            "couldn't connect",
            "connection refused",
            "connection timed out",
            "connection reset",
            "network is unreachable",
            "no route to host",
            "operation too slow",
            "operation timed out",
            "returned error: 429",
            "returned error: 50",
            "the remote end hung up",
            "early eof",
            "rpc failed",
            "empty reply from server",
        ]) {
            Self::Unreachable(told)
        } else {
            Self::Other(told)
        }
    }
}

/// The lines that name a cause; progress and hints are left out.
fn last_words(printed: &str) -> String {
    let telling = ["fatal:", "error:", "remote:", "ssh:"];
    let lines: Vec<&str> = printed.lines().filter(|line| telling.iter().any(|start| line.starts_with(start))).collect();
    if lines.is_empty() { printed.trim().to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("fatal: unable to access 'http://h/': Could not resolve host: h", SourceFailure::Unreachable)]
    #[case("fatal: unable to access 'http://h/': The requested URL returned error: 503", SourceFailure::Unreachable)]
    #[case("fatal: unable to access 'http://h/': The requested URL returned error: 403", SourceFailure::AccessDenied)]
    #[case("fatal: could not read Username for 'http://h': terminal prompts disabled", SourceFailure::AccessDenied)]
    #[case("remote: Not Found\nfatal: repository 'http://h/r/' not found", SourceFailure::NotFound)]
    #[case("fatal: couldn't find remote ref refs/heads/x", SourceFailure::NotFound)]
    #[case("fatal: remote error: upload-pack: not our ref 1234", SourceFailure::NotFound)]
    #[case("error: Server does not allow request for unadvertised object 1234", SourceFailure::NotFound)]
    #[case("fatal: write error: No space left on device", SourceFailure::Failed)]
    fn what_git_says_has_a_class(#[case] printed: &str, #[case] failure: SourceFailure) {
        assert_eq!(SourceError::classify(printed).failure(), failure);
    }
}
