//! The application's environment: what its code needs, in one place for web server, migration and contract.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapKeySelector, EnvVar, EnvVarSource, KeyToPath, SecretKeySelector, SecretVolumeSource, Volume, VolumeMount,
};

use super::Site;
use crate::api::pod::{EnvironmentVariable, SecretSource};
use crate::api::values::Values;
use crate::release::names;
use crate::workload::escape_env;

const CA_FOLDER: &str = "/timetracker/ca";
const CA_FILE: &str = "/timetracker/ca/ca.crt";

/// A variable with a literal value, which kubelet does not expand.
pub(super) fn literal(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(escape_env(value)), value_from: None }
}

fn from_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.to_owned(),
                key: key.to_owned(),
                optional: Some(false),
            }),
            ..EnvVarSource::default()
        }),
    }
}

fn from_source(name: &str, source: &SecretSource) -> EnvVar {
    from_secret(name, &source.secret_key_ref.name, &source.secret_key_ref.key)
}

fn from_values(variable: &EnvironmentVariable) -> EnvVar {
    let Some(source) = &variable.value_from else {
        return literal(&variable.name, variable.value.as_deref().unwrap_or_default());
    };
    if let Some(secret) = &source.secret_key_ref {
        return from_secret(&variable.name, &secret.name, &secret.key);
    }
    let config_map = source.config_map_key_ref.clone().unwrap_or_default();
    EnvVar {
        name: variable.name.clone(),
        value: None,
        value_from: Some(EnvVarSource {
            config_map_key_ref: Some(ConfigMapKeySelector {
                name: config_map.name,
                key: config_map.key,
                optional: Some(false),
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// `DATABASE_URL` as the application sees it.
pub(super) fn database_url(site: &Site<'_>) -> EnvVar {
    match site.spec.database.as_ref().and_then(|database| database.url_from.as_ref()) {
        Some(source) => from_source("DATABASE_URL", source),
        None => from_secret("DATABASE_URL", &names::postgres(site.name), names::DATABASE_URL_KEY),
    }
}

/// `DATABASE_URL` for migrations and inspections.
pub(super) fn migration_database_url(site: &Site<'_>) -> EnvVar {
    match site.spec.database.as_ref().and_then(|database| database.migration_url_from.as_ref()) {
        Some(source) => from_source("DATABASE_URL", source),
        None => database_url(site),
    }
}

/// `SECRET_KEY`.
pub(super) fn secret_key(site: &Site<'_>) -> EnvVar {
    match &site.spec.secret_key_from {
        Some(source) => from_source("SECRET_KEY", source),
        None => from_secret("SECRET_KEY", &names::secret_key(site.name), names::SECRET_KEY_KEY),
    }
}

/// The CA of the database's server, when the release names one: variable, volume and mount.
pub(super) fn database_ca(site: &Site<'_>) -> Option<(EnvVar, Volume, VolumeMount)> {
    let source = site.spec.database.as_ref()?.ca_from.as_ref()?;
    let volume = Volume {
        name: "database-ca".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(source.secret_key_ref.name.clone()),
            items: Some(vec![KeyToPath {
                key: source.secret_key_ref.key.clone(),
                path: "ca.crt".to_owned(),
                mode: None,
            }]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mount = VolumeMount {
        name: "database-ca".to_owned(),
        mount_path: CA_FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    Some((literal("PGSSLROOTCERT", CA_FILE), volume, mount))
}

/// Everything but the database, sorted by name; the values' own variables win over the defaults.
pub(super) fn application(site: &Site<'_>, values: &Values, version: &str) -> Vec<EnvVar> {
    let plain_http = values.url.as_deref().is_some_and(|url| url.starts_with("http://"));
    let admins = values.admin.as_ref().map(|admin| admin.usernames.join(",")).filter(|names| !names.is_empty());
    let mut variables: BTreeMap<String, EnvVar> = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        variables.insert(name.to_owned(), literal(name, value));
    };
    set("FLASK_APP", "app");
    set("FLASK_ENV", "production");
    set("APP_VERSION", version);
    set("TZ", values.timezone.as_deref().unwrap_or("Europe/Rome"));
    set("CURRENCY", values.currency.as_deref().unwrap_or("EUR"));
    set("ADMIN_USERNAMES", admins.as_deref().unwrap_or("admin"));
    set("INSTALLATION_CONFIG_DIR", "/data");
    set("UPLOAD_FOLDER", "/data/uploads");
    set("BACKUP_FOLDER", "/data/backups");
    set("REDIS_ENABLED", "false");
    if plain_http {
        set("PREFERRED_URL_SCHEME", "http");
        set("SESSION_COOKIE_SECURE", "false");
        set("WTF_CSRF_SSL_STRICT", "false");
    } else if values.url.is_some() {
        set("PREFERRED_URL_SCHEME", "https");
    }
    for variable in &values.env {
        variables.insert(variable.name.clone(), from_values(variable));
    }
    // Last, so that nothing overrides it: the app's own start script drops tables of databases it takes for corrupted.
    variables.insert("TT_SKIP_DB_CLEANUP".to_owned(), literal("TT_SKIP_DB_CLEANUP", "true"));
    variables.insert("SECRET_KEY".to_owned(), secret_key(site));
    variables.into_values().collect()
}
