//! GitHub's REST API: a client that is built only from credentials that were checked.
//!
//! `octocrab` panics on a token that is no header value, and with its `retry` feature repeats every failed request,
//! POST included. Tokens are therefore checked first, and the feature is left out of the build: nothing is ever sent
//! twice unless the caller decides to.

use std::fmt;
use std::time::Duration;

use octocrab::Octocrab;
use octocrab::models::{AppId, InstallationId, RateLimit};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

/// GitHub's own API, for installations that name no other.
pub const DEFAULT_API_URL: &str = "https://api.github.com";

const MAX_TOKEN: usize = 4096;
const MAX_PRIVATE_KEY: usize = 64 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How requests to GitHub authenticate.
#[derive(Clone)]
pub enum GitHubCredentials {
    /// A personal access token or a workflow's token.
    Token(SecretString),
    /// An installation of a GitHub App.
    App {
        /// The App's number.
        app_id: u64,
        /// The number of its installation at the account that owns the repositories.
        installation_id: u64,
        /// The App's RSA key as PEM.
        private_key: SecretString,
    },
}

impl fmt::Debug for GitHubCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.identity().to_string())
    }
}

impl GitHubCredentials {
    fn identity(&self) -> Identity {
        match self {
            Self::Token(_) => Identity::Token,
            Self::App { app_id, installation_id, .. } => {
                Identity::Installation { app_id: *app_id, installation_id: *installation_id }
            }
        }
    }
}

/// Which GitHub, and as whom.
#[derive(Debug, Clone)]
pub struct GitHubConfig {
    /// The API's root: `https://api.github.com`, or `https://<host>/api/v3` of an own server.
    pub api_url: String,
    /// As whom.
    pub credentials: GitHubCredentials,
    /// Whether plain http to this machine is taken, as tests need it.
    pub allow_http_to_loopback: bool,
    /// How long one request may take; nothing for 30 seconds.
    pub request_timeout: Option<Duration>,
}

/// As whom a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Whoever the token belongs to.
    Token,
    /// An installation of an App.
    Installation {
        /// The App's number.
        app_id: u64,
        /// The installation's number.
        installation_id: u64,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token => f.write_str("access token"),
            Self::Installation { app_id, installation_id } => {
                write!(f, "App {app_id}, installation {installation_id}")
            }
        }
    }
}

/// What GitHub says about valid credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validated {
    /// As whom the client speaks.
    pub identity: Identity,
    /// Requests allowed per hour.
    pub limit: u64,
    /// Requests left in this hour.
    pub remaining: u64,
    /// When the hour ends.
    pub reset: Option<jiff::Timestamp>,
}

