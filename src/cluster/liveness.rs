//! Whether the watches are alive, seen from the one place where it can't be faked: the HTTP answers.
//!
//! Every watch ends on the server's side after [`WATCH_SECONDS`] and is asked for again. So a watch that has had no
//! answer for much longer than that hangs, whatever the process thinks of itself. One that is refused does not hang: a
//! new process would be refused as well, so it is told and nothing is ended for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, Uri};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::{info, warn};

/// After how many seconds a watch is ended by the server and asked for again.
pub const WATCH_SECONDS: u32 = 240;

/// How long a watch may be without an answer. Twice its period, and a margin for a slow list.
const STALE: Duration = Duration::from_secs(2 * WATCH_SECONDS as u64 + 60);

/// Remembers when each watch was last answered.
#[derive(Debug, Clone, Default)]
pub struct WatchMonitor {
    watches: Arc<Mutex<BTreeMap<String, Watch>>>,
    refused: Gauge,
}

#[derive(Debug, Clone, Copy)]
struct Watch {
    answered: Instant,
    refused: Option<StatusCode>,
}

impl WatchMonitor {
    /// The watches that have had no answer for too long at `now`.
    #[must_use]
    pub fn stale(&self, now: Instant) -> Vec<String> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = watches.iter().filter(|(_, watch)| now.saturating_duration_since(watch.answered) > STALE);
        stale.map(|(what, _)| what.clone()).collect()
    }

    /// The watches that the API server refuses, each with its answer.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.iter().filter_map(|(what, watch)| Some(format!("{what} ({})", watch.refused?))).collect()
    }

    /// How many watches are refused: a metric.
    #[must_use]
    pub fn refused_count(&self) -> Gauge {
        self.refused.clone()
    }

    fn first_seen(&self, what: &str, now: Instant) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.entry(what.to_owned()).or_insert(Watch { answered: now, refused: None });
    }

    /// What a watch, or the list before it, was answered with.
    fn answered(&self, what: &str, is_watch: bool, status: StatusCode, now: Instant) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watch) = watches.get_mut(what) else { return };
        let before = watch.refused;
        if is_refusal(status) {
            *watch = Watch { answered: now, refused: Some(status) };
        } else if is_watch && status.is_success() {
            *watch = Watch { answered: now, refused: None };
        }
        let after = watch.refused;
        let refused = watches.values().filter(|watch| watch.refused.is_some()).count();
        drop(watches);
        self.refused.set(i64::try_from(refused).unwrap_or(i64::MAX));
        match (before, after) {
            (_, Some(status)) if before != after => {
                warn!(watch = what, %status, "the API server refuses a watch: changes there are not seen");
            }
            (Some(_), None) => info!(watch = what, "the watch is no longer refused"),
            (Some(_) | None, _) => {}
        }
    }
}

/// The answer to who may not watch, or to a kind that does not exist. All else may be a disturbance.
fn is_refusal(status: StatusCode) -> bool {
    status == StatusCode::FORBIDDEN || status == StatusCode::NOT_FOUND
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1"))
}

/// What is watched or listed: the path and the selectors. Two watches of one path live and die each for itself.
fn asked_for(uri: &Uri) -> String {
    let query = uri.query().unwrap_or_default();
    let selectors = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key.ends_with("Selector"));
    let selectors: Vec<String> = selectors.map(|(key, value)| format!("{key}={value}")).collect();
    if selectors.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), selectors.join("&")) }
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
        let monitor = self.monitor.clone();
        let uri = (request.method() == Method::GET).then(|| request.uri().clone());
        let watches = uri.as_ref().is_some_and(is_watch);
        if let Some(uri) = uri.as_ref().filter(|_| watches) {
            monitor.first_seen(&asked_for(uri), Instant::now());
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let status = response.status();
            if let Some(uri) = uri.filter(|_| watches || is_refusal(status)) {
                monitor.answered(&asked_for(&uri), watches, status, Instant::now());
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use tower::service_fn;

    use super::*;

    const PODS: &str = "/api/v1/pods?watch=true&labelSelector=part-of%3Druns&timeoutSeconds=240";
    const OTHER_PODS: &str = "/api/v1/pods?watch=true&labelSelector=part-of%3Dreleases";
    const LIST: &str = "/api/v1/pods?labelSelector=part-of%3Druns&limit=500";

    /// One request through the layer, answered so.
    async fn ask(monitor: &WatchMonitor, path: &str, status: u16) {
        let answer = service_fn(move |_: Request<()>| async move {
            Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
        });
        let request = Request::builder().uri(path).body(()).unwrap();
        monitor.layer(answer).call(request).await.unwrap();
    }

    async fn pass(duration: Duration) -> Instant {
        tokio::time::advance(duration).await;
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_is_stale_when_it_was_not_answered_for_two_periods() {
        let monitor = WatchMonitor::default();
        ask(&monitor, PODS, 200).await;
        assert!(monitor.stale(pass(STALE).await).is_empty());
        let later = pass(Duration::from_secs(1)).await;
        assert_eq!(monitor.stale(later), ["/api/v1/pods?labelSelector=part-of=runs"]);
        ask(&monitor, PODS, 200).await;
        assert!(monitor.stale(later).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_only_fails_becomes_stale_too() {
        let monitor = WatchMonitor::default();
        ask(&monitor, PODS, 500).await;
        pass(STALE).await;
        ask(&monitor, PODS, 503).await;
        ask(&monitor, LIST, 200).await;
        assert_eq!(monitor.stale(pass(Duration::from_secs(1)).await).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_hangs_is_not_hidden_by_another_of_the_same_path() {
        let monitor = WatchMonitor::default();
        ask(&monitor, PODS, 200).await;
        ask(&monitor, OTHER_PODS, 200).await;
        pass(STALE).await;
        ask(&monitor, OTHER_PODS, 200).await;
        let now = pass(Duration::from_secs(1)).await;
        assert_eq!(monitor.stale(now), ["/api/v1/pods?labelSelector=part-of=runs"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_refused_is_told_and_is_not_stale() {
        let monitor = WatchMonitor::default();
        ask(&monitor, PODS, 200).await;
        for refused in [PODS, LIST] {
            pass(STALE).await;
            ask(&monitor, refused, 403).await;
        }
        assert!(monitor.stale(pass(STALE).await).is_empty());
        assert_eq!(monitor.refused(), ["/api/v1/pods?labelSelector=part-of=runs (403 Forbidden)"]);
        assert_eq!(monitor.refused_count().get(), 1);
        ask(&monitor, LIST, 200).await;
        assert_eq!(monitor.refused_count().get(), 1, "what was listed is not yet watched");
        ask(&monitor, PODS, 200).await;
        assert_eq!((monitor.refused(), monitor.refused_count().get()), (Vec::new(), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn reads_of_single_objects_and_writes_are_no_watches() {
        let monitor = WatchMonitor::default();
        ask(&monitor, "/api/v1/namespaces/ns/secrets/absent", 404).await;
        let answer = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
        let request = Request::post("/api/v1/pods?watch=true").body(()).unwrap();
        monitor.layer(answer).call(request).await.unwrap();
        assert!(monitor.refused().is_empty() && monitor.stale(pass(STALE * 2).await).is_empty());
    }
}
