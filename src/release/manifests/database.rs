//! The embedded database: one Postgres 16 with its own volume, and the generated Secrets.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvVar, ExecAction, Lifecycle, LifecycleHandler,
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, Secret, Service, ServicePort, ServiceSpec, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::{Site, environment, hashed};
use crate::api::names::Digest;
use crate::api::release::{DeletionPolicy, EmbeddedDatabase};
use crate::cluster::{HASH_ANNOTATION, ManifestError};
use crate::release::names::{self, DATABASE_COMPONENT, DATABASE_URL_KEY, PASSWORD_KEY, SECRET_KEY_KEY};
use crate::release::observed::SecretState;
use crate::workload::{restricted_container, restricted_pod};

/// User and database inside the server.
const ACCOUNT: &str = "timetracker";
/// The user that the `postgres` image runs the server as.
const POSTGRES_UID: i64 = 999;
const DEFAULT_SIZE: &str = "10Gi";
/// Starts the server; a first start that was cut off is begun anew.
const START: &str = include_str!("postgres-start.sh");
/// Succeeds once the server is reached, and remembers that it was.
const STARTED: &str = include_str!("postgres-started.sh");

/// The generated Secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generated {
    /// Password and URL of the embedded database.
    Database,
    /// The app's SECRET_KEY.
    SecretKey,
}

/// Service and StatefulSet of the embedded database.
///
/// # Errors
/// When an object can't be written as JSON.
pub fn database(site: &Site<'_>, image: &str) -> Result<Vec<Value>, ManifestError> {
    let wanted = site.spec.database.as_ref().and_then(|database| database.embedded.clone()).unwrap_or_default();
    Ok(vec![hashed(&service(site))?, hashed(&stateful_set(site, &wanted, image))?])
}

/// The size that the embedded database's volume is to have.
#[must_use]
pub fn database_size(site: &Site<'_>) -> String {
    let embedded = site.spec.database.as_ref().and_then(|database| database.embedded.as_ref());
    let storage = embedded.and_then(|embedded| embedded.storage.as_ref());
    storage.and_then(|storage| storage.size.clone()).unwrap_or_else(|| DEFAULT_SIZE.to_owned())
}

/// A Secret that is made once and never replaced. `entropy` is fresh randomness.
#[must_use]
pub fn generated_secret(site: &Site<'_>, which: Generated, entropy: &[u8; 32]) -> Secret {
    let random = hex::encode(entropy);
    let text = |text: String| ByteString(text.into_bytes());
    let (name, component, data) = match which {
        Generated::Database => {
            let name = names::postgres(site.name);
            let url = format!("postgresql://{ACCOUNT}:{random}@{name}.{}:5432/{ACCOUNT}", site.namespace);
            let data = [(PASSWORD_KEY, text(random)), (DATABASE_URL_KEY, text(url))];
            (name, DATABASE_COMPONENT, BTreeMap::from(data.map(|(key, value)| (key.to_owned(), value))))
        }
        Generated::SecretKey => {
            let data = BTreeMap::from([(SECRET_KEY_KEY.to_owned(), text(random))]);
            (names::secret_key(site.name), names::APP_COMPONENT, data)
        }
    };
    // The same for every attempt, unlike the data: by it a lost answer is recognised as our own doing.
    let mark = Digest::of(format!("{}/{}/{name}", site.namespace, site.name).as_bytes());
    let mut metadata = site.data_metadata(&name, component);
    metadata.annotations = Some(BTreeMap::from([(HASH_ANNOTATION.to_owned(), mark.short().to_owned())]));
    Secret { metadata, type_: Some("Opaque".to_owned()), data: Some(data), ..Secret::default() }
}

/// How a generated Secret stands, from what the API server has of it.
#[must_use]
pub fn secret_state(secret: Option<&Secret>, keys: &[&str], uid: &str) -> SecretState {
    let Some(secret) = secret else {
        return SecretState::Absent;
    };
    let has =
        |key: &&str| secret.data.as_ref().and_then(|data| data.get(*key)).is_some_and(|value| !value.0.is_empty());
    if !keys.iter().all(has) {
        return SecretState::Incomplete;
    }
    let owned = secret.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid);
    SecretState::Present { owned }
}

