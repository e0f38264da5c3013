//! Reads the artifact store, through a port forwarded by the API server or at an address that is given.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::client::UpgradeConnectionError;
use kube::core::Status;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::{Access, PluginError};

/// Where the chart installs the store when nobody says otherwise.
const NAMESPACE: &str = "timetracker-system";
const SELECTOR: &str = "app.kubernetes.io/component=artifacts";
const CONTAINER: &str = "artifacts";
const PORT: u16 = 8080;
const CONNECT: Duration = Duration::from_secs(10);
/// For the head of an answer, and for each part of its body.
const ANSWER: Duration = Duration::from_secs(30);
/// The longest listing that is read, in bytes: the store lists 5000 artifacts at most.
const MAX_LISTING_BYTES: usize = 8 << 20;
const MAX_NAME: usize = 128;

/// Why the store has no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The API server refuses, or nothing can be found there.
    #[error("{0}")]
    Api(#[from] Box<PluginError>),
    /// No pod of the store is ready.
    #[error(
        "no pod of the artifact store is ready in namespace {0}: --store names the operator's namespace, or the address of the store"
    )]
    NoPod(String),
    /// The address can't be used.
    #[error("`{0}` is neither a namespace nor an address such as http://127.0.0.1:8080")]
    Address(String),
    /// The store does not answer.
    #[error("the artifact store does not answer: {0}")]
    Unreachable(String),
    /// The store has no such thing.
    #[error("the artifact store has no such thing: it was never kept, or its retention is over")]
    NotFound,
    /// The store answers with something else.
    #[error("the artifact store answered {0}")]
    Refused(u16),
    /// Names that can't be part of a path of the store.
    #[error("`{0}` can't be the name of an artifact")]
    Name(String),
    /// The answer can't be used.
    #[error("the artifact store's answer can't be used: {0}")]
    Content(String),
}

/// The store, found.
#[derive(Clone)]
pub struct Store {
    route: Route,
}

#[derive(Clone)]
enum Route {
    Forwarded { client: Client, namespace: String, pod: String, port: u16 },
    Direct { authority: String },
}

/// What a run has left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Listing {
    /// Whether there is more than is listed.
    #[serde(default)]
    pub truncated: bool,
    /// One entry each.
    pub artifacts: Vec<Entry>,
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The Kubernetes Job of the attempt.
    pub job: String,
    /// The artifact's name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When it was kept, RFC 3339.
    #[serde(default)]
    pub modified: String,
}

/// A content that is read part by part.
#[derive(Debug)]
pub struct Content {
    body: Incoming,
    /// Announced bytes.
    pub length: Option<u64>,
}

