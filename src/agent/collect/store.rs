//! Uploads to the artifact store: `PUT {store}/v1/artifacts/{namespace}/{run}/{job}/{name}` with a bearer token.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Method, Request, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::files::{Entry, Folder};

/// The most that one artifact may hold before compression, in bytes.
const MAX_ARTIFACT_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;
const CONNECT: Duration = Duration::from_secs(5);
const TRIES: u32 = 3;

/// Why something was not uploaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
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
pub(super) enum Content {
    /// A document made here.
    Document(Vec<u8>),
    /// A file or a folder below another one; a folder becomes a gzip-compressed tar archive.
    Path { below: PathBuf, path: PathBuf },
}

/// The place of one job in the store.
pub(super) struct Store {
    authority: String,
    path: String,
    token_file: PathBuf,
}

impl Store {
    /// # Errors
    /// When the URL or one of the names can't be used.
    pub(super) fn new(url: &str, names: [&str; 3], token_file: &Path) -> Result<Self, StoreError> {
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
    pub(super) async fn put(&self, name: &str, content: &Content) -> Result<(), StoreError> {
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

    async fn put_once(&self, path: &str, content: &Content) -> Result<(), StoreError> {
        let unreachable = |error: &dyn std::fmt::Display| StoreError::Unreachable(error.to_string());
        // Read each time: kubelet replaces it before it expires.
        let token = std::fs::read_to_string(&self.token_file).map(SecretString::from).map_err(StoreError::Token)?;
        let (kind, body) = body(content).map_err(StoreError::Content)?;
        let request = Request::builder()
            .method(Method::PUT)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, kind)
            .header(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret().trim()))
            .body(body)
            .map_err(|error| unreachable(&error))?;
        let stream = timeout(CONNECT, TcpStream::connect(&self.authority))
            .await
            .map_err(|error| unreachable(&error))?
            .map_err(|error| unreachable(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await;
        let status = match response {
            Ok(response) => {
                let status = response.status();
                let _ = Limited::new(response.into_body(), CHUNK_BYTES).collect().await;
                status
            }
            Err(error) => {
                connection.abort();
                return Err(unreachable(&error));
            }
        };
        connection.abort();
        if status.is_success() { Ok(()) } else { Err(StoreError::Refused(status.as_u16())) }
    }
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
    let (below, path) = match content {
        Content::Document(bytes) => {
            let whole = Full::new(Bytes::from(bytes.clone())).map_err(|never| match never {});
            return Ok(("application/octet-stream", whole.boxed_unsync()));
        }
        Content::Path { below, path } => (below, path),
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
            Entry::Folder(folder) => archive(&folder, &mut writer),
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

fn archive(folder: &Folder, writer: &mut impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(writer, Compression::fast()));
    let mut total = 0_u64;
    for found in folder.files()? {
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
