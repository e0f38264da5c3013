//! The operator's own HTTP surface: health on one port, metrics on another. Both answer reads of cluster-internal callers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;

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

    /// Says whether the operator does its work or waits for its turn to do it: true once the API server answered, also
    /// while another operator leads; false when it is stopping.
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

/// `/healthz`: every watch was answered not long ago. The body names those that were not, and those that are refused:
/// a new process would be refused as well, so that is no reason to end this one.
async fn healthz(State(health): State<Health>) -> Response {
    let stale = health.monitor.stale(Instant::now());
    if stale.is_empty() {
        let refused: String =
            health.monitor.refused().iter().map(|watch| format!("refused watch: {watch}\n")).collect();
        return (StatusCode::OK, format!("ok\n{refused}")).into_response();
    }
    let body = format!("watches without an answer for too long: {}\n", stale.join(", "));
    (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
}

async fn readyz(State(health): State<Health>) -> Response {
    if health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response()
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
    let servers = (serve(health_address, health_router(health)), serve(metrics_address, metrics_router(numbers)));
    tokio::try_join!(servers.0, servers.1).map(|((), ())| ())
}

fn health_router(health: Health) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health)
}

fn metrics_router(numbers: Metrics) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(numbers)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::body::{Body, to_bytes};
    use axum::http::{Request, Response};
    use tower::{Layer as _, Service as _, service_fn};

    use super::*;
    use crate::telemetry::{Counted, Outcome};

    async fn get_from(mut router: Router, path: &str) -> (u16, String) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = router.call(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// A watch of the operator, answered so by the API server.
    async fn watch(monitor: &WatchMonitor, status: u16) {
        let answer = service_fn(move |_: Request<()>| async move {
            Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
        });
        let request = Request::builder().uri("/api/v1/pods?watch=true").body(()).unwrap();
        monitor.layer(answer).call(request).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn healthz_fails_when_a_watch_hangs_and_names_it() {
        let monitor = WatchMonitor::default();
        let router = health_router(Health::new(monitor.clone()));
        watch(&monitor, 200).await;
        assert_eq!(get_from(router.clone(), "/healthz").await, (200, "ok\n".to_owned()));
        tokio::time::advance(Duration::from_secs(3600)).await;
        let (status, body) = get_from(router.clone(), "/healthz").await;
        assert_eq!(status, 500);
        assert!(body.contains("/api/v1/pods"), "{body}");
        watch(&monitor, 200).await;
        assert_eq!(get_from(router, "/healthz").await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn healthz_tells_of_a_refused_watch_and_does_not_fail() {
        let monitor = WatchMonitor::default();
        watch(&monitor, 403).await;
        let (status, body) = get_from(health_router(Health::new(monitor)), "/healthz").await;
        assert_eq!((status, body.as_str()), (200, "ok\nrefused watch: /api/v1/pods (403 Forbidden)\n"));
    }

    #[tokio::test]
    async fn readyz_says_whether_the_operator_works_or_stops() {
        let health = Health::new(WatchMonitor::default());
        let router = health_router(health.clone());
        health.set_ready(true);
        assert_eq!(get_from(router.clone(), "/readyz").await, (200, "ok\n".to_owned()));
        health.set_ready(false);
        assert_eq!(get_from(router, "/readyz").await, (503, "stopping\n".to_owned()));
    }

    #[tokio::test]
    async fn metrics_are_told_as_openmetrics() {
        let numbers = Metrics::new(Counted::default());
        numbers.reconciled("PipelineRun", Outcome::Done, Duration::from_millis(3));
        let (status, body) = get_from(metrics_router(numbers), "/metrics").await;
        assert_eq!(status, 200);
        for name in ["reconciles_total{", "api_writes_total 0", "undecodable_objects_total 0", "refused_watches 0"] {
            assert!(body.contains(&format!("timetracker_operator_{name}")), "{name} is not in {body}");
        }
    }
}
