//! Tokens: what is asked of a registry's token service, and what it may answer.

use std::time::{Duration, Instant};

use base64::Engine as _;
use http::header::AUTHORIZATION;
use http::{HeaderValue, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::challenge::{self, Challenge};
use super::credentials::{CredentialKey, Credentials};
use super::error::RegistryError;
use super::transport::{Question, Transport};

const MAX_TOKEN_ANSWER: usize = 64 << 10;
const MAX_TOKEN: usize = 16 << 10;
/// How long a token lives whose service does not say (distribution's token specification).
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// It reads.
    Pull,
    /// It pushes.
    Push,
    /// It deletes.
    Delete,
}

impl Scope {
    /// In the words of the token specification.
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "pull,push,delete",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    pub(super) address: String,
    pub(super) credentials: CredentialKey,
    pub(super) path: String,
    pub(super) scope: Scope,
}

#[derive(Debug, Clone)]
pub(super) struct Authorization {
    /// Marked sensitive: Debug output does not show it.
    pub(super) header: HeaderValue,
    pub(super) expires: Instant,
}

impl Transport {
    /// Meets a challenge, if it may be met.
    pub(super) async fn authenticate(
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
        // The scope is ours, not the challenge's: a registry can't make us ask for more than what is about to be done.
        let scope = format!("repository:{}:{}", question.repository.path(), question.scope.actions());
        realm.query_pairs_mut().append_pair("scope", &scope);
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
        let asked = question;
        let question = Question {
            what: "the token",
            subject: "its token service",
            limit: MAX_TOKEN_ANSWER,
            patience: None,
            ..question
        };
        let response = request.send().await.map_err(|error| self.failed(question, error))?;
        // GHCR's way of saying that the account is known, and may not do this.
        if response.status() == StatusCode::FORBIDDEN && asked.scope != Scope::Pull {
            return Err(asked.denied());
        }
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
