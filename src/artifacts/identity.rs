//! Whose token it is, and which paths it opens.

use serde::Deserialize;

use super::place::{Place, RunPlace};

/// What names of Jobs take over from their run's name, in characters.
const RUN_STEM: usize = 40;
/// The hash at the end of a Job's name, in hexadecimal digits.
const JOB_HASH: usize = 10;
/// What the Job controller appends to a pod's name.
const POD_SUFFIX: usize = 5;

/// The claims of a token that kubelet projects into a pod.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Claims {
    /// The account.
    sub: Option<String>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: KubernetesClaims,
}

#[derive(Debug, Clone, Deserialize)]
struct KubernetesClaims {
    namespace: String,
    pod: Option<PodClaims>,
}

#[derive(Debug, Clone, Deserialize)]
struct PodClaims {
    name: String,
}

impl Claims {
    /// Whether they are of that account, as `system:serviceaccount:<namespace>:<name>`.
    pub(super) fn are_of(&self, account: &str) -> bool {
        self.sub.as_deref() == Some(account)
    }
}

/// The Job whose pod holds the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobIdentity {
    namespace: String,
    job: String,
}

impl JobIdentity {
    /// `None`: the token is bound to no pod, or to one that no Job made.
    pub(super) fn of(claims: Claims) -> Option<Self> {
        let pod = claims.kubernetes.pod?.name;
        let (job, suffix) = pod.rsplit_once('-')?;
        let made_by_job = suffix.len() == POD_SUFFIX && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric());
        made_by_job.then(|| Self { namespace: claims.kubernetes.namespace, job: job.to_owned() })
    }

    /// Whether it may write there: only into its own folder.
    pub(super) fn writes(&self, place: &Place) -> bool {
        self.job == place.job && self.reads(&place.run)
    }

    /// Whether it may read there: what its own run has left.
    ///
    /// The hash's length makes `a` and `a-b` different runs. Runs whose names have the same first 40 characters can't
    /// be told apart by a Job's name; they still can't replace anything of each other, as Jobs' names differ.
    pub(super) fn reads(&self, run: &RunPlace) -> bool {
        self.namespace == run.namespace && is_of_run(&self.job, run)
    }
}

/// Whether a Job of the run may have that name.
pub(super) fn is_of_run(job: &str, run: &RunPlace) -> bool {
    let stem = run.run.get(..RUN_STEM).unwrap_or(&run.run);
    let hash = job.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
    hash.len() == JOB_HASH && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn identity(pod: &str) -> Option<JobIdentity> {
        let claims = json!({"kubernetes.io": {"namespace": "ci", "pod": {"name": pod, "uid": "u"}}});
        JobIdentity::of(serde_json::from_value(claims).unwrap())
    }

    #[rstest]
    #[case("ci", "run-1", "run-1-0123456789", true)]
    #[case("other", "run-1", "run-1-0123456789", false)]
    #[case("ci", "run-2", "run-1-0123456789", false)]
    #[case("ci", "run-1", "run-1-9876543210", false)]
    #[case("ci", "run", "run-1-0123456789", false)]
    #[case("ci", "run-1-0123456789", "run-1-0123456789", false)]
    fn a_pod_writes_only_into_its_own_folder(
        #[case] namespace: &str,
        #[case] run: &str,
        #[case] job: &str,
        #[case] allowed: bool,
    ) {
        let place = Place::new(namespace, run, job, "log").unwrap();
        assert_eq!(identity("run-1-0123456789-x7k2p").unwrap().writes(&place), allowed);
    }

    #[test]
    fn a_pod_reads_what_its_own_run_has_left() {
        let identity = identity("run-1-0123456789-x7k2p").unwrap();
        assert!(identity.reads(&RunPlace::new("ci", "run-1").unwrap()));
        assert!(!identity.reads(&RunPlace::new("ci", "run-11").unwrap()));
        assert!(!identity.reads(&RunPlace::new("cd", "run-1").unwrap()));
    }

    #[test]
    fn a_long_runs_name_is_cut_as_jobs_names_are() {
        let run = "r".repeat(60);
        let pod = format!("{}-0123456789-x7k2p", "r".repeat(40));
        assert!(identity(&pod).unwrap().reads(&RunPlace::new("ci", &run).unwrap()));
    }

    #[test]
    fn a_token_of_no_jobs_pod_opens_nothing() {
        assert_eq!(identity("postgres"), None);
        assert_eq!(identity("web-0"), None);
        let claims = json!({"kubernetes.io": {"namespace": "ci"}});
        assert_eq!(JobIdentity::of(serde_json::from_value(claims).unwrap()), None);
    }
}
