//! The artifact store: keeps logs, reports and artifacts of runs in a directory or a bucket, one folder per run and job.
//!
//! It is a workload of its own because code of pull requests can reach it. It holds no permission in the cluster.
//!
//! - **Writing** takes the token that kubelet gave to the collector (audience `timetracker-artifacts`). It is verified
//!   offline by the cluster's public keys and opens only the path of the pod that it was issued to. The token of a pod
//!   that was deleted lives until it expires, an hour at most, and still opens nothing but that pod's path. The operator,
//!   which keeps the logs of pods without a collector, has a token of its account (`--log-account`) and of a third audience
//!   (`timetracker-artifacts-logs`); it opens the three names of a log in every job's folder and nothing else.
//! - **Reading** takes a token of another audience (`timetracker-artifacts-read`), which only pods of steps have that
//!   take artifacts of other jobs, and which opens their own run and nothing else; or the token in `--read-token-file`,
//!   or a connection from the store's own loopback. That is where `kubectl port-forward` arrives, so whoever may forward ports in the
//!   store's namespace reads everything.
//!
//! ```text
//! PUT /v1/artifacts/{namespace}/{run}/{job}/{name}    job: the Kubernetes Job of the attempt, the pod's own
//! GET /v1/artifacts/{namespace}/{run}/{job}/{name}    always as an attachment
//! GET /v1/artifacts/{namespace}/{run}                 what a run has left: JSON, or a page for browsers
//! GET /healthz                                        whether it runs
//! GET /readyz                                         whether artifacts can be kept
//! ```

mod access;
mod bucket;
mod draft;
mod identity;
mod keys;
mod listing;
mod place;
mod refusal;
mod routes;
mod server;
mod storage;
mod sweep;
mod upload;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use url::Url;

use crate::api::duration::Period;
use access::Access;
pub use bucket::{BucketArguments, BucketError};
use keys::{KeySource, Keys};
use routes::Shared;
use server::Limits;
use storage::Storage;
use upload::Uploads;

/// How often the keys are read again, so that one that was withdrawn ends.
const REFRESH_KEYS: Duration = Duration::from_secs(600);
const SWEEP: Duration = Duration::from_secs(3600);

/// The arguments of the `artifacts` workload.
#[derive(Debug, Clone, Args)]
pub struct ArtifactsArguments {
    /// Where it listens.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// The directory in which everything is kept.
    #[arg(long, required_unless_present = "s3-bucket", conflicts_with = "s3-bucket")]
    pub directory: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the text of the group's help")]
    pub bucket: BucketArguments,
    /// How long a run is kept after its last upload.
    #[arg(long, default_value = "720h")]
    pub retention: Period,
    /// A file with the keys of the cluster's tokens (JSON Web Key Set), instead of the API server's.
    #[arg(long)]
    pub jwks_file: Option<PathBuf>,
    /// Where the keys are read; default: the cluster's own API server.
    #[arg(long)]
    pub jwks_url: Option<Url>,
    /// The folder with `token` and `ca.crt` for the API server.
    #[arg(long, default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    pub credentials: PathBuf,
    /// Who must have issued the tokens; default: whoever holds the cluster's keys.
    #[arg(long)]
    pub issuer: Option<String>,
    /// A file with a token that may read everything.
    #[arg(long)]
    pub read_token_file: Option<PathBuf>,
    /// The account whose tokens (audience `timetracker-artifacts-logs`) may keep logs of jobs, as
    /// `system:serviceaccount:<namespace>:<name>`.
    #[arg(long)]
    pub log_account: Option<String>,
    /// The most that one artifact may hold, in bytes.
    #[arg(long, default_value_t = 512 << 20)]
    pub max_artifact_bytes: u64,
    /// The most that the artifacts of one job may hold together, in bytes.
    #[arg(long, default_value_t = 1 << 30)]
    pub max_job_bytes: u64,
    /// What must stay free on the volume, in bytes.
    #[arg(long, default_value_t = 64 << 20)]
    pub reserve_bytes: u64,
    /// How long an upload may stand still.
    #[arg(long, default_value = "30s")]
    pub idle_timeout: Period,
    /// How long one upload may take.
    #[arg(long, default_value = "10m")]
    pub upload_timeout: Period,
    /// How long the head of a request may take.
    #[arg(long, default_value = "10s")]
    pub header_timeout: Period,
    /// The least time between two attempts to read the keys.
    #[arg(long, default_value = "10s")]
    pub key_interval: Period,
    /// How often it is looked whether the volume or bucket can be used.
    #[arg(long, default_value = "30s")]
    pub probe_interval: Period,
}

