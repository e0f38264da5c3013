//! The artifact store: `PUT` and `GET` of `{store}/v1/artifacts/{namespace}/{run}/{job}/{name}` with a bearer token.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::files::{Entry, Folder};

/// The most that one artifact may hold before compression, in bytes.
const MAX_ARTIFACT_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;
const CONNECT: Duration = Duration::from_secs(5);
/// How long a download may stand still.
const IDLE: Duration = Duration::from_secs(30);
const TRIES: u32 = 3;

/// Why something was not brought to the store, or from there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the store's URL can't be used: expected http://host:port")]
    Url,
    #[error("`{0}` can't be part of an artifact's path")]
    Name(String),
    #[error("the token can't be read: {0}")]
    Token(io::Error),
    #[error("the store can't be reached: {0}")]
    Unreachable(String),
    #[error("the store answered {0}")]
    Refused(u16),
    #[error("{0}")]
    Content(io::Error),
}

impl StoreError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(status) => *status >= 500 || *status == 429,
            Self::Url | Self::Name(_) | Self::Token(_) | Self::Content(_) => false,
        }
    }
}

/// What is uploaded.
pub(crate) enum Content {
    /// A document made here.
    Document(Vec<u8>),
    /// A file or a folder below another one; a folder becomes a gzip-compressed tar archive.
    ///
    /// Of a folder, only the files are taken whose paths below it are to be kept.
    Path { below: PathBuf, path: PathBuf, keep: fn(&Path) -> bool },
}

/// The place of one job in the store.
pub(crate) struct Store {
    authority: String,
    path: String,
    token_file: PathBuf,
}

impl Store {
    /// # Errors
    /// When the URL or one of the names can't be used.
    pub(crate) fn new(url: &str, names: [&str; 3], token_file: &Path) -> Result<Self, StoreError> {
        let uri: Uri = url.parse().map_err(|_| StoreError::Url)?;
        let authority = uri.authority().ok_or(StoreError::Url)?;
        if uri.scheme_str() != Some("http") || authority.as_str().contains('@') {
            return Err(StoreError::Url);
        }
        let mut path = format!("{}/v1/artifacts", uri.path().trim_end_matches('/'));
        for name in names {
            path.push('/');
            path.push_str(checked(name)?);
        }
        let authority = if authority.port().is_some() { authority.to_string() } else { format!("{authority}:80") };
        Ok(Self { authority, path, token_file: token_file.to_owned() })
    }

    /// Uploads one artifact; tries again what may have been bad luck.
    pub(crate) async fn put(&self, name: &str, content: &Content) -> Result<(), StoreError> {
        let path = format!("{}/{}", self.path, checked(name)?);
        let mut tried = 0;
        loop {
            tried += 1;
            match self.put_once(&path, content).await {
                Err(error) if error.is_transient() && tried < TRIES => sleep(Duration::from_secs(1)).await,
                result => return result,
            }
        }
    }

    /// Downloads one artifact into the file, from its start; `false`: there is none. Tries again what may have been bad
    /// luck.
    ///
    /// # Errors
    /// When it is longer than `limit` bytes, the store does not answer or refuses, or the file can't be written.
    pub(in crate::agent) async fn get(&self, name: &str, file: &mut File, limit: u64) -> Result<bool, StoreError> {
        let path = format!("{}/{}", self.path, checked(name)?);
        let mut tried = 0;
        loop {
            tried += 1;
            match self.get_once(&path, file, limit).await {
                Err(error) if error.is_transient() && tried < TRIES => sleep(Duration::from_secs(1)).await,
                result => return result,
            }
        }
    }

