//! A store that listens, an issuer of tokens, and a client that sends what it is told to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use timetracker_operator::artifacts::{ArtifactsArguments, ArtifactsError, serve_on};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::s3::Server;

pub const JOB: &str = "run-1-0123456789";
pub const POD: &str = "run-1-0123456789-x7k2p";
pub const LOG: &str = "/v1/artifacts/ci/run-1/run-1-0123456789/log-head.txt";

/// Signs tokens as the API server does.
pub struct Issuer {
    id: String,
    key: EncodingKey,
    algorithm: Algorithm,
}

impl Issuer {
    pub fn elliptic(id: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { id: id.to_owned(), key, algorithm: Algorithm::ES256 }
    }

    pub fn rsa(id: &str) -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { id: id.to_owned(), key, algorithm: Algorithm::RS256 }
    }

    /// Its public key as the API server shows it.
    pub fn public(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    /// The token of a pod, with which it writes.
    pub fn token(&self, namespace: &str, pod: &str) -> String {
        self.sign(&claims(namespace, pod))
    }

    /// The token of a pod, with which it reads.
    pub fn reading_token(&self, namespace: &str, pod: &str) -> String {
        let mut claims = claims(namespace, pod);
        claims["aud"] = json!(["timetracker-artifacts-read"]);
        self.sign(&claims)
    }
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn claims(namespace: &str, pod: &str) -> Value {
    json!({
        "aud": ["timetracker-artifacts"],
        "exp": now() + 3600,
        "iat": now(),
        "nbf": now(),
        "iss": "https://kubernetes.default.svc",
        "sub": format!("system:serviceaccount:{namespace}:default"),
        "kubernetes.io": {
            "namespace": namespace,
            "node": {"name": "node-1", "uid": "1"},
            "pod": {"name": pod, "uid": "0b1c"},
            "serviceaccount": {"name": "default", "uid": "2"},
        },
    })
}

pub fn key_set(issuers: &[&Issuer]) -> String {
    json!({"keys": issuers.iter().map(|issuer| issuer.public()).collect::<Vec<_>>()}).to_string()
}

#[derive(Parser)]
#[command(args_override_self = true)]
struct Command {
    #[command(flatten)]
    arguments: ArtifactsArguments,
}

/// What a store keeps artifacts in.
#[derive(Clone)]
pub enum In {
    Directory,
    /// A bucket of a server that all tests use.
    Bucket,
    /// A bucket of this server.
    BucketOf(Arc<Server>),
}

/// A store that listens on a port of its own.
pub struct Store {
    pub issuer: Issuer,
    pub address: SocketAddr,
    /// Where what is kept lies as files.
    pub directory: PathBuf,
    pub keys_file: PathBuf,
    /// How much of an upload the store hands on at once, in bytes.
    pub part: usize,
    /// The bucket's folder and the prefix in it.
    bucket: Option<(Arc<Server>, String)>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Result<(), ArtifactsError>>,
    _files: TempDir,
}

pub async fn store(place: In, options: &[&str]) -> Store {
    start(place, Issuer::elliptic("key-1"), options).await
}

pub async fn start(place: In, issuer: Issuer, options: &[&str]) -> Store {
    static STORES: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("of-store/{}", STORES.fetch_add(1, Ordering::Relaxed));
    start_at(place, &prefix, issuer, options).await
}

/// With this prefix, which other stores may have too.
pub async fn start_at(place: In, prefix: &str, issuer: Issuer, options: &[&str]) -> Store {
    let files = tempfile::tempdir().unwrap();
    let keys_file = files.path().join("keys.json");
    std::fs::write(&keys_file, key_set(&[&issuer])).unwrap();
    let mut arguments = vec!["artifacts".to_owned(), "--jwks-file".to_owned(), keys_file.to_str().unwrap().to_owned()];
    let server = match place {
        In::Directory => None,
        In::Bucket => Some(Server::shared()),
        In::BucketOf(server) => Some(server),
    };
    let (directory, part) = match &server {
        None => (files.path().join("data"), 256 << 10),
        Some(server) => (server.bucket().join(prefix), 5 << 20),
    };
    match &server {
        None => arguments.extend(["--directory".to_owned(), directory.to_str().unwrap().to_owned()]),
        Some(server) => arguments.extend(server.arguments(prefix)),
    }
    arguments.extend(options.iter().map(|option| (*option).to_owned()));
    let arguments = Command::parse_from(arguments).arguments;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let bucket = server.map(|server| (server, prefix.to_owned()));
    let server = tokio::spawn(serve_on(listener, arguments, async {
        let _ = stopped.await;
    }));
    Store { issuer, address, directory, keys_file, part, bucket, stop: Some(stop), server, _files: files }
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap()
}

impl Store {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The token of the job's own pod.
    pub fn own(&self) -> String {
        self.issuer.token("ci", POD)
    }

    pub async fn put(&self, path: &str, token: &str, content: impl Into<reqwest::Body>) -> u16 {
        let request = client().put(self.url(path)).bearer_auth(token).body(content);
        request.send().await.unwrap().status().as_u16()
    }

    /// As through `kubectl port-forward`.
    pub async fn get(&self, path: &str) -> reqwest::Response {
        client().get(self.url(path)).send().await.unwrap()
    }

    /// As from another pod: by the store's own name.
    pub async fn get_from_pod(&self, path: &str, token: Option<&str>) -> u16 {
        let request = client().get(self.url(path)).header("Host", "timetracker-artifacts.timetracker-system:8080");
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        request.send().await.unwrap().status().as_u16()
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes and returns the first line of the answer; empty: the connection was closed.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        first_line(&mut stream).await
    }

    /// What lies in the directory or bucket, as paths below it; in a directory with the files of unfinished uploads.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        below(&self.directory, &self.directory, &mut found);
        found.sort();
        found
    }

    /// How many uploads have begun there and not ended, as far as parts of them have been handed on.
    pub fn unfinished(&self, path: &str) -> usize {
        let Some((server, prefix)) = &self.bucket else {
            return self.files().iter().filter(|file| file.contains('#')).count();
        };
        let key = path.replace("/v1/artifacts", prefix);
        let folder = server.bucket().join(".sgwtmp/multipart").join(hex::encode(Sha256::digest(key)));
        std::fs::read_dir(folder).map_or(0, |entries| entries.flatten().count())
    }

    /// The head of an upload of so many bytes, by the job's own pod.
    pub fn head(&self, length: usize) -> String {
        let token = self.own();
        format!("PUT {LOG} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n")
    }

    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(Duration::from_secs(20), &mut self.server).await.unwrap().unwrap().unwrap();
    }
}

/// The answer's first line; empty when the other side closed the connection.
pub async fn first_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0_u8];
    let read = async {
        while let Ok(1) = stream.read(&mut byte).await {
            if byte[0] == b'\n' {
                break;
            }
            line.push(byte[0]);
        }
    };
    timeout(Duration::from_secs(30), read).await.expect("an answer within 30 s");
    String::from_utf8_lossy(&line).trim().to_owned()
}

fn below(root: &Path, folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            below(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

/// Waits for a condition, half a minute at most.
pub async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "waited 30 s for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
