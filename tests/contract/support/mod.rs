//! Fixtures: a programmable registry, images, and a reader for them.

mod image;
mod registry;
mod state;

use std::time::Duration;

pub(crate) use image::{ImageFixture, Variant};
pub(crate) use registry::TestRegistry;
pub(crate) use state::{Account, Fault, Seen};

use secrecy::SecretString;
use timetracker_operator::api::names::{Repository, Tag};
use timetracker_operator::registry::{
    Access, CredentialKey, Credentials, Limits, Platform, Registry, RegistryConfig, Timeouts,
};

/// The repository that most tests read, under its real name.
pub(crate) fn repository() -> Repository {
    "ghcr.io/drytrix/timetracker".parse().unwrap()
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

pub(crate) fn amd64() -> Platform {
    Platform::linux("amd64")
}

/// A configuration that reads `ghcr.io` from the address of a test registry.
pub(crate) fn config(address: &str) -> RegistryConfig {
    RegistryConfig {
        insecure: [address.to_owned()].into(),
        mirrors: [("ghcr.io".to_owned(), address.to_owned())].into(),
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(10),
            scan: Duration::from_secs(60),
        },
        limits: Limits::default(),
        ..RegistryConfig::default()
    }
}

pub(crate) fn reader(address: &str) -> Registry {
    Registry::new(config(address)).unwrap()
}

/// Access as an account whose Secret has this identity.
pub(crate) fn access(username: &str, password: &str, secret: &str) -> Access {
    let password = SecretString::from(password.to_owned());
    Access::with(Credentials::basic(username, password).unwrap(), CredentialKey::of_secret(secret, "1"))
}
