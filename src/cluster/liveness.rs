//! Whether the watches are alive, seen from the one place where it can't be faked: the HTTP answers.
//!
//! Every watch ends on the server's side after [`WATCH_SECONDS`] and is asked for again. So a path that was watched
//! and has had no successful answer for much longer than that hangs, whatever the process thinks of itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::{Request, Response};
use tower::{Layer, Service};

/// After how many seconds a watch is ended by the server and asked for again.
pub const WATCH_SECONDS: u32 = 240;

/// How long a watched path may be without a successful answer. Twice the period of a watch, and a margin for a slow list.
const STALE: Duration = Duration::from_secs(2 * WATCH_SECONDS as u64 + 60);

/// Remembers when each watched path was last answered.
#[derive(Debug, Clone, Default)]
pub struct WatchMonitor {
    answered: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl WatchMonitor {
    /// The watched paths that have had no successful answer for too long at `now`.
    #[must_use]
    pub fn stale(&self, now: Instant) -> Vec<String> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered
            .iter()
            .filter(|(_, last)| now.saturating_duration_since(**last) > STALE)
            .map(|(path, _)| path.clone())
            .collect()
    }

    fn record(&self, path: String, now: Instant) {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(path, now);
    }

    fn first_seen(&self, path: &str, now: Instant) {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).entry(path.to_owned()).or_insert(now);
    }
}

/// The path of a watch request.
fn watched_path<B>(request: &Request<B>) -> Option<String> {
    let query = request.uri().query()?;
    let watches = query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1");
    watches.then(|| request.uri().path().to_owned())
}

impl<S> Layer<S> for WatchMonitor {
    type Service = Monitored<S>;
    fn layer(&self, inner: S) -> Monitored<S> {
        Monitored { inner, monitor: self.clone() }
    }
}

/// A client whose watches are monitored.
#[derive(Debug, Clone)]
pub struct Monitored<S> {
    inner: S,
    monitor: WatchMonitor,
}

impl<S, B, R> Service<Request<B>> for Monitored<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = watched_path(&request);
        let monitor = self.monitor.clone();
        if let Some(path) = &path {
            monitor.first_seen(path, Instant::now());
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if let Some(path) = path.filter(|_| response.status().is_success()) {
                monitor.record(path, Instant::now());
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_stale_when_it_was_not_answered_for_two_periods() {
        let monitor = WatchMonitor::default();
        let start = Instant::now();
        monitor.record("/api/v1/pods".into(), start);
        assert!(monitor.stale(start + STALE).is_empty());
        assert_eq!(monitor.stale(start + STALE + Duration::from_secs(1)), ["/api/v1/pods"]);
        monitor.record("/api/v1/pods".into(), start + STALE);
        assert!(monitor.stale(start + STALE + Duration::from_secs(1)).is_empty());
    }

    #[test]
    fn a_watch_that_was_never_answered_becomes_stale_too() {
        let monitor = WatchMonitor::default();
        let start = Instant::now();
        monitor.first_seen("/x", start);
        monitor.first_seen("/x", start + STALE);
        assert_eq!(monitor.stale(start + STALE + Duration::from_secs(1)), ["/x"]);
    }
}
