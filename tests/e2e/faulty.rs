//! A registry of the test's own that hands on what the cluster's registry says, or misbehaves as told.
//!
//! The operator reaches it under a name of its own, for which its configuration has a mirror; nodes know every name and
//! always pull from the cluster's registry.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::stage::setting;

/// User and password of [`Fault::Private`].
pub const ACCOUNT: (&str, &str) = ("robot", "canary-secret");

/// How it answers for one repository.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Always with this status.
    Status(u16),
    /// With a web page.
    Page,
    /// With ever new pages of tags.
    EndlessPages,
    /// With a list of tags that has none, as after the last one was deleted.
    NoTags,
    /// It asks for a token as GHCR does, and gives one to everybody.
    Anonymous,
    /// It asks for a token, and gives one to [`ACCOUNT`] alone.
    Private,
    /// With another repository's content.
    As(String),
}

#[derive(Debug)]
struct Shared {
    address: String,
    faults: Mutex<BTreeMap<String, Fault>>,
}

/// A running registry. Dropped, nothing listens there any more.
pub struct Faulty {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// The address behind a name, as `cargo xtask test` told both sides.
fn address(name: &str) -> SocketAddr {
    let all = setting("TIMETRACKER_TEST_FAULTY_REGISTRIES");
    let found = all.split_whitespace().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("{name} is not in {all:?}")).parse().unwrap()
}

impl Faulty {
    /// Listens where the operator looks for the registry of this name.
    pub fn start(name: &str) -> Self {
        let address = address(name);
        let shared = Arc::new(Shared { address: address.to_string(), faults: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        // Its own, so that open connections go with it.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self { shared, runtime: Some(runtime) }
    }

    /// Answers for this repository so from now on.
    pub fn set(&self, repository: &str, fault: Fault) {
        self.shared.faults.lock().unwrap().insert(repository.to_owned(), fault);
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn reply(status: u16, kind: &str, body: impl Into<Body>) -> Response {
    Response::builder().status(status).header("content-type", kind).body(body.into()).unwrap()
}

fn refusal(status: u16) -> Response {
    reply(status, "application/json", json!({ "errors": [{ "code": "DENIED", "message": "no" }] }).to_string())
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let authorization = header("authorization");
    if path == "/token" {
        return shared.token(&query, authorization.as_deref());
    }
    let Some((repository, rest)) = split(&path) else {
        return refusal(404);
    };
    let accept = header("accept").unwrap_or_default();
    let fault = shared.faults.lock().unwrap().get(repository).cloned();
    match fault {
        None => forward(repository, rest, &query, &accept).await,
        Some(Fault::As(other)) => forward(&other, rest, &query, &accept).await,
        Some(Fault::Status(status)) => refusal(status),
        Some(Fault::Page) => reply(200, "text/html", "<!DOCTYPE html><title>Sign in</title>"),
        Some(Fault::EndlessPages) => endless(&path, &query),
        Some(Fault::NoTags) => reply(200, "application/json", json!({ "name": repository, "tags": null }).to_string()),
        Some(Fault::Anonymous | Fault::Private) => {
            if authorization.is_some_and(|header| header == format!("Bearer token-for-{repository}")) {
                return forward(repository, rest, &query, &accept).await;
            }
            let realm = format!("http://{}/token", shared.address);
            let challenge = format!(r#"Bearer realm="{realm}",service="faulty",scope="repository:{repository}:pull""#);
            let mut response = refusal(401);
            response.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
            response
        }
    }
}

/// Repository and rest of `/v2/<repository>/<tags|manifests|blobs>/…`.
fn split(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix("/v2/")?;
    let at = ["/tags/", "/manifests/", "/blobs/"].into_iter().find_map(|part| path.find(part))?;
    Some((&path[..at], &path[at + 1..]))
}

impl Shared {
    fn token(&self, query: &str, authorization: Option<&str>) -> Response {
        let scope = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "scope");
        let scope = scope.map(|(_, scope)| scope.into_owned()).unwrap_or_default();
        let repository = scope.split(':').nth(1).unwrap_or_default().to_owned();
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", ACCOUNT.0, ACCOUNT.1));
        let known = authorization == Some(format!("Basic {basic}").as_str());
        match self.faults.lock().unwrap().get(&repository) {
            Some(Fault::Anonymous) => {}
            Some(Fault::Private) if known => {}
            _ => return refusal(401),
        }
        reply(200, "application/json", json!({ "token": format!("token-for-{repository}") }).to_string())
    }
}

fn endless(path: &str, query: &str) -> Response {
    let page: u64 = query.rsplit_once("page=").and_then(|(_, page)| page.parse().ok()).unwrap_or(0);
    let tags: Vec<String> = (0..100).map(|entry| format!("9.{page}.{entry}")).collect();
    let mut response = reply(200, "application/json", json!({ "name": "endless", "tags": tags }).to_string());
    let link = format!("<{path}?n=100&page={}>; rel=\"next\"", page + 1);
    response.headers_mut().insert("link", link.parse().unwrap());
    response
}

async fn forward(repository: &str, rest: &str, query: &str, accept: &str) -> Response {
    let url = format!("http://{}/v2/{repository}/{rest}?{query}", setting("TIMETRACKER_TEST_PUSH"));
    let answer = reqwest::Client::new().get(url).header("accept", accept).send().await.unwrap();
    let mut response = Response::builder().status(answer.status().as_u16());
    for name in ["content-type", "docker-content-digest", "link"] {
        if let Some(value) = answer.headers().get(name) {
            response = response.header(name, value.to_str().unwrap());
        }
    }
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}
