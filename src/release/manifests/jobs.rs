//! The Jobs of a delivery: contract, inspection, migration.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar, LocalObjectReference, PodSpec,
    ResourceRequirements, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Site, environment};
use crate::api::names::Digest;
use crate::api::pod::PodOptions;
use crate::cluster::HASH_ANNOTATION;
use crate::release::names::{self, ATTEMPT_ANNOTATION, MAIN_CONTAINER, PURPOSE_ANNOTATION};
use crate::release::observed::{Purpose, Settings};
use crate::release::revision::Target;
use crate::workload::{
    JobParts, network_variables, restricted_container, restricted_pod, trust_config_map, trust_mount, trust_volume,
};

const AGENT_FOLDER: &str = "/timetracker/bin";
const AGENT: &str = "/timetracker/bin/timetracker-agent";
const CONTRACT_FOLDER: &str = "/timetracker/contracts";
/// Key of the contract in its ConfigMap.
pub(in crate::release) const CONTRACT_KEY: &str = "contract.json";
/// Over the command's own timeout: waiting for the server and for the lock, checks before and after.
const NET_SECONDS: u64 = 600;

/// One Job to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct JobOrder {
    /// What it is for.
    pub purpose: Purpose,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The image it is about.
    pub target: Target,
    /// Images whose contracts are held against the database.
    pub contracts: Vec<Digest>,
    /// The application's environment, as the revision has it.
    pub environment: Vec<EnvVar>,
}

/// The Job of `order`.
#[must_use]
pub fn job(site: &Site<'_>, uid: &str, settings: &Settings, order: &JobOrder) -> Job {
    let name = names::job(site.name, uid, &order.purpose, order.attempt);
    let mut options = site.spec.pod.clone().unwrap_or_default();
    if let Some(secret) = &site.spec.image.pull_secret_ref {
        options.image_pull_secrets.push(LocalObjectReference::from(secret));
    }
    let (main, init) = match &order.purpose {
        Purpose::Contract(_) => (contract(order), Some(install(settings))),
        Purpose::Inspect { .. } | Purpose::InspectBack { .. } => (inspect(site, settings, order), None),
        Purpose::Migrate { .. } => (migrate(site, order), Some(install(settings))),
    };
    let (mut main, mut volumes) = with_mounts(site, order, main, init.is_some());
    main.resources = Some(options.resources.clone().unwrap_or_else(default_resources));
    add_network(&mut main, &mut volumes, site, settings);
    add_volumes(&mut main, &mut volumes, &options);
    let restricted = restricted_pod(
        PodSpec {
            init_containers: init.map(|init| vec![restricted_container(init)]),
            containers: vec![restricted_container(main)],
            volumes: Some(volumes),
            active_deadline_seconds: i64::try_from(deadline(site, order)).ok(),
            // The agent ends the command and records how it ended.
            termination_grace_period_seconds: Some(60),
            ..PodSpec::default()
        },
        Some(&options),
    );
    let mut labels = options.labels.clone();
    labels.extend(names::labels(site.name, order.purpose.component()));
    let mut annotations = options.annotations;
    annotations.extend([
        (PURPOSE_ANNOTATION.to_owned(), order.purpose.as_text()),
        (ATTEMPT_ANNOTATION.to_owned(), order.attempt.to_string()),
        (HASH_ANNOTATION.to_owned(), Digest::of(name.as_bytes()).short().to_owned()),
    ]);
    crate::workload::job(JobParts {
        name,
        namespace: site.namespace.to_owned(),
        labels,
        annotations,
        owner: site.owner.cloned(),
        pod: restricted,
    })
}

fn deadline(site: &Site<'_>, order: &JobOrder) -> u64 {
    match order.purpose {
        Purpose::Contract(_) | Purpose::Inspect { .. } | Purpose::InspectBack { .. } => NET_SECONDS,
        Purpose::Migrate { .. } => migration_timeout(site).saturating_add(NET_SECONDS),
    }
}

