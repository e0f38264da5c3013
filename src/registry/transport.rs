//! Bounded requests with authentication: the only place from which requests to registries leave.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Client, Response};
use url::{Host, Url};

use super::address::{PublicAddressesOnly, is_public};
use super::blob::Content;
use super::challenge::{self, authority, same_origin};
use super::config::RegistryConfig;
use super::credentials::{Access, Credentials};
use super::error::{RegistryConfigError, RegistryError};
use super::lru::LeastRecentlyUsed;
use super::token::{Authorization, Scope, TokenKey};
use crate::api::names::Repository;

const MAX_REDIRECTS: usize = 3;
/// Tokens kept, one per address, credentials and repository.
const MAX_TOKENS: usize = 512;
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
    /// What is to be allowed.
    pub(super) scope: Scope,
    /// How long the whole exchange may take, when that is more than for other requests.
    pub(super) patience: Option<Duration>,
}

impl Question<'_> {
    pub(super) fn invalid(&self, cause: impl Into<String>) -> RegistryError {
        RegistryError::InvalidResponse { repository: self.repository.to_string(), cause: cause.into() }
    }

    pub(super) fn unauthorized(&self, cause: &'static str) -> RegistryError {
        RegistryError::Unauthorized { repository: self.repository.to_string(), cause }
    }

    fn unreachable(&self, cause: String) -> RegistryError {
        RegistryError::Unreachable { repository: self.repository.to_string(), cause }
    }

    /// What is to be sent can't be read, or what is received can't be written.
    pub(super) fn unreadable(&self, error: &std::io::Error) -> RegistryError {
        self.unreachable(format!("a file of this machine: {error}"))
    }

    pub(super) fn refused(&self, host: String, cause: &'static str) -> RegistryError {
        RegistryError::RefusedAddress { repository: self.repository.to_string(), host, cause }
    }

    /// What is asked for is not allowed to this account.
    pub(super) fn denied(&self) -> RegistryError {
        let repository = self.repository.to_string();
        match self.scope {
            Scope::Pull => RegistryError::Forbidden { repository },
            Scope::Push => RegistryError::WriteDenied { repository, action: "pushing", right: "write:packages" },
            Scope::Delete => RegistryError::WriteDenied { repository, action: "deleting", right: "delete:packages" },
        }
    }
}

/// A complete answer with status 200.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What is sent to change something.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) method: Method,
    pub(super) url: &'a Url,
    /// The content's media type.
    pub(super) media_type: &'static str,
    pub(super) content: &'a Content,
}

/// Sends requests and keeps tokens; cheap to share.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) config: RegistryConfig,
    /// For hosts that a person named.
    pub(super) named: Client,
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
        let response = self.open(question, url, accept).await?;
        self.read(question, response).await
    }

    /// The same, with an answer that is not read yet, and of any status but 401.
    pub(super) async fn open(
        &self,
        question: Question<'_>,
        url: &Url,
        accept: &str,
    ) -> Result<Response, RegistryError> {
        let key = self.key(question);
        let known = self.known_authorization(&key);
        let (response, is_own) = self.send(question, url, accept, known).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
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
        Ok(response)
    }

    /// Sends what changes something: to the registry's own address alone, answering at most one challenge.
    ///
    /// A redirect is not followed, whatever its host: what is pushed goes where a person said, or nowhere.
    pub(super) async fn change(&self, question: Question<'_>, change: &Change<'_>) -> Result<Response, RegistryError> {
        let key = self.key(question);
        let response = self.send_change(question, change, self.known_authorization(&key)).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let wanted = challenge::read(response.headers()).map_err(|cause| question.unauthorized(cause))?;
        drop(response);
        let fresh = self.authenticate(question, change.url, wanted).await?;
        let response = self.send_change(question, change, Some(fresh.header.clone())).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // The token is good, but not for this: registries say so in this way too.
            self.tokens().remove(&key);
            return Err(question.denied());
        }
        self.tokens().insert(key, fresh);
        Ok(response)
    }

    async fn send_change(
        &self,
        question: Question<'_>,
        change: &Change<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut request = self.named.request(change.method.clone(), change.url.clone());
        request = request.headers(authorization.map(|header| (AUTHORIZATION, header)).into_iter().collect());
        if let Some(patience) = question.patience {
            request = request.timeout(patience);
        }
        let body = change.content.body().await.map_err(|error| question.unreadable(&error))?;
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, change.media_type).body(body);
        }
        request = request.header(CONTENT_LENGTH, change.content.size());
        request.send().await.map_err(|error| self.failed(question, error))
    }

    fn key(&self, question: Question<'_>) -> TokenKey {
        TokenKey {
            address: self.config.address(question.repository).to_owned(),
            credentials: question.access.key.clone(),
            path: question.repository.path().to_owned(),
            scope: question.scope,
        }
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
            if let Some(patience) = question.patience {
                request = request.timeout(patience);
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

    /// Whether the answer has one of these statuses.
    pub(super) fn check(
        &self,
        question: Question<'_>,
        response: &Response,
        expected: &[StatusCode],
    ) -> Result<(), RegistryError> {
        let repository = || question.repository.to_string();
        match response.status() {
            status if expected.contains(&status) => Ok(()),
            StatusCode::UNAUTHORIZED => Err(question.unauthorized("the credentials are not accepted")),
            StatusCode::FORBIDDEN => Err(question.denied()),
            StatusCode::NOT_FOUND => {
                Err(RegistryError::NotFound { repository: repository(), what: question.subject.to_owned() })
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                Err(RegistryError::Unsupported { repository: repository(), what: question.what })
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let retry_after = retry_after(response.headers(), jiff::Timestamp::now());
                Err(RegistryError::RateLimited { repository: repository(), retry_after })
            }
            status if status.is_server_error() => {
                Err(question.unreachable(format!("it answered with status {}", status.as_u16())))
            }
            status => Err(question.invalid(format!("it answered with status {}", status.as_u16()))),
        }
    }

    /// Reads an answer to its end, if it is one and not too large.
    pub(super) async fn read(&self, question: Question<'_>, mut response: Response) -> Result<Answer, RegistryError> {
        self.check(question, &response, &[StatusCode::OK])?;
        let too_large = || RegistryError::TooLarge {
            repository: question.repository.to_string(),
            what: question.what,
            limit: question.limit,
        };
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
    pub(super) fn failed(&self, question: Question<'_>, error: reqwest::Error) -> RegistryError {
        if error.is_timeout() {
            let seconds = question.patience.unwrap_or(self.config.timeouts.request).as_secs_f32();
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