    async fn get_once(&self, path: &str, file: &mut File, limit: u64) -> Result<bool, StoreError> {
        file.set_len(0).and_then(|()| file.rewind()).map_err(StoreError::Content)?;
        let (mut response, _connection) = self
            .send(self.request(Method::GET, path)?, Empty::new().map_err(|never| match never {}).boxed_unsync())
            .await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(false),
            status => return Err(StoreError::Refused(status.as_u16())),
        }
        let mut received = 0_u64;
        while let Some(frame) = timeout(IDLE, response.frame()).await.map_err(|error| unreachable(&error))? {
            let Ok(chunk) = frame.map_err(|error| unreachable(&error))?.into_data() else { continue };
            received = received.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if received > limit {
                return Err(StoreError::Content(io::Error::other(format!("an artifact is larger than {limit} bytes"))));
            }
            file.write_all(&chunk).map_err(StoreError::Content)?;
        }
        Ok(true)
    }

    async fn put_once(&self, path: &str, content: &Content) -> Result<(), StoreError> {
        let (kind, body) = body(content).map_err(StoreError::Content)?;
        let request = self.request(Method::PUT, path)?.header(header::CONTENT_TYPE, kind);
        let (response, _connection) = self.send(request, body).await?;
        let status = response.status();
        let _ = Limited::new(response.into_body(), CHUNK_BYTES).collect().await;
        if status.is_success() { Ok(()) } else { Err(StoreError::Refused(status.as_u16())) }
    }

    fn request(&self, method: Method, path: &str) -> Result<http::request::Builder, StoreError> {
        // Read each time: kubelet replaces it before it expires.
        let token = std::fs::read_to_string(&self.token_file).map(SecretString::from).map_err(StoreError::Token)?;
        Ok(Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret().trim())))
    }

    async fn send(
        &self,
        request: http::request::Builder,
        body: Body,
    ) -> Result<(Response<Incoming>, Connection), StoreError> {
        let request = request.body(body).map_err(|error| unreachable(&error))?;
        let stream = timeout(CONNECT, TcpStream::connect(&self.authority))
            .await
            .map_err(|error| unreachable(&error))?
            .map_err(|error| unreachable(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        let connection = Connection(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        Ok((response, connection))
    }
}

/// A connection that ends with its only request.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn unreachable(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unreachable(error.to_string())
}

fn checked(name: &str) -> Result<&str, StoreError> {
    let fits = (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        && !name.starts_with('.');
    if fits { Ok(name) } else { Err(StoreError::Name(name.chars().take(40).collect())) }
}

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Chunks = mpsc::Sender<io::Result<Frame<Bytes>>>;

fn body(content: &Content) -> io::Result<(&'static str, Body)> {
    let (below, path, keep) = match content {
        Content::Document(bytes) => {
            let whole = Full::new(Bytes::from(bytes.clone())).map_err(|never| match never {});
            return Ok(("application/octet-stream", whole.boxed_unsync()));
        }
        Content::Path { below, path, keep } => (below, path, *keep),
    };
    let entry = Folder::open(below)?.entry(path)?;
    let kind = match &entry {
        Entry::File(_) => "application/octet-stream",
        Entry::Folder(_) => "application/gzip",
    };
    let (sender, mut receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let mut writer = ChunkWriter { chunks: sender.clone(), buffer: Vec::with_capacity(CHUNK_BYTES) };
        let written = match entry {
            Entry::File(file) => copy(file, &mut writer),
            Entry::Folder(folder) => archive(&folder, keep, &mut writer),
        };
        // An upload that was not read to its end must not look complete.
        if let Err(error) = written.and_then(|()| writer.flush()) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    let chunks = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
    Ok((kind, StreamBody::new(chunks).boxed_unsync()))
}

fn copy(file: std::fs::File, writer: &mut impl Write) -> io::Result<()> {
    let copied = io::copy(&mut file.take(MAX_ARTIFACT_BYTES + 1), writer)?;
    if copied > MAX_ARTIFACT_BYTES { Err(too_large()) } else { Ok(()) }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("an artifact is larger than {MAX_ARTIFACT_BYTES} bytes"))
}

fn archive(folder: &Folder, keep: fn(&Path) -> bool, writer: &mut impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(writer, Compression::fast()));
    let mut total = 0_u64;
    for found in folder.files()?.into_iter().filter(|found| keep(&found.path)) {
        // It may have gone, or turned into something else, since it was listed.
        let Ok(file) = folder.file(&found.path) else { continue };
        let size = file.metadata()?.len();
        total = total.saturating_add(size);
        if total > MAX_ARTIFACT_BYTES {
            return Err(too_large());
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        // A file that shrinks meanwhile is filled up: the archive's next entry must stand where the header says.
        let content = file.chain(io::repeat(0)).take(size);
        archive.append_data(&mut header, &found.path, content)?;
    }
    archive.into_inner()?.finish()?;
    Ok(())
}

/// Hands what is written to the request's body, waiting while that is behind.
struct ChunkWriter {
    chunks: Chunks,
    buffer: Vec<u8>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES.saturating_sub(self.buffer.len()).min(bytes.len());
        self.buffer.extend_from_slice(bytes.get(..room).unwrap_or_default());
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES)));
        self.chunks
            .blocking_send(Ok(Frame::data(chunk)))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the store broke off the upload"))
    }
}