fn migration_timeout(site: &Site<'_>) -> u64 {
    let timeout = site.spec.migration.as_ref().and_then(|migration| migration.timeout.as_ref());
    timeout.map_or(1800, |timeout| timeout.length().as_secs().max(1))
}

fn default_resources() -> ResourceRequirements {
    let amounts = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(what, amount)| ((*what).to_owned(), Quantity((*amount).to_owned()))).collect())
    };
    ResourceRequirements {
        requests: amounts(&[("cpu", "50m"), ("memory", "128Mi")]),
        limits: amounts(&[("memory", "1Gi")]),
        claims: None,
    }
}

fn install(settings: &Settings) -> Container {
    Container {
        name: "agent".to_owned(),
        image: Some(settings.agent_image.clone()),
        command: Some(words(&["timetracker-agent", "install", AGENT_FOLDER])),
        volume_mounts: Some(vec![VolumeMount {
            name: "agent".to_owned(),
            mount_path: AGENT_FOLDER.to_owned(),
            ..VolumeMount::default()
        }]),
        resources: Some(ResourceRequirements {
            requests: Some(BTreeMap::from([("memory".to_owned(), Quantity("16Mi".to_owned()))])),
            limits: Some(BTreeMap::from([("memory".to_owned(), Quantity("128Mi".to_owned()))])),
            claims: None,
        }),
        ..Container::default()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn main_container(image: String, command: Vec<String>, env: Vec<EnvVar>) -> Container {
    Container {
        name: MAIN_CONTAINER.to_owned(),
        image: Some(image),
        command: Some(command),
        env: Some(env),
        ..Container::default()
    }
}

/// No secret and no database: the agent fills in what the app's code needs to be imported.
fn contract(order: &JobOrder) -> Container {
    let mut env = order.environment.clone();
    env.retain(|variable| variable.value_from.is_none());
    env.push(environment::literal("HOME", "/tmp"));
    let command = words(&[AGENT, "contract", "--", "python", "-"]);
    main_container(order.target.repository.at(&order.target.digest), command, writable_data(env))
}

/// The app's code makes its folders when it is imported; in a Job there is no data volume.
fn writable_data(mut env: Vec<EnvVar>) -> Vec<EnvVar> {
    for variable in &mut env {
        let folder = match variable.name.as_str() {
            "INSTALLATION_CONFIG_DIR" => "/tmp/data",
            "UPLOAD_FOLDER" => "/tmp/data/uploads",
            "BACKUP_FOLDER" => "/tmp/data/backups",
            _ => continue,
        };
        variable.value = Some(folder.to_owned());
        variable.value_from = None;
    }
    env
}

fn inspect(site: &Site<'_>, settings: &Settings, order: &JobOrder) -> Container {
    let mut command = words(&["timetracker-agent", "database", "inspect", "--digest", order.target.digest.as_str()]);
    for digest in &order.contracts {
        command.push("--contract".to_owned());
        command.push(format!("{digest}={}", contract_file(digest)));
    }
    main_container(settings.agent_image.clone(), command, vec![environment::migration_database_url(site)])
}

fn migrate(site: &Site<'_>, order: &JobOrder) -> Container {
    let migration = site.spec.migration.clone().unwrap_or_default();
    let lock_timeout = migration.lock_timeout.map_or_else(|| "5s".to_owned(), |timeout| timeout.to_string());
    let timeout = migration.timeout.map_or_else(|| "30m".to_owned(), |timeout| timeout.to_string());
    let mut command = words(&[
        AGENT,
        "database",
        "migrate",
        "--digest",
        order.target.digest.as_str(),
        "--attempt",
        &order.attempt.to_string(),
        "--contract",
        &contract_file(&order.target.digest),
        "--timeout",
        &timeout,
        "--lock-timeout",
        &lock_timeout,
        "--bootstrap",
        "--",
    ]);
    if migration.command.is_empty() {
        command.extend(words(&["flask", "db", "upgrade", "heads"]));
    } else {
        // Kubelet would expand `$(X)` in a command.
        command.extend(migration.command.iter().map(|word| crate::workload::escape_env(word)));
    }
    let mut env = order.environment.clone();
    env.retain(|variable| !matches!(variable.name.as_str(), "DATABASE_URL" | "PGSSLROOTCERT"));
    env.push(environment::migration_database_url(site));
    env.push(environment::literal("HOME", "/tmp"));
    env.push(environment::literal("TT_BOOTSTRAP_MODE", "migrate"));
    main_container(order.target.repository.at(&order.target.digest), command, writable_data(env))
}

fn contract_file(digest: &Digest) -> String {
    format!("{CONTRACT_FOLDER}/{}/{CONTRACT_KEY}", digest.short())
}

/// The container with the agent, the contracts and the database's CA mounted, and the volumes for that.
fn with_mounts(site: &Site<'_>, order: &JobOrder, mut main: Container, agent: bool) -> (Container, Vec<Volume>) {
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    let mut add = |volume: Volume, mount_path: String, read_only: bool| {
        mounts.push(VolumeMount {
            name: volume.name.clone(),
            mount_path,
            read_only: read_only.then_some(true),
            ..VolumeMount::default()
        });
        volumes.push(volume);
    };
    if agent {
        let volume =
            Volume { name: "agent".to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
        add(volume, AGENT_FOLDER.to_owned(), true);
    }
    for digest in &order.contracts {
        let volume = Volume {
            name: format!("contract-{}", digest.short()),
            config_map: Some(ConfigMapVolumeSource {
                name: names::contract(site.name, digest),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        };
        add(volume, format!("{CONTRACT_FOLDER}/{}", digest.short()), true);
    }
    let reads_database = !matches!(order.purpose, Purpose::Contract(_));
    if let Some((variable, volume, mount)) = environment::database_ca(site).filter(|_| reads_database) {
        main.env.get_or_insert_with(Vec::new).push(variable);
        volumes.push(volume);
        mounts.push(mount);
    }
    main.volume_mounts = Some(mounts);
    (main, volumes)
}

/// The authorities that the release's Jobs trust, when there are others than the public ones.
#[must_use]
pub fn trust(site: &Site<'_>, settings: &Settings) -> Option<ConfigMap> {
    let bundle = settings.trusted_ca.as_deref()?;
    Some(trust_config_map(site.metadata(&names::trust(site.name), "trust"), bundle))
}

/// Proxy and authorities; what the values set themselves wins.
fn add_network(main: &mut Container, volumes: &mut Vec<Volume>, site: &Site<'_>, settings: &Settings) {
    let env = main.env.get_or_insert_with(Vec::new);
    let mut network = network_variables(&settings.proxy, settings.trusted_ca.is_some());
    network.retain(|variable| !env.iter().any(|own| own.name == variable.name));
    env.extend(network);
    if settings.trusted_ca.is_some() {
        main.volume_mounts.get_or_insert_with(Vec::new).push(trust_mount());
        volumes.push(trust_volume(&names::trust(site.name)));
    }
}

/// The user's own volumes, at their own places.
fn add_volumes(main: &mut Container, volumes: &mut Vec<Volume>, options: &PodOptions) {
    for wanted in &options.volumes {
        let name = format!("user-{}", wanted.name);
        main.volume_mounts.get_or_insert_with(Vec::new).push(VolumeMount {
            name: name.clone(),
            mount_path: wanted.mount_path.clone(),
            read_only: wanted.read_only.then_some(true),
            ..VolumeMount::default()
        });
        volumes.push(Volume {
            name,
            empty_dir: wanted.empty_dir.clone(),
            config_map: wanted.config_map.clone(),
            secret: wanted.secret.clone(),
            persistent_volume_claim: wanted.persistent_volume_claim.clone(),
            ..Volume::default()
        });
    }
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
