//! The server: bounded in connections, in connections per peer, and in how long a request's head may take.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::routes::Peer;

/// How long requests under way may still take at the end.
const DRAIN: Duration = Duration::from_secs(10);
const BUFFER: usize = 64 << 10;

/// The bounds of the server.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) per_peer: usize,
    /// For a request's head, the wait for the next request included.
    pub(super) header_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 512, per_peer: 32, header_timeout: Duration::from_secs(10) }
    }
}

/// Open connections by peer.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection's place, free again when it is dropped.
struct Seat {
    open: Open,
    peer: IpAddr,
}

impl Open {
    fn enter(&self, peer: IpAddr, limits: &Limits) -> Option<Seat> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(&peer).copied().unwrap_or_default();
        if all >= limits.connections || own >= limits.per_peer {
            return None;
        }
        open.insert(peer, own + 1);
        Some(Seat { open: self.clone(), peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.peer) {
            Some(own) if *own > 1 => *own -= 1,
            Some(_) | None => {
                open.remove(&self.peer);
            }
        }
    }
}

/// Serves until `shutdown` is there, and lets what is under way end.
pub(super) async fn run(
    listener: TcpListener,
    router: &Router,
    limits: &Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let open = Open::default();
    let stop = CancellationToken::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    // Without a seat it is closed at once: waiting would let one peer keep all others out.
                    if let Some(seat) = open.enter(address.ip().to_canonical(), limits) {
                        connections.spawn(connection(stream, seat, router.clone(), limits.header_timeout, stop.clone()));
                    }
                }
                Err(error) => {
                    // For want of file descriptors, perhaps: asking again at once would only burn time.
                    tracing::warn!(%error, "a connection can't be accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    stop.cancel();
    if timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests under way were broken off");
        connections.shutdown().await;
    }
}

async fn connection(stream: TcpStream, seat: Seat, router: Router, header_timeout: Duration, stop: CancellationToken) {
    let peer = Peer(seat.peer);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let mut router = router.clone();
        async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection was broken off");
    }
}
