//! Where an artifact lies: four names, each checked before it becomes part of a path.

use std::fmt;

use object_store::path::Path;

use super::identity::is_of_run;
use crate::api::artifacts::{LOG_HEAD, LOG_STATE, LOG_TAIL};

const MAX_NAME: usize = 128;

/// A run of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunPlace {
    pub(super) namespace: String,
    pub(super) run: String,
}

/// One artifact of a job of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) run: RunPlace,
    /// The name of the Kubernetes Job of the attempt.
    pub(super) job: String,
    pub(super) name: String,
}

impl RunPlace {
    /// `None`: one of them can't be such a name.
    pub(super) fn new(namespace: &str, run: &str) -> Option<Self> {
        let fits = is_resource_name(namespace) && is_resource_name(run);
        fits.then(|| Self { namespace: namespace.to_owned(), run: run.to_owned() })
    }

    pub(super) fn path(&self) -> Path {
        Path::from_iter([self.namespace.as_str(), self.run.as_str()])
    }
}

impl Place {
    /// `None`: one of them can't be such a name.
    pub(super) fn new(namespace: &str, run: &str, job: &str, name: &str) -> Option<Self> {
        let run = RunPlace::new(namespace, run)?;
        let fits = is_resource_name(job) && is_artifact_name(name);
        fits.then(|| Self { run, job: job.to_owned(), name: name.to_owned() })
    }

    /// `None`: that is not where an artifact lies.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let parts: Vec<_> = path.parts().collect();
        let [namespace, run, job, name] = parts.as_slice() else { return None };
        Self::new(namespace.as_ref(), run.as_ref(), job.as_ref(), name.as_ref())
    }

    /// Whether it is the log of a job's command, or the state of it.
    pub(super) fn is_log_of_job(&self) -> bool {
        [LOG_HEAD, LOG_TAIL, LOG_STATE].contains(&self.name.as_str()) && is_of_run(&self.job, &self.run)
    }

    pub(super) fn folder(&self) -> Path {
        Path::from_iter([self.run.namespace.as_str(), self.run.run.as_str(), self.job.as_str()])
    }

    pub(super) fn path(&self) -> Path {
        self.folder().join(self.name.as_str())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.run.namespace, self.run.run, self.job, self.name)
    }
}

/// A name of Kubernetes. It neither starts with a dot nor has a slash: it can't lead out of its folder.
pub(super) fn is_resource_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with(['.', '-'])
}

/// As the collector checks them. Without `#`, which the files of unfinished uploads have.
fn is_artifact_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("..")]
    #[case("../x")]
    #[case("a/b")]
    #[case("a\\b")]
    #[case("a\0b")]
    #[case("a\nb")]
    #[case(".hidden")]
    #[case("a#1")]
    #[case("a%2fb")]
    #[case("")]
    #[case("ä")]
    fn a_name_that_could_lead_elsewhere_is_none(#[case] name: &str) {
        assert_eq!(Place::new("ci", "run", "job", name), None);
        assert_eq!(Place::new("ci", "run", name, "name"), None);
        assert_eq!(RunPlace::new("ci", name), None);
        assert_eq!(RunPlace::new(name, "run"), None);
    }

    #[test]
    fn a_place_is_a_path_of_four_names() {
        let place = Place::new("ci", "run-1", "run-1-0123456789", "log-head.txt").unwrap();
        assert_eq!(place.path().as_ref(), "ci/run-1/run-1-0123456789/log-head.txt");
        assert!(Place::new("ci", "run", "job", &"x".repeat(129)).is_none());
    }
}
