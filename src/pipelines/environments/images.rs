//! Images of environments in a registry: how pods of ours look them up and push them.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, KeyToPath, LocalObjectReference, SecretVolumeSource, Volume};

use super::super::definition::ImageStore;
use super::super::environment::network;
use super::super::pods;
use super::super::settings::Settings;
use crate::api::duration::Period;
use crate::workload::escape_env;

const VOLUME: &str = "timetracker-registry";
const DIRECTORY: &str = "/timetracker/registry";
const FILE: &str = "config.json";
/// In seconds.
const WEEK: i64 = 7 * 24 * 3600;
/// How long images are used after their last use when the repository does not say.
const RETENTION: Duration = Duration::from_secs(14 * 24 * 3600);
/// Each is a question to the registry where there is no image.
const MAX_WEEKS: u64 = 13;

/// Lets a container of ours, in which no foreign code runs, use the registry with the credentials of the repository.
///
/// Returns the volume that its pod needs for it. When they are `optional`, it goes on without.
pub(super) fn open(
    container: &mut Container,
    store: &ImageStore,
    settings: &Settings,
    now: Timestamp,
    optional: bool,
) -> Vec<Volume> {
    let registry = &settings.registry;
    let mut words = vec![format!("--images={}", store.repository)];
    words.extend([format!("--week={}", week(now)), format!("--weeks={}", weeks(store.retention.as_ref()))]);
    words.extend(registry.mirrors.iter().map(|(host, address)| format!("--mirror={host}={address}")));
    words.extend(registry.plain_http.iter().map(|address| format!("--plain-http={address}")));
    let hosts = registry.token_hosts.iter();
    words.extend(hosts.flat_map(|(host, all)| all.iter().map(move |further| format!("--token-host={host}={further}"))));
    if store.secret.is_some() {
        words.push(format!("--docker-config={DIRECTORY}/{FILE}"));
    }
    container.command.get_or_insert_default().extend(words.iter().map(|word| escape_env(word)));
    container.env.get_or_insert_default().extend(network(settings));
    let mounts = container.volume_mounts.get_or_insert_default();
    mounts.extend(pods::trust_mount(settings));
    let Some(secret) = &store.secret else { return Vec::new() };
    mounts.push(pods::read_only(pods::mount(VOLUME, DIRECTORY)));
    vec![volume(secret, optional)]
}

/// The number of the week, since 1970: what images are stamped with that a run has used.
///
/// The operator says it, so that no node with a wrong clock takes what is used for old.
fn week(now: Timestamp) -> i64 {
    now.as_second().div_euclid(WEEK)
}

/// For how many weeks before this one images are used.
fn weeks(retention: Option<&Period>) -> u64 {
    let length = retention.map_or(RETENTION, Period::length).as_secs().div_ceil(WEEK.unsigned_abs());
    length.clamp(1, MAX_WEEKS)
}

fn volume(secret: &str, optional: bool) -> Volume {
    let file = KeyToPath { key: ".dockerconfigjson".to_owned(), path: FILE.to_owned(), mode: None };
    let source = SecretVolumeSource {
        secret_name: Some(secret.to_owned()),
        items: Some(vec![file]),
        optional: Some(optional),
        // The group is the pods' own.
        default_mode: Some(0o440),
    };
    Volume { name: VOLUME.to_owned(), secret: Some(source), ..Volume::default() }
}

/// What kubelet needs for pulling them.
pub(super) fn pull_secret(store: Option<&ImageStore>) -> Option<LocalObjectReference> {
    Some(LocalObjectReference { name: store?.secret.clone()? })
}
