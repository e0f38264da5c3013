//! Names and labels of everything that a release makes. All of them follow from the release and what it delivers.

use std::collections::BTreeMap;

use super::observed::Purpose;
use crate::api::names::Digest;

/// The annotation of a Job that says what it is for.
pub const PURPOSE_ANNOTATION: &str = "timetracker.dev/purpose";
/// The annotation of a Job with the number of its attempt.
pub const ATTEMPT_ANNOTATION: &str = "timetracker.dev/attempt";
/// The annotation of the application's pods with their image's digest.
pub const DIGEST_ANNOTATION: &str = "timetracker.dev/digest";
/// The main container of every Job.
pub const MAIN_CONTAINER: &str = "job";
/// The application's container.
pub const APP_CONTAINER: &str = "timetracker";
/// The label that ties a Job's pod to it.
pub const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";
/// Component of the application's objects.
pub const APP_COMPONENT: &str = "app";
/// Component of the embedded database's objects.
pub const DATABASE_COMPONENT: &str = "database";
/// Key of the embedded database's URL in its Secret.
pub const DATABASE_URL_KEY: &str = "database-url";
/// Key of the embedded database's password in its Secret.
pub const PASSWORD_KEY: &str = "password";
/// Key of the app's SECRET_KEY in the generated Secret.
pub const SECRET_KEY_KEY: &str = "secret-key";

/// The label of children with their release's name.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// What selects the children to be watched: ControllerRevisions, Jobs, pods, Deployments, StatefulSets, Services,
/// ServiceAccounts, claims and Ingresses. Secrets are never watched. [`INSTANCE_LABEL`] names the release.
pub const CHILD_SELECTOR: &str =
    "app.kubernetes.io/managed-by=timetracker-operator,app.kubernetes.io/instance,!timetracker.dev/run";

/// The label selector of everything that belongs to a release.
#[must_use]
pub fn selector(release: &str) -> String {
    format!("{CHILD_SELECTOR},app.kubernetes.io/instance={release}")
}

/// The fixed labels of a component.
#[must_use]
pub fn labels(release: &str, component: &str) -> BTreeMap<String, String> {
    [("name", "timetracker"), ("instance", release), ("component", component), ("managed-by", "timetracker-operator")]
        .into_iter()
        .map(|(key, value)| (format!("app.kubernetes.io/{key}"), value.to_owned()))
        .collect()
}

/// The labels by which Services and workloads select a component's pods.
#[must_use]
pub fn pod_labels(release: &str, component: &str) -> BTreeMap<String, String> {
    [("instance", release), ("component", component)]
        .into_iter()
        .map(|(key, value)| (format!("app.kubernetes.io/{key}"), value.to_owned()))
        .collect()
}

/// The embedded database's StatefulSet, Service and Secret.
#[must_use]
pub fn postgres(release: &str) -> String {
    format!("{release}-postgres")
}

/// The embedded database's claim: what the StatefulSet makes of its template `data`.
#[must_use]
pub fn postgres_claim(release: &str) -> String {
    format!("data-{release}-postgres-0")
}

/// The generated Secret with the app's SECRET_KEY.
#[must_use]
pub fn secret_key(release: &str) -> String {
    format!("{release}-secret-key")
}

/// The claim for uploads.
#[must_use]
pub fn data_claim(release: &str) -> String {
    format!("{release}-data")
}

/// The ConfigMap with an image's schema contract.
#[must_use]
pub fn contract(release: &str, digest: &Digest) -> String {
    format!("{release}-contract-{}", digest.short())
}

/// The ConfigMap with the authorities that the pods of Jobs trust.
#[must_use]
pub fn trust(release: &str) -> String {
    format!("{release}-trusted-ca")
}

/// The ControllerRevision with that number.
#[must_use]
pub fn revision(release: &str, number: i64) -> String {
    format!("{release}-r{number}")
}

/// The Job for a purpose and attempt. The uid keeps a release of the same name apart.
#[must_use]
pub fn job(release: &str, uid: &str, purpose: &Purpose, attempt: u32) -> String {
    let identity = Digest::of(format!("{uid}/{}/{attempt}", purpose.as_text()).as_bytes());
    format!("{release}-{}-{}", purpose.component(), identity.hex().get(..10).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_names_fit() {
        let release = "a".repeat(40);
        let digest = Digest::of(b"x");
        let job = job(&release, "uid", &Purpose::InspectBack { revision: i64::MAX }, u32::MAX);
        let names = [job, contract(&release, &digest), postgres_claim(&release), revision(&release, i64::MAX)];
        for name in names {
            assert!(name.len() <= 63, "{name}");
        }
    }

    #[test]
    fn attempts_and_releases_have_their_own_jobs() {
        let purpose = Purpose::Migrate { revision: 3 };
        assert_eq!(job("a", "u", &purpose, 1), job("a", "u", &purpose, 1));
        assert_ne!(job("a", "u", &purpose, 1), job("a", "u", &purpose, 2));
        assert_ne!(job("a", "u", &purpose, 1), job("a", "v", &purpose, 1));
    }
}