/// What went wrong with GitHub. Messages hold neither credentials nor text that the server chose.
#[derive(Debug, thiserror::Error)]
pub enum GitHubError {
    /// The API's root is not a URL that may be used.
    #[error("the GitHub API URL can't be used: {0}. Expected https://api.github.com or https://<host>/api/v3")]
    ApiUrl(&'static str),
    /// The token can't be one.
    #[error("the GitHub token {0}. Write the Secret again with the token alone")]
    Token(&'static str),
    /// The App's key is no RSA key in PEM form.
    #[error("the GitHub App's private key is not an RSA key in PEM form. Download it again from the App's settings")]
    PrivateKey,
    /// The client could not be set up.
    #[error("the GitHub client could not be set up; check the system's certificates")]
    Client,
    /// No usable answer: name, connection, TLS, timeout, or GitHub's own failure (5xx).
    #[error("GitHub could not be reached: {0}. It is tried again; check the API URL and the network")]
    Unreachable(String),
    /// 401.
    #[error("GitHub does not accept the credentials of the {0}. Check that they are not expired or revoked")]
    Unauthorized(Identity),
    /// 403 without a rate limit.
    #[error("GitHub denies access to the {0}. Check its permissions")]
    Forbidden(Identity),
    /// 404.
    #[error("GitHub does not know the {0} at this API URL. Check the API URL, the App's and the installation's number")]
    NotFound(Identity),
    /// 403 or 429 with the rate limit used up.
    #[error("GitHub's rate limit for the {identity} is used up. It is tried again when the hour ends")]
    RateLimited {
        /// As whom the client speaks.
        identity: Identity,
        /// When requests are allowed again, as far as GitHub says.
        reset: Option<jiff::Timestamp>,
    },
    /// An answer that is not what GitHub's documentation says.
    #[error("GitHub's answer is not valid. Check that the API URL is GitHub's")]
    InvalidResponse,
}

impl GitHubError {
    /// One static word for the condition's reason and the metric's label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ApiUrl(_) => "GitHubApiUrlInvalid",
            Self::Token(_) => "GitHubTokenInvalid",
            Self::PrivateKey => "GitHubPrivateKeyInvalid",
            Self::Client => "GitHubClientFailed",
            Self::Unreachable(_) => "GitHubUnreachable",
            Self::Unauthorized(_) => "GitHubUnauthorized",
            Self::Forbidden(_) => "GitHubForbidden",
            Self::NotFound(_) => "GitHubNotFound",
            Self::RateLimited { .. } => "GitHubRateLimited",
            Self::InvalidResponse => "GitHubInvalidResponse",
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::RateLimited { .. } => true,
            Self::ApiUrl(_)
            | Self::Token(_)
            | Self::PrivateKey
            | Self::Client
            | Self::Unauthorized(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::InvalidResponse => false,
        }
    }
}

/// A client for one GitHub and one identity. Cheap to clone.
#[derive(Clone)]
pub struct GitHubClient {
    client: Octocrab,
    identity: Identity,
    request_timeout: Duration,
}

impl fmt::Debug for GitHubClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHubClient").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl GitHubClient {
    /// A client from checked parts; sends nothing. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// When the API URL, the token or the private key can't be used.
    pub fn new(config: &GitHubConfig) -> Result<Self, GitHubError> {
        let api_url = check_api_url(&config.api_url, config.allow_http_to_loopback)?;
        let request_timeout = config.request_timeout.unwrap_or(REQUEST_TIMEOUT);
        let builder = Octocrab::builder()
            .base_uri(api_url.as_str())
            .and_then(|builder| builder.upload_uri(api_url.as_str()))
            .map_err(|_| GitHubError::ApiUrl("it is malformed"))?
            .set_connect_timeout(Some(CONNECT_TIMEOUT.min(request_timeout)))
            .set_read_timeout(Some(request_timeout))
            .set_write_timeout(Some(request_timeout));
        let client = match &config.credentials {
            GitHubCredentials::Token(token) => builder.personal_token(check_token(token)?).build(),
            GitHubCredentials::App { app_id, installation_id, private_key } => {
                let pem = private_key.expose_secret().as_bytes();
                if pem.len() > MAX_PRIVATE_KEY {
                    return Err(GitHubError::PrivateKey);
                }
                let key = octocrab::EncodingKey::from_rsa_pem(pem).map_err(|_| GitHubError::PrivateKey)?;
                builder
                    .app(AppId(*app_id), key)
                    .build()
                    .and_then(|app| app.installation(InstallationId(*installation_id)))
            }
        };
        let client = client.map_err(|_| GitHubError::Client)?;
        Ok(Self { client, identity: config.credentials.identity(), request_timeout })
    }

    /// As whom this client speaks.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Asks GitHub whether the credentials are good, by a request that costs nothing of the rate limit.
    ///
    /// # Errors
    /// When they are not, or GitHub can't be asked.
    pub async fn validate(&self) -> Result<Validated, GitHubError> {
        // For an App this covers two requests: the installation's token is made first.
        let answer: RateLimit = tokio::time::timeout(self.request_timeout, self.client.ratelimit().get())
            .await
            .map_err(|_| self.out_of_time())?
            .map_err(|error| self.failed(error))?;
        let core = answer.resources.core;
        Ok(Validated {
            identity: self.identity,
            limit: core.limit as u64,
            remaining: core.remaining as u64,
            reset: timestamp(core.reset),
        })
    }

    fn out_of_time(&self) -> GitHubError {
        GitHubError::Unreachable(format!("no complete answer within {} s", self.request_timeout.as_secs_f32()))
    }

