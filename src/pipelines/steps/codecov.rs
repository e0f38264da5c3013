//! `codecovUpload`: Cobertura XML to Codecov, by Codecov's own program in the job's image.
//!
//! The pod checks nothing out: it holds a token, and a repository's `codecov.yml` could name Python modules that the
//! program would load. So the repository's code and the token never meet, not even in a pull request of its own. A
//! fork's pull request could still upload what it likes under the repository's name: there the step has no place.

use k8s_openapi::api::core::v1::EnvVar;

use super::super::environment::{literal, secret};
use super::super::jobs::RunContext;
use crate::api::job::{Checkout, JobSpec};
use crate::api::steps::CodecovUpload;

const SCRIPT: &str = include_str!("codecov-upload.sh");

pub(super) fn lower(step: &CodecovUpload, job: &JobSpec) -> JobSpec {
    JobSpec {
        run: Some(SCRIPT.to_owned()),
        checkout: Some(Checkout { enabled: Some(false), history: None }),
        continue_on_error: job.continue_on_error || !step.fail_on_error,
        ..job.clone()
    }
}

pub(super) fn variables(step: &CodecovUpload, run: &RunContext<'_>) -> Vec<EnvVar> {
    let mut variables = vec![literal("CODECOV_FLAGS", &step.flags.join("\n"))];
    let slug = run.definition.source.as_ref().and_then(|source| slug(&source.clone_url));
    variables.extend(slug.map(|slug| literal("CODECOV_SLUG", &slug)));
    variables.extend(step.token_secret_ref.as_ref().map(|name| secret("CODECOV_TOKEN", &name.name, "token")));
    variables
}

pub(super) fn absent_from(run: &RunContext<'_>) -> Option<String> {
    let pull_request = run.spec.revision.as_ref()?.pull_request.as_ref()?;
    pull_request.fork.then(|| "nothing is uploaded for a fork's pull request: it must not use the token".to_owned())
}

/// `owner/name`: the last two parts of the address.
fn slug(clone_url: &str) -> Option<String> {
    let path = clone_url.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let mut parts = path.rsplit(['/', ':']);
    let (name, owner) = (parts.next()?, parts.next()?);
    let fits = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    (fits(name) && fits(owner)).then(|| format!("{owner}/{name}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://github.com/DRYTRIX/TimeTracker.git", Some("DRYTRIX/TimeTracker"))]
    #[case("https://github.com/DRYTRIX/TimeTracker/", Some("DRYTRIX/TimeTracker"))]
    #[case("ssh://git@github.com/o/n", Some("o/n"))]
    #[case("git@github.com:o/n.git", Some("o/n"))]
    #[case("https://github.com/o/n$(id)", None)]
    #[case("n", None)]
    fn the_repositorys_name_is_the_end_of_its_address(#[case] url: &str, #[case] expected: Option<&str>) {
        assert_eq!(slug(url).as_deref(), expected);
    }
}
