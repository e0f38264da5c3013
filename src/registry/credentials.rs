//! Credentials for a registry: read from Secrets, bounded, never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::api::names::Repository;

/// The largest docker configuration that is read: the size limit of a Secret.
const MAX_DOCKER_CONFIG: usize = 1 << 20;
/// The longest user name or password.
const MAX_FIELD: usize = 16 << 10;

/// How requests to a registry authenticate.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// Without an account. Registries with a token service still hand out a token.
    #[default]
    Anonymous,
    /// With an account's name and its password or access token.
    Basic {
        /// The account. Registries that take access tokens (GHCR) ignore it.
        username: String,
        /// Its password or access token.
        password: SecretString,
    },
}

/// Whose credentials these are: an opaque text that changes when they do, such as a Secret's uid and resource version.
/// What was learnt with one set of credentials is never used for another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialKey(Arc<str>);

impl CredentialKey {
    /// The key of requests without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self("".into())
    }

    /// The key of the credentials in a Secret.
    #[must_use]
    pub fn of_secret(uid: &str, resource_version: &str) -> Self {
        Self(format!("{uid}/{resource_version}").into())
    }
}

/// Credentials together with their identity.
#[derive(Debug, Clone)]
pub struct Access {
    /// What to authenticate with.
    pub credentials: Credentials,
    /// Whose they are.
    pub key: CredentialKey,
}

impl Access {
    /// Access without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { credentials: Credentials::Anonymous, key: CredentialKey::anonymous() }
    }

    /// Access with the credentials of one Secret.
    #[must_use]
    pub fn with(credentials: Credentials, key: CredentialKey) -> Self {
        Self { credentials, key }
    }
}

/// Why a Secret's content is not a credential. Never says what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// More bytes than a Secret can have.
    #[error("the pull secret is larger than 1 MiB")]
    TooLarge,
    /// Not the JSON that `kubectl create secret docker-registry` writes.
    #[error(
        "the pull secret's .dockerconfigjson is not valid: expected {{\"auths\": {{\"<host>\": {{\"auth\": \"…\"}}}}}}"
    )]
    NotDockerConfig,
    /// The host's entry has neither `auth` nor `username` and `password`.
    #[error("the pull secret's entry for the host has neither `auth` nor `username` and `password`")]
    EmptyEntry,
    /// `auth` is not base64 of `username:password`.
    #[error("the pull secret's `auth` is not base64 of username:password")]
    BadAuth,
    /// Identity tokens are written by a login against one machine's credential helper.
    #[error("the pull secret holds an identity token, which is not supported: use user name and access token")]
    IdentityToken,
    /// A line break or control character: mostly a file written with a trailing newline.
    #[error("the pull secret's {0} contains a line break or control character: write the secret again without it")]
    ControlCharacter(&'static str),
    /// Nothing in it, or more than 16 KiB.
    #[error("the pull secret's {0} is empty or longer than 16 KiB")]
    Length(&'static str),
}

impl CredentialError {
    /// One static word for the condition's reason and the metric's label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        "PullSecretInvalid"
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
    identitytoken: Option<SecretString>,
}

impl Credentials {
    /// Credentials from an account's name and password.
    ///
    /// # Errors
    /// When one of them is empty, too long, or has a control character; a colon in the name.
    pub fn basic(username: &str, password: SecretString) -> Result<Self, CredentialError> {
        check("user name", username)?;
        check("password", password.expose_secret())?;
        if username.contains(':') {
            return Err(CredentialError::BadAuth);
        }
        Ok(Self::Basic { username: username.to_owned(), password })
    }

    /// Credentials from an access token alone, as GHCR takes them. White space around it is dropped.
    ///
    /// # Errors
    /// When it is empty, too long, or has a control character inside.
    pub fn token(token: &SecretString) -> Result<Self, CredentialError> {
        let token = token.expose_secret().trim();
        check("token", token)?;
        Ok(Self::Basic { username: "x-access-token".to_owned(), password: token.to_owned().into() })
    }

    /// The credentials for `repository`'s host in the bytes of a Secret's `.dockerconfigjson`; anonymous without entry.
    ///
    /// An entry counts when it names exactly the host (and port), bare or as URL (`https://host/v1/`), or the host with a
    /// path that the repository lies under; the longest such path wins.
    ///
    /// # Errors
    /// When the bytes are no docker configuration or the host's entry can't be used.
    pub fn from_docker_config(bytes: &[u8], repository: &Repository) -> Result<Self, CredentialError> {
        if bytes.len() > MAX_DOCKER_CONFIG {
            return Err(CredentialError::TooLarge);
        }
        let config: DockerConfig = serde_json::from_slice(bytes).map_err(|_| CredentialError::NotDockerConfig)?;
        let best = config
            .auths
            .iter()
            .filter_map(|(key, entry)| matched_length(key, repository).map(|length| (length, entry)))
            .max_by_key(|(length, _)| *length);
        best.map_or(Ok(Self::Anonymous), |(_, entry)| entry.credentials())
    }
}

impl Entry {
    fn credentials(&self) -> Result<Credentials, CredentialError> {
        if let Some(auth) = self.auth.as_ref().filter(|auth| !auth.expose_secret().is_empty()) {
            // Docker writes padding, other tools leave it away.
            let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
            let decoded = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient)
                .decode(auth.expose_secret().trim())
                .map_err(|_| CredentialError::BadAuth)?;
            let decoded: SecretString = String::from_utf8(decoded).map_err(|_| CredentialError::BadAuth)?.into();
            let (username, password) = decoded.expose_secret().split_once(':').ok_or(CredentialError::BadAuth)?;
            return Credentials::basic(username, password.to_owned().into());
        }
        match (&self.username, &self.password) {
            (Some(username), Some(password)) => Credentials::basic(username, password.clone()),
            _ if self.identitytoken.is_some() => Err(CredentialError::IdentityToken),
            _ => Err(CredentialError::EmptyEntry),
        }
    }
}