fn service(site: &Site<'_>) -> Service {
    Service {
        metadata: site.metadata(&names::postgres(site.name), DATABASE_COMPONENT),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(names::pod_labels(site.name, DATABASE_COMPONENT)),
            ports: Some(vec![ServicePort {
                name: Some("postgres".to_owned()),
                port: 5432,
                target_port: Some(IntOrString::String("postgres".to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn stateful_set(site: &Site<'_>, wanted: &EmbeddedDatabase, image: &str) -> StatefulSet {
    let selector = names::pod_labels(site.name, DATABASE_COMPONENT);
    let mut labels = names::labels(site.name, DATABASE_COMPONENT);
    labels.extend(selector.clone());
    let when_deleted = match site.spec.deletion_policy {
        DeletionPolicy::Retain => "Retain",
        DeletionPolicy::Delete => "Delete",
    };
    StatefulSet {
        metadata: site.metadata(&names::postgres(site.name), DATABASE_COMPONENT),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(names::postgres(site.name)),
            selector: LabelSelector { match_labels: Some(selector), match_expressions: None },
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some(when_deleted.to_owned()),
                when_scaled: Some("Retain".to_owned()),
            }),
            volume_claim_templates: Some(vec![claim_template(site, wanted)]),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod(site, wanted, image)),
            },
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// Immutable once made: the size in it is that of the first time, growth patches the claim.
fn claim_template(site: &Site<'_>, wanted: &EmbeddedDatabase) -> PersistentVolumeClaim {
    let storage = wanted.storage.clone().unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            labels: Some(names::labels(site.name, DATABASE_COMPONENT)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.storage_class_name,
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    Quantity(storage.size.unwrap_or_else(|| DEFAULT_SIZE.to_owned())),
                )])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn scratch(name: &str) -> Volume {
    Volume { name: name.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

fn command(words: &[&str]) -> ExecAction {
    ExecAction { command: Some(words.iter().map(|word| (*word).to_owned()).collect()) }
}

fn password(site: &Site<'_>) -> EnvVar {
    let mut variable = environment::database_url(site);
    variable.name = "POSTGRES_PASSWORD".to_owned();
    if let Some(reference) = variable.value_from.as_mut().and_then(|source| source.secret_key_ref.as_mut()) {
        PASSWORD_KEY.clone_into(&mut reference.key);
    }
    variable
}

fn pod(site: &Site<'_>, wanted: &EmbeddedDatabase, image: &str) -> PodSpec {
    let amounts = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(what, amount)| ((*what).to_owned(), Quantity((*amount).to_owned()))).collect())
    };
    let resources = wanted.resources.clone().unwrap_or_else(|| ResourceRequirements {
        requests: amounts(&[("cpu", "100m"), ("memory", "256Mi")]),
        limits: amounts(&[("memory", "1Gi")]),
        claims: None,
    });
    let probe = |words: &[&str], period, failures| Probe {
        exec: Some(command(words)),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    let container = restricted_container(Container {
        name: "postgres".to_owned(),
        image: Some(image.to_owned()),
        env: Some(vec![
            environment::literal("PGDATA", "/var/lib/postgresql/data/pgdata"),
            environment::literal("POSTGRES_DB", ACCOUNT),
            password(site),
            environment::literal("POSTGRES_USER", ACCOUNT),
        ]),
        ports: Some(vec![ContainerPort {
            name: Some("postgres".to_owned()),
            container_port: 5432,
            ..ContainerPort::default()
        }]),
        command: Some(["sh", "-eu", "-c", START].map(ToOwned::to_owned).to_vec()),
        // A server in recovery must be left alone, however long it takes: a day to start, and no liveness probe.
        startup_probe: Some(probe(&["sh", "-eu", "-c", STARTED], 1, 86_400)),
        readiness_probe: Some(probe(&["pg_isready", "-q", "-h", "127.0.0.1", "-U", ACCOUNT, "-d", ACCOUNT], 5, 3)),
        // A fast stop, because the default one waits for clients that the application keeps.
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                exec: Some(command(&["pg_ctl", "stop", "-m", "fast", "-t", "50"])),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(resources),
        volume_mounts: Some(vec![
            mount("data", "/var/lib/postgresql/data"),
            mount("run", "/var/run/postgresql"),
            mount("tmp", "/tmp"),
        ]),
        ..Container::default()
    });
    let restricted = restricted_pod(
        PodSpec {
            containers: vec![container],
            volumes: Some(vec![scratch("run"), scratch("tmp")]),
            termination_grace_period_seconds: Some(60),
            ..PodSpec::default()
        },
        None,
    );
    PodSpec {
        restart_policy: Some("Always".to_owned()),
        security_context: Some(PodSecurityContext {
            run_as_user: Some(POSTGRES_UID),
            run_as_group: Some(POSTGRES_UID),
            fs_group: Some(POSTGRES_UID),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            ..restricted.security_context.unwrap_or_default()
        }),
        ..restricted
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// Runs a script with stand-ins for the image's programs: an entrypoint that tells, and a server that answers or not.
    fn run(script: &str, root: &Path, answers: bool) -> bool {
        let programs = root.join("bin");
        fs::create_dir_all(&programs).unwrap();
        let stand_in = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = programs.join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        stand_in(
            "docker-entrypoint.sh",
            "test \"$1\" = postgres && mkdir -p \"$PGDATA\" && echo 16 >\"$PGDATA/PG_VERSION\"",
        );
        stand_in("pg_isready", if answers { "exit 0" } else { "exit 2" });
        stand_in("sync", "exit 0");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-eu", "-c", script]).env("PATH", path).env("PGDATA", root.join("pgdata"));
        shell.env("POSTGRES_USER", ACCOUNT).env("POSTGRES_DB", ACCOUNT).status().unwrap().success()
    }

    #[test]
    fn a_first_start_that_was_cut_off_is_begun_anew_and_a_database_that_answered_never() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let table = root.join("pgdata/table");
        assert!(run(START, root, false));
        fs::write(&table, "half of it").unwrap();
        assert!(!run(STARTED, root, false), "it does not answer yet");
        assert!(run(START, root, false));
        assert!(!table.exists(), "the first start was cut off");
        assert!(run(STARTED, root, true));
        fs::write(&table, "a site's").unwrap();
        assert!(run(START, root, false) && run(START, root, false));
        assert_eq!(fs::read_to_string(&table).unwrap(), "a site's");
    }

    #[test]
    fn a_database_from_before_the_mark_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("pgdata");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("PG_VERSION"), "16\n").unwrap();
        fs::write(data.join("table"), "a site's").unwrap();
        assert!(run(START, folder.path(), false) && run(START, folder.path(), false));
        assert!(data.join("table").exists() && !folder.path().join("pgdata.unfinished").exists());
    }
}