/// Anything that carries bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Store {
    /// The store: `wanted` is a namespace or an address; otherwise where the run says it is, or where the chart puts it.
    ///
    /// # Errors
    /// When there is none, or it may not be looked for.
    pub async fn find(client: &Client, wanted: Option<&str>, told_by_run: Option<&str>) -> Result<Self, StoreError> {
        let namespace = match wanted {
            Some(address) if address.contains("://") => return Self::at(address),
            Some(namespace) if is_resource_name(namespace) => namespace.to_owned(),
            Some(other) => return Err(StoreError::Address(other.to_owned())),
            None => told_by_run.and_then(namespace_of).unwrap_or_else(|| NAMESPACE.to_owned()),
        };
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let access = Access::new("list", "pods", &namespace);
        let found = pods.list(&ListParams::default().labels(SELECTOR)).await.map_err(|error| access.boxed(error))?;
        let ready = found.items.iter().find_map(|pod| Some((pod.name_any(), ready_port(pod)?)));
        let (pod, port) = ready.ok_or_else(|| StoreError::NoPod(namespace.clone()))?;
        Ok(Self { route: Route::Forwarded { client: client.clone(), namespace, pod, port } })
    }

    /// The store at that address.
    ///
    /// # Errors
    /// When it is no address of plain HTTP.
    pub fn at(address: &str) -> Result<Self, StoreError> {
        let refused = || StoreError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| refused())?;
        let authority = uri.authority().ok_or_else(refused)?;
        if uri.scheme_str() != Some("http") || authority.as_str().contains('@') || !matches!(uri.path(), "" | "/") {
            return Err(refused());
        }
        let authority = if authority.port().is_some() { authority.to_string() } else { format!("{authority}:80") };
        Ok(Self { route: Route::Direct { authority } })
    }

    /// What the run has left, without what has a name that no artifact can have.
    ///
    /// # Errors
    /// When the store does not answer, or has nothing.
    pub async fn list(&self, namespace: &str, run: &str) -> Result<Listing, StoreError> {
        let path = path(&[namespace, run])?;
        let text = self.open(&path).await?.collect(MAX_LISTING_BYTES).await?;
        let listing: Listing = serde_json::from_slice(&text).map_err(|error| StoreError::Content(error.to_string()))?;
        let fits = |entry: &Entry| is_resource_name(&entry.job) && is_artifact_name(&entry.name);
        let artifacts = listing.artifacts.into_iter().filter(fits).collect();
        Ok(Listing { artifacts, ..listing })
    }

    /// A whole artifact, unless it is longer than `most` bytes.
    ///
    /// # Errors
    /// When it can't be had, or is longer.
    pub async fn read(&self, names: [&str; 4], most: usize) -> Result<Vec<u8>, StoreError> {
        self.get(names).await?.collect(most).await
    }

    /// An artifact, to be read part by part.
    ///
    /// # Errors
    /// When it can't be had.
    pub async fn get(&self, names: [&str; 4]) -> Result<Content, StoreError> {
        self.open(&path(&names)?).await
    }

    async fn open(&self, path: &str) -> Result<Content, StoreError> {
        let (stream, host) = timeout(CONNECT, self.connect())
            .await
            .map_err(|_| StoreError::Unreachable("the connection took too long".to_owned()))??;
        let unreachable = |error: hyper::Error| StoreError::Unreachable(error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
        tokio::spawn(connection);
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|error| StoreError::Unreachable(error.to_string()))?;
        let answer = timeout(ANSWER, sender.send_request(request))
            .await
            .map_err(|_| StoreError::Unreachable("no answer in 30 s".to_owned()))?
            .map_err(unreachable)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(StoreError::NotFound),
            other => return Err(StoreError::Refused(other.as_u16())),
        }
        let length = answer.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Content { body: answer.into_body(), length })
    }

    async fn connect(&self) -> Result<(Box<dyn Stream>, String), StoreError> {
        match &self.route {
            Route::Direct { authority } => {
                let stream = TcpStream::connect(authority.as_str()).await;
                let stream = stream.map_err(|error| StoreError::Unreachable(format!("{authority}: {error}")))?;
                Ok((Box::new(stream), authority.clone()))
            }
            Route::Forwarded { client, namespace, pod, port } => {
                let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
                let access = Access::new("create", "pods/portforward", namespace);
                let mut forwarded =
                    pods.portforward(pod, &[*port]).await.map_err(|error| access.boxed(upgrade_refused(error)))?;
                let stream = forwarded.take_stream(*port);
                let stream = stream.ok_or_else(|| StoreError::Unreachable("the port was not forwarded".to_owned()))?;
                // The store takes requests from its own loopback, by a local name, for forwarded ones.
                Ok((Box::new(stream), format!("localhost:{port}")))
            }
        }
    }
}

/// kube reports a refused upgrade without the API server's words; the code is enough to know what is missing.
fn upgrade_refused(error: kube::Error) -> kube::Error {
    let kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) = &error else { return error };
    let code = code.as_u16();
    let reason = if code == 403 { "Forbidden" } else { "" };
    let message = format!("the port is not forwarded: {error}");
    kube::Error::Api(Box::new(Status { code, reason: reason.to_owned(), message, ..Status::default() }))
}

impl Content {
    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            let frame = timeout(ANSWER, self.body.frame())
                .await
                .map_err(|_| StoreError::Unreachable("nothing came for 30 s".to_owned()))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(StoreError::Unreachable(error.to_string())),
                // Trailers are of no use here.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    async fn collect(mut self, most: usize) -> Result<Vec<u8>, StoreError> {
        let mut text = Vec::new();
        while let Some(part) = self.next().await? {
            if text.len() + part.len() > most {
                return Err(StoreError::Content(format!("it is longer than {most} bytes")));
            }
            text.extend_from_slice(&part);
        }
        Ok(text)
    }
}

/// The port of a pod of the store that is ready.
fn ready_port(pod: &Pod) -> Option<u16> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let container = pod.spec.as_ref()?.containers.iter().find(|container| container.name == CONTAINER)?;
    let ports = container.ports.iter().flatten();
    let named = ports.filter(|port| port.name.as_deref() == Some("http")).map(|port| port.container_port).next();
    ready.then(|| named.and_then(|port| u16::try_from(port).ok()).unwrap_or(PORT))
}

/// The namespace in an address such as `http://timetracker-artifacts.timetracker-system:8080/…`.
fn namespace_of(address: &str) -> Option<String> {
    let uri: Uri = address.parse().ok()?;
    let host = uri.host().filter(|host| host.parse::<IpAddr>().is_err())?;
    let namespace = host.split('.').nth(1)?;
    is_resource_name(namespace).then(|| namespace.to_owned())
}

fn path(names: &[&str]) -> Result<String, StoreError> {
    let mut path = "/v1/artifacts".to_owned();
    for name in names {
        // The run's and the Job's names are such names too.
        if !is_artifact_name(name) {
            return Err(StoreError::Name((*name).to_owned()));
        }
        path.push('/');
        path.push_str(name);
    }
    Ok(path)
}

/// What Kubernetes takes for a name, and what leads nowhere else as part of a path.
#[must_use]
pub(super) fn is_resource_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with(['.', '-'])
}

/// What can be one part of a path and of a file's name, and leads nowhere else.
#[must_use]
pub(super) fn is_artifact_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.')
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