fn check(field: &'static str, text: &str) -> Result<(), CredentialError> {
    if text.is_empty() || text.len() > MAX_FIELD {
        Err(CredentialError::Length(field))
    } else if text.chars().any(char::is_control) {
        Err(CredentialError::ControlCharacter(field))
    } else {
        Ok(())
    }
}

/// How many characters of the repository's path the entry `key` names, or nothing if it is for somewhere else.
fn matched_length(key: &str, repository: &Repository) -> Option<usize> {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let is_hub = |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    if host != repository.host() && !(is_hub(host) && is_hub(repository.host())) {
        return None;
    }
    let path = path.trim_end_matches('/');
    let is_whole_host = matches!(path, "" | "v1" | "v2");
    if is_whole_host {
        return Some(0);
    }
    let rest = repository.path().strip_prefix(path)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(path.len())
}

impl fmt::Display for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "anonymous" } else { &self.0 })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn repository() -> Repository {
        "ghcr.io/drytrix/timetracker".parse().unwrap()
    }

    fn read(json: &str) -> Result<Option<(String, String)>, CredentialError> {
        Ok(match Credentials::from_docker_config(json.as_bytes(), &repository())? {
            Credentials::Anonymous => None,
            Credentials::Basic { username, password } => Some((username, password.expose_secret().to_owned())),
        })
    }

    #[rstest]
    #[case("ghcr.io")]
    #[case("https://ghcr.io")]
    #[case("https://ghcr.io/v1/")]
    #[case("https://ghcr.io/v2/")]
    #[case("ghcr.io/drytrix")]
    fn the_entry_of_the_host_is_found_in_every_spelling(#[case] key: &str) {
        let json = format!(r#"{{"auths":{{"{key}":{{"auth":"dTpw"}}}}}}"#);
        assert_eq!(read(&json), Ok(Some(("u".to_owned(), "p".to_owned()))));
    }

    #[rstest]
    #[case("ghcr.io.evil.example")]
    #[case("ghcr.io:444")]
    #[case("xghcr.io")]
    #[case("ghcr.io/dry")]
    #[case("https://evil.example/ghcr.io")]
    fn an_entry_of_another_host_is_not_used(#[case] key: &str) {
        let json = format!(r#"{{"auths":{{"{key}":{{"auth":"dTpw"}}}}}}"#);
        assert_eq!(read(&json), Ok(None));
    }

    #[test]
    fn the_longest_path_wins() {
        let json = r#"{"auths":{"ghcr.io":{"auth":"dTpw"},"ghcr.io/drytrix":{"username":"team","password":"x"}}}"#;
        assert_eq!(read(json), Ok(Some(("team".to_owned(), "x".to_owned()))));
    }

    #[rstest]
    #[case("[]", CredentialError::NotDockerConfig)]
    #[case(r#"{"auths":{"ghcr.io":{}}}"#, CredentialError::EmptyEntry)]
    #[case(r#"{"auths":{"ghcr.io":{"auth":"!!"}}}"#, CredentialError::BadAuth)]
    #[case(r#"{"auths":{"ghcr.io":{"auth":"bm9jb2xvbg=="}}}"#, CredentialError::BadAuth)]
    #[case(r#"{"auths":{"ghcr.io":{"auth":"dTpwCg=="}}}"#, CredentialError::ControlCharacter("password"))]
    #[case(r#"{"auths":{"ghcr.io":{"identitytoken":"t"}}}"#, CredentialError::IdentityToken)]
    #[case(
        r#"{"auths":{"ghcr.io":{"username":"u","password":"a\nb"}}}"#,
        CredentialError::ControlCharacter("password")
    )]
    fn a_broken_pull_secret_is_refused_with_its_reason(#[case] json: &str, #[case] expected: CredentialError) {
        assert_eq!(read(json), Err(expected));
    }

    #[test]
    fn a_token_loses_its_trailing_newline_but_keeps_no_other() {
        match Credentials::token(&"ghp_abc\n".to_owned().into()).unwrap() {
            Credentials::Basic { password, .. } => assert_eq!(password.expose_secret(), "ghp_abc"),
            Credentials::Anonymous => panic!("a token is not anonymous"),
        }
        assert!(Credentials::token(&"ghp\nabc".to_owned().into()).is_err());
    }

    #[test]
    fn debug_output_shows_no_password() {
        let access = Access::with(
            Credentials::basic("u", "canary-password".to_owned().into()).unwrap(),
            CredentialKey::of_secret("uid", "1"),
        );
        assert!(!format!("{access:?}").contains("canary-password"));
    }
}
