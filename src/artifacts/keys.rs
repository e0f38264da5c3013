//! The public keys of the cluster's tokens.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

const MAX_DOCUMENT: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Keys that could not be read again for so long are no longer believed.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Where keys are read.
#[derive(Debug, Clone)]
pub(super) enum KeySource {
    File(PathBuf),
    Server { url: Url, credentials: PathBuf },
}

/// Why keys can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
    #[error("{path} can't be read: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("the API server can't be asked: {0}")]
    Request(#[from] reqwest::Error),
    #[error("the API server answered {0}")]
    Status(u16),
    #[error("the key set is larger than {MAX_DOCUMENT} bytes")]
    TooLarge,
    #[error("that is no key set: {0}")]
    Document(#[from] serde_json::Error),
    #[error("the key set has no usable key")]
    Empty,
    #[error("they were read in vain only now")]
    TooSoon,
}

/// A key, and the one algorithm that goes with it: never the token's choice.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) key: DecodingKey,
    pub(super) algorithm: Algorithm,
}

#[derive(Deserialize)]
struct Document {
    // One by one: a key of a kind that is not known here must not cost the others.
    keys: Vec<serde_json::Value>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, Key>,
    read: Option<Instant>,
}

/// The keys by their ids.
pub(super) struct Keys {
    source: KeySource,
    interval: Duration,
    known: RwLock<Known>,
    /// When they were last asked for. Held while they are: requests with known keys don't wait for it.
    asked: Mutex<Option<Instant>>,
}

impl Keys {
    pub(super) fn new(source: KeySource, interval: Duration) -> Self {
        Self { source, interval, known: RwLock::default(), asked: Mutex::default() }
    }

    /// The key with this id; one that is unknown is looked for anew, but not more often than the interval says.
    ///
    /// # Errors
    /// When no keys are known and none can be read.
    pub(super) async fn find(&self, id: &str) -> Result<Option<Key>, KeysError> {
        if let Some(key) = self.known(id) {
            return Ok(Some(key));
        }
        let mut asked = self.asked.lock().await;
        // Another request may have found it meanwhile.
        if let Some(key) = self.known(id) {
            return Ok(Some(key));
        }
        let read = match *asked {
            Some(last) if last.elapsed() < self.interval => Err(KeysError::TooSoon),
            Some(_) | None => self.read(&mut asked).await,
        };
        match read {
            Err(error) if !self.has_any() => Err(error),
            Ok(()) | Err(_) => Ok(self.known(id)),
        }
    }

    /// Reads the keys again.
    ///
    /// # Errors
    /// When they can't be read; those that are known stay for a day.
    pub(super) async fn refresh(&self) -> Result<(), KeysError> {
        let mut asked = self.asked.lock().await;
        self.read(&mut asked).await
    }

    async fn read(&self, asked: &mut Option<Instant>) -> Result<(), KeysError> {
        *asked = Some(Instant::now());
        let bytes = match &self.source {
            KeySource::File(path) => {
                let failed = |source| KeysError::File { path: path.clone(), source };
                tokio::fs::read(path).await.map_err(failed)?
            }
            KeySource::Server { url, credentials } => fetch(url, credentials).await?,
        };
        let keys = parse(&bytes)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        *known = Known { keys, read: Some(Instant::now()) };
        Ok(())
    }

    fn known(&self, id: &str) -> Option<Key> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.read.filter(|read| read.elapsed() < MAX_AGE)?;
        known.keys.get(id).cloned()
    }

    fn has_any(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.read.is_some_and(|read| read.elapsed() < MAX_AGE)
    }
}

fn parse(bytes: &[u8]) -> Result<HashMap<String, Key>, KeysError> {
    let document: Document = serde_json::from_slice(bytes)?;
    let usable = document.keys.into_iter().filter_map(|value| {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
                EllipticCurve::P256 => Algorithm::ES256,
                EllipticCurve::P384 => Algorithm::ES384,
                EllipticCurve::P521 | EllipticCurve::Ed25519 => return None,
            },
            // A shared secret in a public document proves nothing.
            AlgorithmParameters::OctetKey(_) | AlgorithmParameters::OctetKeyPair(_) => return None,
        };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some((jwk.common.key_id?, Key { key, algorithm }))
    });
    let keys: HashMap<String, Key> = usable.collect();
    if keys.is_empty() { Err(KeysError::Empty) } else { Ok(keys) }
}

async fn fetch(url: &Url, credentials: &Path) -> Result<Vec<u8>, KeysError> {
    let read = |name: &str| {
        let path = credentials.join(name);
        async move { tokio::fs::read(&path).await.map_err(|source| KeysError::File { path, source }) }
    };
    // Both are replaced while the pod runs.
    let authorities = reqwest::Certificate::from_pem_bundle(&read("ca.crt").await?)?;
    let token = read("token").await?;
    let client = reqwest::Client::builder()
        .tls_certs_only(authorities)
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .build()?;
    let response = client.get(url.clone()).bearer_auth(String::from_utf8_lossy(&token).trim()).send().await?;
    if !response.status().is_success() {
        return Err(KeysError::Status(response.status().as_u16()));
    }
    let mut body = response.bytes_stream();
    let mut document = Vec::new();
    while let Some(chunk) = body.next().await {
        document.extend_from_slice(&chunk?);
        if document.len() > MAX_DOCUMENT {
            return Err(KeysError::TooLarge);
        }
    }
    Ok(document)
}