    /// Only the status is taken from an error answer: its text and headers are the server's choice.
    #[allow(clippy::wildcard_enum_match_arm, reason = "octocrab's error is non-exhaustive")]
    fn failed(&self, error: octocrab::Error) -> GitHubError {
        match error {
            octocrab::Error::GitHub { source, .. } => {
                let has_none_left = source
                    .headers
                    .as_ref()
                    .and_then(|headers| headers.get("x-ratelimit-remaining"))
                    .is_some_and(|left| left == "0");
                match source.status_code.as_u16() {
                    401 => GitHubError::Unauthorized(self.identity),
                    status @ (403 | 429) if status == 429 || has_none_left => GitHubError::RateLimited {
                        identity: self.identity,
                        reset: source.rate_limit_reset.and_then(timestamp),
                    },
                    403 => GitHubError::Forbidden(self.identity),
                    404 => GitHubError::NotFound(self.identity),
                    status @ 500.. => GitHubError::Unreachable(format!("it answered with status {status}")),
                    _ => GitHubError::InvalidResponse,
                }
            }
            octocrab::Error::JWT { .. } => GitHubError::PrivateKey,
            octocrab::Error::Json { .. } | octocrab::Error::Serde { .. } | octocrab::Error::InvalidUtf8 { .. } => {
                GitHubError::InvalidResponse
            }
            other => {
                let mut cause: &dyn std::error::Error = &other;
                while let Some(source) = cause.source() {
                    cause = source;
                }
                GitHubError::Unreachable(cause.to_string().chars().filter(|c| !c.is_control()).take(200).collect())
            }
        }
    }
}

fn timestamp(seconds: u64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

fn check_token(token: &SecretString) -> Result<SecretString, GitHubError> {
    let token = token.expose_secret().trim();
    if token.is_empty() {
        Err(GitHubError::Token("is empty"))
    } else if token.len() > MAX_TOKEN {
        Err(GitHubError::Token("is longer than 4096 bytes"))
    } else if !token.bytes().all(|b| b.is_ascii_graphic()) {
        Err(GitHubError::Token("contains white space, a control character or a letter outside ASCII"))
    } else {
        Ok(token.to_owned().into())
    }
}

fn check_api_url(text: &str, allow_http_to_loopback: bool) -> Result<Url, GitHubError> {
    let url = Url::parse(text.trim()).map_err(|_| GitHubError::ApiUrl("it is malformed"))?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(GitHubError::ApiUrl("it has no host")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(GitHubError::ApiUrl("it has a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(GitHubError::ApiUrl("it has a query or fragment"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback && allow_http_to_loopback => Ok(url),
        _ => Err(GitHubError::ApiUrl("it is not https")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn config(token: &str) -> GitHubConfig {
        GitHubConfig {
            api_url: DEFAULT_API_URL.to_owned(),
            credentials: GitHubCredentials::Token(token.to_owned().into()),
            allow_http_to_loopback: false,
            request_timeout: None,
        }
    }

    #[rstest]
    #[case("")]
    #[case(" \n")]
    #[case("ghp_a\nX-Evil: 1")]
    #[case("ghp_a b")]
    #[case("ghp_\u{0}")]
    #[case("ghp_é")]
    #[tokio::test]
    async fn a_token_that_cannot_be_a_header_is_refused_without_panic(#[case] token: &str) {
        let error = GitHubClient::new(&config(token)).unwrap_err();
        assert_eq!(error.reason(), "GitHubTokenInvalid");
    }

    #[tokio::test]
    async fn a_token_with_a_trailing_newline_is_taken() {
        assert!(GitHubClient::new(&config("ghp_canary\n")).is_ok());
    }

    #[rstest]
    #[case("https://api.github.com", true)]
    #[case("https://github.example/api/v3", true)]
    #[case("http://api.github.com", false)]
    #[case("http://127.0.0.1:1", false)]
    #[case("https://user:pw@api.github.com", false)]
    #[case("https://api.github.com/?x=1", false)]
    #[case("file:///etc/passwd", false)]
    #[case("api.github.com", false)]
    fn the_api_is_reached_over_https_only(#[case] url: &str, #[case] expected: bool) {
        assert_eq!(check_api_url(url, false).is_ok(), expected);
    }

    #[test]
    fn plain_http_is_for_this_machine_only_and_when_allowed() {
        assert!(check_api_url("http://127.0.0.1:1", true).is_ok());
        assert!(check_api_url("http://api.github.com", true).is_err());
    }

    #[tokio::test]
    async fn a_private_key_that_is_none_is_refused() {
        let credentials = GitHubCredentials::App { app_id: 1, installation_id: 2, private_key: "no key".into() };
        let error = GitHubClient::new(&GitHubConfig { credentials, ..config("") }).unwrap_err();
        assert_eq!(error.reason(), "GitHubPrivateKeyInvalid");
    }

    #[test]
    fn debug_output_shows_no_token() {
        assert!(!format!("{:?}", config("ghp_canary")).contains("canary"));
    }
}
