//! One bounded GET with authentication: the only place from which requests to registries leave.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::{Client, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::{Host, Url};

use super::address::{PublicAddressesOnly, is_public};
use super::challenge::{self, Challenge, authority, same_origin};
use super::config::RegistryConfig;
use super::credentials::{Access, CredentialKey, Credentials};
use super::error::{RegistryConfigError, RegistryError};
use super::lru::LeastRecentlyUsed;
use crate::api::names::Repository;

const MAX_REDIRECTS: usize = 3;
const MAX_TOKEN_ANSWER: usize = 64 << 10;
const MAX_TOKEN: usize = 16 << 10;
/// Tokens kept, one per address, credentials and repository.
const MAX_TOKENS: usize = 512;
/// How long a token lives whose service does not say (distribution's token specification).
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What is asked for: in words for errors, and how large the answer may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) repository: &'a Repository,
    pub(super) access: &'a Access,
    /// For "… does not exist".
    pub(super) subject: &'a str,
    /// For "… is larger than".
    pub(super) what: &'static str,
    pub(super) limit: usize,
}

impl Question<'_> {
    pub(super) fn invalid(&self, cause: impl Into<String>) -> RegistryError {
        RegistryError::InvalidResponse { repository: self.repository.to_string(), cause: cause.into() }
    }

    fn unauthorized(&self, cause: &'static str) -> RegistryError {
        RegistryError::Unauthorized { repository: self.repository.to_string(), cause }
    }

    fn unreachable(&self, cause: String) -> RegistryError {
        RegistryError::Unreachable { repository: self.repository.to_string(), cause }
    }

    fn refused(&self, host: String, cause: &'static str) -> RegistryError {
        RegistryError::RefusedAddress { repository: self.repository.to_string(), host, cause }
    }
}

/// A complete answer with status 200.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    address: String,
    credentials: CredentialKey,
    path: String,
}

#[derive(Debug, Clone)]
struct Authorization {
    /// Marked sensitive: Debug output does not show it.
    header: HeaderValue,
    expires: Instant,
}

/// Sends requests and keeps tokens; cheap to share.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) config: RegistryConfig,
    /// For hosts that a person named.
    named: Client,
    /// For hosts that a registry named in a redirect.
    elsewhere: Client,
    tokens: Mutex<LeastRecentlyUsed<TokenKey, Authorization>>,
}

impl Transport {
    pub(super) fn new(config: RegistryConfig) -> Result<Self, RegistryConfigError> {
        config.validate()?;
        let named = config.client()?.build().map_err(RegistryConfigError::Client)?;
        let elsewhere = config
            .client()?
            .dns_resolver(Arc::new(PublicAddressesOnly))
            .build()
            .map_err(RegistryConfigError::Client)?;
        let tokens = Mutex::new(LeastRecentlyUsed::new(MAX_TOKENS));
        Ok(Self { config, named, elsewhere, tokens })
    }

    /// The URL that `/v2/<path>/<rest>` of a repository has, `rest` being made of validated names.
    pub(super) fn url(&self, repository: &Repository, rest: &str) -> Result<Url, RegistryError> {
        let address = self.config.address(repository);
        let text = format!("{}://{address}/v2/{}/{rest}", self.config.scheme(address), repository.path());
        Url::parse(&text).map_err(|_| RegistryError::InvalidResponse {
            repository: repository.to_string(),
            cause: "its address is not a valid URL".to_owned(),
        })
    }

