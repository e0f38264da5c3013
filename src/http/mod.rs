//! The operator's own HTTP surface: health on one port, metrics on another. Both answer reads of cluster-internal callers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::cluster::WatchMonitor;
use crate::telemetry::Metrics;

/// What health answers from.
#[derive(Debug, Clone)]
pub struct Health {
    monitor: WatchMonitor,
    ready: Arc<AtomicBool>,
}

impl Health {
    /// Health by what `monitor` sees; not ready yet.
    #[must_use]
    pub fn new(monitor: WatchMonitor) -> Self {
        Self { monitor, ready: Arc::new(AtomicBool::new(false)) }
    }

    /// Says whether the operator does its work: true once the API server answered and the controllers run.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }
}

/// A server that could not be started or broke.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken or not ours.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The server broke.
    #[error("the server on {address} broke: {source}")]
    Serve {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// `/healthz`: every watch was answered not long ago. The body names those that were not.
async fn healthz(State(health): State<Health>) -> Response {
    let stale = health.monitor.stale(Instant::now());
    if stale.is_empty() {
        return (StatusCode::OK, "ok\n").into_response();
    }
    let body = format!("watches without an answer for too long: {}\n", stale.join(", "));
    (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
}

async fn readyz(State(health): State<Health>) -> Response {
    if health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the API server has not answered yet\n").into_response()
    }
}

async fn metrics(State(metrics): State<Metrics>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.text()).into_response()
}

async fn serve(address: SocketAddr, router: Router) -> Result<(), HttpError> {
    let listener = TcpListener::bind(address).await.map_err(|source| HttpError::Listen { address, source })?;
    axum::serve(listener, router).await.map_err(|source| HttpError::Serve { address, source })
}

/// Answers `/healthz` and `/readyz` on one address and `/metrics` on the other, until the process ends.
///
/// # Errors
/// When an address can't be listened on, or a server breaks.
pub async fn serve_operator(
    health_address: SocketAddr,
    metrics_address: SocketAddr,
    health: Health,
    numbers: Metrics,
) -> Result<(), HttpError> {
    let health = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health);
    let numbers = Router::new().route("/metrics", get(metrics)).with_state(numbers);
    tokio::try_join!(serve(health_address, health), serve(metrics_address, numbers)).map(|((), ())| ())
}
