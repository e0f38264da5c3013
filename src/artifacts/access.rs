//! Who may write and who may read.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, header};
use jsonwebtoken::Validation;
use sha2::{Digest as _, Sha256};

use super::ArtifactsError;
use super::identity::{Claims, JobIdentity};
use super::keys::Keys;
use super::place::{Place, RunPlace};
use super::refusal::Refusal;

/// Whom a token is for that writes: every collector's. It reads nothing.
const WRITE: &str = "timetracker-artifacts";
/// Whom a token is for by which the operator keeps logs of pods without a collector. It reads nothing.
const LOGS: &str = "timetracker-artifacts-logs";
/// Whom a token is for that reads: only of jobs whose step takes artifacts of others. It writes nothing.
const READ: &str = "timetracker-artifacts-read";
const MAX_TOKEN: usize = 8 << 10;
/// How far the clocks of the nodes may differ, in seconds.
const LEEWAY: u64 = 30;

/// Reads the token that opens everything for reading, and keeps only its hash.
pub(super) fn read_token(path: &Path) -> Result<[u8; 32], ArtifactsError> {
    let failed = |source| ArtifactsError::ReadToken { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let token = text.trim();
    if token.len() < 16 {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it has less than 16 characters")));
    }
    Ok(hash(token))
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Decides by tokens and where a connection comes from.
pub(super) struct Access {
    keys: Arc<Keys>,
    issuer: Option<String>,
    read_token: Option<[u8; 32]>,
    /// The account that may keep logs of any job.
    log_account: Option<String>,
}

impl Access {
    pub(super) fn new(
        keys: Arc<Keys>,
        issuer: Option<String>,
        read_token: Option<[u8; 32]>,
        log_account: Option<String>,
    ) -> Self {
        Self { keys, issuer, read_token, log_account }
    }

    /// Whether the request may write there.
    ///
    /// # Errors
    /// When it has no valid token of that place's own pod, nor, for a job's log, one of the account that keeps logs.
    pub(super) async fn write(&self, headers: &HeaderMap, place: &Place) -> Result<(), Refusal> {
        let token = bearer(headers).ok_or(Refusal::Unauthenticated)?;
        let may_write = match (self.claims(token, WRITE).await, &self.log_account) {
            (Ok(claims), _) => JobIdentity::of(claims).ok_or(Refusal::Forbidden)?.writes(place),
            // A pod can have a token for anybody, but none of an account that is not its own.
            (Err(Refusal::Unauthenticated), Some(account)) => {
                self.claims(token, LOGS).await?.are_of(account) && place.is_log_of_job()
            }
            (Err(refusal), _) => return Err(refusal),
        };
        if may_write { Ok(()) } else { Err(Refusal::Forbidden) }
    }

    /// Whether the request may read there.
    ///
    /// # Errors
    /// When it is neither local nor has the token for reading everything, or one for reading of a pod of that run.
    pub(super) async fn read(&self, headers: &HeaderMap, peer: IpAddr, run: &RunPlace) -> Result<(), Refusal> {
        let Some(token) = bearer(headers) else {
            return if is_forwarded(headers, peer) { Ok(()) } else { Err(Refusal::Unauthenticated) };
        };
        // Hashes: how long the comparison takes says nothing about the token.
        if self.read_token.is_some_and(|expected| expected == hash(token)) {
            return Ok(());
        }
        let identity = JobIdentity::of(self.claims(token, READ).await?).ok_or(Refusal::Forbidden)?;
        if identity.reads(run) { Ok(()) } else { Err(Refusal::Forbidden) }
    }

    async fn claims(&self, token: &str, audience: &str) -> Result<Claims, Refusal> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refusal::Unauthenticated)?;
        let id = header.kid.ok_or(Refusal::Unauthenticated)?;
        let found = self.keys.find(&id).await.map_err(|error| {
            tracing::warn!(%error, "a token can't be verified");
            Refusal::KeysUnknown
        })?;
        let key = found.ok_or(Refusal::Unauthenticated)?;
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "aud"]);
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        }
        let verified = jsonwebtoken::decode::<Claims>(token, &key.key, &validation);
        verified.map(|verified| verified.claims).map_err(|_| Refusal::Unauthenticated)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && token.len() <= MAX_TOKEN).then_some(token)
}

/// Whether the request came through `kubectl port-forward`: from the pod's own loopback. The name in `Host` is looked
/// at so that a web page in that person's browser can't read by having its own name point to the loopback.
fn is_forwarded(headers: &HeaderMap, peer: IpAddr) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let unauthorized = !headers.contains_key(header::AUTHORIZATION);
    peer.to_canonical().is_loopback() && ["localhost", "127.0.0.1", "[::1]"].contains(&name) && unauthorized
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("localhost:8080", "127.0.0.1", true)]
    #[case("127.0.0.1:18080", "127.0.0.1", true)]
    #[case("[::1]:8080", "::1", true)]
    #[case("localhost", "::ffff:127.0.0.1", true)]
    #[case("rebound.example.org:8080", "127.0.0.1", false)]
    #[case("localhost:8080", "10.0.0.7", false)]
    #[case("", "127.0.0.1", false)]
    fn only_a_local_request_to_a_local_name_is_a_forwarded_one(
        #[case] host: &str,
        #[case] peer: &str,
        #[case] forwarded: bool,
    ) {
        let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
        assert_eq!(is_forwarded(&headers, peer.parse().unwrap()), forwarded);
    }
}