/// Why the store does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactsError {
    /// The directory can't be used.
    #[error("the directory {path} can't be used: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The object store refuses the directory.
    #[error("the directory can't be used: {0}")]
    Store(#[from] object_store::Error),
    /// A setting of the bucket can't be used.
    #[error("the bucket can't be used: {0}")]
    Bucket(#[from] BucketError),
    /// Nothing is named to keep artifacts in.
    #[error("nothing is named to keep artifacts in: expected --directory or --s3-bucket")]
    Nowhere,
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The file with the token for reading can't be used.
    #[error("the file {path} with the token for reading can't be used: {source}")]
    ReadToken {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No address of the keys is known.
    #[error("the API server's address is unknown: expected KUBERNETES_SERVICE_HOST, --jwks-url or --jwks-file")]
    Keys,
}

/// Serves until `shutdown` is there; uploads under way then have ten seconds to end.
///
/// # Errors
/// When the directory, a setting of the bucket, the address or a file named in the arguments can't be used.
pub async fn serve(
    arguments: ArtifactsArguments,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ArtifactsError> {
    let address = arguments.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| ArtifactsError::Listen { address, source })?;
    serve_on(listener, arguments, shutdown).await
}

/// As [`serve`], on a socket that listens already; `listen` is not used.
///
/// # Errors
/// When the directory, a setting of the bucket or a file named in the arguments can't be used.
pub async fn serve_on(
    listener: TcpListener,
    arguments: ArtifactsArguments,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ArtifactsError> {
    let storage = Arc::new(Storage::open(&arguments).await?);
    let keys = Arc::new(Keys::new(key_source(&arguments)?, arguments.key_interval.length()));
    let read_token = arguments.read_token_file.as_ref().map(|path| access::read_token(path)).transpose()?;
    let shared = Arc::new(Shared {
        access: Access::new(Arc::clone(&keys), arguments.issuer.clone(), read_token, arguments.log_account.clone()),
        uploads: Uploads::new(Arc::clone(&storage), &arguments),
        storage: Arc::clone(&storage),
    });
    tracing::info!(address = ?listener.local_addr().ok(), %storage, "the artifact store listens");
    let (retention, probes) = (arguments.retention.length(), arguments.probe_interval.length());
    let chores = tokio::spawn(async move {
        tokio::join!(refresh(&keys), sweep::forever(&storage, retention, SWEEP), storage.watch(probes))
    });
    let limits = Limits { header_timeout: arguments.header_timeout.length(), ..Limits::default() };
    server::run(listener, &routes::router(shared), &limits, shutdown).await;
    chores.abort();
    Ok(())
}

async fn refresh(keys: &Keys) {
    loop {
        if let Err(error) = keys.refresh().await {
            tracing::warn!(%error, "the keys of the cluster's tokens can't be read");
        }
        tokio::time::sleep(REFRESH_KEYS).await;
    }
}

fn key_source(arguments: &ArtifactsArguments) -> Result<KeySource, ArtifactsError> {
    if let Some(file) = &arguments.jwks_file {
        return Ok(KeySource::File(file.clone()));
    }
    let url = arguments.jwks_url.clone().or_else(|| {
        // As every client in a pod does: the addresses work without DNS.
        let host = std::env::var("KUBERNETES_SERVICE_HOST").ok()?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let port = std::env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".to_owned());
        Url::parse(&format!("https://{host}:{port}/openid/v1/jwks")).ok()
    });
    let url = url.ok_or(ArtifactsError::Keys)?;
    Ok(KeySource::Server { url, credentials: arguments.credentials.clone() })
}