    /// GETs `url`, which is the registry's own, answering at most one authentication challenge.
    pub(super) async fn get(&self, question: Question<'_>, url: &Url, accept: &str) -> Result<Answer, RegistryError> {
        let key = TokenKey {
            address: self.config.address(question.repository).to_owned(),
            credentials: question.access.key.clone(),
            path: question.repository.path().to_owned(),
        };
        let known = self.known_authorization(&key);
        let (response, is_own) = self.send(question, url, accept, known).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.read(question, response).await;
        }
        if !is_own {
            return Err(question.unauthorized("the host it redirects to wants credentials, which are not sent there"));
        }
        let wanted = challenge::read(response.headers()).map_err(|cause| question.unauthorized(cause))?;
        drop(response);
        let fresh = self.authenticate(question, url, wanted).await?;
        let (response, _) = self.send(question, url, accept, Some(fresh.header.clone())).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.tokens().remove(&key);
            return Err(question.unauthorized(match question.access.credentials {
                Credentials::Anonymous => "it hands out an anonymous token but does not accept it here",
                Credentials::Basic { .. } => "it does not accept the user name and password given",
            }));
        }
        self.tokens().insert(key, fresh);
        self.read(question, response).await
    }

    fn tokens(&self) -> MutexGuard<'_, LeastRecentlyUsed<TokenKey, Authorization>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_authorization(&self, key: &TokenKey) -> Option<HeaderValue> {
        self.tokens().get(key).filter(|known| known.expires > Instant::now()).map(|known| known.header.clone())
    }

    /// Sends a GET and follows a few redirects; says whether the answer is the registry's own.
    ///
    /// The authorization is dropped for good at the first redirect to another origin (distribution specification:
    /// it must not be forwarded across hosts).
    async fn send(
        &self,
        question: Question<'_>,
        url: &Url,
        accept: &str,
        mut authorization: Option<HeaderValue>,
    ) -> Result<(Response, bool), RegistryError> {
        let mut current = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let is_own = same_origin(url, &current);
            if !is_own {
                authorization = None;
            }
            let is_named = is_own || self.is_named(question.repository, &current);
            let client = if is_named { &self.named } else { &self.elsewhere };
            let mut request = client.get(current.clone()).header(ACCEPT, accept);
            if let Some(header) = &authorization {
                request = request.header(AUTHORIZATION, header);
            }
            let response = request.send().await.map_err(|error| self.failed(question, error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((response, is_own));
            }
            let next = response
                .headers()
                .get(LOCATION)
                .and_then(|location| location.to_str().ok())
                .and_then(|location| current.join(location).ok())
                .ok_or_else(|| question.invalid("it redirects without a valid Location"))?;
            self.allow_redirect(question, url, &next)?;
            current = next;
        }
        Err(question.invalid("it redirects more than 3 times"))
    }

    fn is_named(&self, repository: &Repository, url: &Url) -> bool {
        authority(url).is_some_and(|authority| {
            challenge::is_listed(&self.config, repository, &authority)
                || self.config.insecure.contains(&authority)
                || self.config.mirrors.values().any(|address| *address == authority)
        })
    }

    fn allow_redirect(&self, question: Question<'_>, own: &Url, target: &Url) -> Result<(), RegistryError> {
        let host: String = authority(target).unwrap_or_default().chars().take(120).collect();
        if same_origin(own, target) {
            return Ok(());
        }
        let is_secure = target.scheme() == "https";
        let is_listed_as_insecure = target.scheme() == "http" && self.config.insecure.contains(&host);
        if !is_secure && !is_listed_as_insecure {
            return Err(question.refused(host, "not over https"));
        }
        if !target.username().is_empty() || target.password().is_some() {
            return Err(question.refused(host, "a URL with user name or password"));
        }
        // A name is checked after it was resolved (`PublicAddressesOnly`); a literal address is never resolved.
        let literal = match target.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        if literal.is_some_and(|address| !is_public(address)) && !self.is_named(question.repository, target) {
            return Err(question.refused(host, "an address that is not public"));
        }
        Ok(())
    }

    /// Meets a challenge, if it may be met.
    async fn authenticate(
        &self,
        question: Question<'_>,
        url: &Url,
        wanted: Challenge,
    ) -> Result<Authorization, RegistryError> {
        let (mut realm, service) = match (wanted, &question.access.credentials) {
            (Challenge::Bearer { realm, service }, _) => (realm, service),
            (Challenge::Basic, Credentials::Basic { username, password }) => {
                let header = basic(username, password)
                    .ok_or_else(|| question.unauthorized("the pull secret can't be sent in a header"))?;
                return Ok(Authorization { header, expires: Instant::now() + MAX_TOKEN_LIFETIME });
            }
            (Challenge::Basic, Credentials::Anonymous) => {
                return Err(
                    question.unauthorized("it wants user name and password, and there is no pull secret for it")
                );
            }
        };
        challenge::allow_realm(&self.config, question.repository, url, &realm)
            .map_err(|refusal| question.refused(refusal.host, refusal.cause))?;
        // The scope is ours, not the challenge's: a registry can't make us ask for more than reading.
        realm.query_pairs_mut().append_pair("scope", &format!("repository:{}:pull", question.repository.path()));
        if let Some(service) = service {
            realm.query_pairs_mut().append_pair("service", &service);
        }
        realm.set_fragment(None);
        let mut request = self.named.get(realm);
        if let Credentials::Basic { username, password } = &question.access.credentials {
            let header = basic(username, password)
                .ok_or_else(|| question.unauthorized("the pull secret can't be sent in a header"))?;
            request = request.header(AUTHORIZATION, header);
        }
        let question =
            Question { what: "the token", subject: "its token service", limit: MAX_TOKEN_ANSWER, ..question };
        let response = request.send().await.map_err(|error| self.failed(question, error))?;
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(question.unauthorized(match question.access.credentials {
                Credentials::Anonymous => {
                    "its token service gives no anonymous token, and there is no pull secret for it"
                }
                Credentials::Basic { .. } => "its token service does not accept the user name and password given",
            }));
        }
        let answer = self.read(question, response).await?;
        let token: TokenAnswer = serde_json::from_slice(&answer.body)
            .map_err(|_| question.invalid("its token service does not answer with a token"))?;
        let lifetime = token.expires_in.map_or(TOKEN_LIFETIME, Duration::from_secs);
        let header = token
            .token
            .or(token.access_token)
            .and_then(|token| bearer(&token))
            .ok_or_else(|| question.invalid("its token service's token can't be sent in a header"))?;
        // A little early, so that a token does not end on its way.
        let lifetime = lifetime.clamp(TOKEN_LIFETIME, MAX_TOKEN_LIFETIME).saturating_sub(Duration::from_secs(10));
        Ok(Authorization { header, expires: Instant::now() + lifetime })
    }

    /// Reads an answer to its end, if it is one and not too large.
    async fn read(&self, question: Question<'_>, mut response: Response) -> Result<Answer, RegistryError> {
        let repository = || question.repository.to_string();
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(question.unauthorized("the credentials are not accepted")),
            StatusCode::FORBIDDEN => return Err(RegistryError::Forbidden { repository: repository() }),
            StatusCode::NOT_FOUND => {
                return Err(RegistryError::NotFound { repository: repository(), what: question.subject.to_owned() });
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let retry_after = retry_after(response.headers(), jiff::Timestamp::now());
                return Err(RegistryError::RateLimited { repository: repository(), retry_after });
            }
            status if status.is_server_error() => {
                return Err(question.unreachable(format!("it answered with status {}", status.as_u16())));
            }
            status => return Err(question.invalid(format!("it answered with status {}", status.as_u16()))),
        }
        let too_large =
            || RegistryError::TooLarge { repository: repository(), what: question.what, limit: question.limit };
        if response.content_length().is_some_and(|length| length > question.limit as u64) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(question, error))? {
            if body.len() + chunk.len() > question.limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { headers: std::mem::take(response.headers_mut()), body: body.into() })
    }

    /// A failed request in words, without its URL: that may carry signatures.
    fn failed(&self, question: Question<'_>, error: reqwest::Error) -> RegistryError {
        if error.is_timeout() {
            let seconds = self.config.timeouts.request.as_secs_f32();
            return question.unreachable(format!("no complete answer within {seconds} s"));
        }
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let cause: String = cause.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
        question.unreachable(cause)
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
    expires_in: Option<u64>,
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn basic(username: &str, password: &SecretString) -> Option<HeaderValue> {
    let pair = format!("{username}:{}", password.expose_secret());
    sensitive(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let token = token.expose_secret();
    let fits = !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(|b| b.is_ascii_graphic());
    if fits { sensitive(&format!("Bearer {token}")) } else { None }
}

/// `Retry-After` as seconds or as a date, at most an hour.
fn retry_after(headers: &HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("17", Some(17))]
    #[case("99999999", Some(3600))]
    #[case("Wed, 21 Oct 2026 07:28:30 GMT", Some(30))]
    #[case("Wed, 21 Oct 2020 07:28:00 GMT", Some(0))]
    #[case("soon", None)]
    #[case("-1", None)]
    fn retry_after_is_read_in_both_forms_and_bounded(#[case] text: &str, #[case] expected: Option<u64>) {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        let now = "2026-10-21T07:28:00Z".parse().unwrap();
        assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs));
    }
}
