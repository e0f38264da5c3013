//! A registry on a port of its own that speaks GHCR's protocol: Bearer tokens, 100 tags a page, `Link`, and refusals
//! where the real one refuses; and that misbehaves as told.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use futures::{StreamExt, stream};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::task::JoinHandle;

use super::state::Content;
use super::{Account, Fault, ImageFixture, Seen};

const PATH: &str = "drytrix/timetracker";

#[derive(Debug, Default)]
struct Shared {
    address: String,
    content: Content,
    /// With `None`, nobody has to authenticate.
    bearer: bool,
    anonymous_may_read: bool,
    accounts: Vec<Account>,
    fault: Option<Fault>,
    seen: Mutex<Vec<Seen>>,
    /// Tokens of older generations are no longer accepted.
    generation: AtomicUsize,
}

/// A running registry; it stops when dropped.
#[derive(Debug)]
pub(crate) struct TestRegistry {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// A registry being described.
#[derive(Debug, Default)]
pub(crate) struct Builder(Shared);

impl Builder {
    pub(crate) fn tags(mut self, count: usize) -> Self {
        self.0.content.tags.extend((0..count).map(|number| format!("1.{number}.0")));
        self
    }

    pub(crate) fn more_tags(mut self, tags: &[&str]) -> Self {
        self.0.content.tags.extend(tags.iter().map(|tag| (*tag).to_owned()));
        self
    }

    pub(crate) fn image(mut self, tag: &str, image: &ImageFixture) -> Self {
        self.0.content.add(tag, image);
        self
    }

    /// Everybody needs a token, and everybody gets one.
    pub(crate) fn public(mut self) -> Self {
        self.0.bearer = true;
        self.0.anonymous_may_read = true;
        self
    }

    /// Only this account gets a token.
    pub(crate) fn private(mut self, username: &'static str, password: &'static str) -> Self {
        self.0.bearer = true;
        self.0.accounts.push(Account { username, password });
        self
    }

    pub(crate) fn fault(mut self, fault: Fault) -> Self {
        self.0.fault = Some(fault);
        self
    }

    pub(crate) async fn start(mut self) -> TestRegistry {
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        self.0.address = listener.local_addr().unwrap().to_string();
        // Registries list tags sorted as text.
        self.0.content.tags.sort();
        self.0.content.tags.dedup();
        let shared = Arc::new(self.0);
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        TestRegistry { shared, server }
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl TestRegistry {
    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn address(&self) -> &str {
        &self.shared.address
    }

    /// Ends the validity of all tokens handed out so far.
    pub(crate) fn end_tokens(&self) {
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many requests had a path with this end.
    pub(crate) fn count(&self, end: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.ends_with(end)).count()
    }
}

fn reply(status: u16, body: impl Into<Body>) -> Response {
    Response::builder().status(status).header("content-type", "application/json").body(body.into()).unwrap()
}

fn refusal(status: u16, code: &str) -> Response {
    reply(status, json!({ "errors": [{ "code": code, "message": "refused" }] }).to_string())
}

fn parameters(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn parameter(query: &str, name: &str) -> Option<String> {
    parameters(query).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let authorization = header("authorization");
    let seen = Seen { path: path.clone(), query: query.clone(), authorization: authorization.clone() };
    shared.seen.lock().unwrap().push(seen);
    if path == "/token" {
        return shared.token(&query, authorization.as_deref());
    }
    if let Some(response) = shared.refuse(authorization.as_deref()) {
        return response;
    }
    if let Some(response) = shared.misbehave(&path, &query) {
        return response;
    }
    let Some(rest) = path.strip_prefix(&format!("/v2/{PATH}/")) else {
        let is_upper = path.bytes().any(|b| b.is_ascii_uppercase());
        return if is_upper { refusal(400, "NAME_INVALID") } else { refusal(404, "NAME_UNKNOWN") };
    };
    if rest == "tags/list" {
        shared.page(&query)
    } else if let Some(reference) = rest.strip_prefix("manifests/") {
        shared.manifest(reference, &header("accept").unwrap_or_default())
    } else if let Some(digest) = rest.strip_prefix("blobs/") {
        shared.blob(digest)
    } else {
        refusal(404, "NOT_FOUND")
    }
}

impl Shared {
    fn token(&self, query: &str, authorization: Option<&str>) -> Response {
        match &self.fault {
            Some(Fault::TokenAnswer(text)) => return reply(200, text.clone()),
            Some(Fault::TokenStatus(status)) => return refusal(*status, "TOKEN"),
            _ => {}
        }
        let is_for_reading = parameter(query, "scope").as_deref() == Some(&format!("repository:{PATH}:pull"))
            && parameter(query, "service").as_deref() == Some("ghcr.io");
        if !is_for_reading {
            return refusal(400, "SCOPE");
        }
        let who = match authorization {
            None if self.anonymous_may_read => "anonymous".to_owned(),
            None => return refusal(401, "UNAUTHORIZED"),
            Some(header) => match self.accounts.iter().find(|account| header == basic(account)) {
                Some(account) => account.username.to_owned(),
                None => return refusal(403, "DENIED"),
            },
        };
        reply(200, json!({ "token": self.token_for(&who) }).to_string())
    }

    fn token_for(&self, who: &str) -> String {
        format!("token-{}-for-{who}", self.generation.load(Ordering::Relaxed))
    }

    /// The challenge or refusal of a request without a good token.
    fn refuse(&self, authorization: Option<&str>) -> Option<Response> {
        let (realm, wants_basic) = match &self.fault {
            Some(Fault::RealmAt(realm)) => (realm.clone(), false),
            Some(Fault::BasicChallenge) => (String::new(), true),
            _ => (format!("http://{}/token", self.address), false),
        };
        let challenge = if wants_basic {
            "Basic realm=\"registry\"".to_owned()
        } else {
            format!("Bearer realm=\"{realm}\",service=\"ghcr.io\",scope=\"repository:{PATH}:pull,push\"")
        };
        let is_needed = self.bearer || matches!(self.fault, Some(Fault::RealmAt(_) | Fault::BasicChallenge));
        let is_known = |header: &str| {
            if wants_basic {
                self.accounts.iter().any(|account| header == basic(account))
            } else {
                (self.anonymous_may_read && header == format!("Bearer {}", self.token_for("anonymous")))
                    || self
                        .accounts
                        .iter()
                        .any(|account| header == format!("Bearer {}", self.token_for(account.username)))
            }
        };
        let refuses_all = matches!(self.fault, Some(Fault::RefusesTokens));
        if !is_needed || (authorization.is_some_and(is_known) && !refuses_all) {
            return None;
        }
        let mut response = refusal(401, "UNAUTHORIZED");
        response.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
        Some(response)
    }

    fn misbehave(&self, path: &str, query: &str) -> Option<Response> {
        let page = |tags: Vec<String>, link: Option<String>| {
            let mut response = reply(200, json!({ "name": PATH, "tags": tags }).to_string());
            if let Some(link) = link {
                response.headers_mut().insert("link", format!("<{link}>; rel=\"next\"").parse().unwrap());
            }
            response
        };
        let number = parameter(query, "page").and_then(|number| number.parse().ok()).unwrap_or(0usize);
        let names = |page: usize| (0..100).map(|entry| format!("p{page}-{entry}")).collect::<Vec<_>>();
        match self.fault.as_ref()? {
            Fault::Html => Some(
                Response::builder()
                    .header("content-type", "text/html")
                    .body("<!DOCTYPE html><html><body>Sign in</body></html>".into())
                    .unwrap(),
            ),
            Fault::EndlessPages => Some(page(names(number), Some(format!("{path}?n=100&page={}", number + 1)))),
            Fault::NotAdvancing => Some(page(names(0), Some(format!("{path}?n=100&page={}", number + 1)))),
            Fault::LinkToItself => Some(page(names(number), Some(format!("{path}?{query}")))),
            Fault::LinkTo(url) => Some(page(names(0), Some(url.clone()))),
            Fault::NullTags => Some(reply(200, json!({ "name": PATH, "tags": null }).to_string())),
            Fault::Status(status, headers) => {
                let mut response = refusal(*status, "STATUS");
                for (name, value) in headers {
                    response.headers_mut().insert(*name, value.parse().unwrap());
                }
                Some(response)
            }
            Fault::Huge { bytes, announced } => Some(huge(*bytes, *announced)),
            Fault::RedirectTo(host) => Some(redirect(host, path, query)),
            Fault::RedirectBlobsTo(host) if path.contains("/blobs/") => Some(redirect(host, path, query)),
            Fault::NeverEndingBody => {
                let start = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{\"name\":"))]);
                Some(reply(200, Body::from_stream(start.chain(stream::pending()))))
            }
            Fault::Truncated => {
                let parts = [Ok(Bytes::from_static(b"{\"name\":")), Err(std::io::Error::other("closed"))];
                Some(reply(200, Body::from_stream(stream::iter(parts))))
            }
            _ => None,
        }
    }

    fn page(&self, query: &str) -> Response {
        let tags = &self.content.tags;
        if matches!(self.fault, Some(Fault::IgnoresPaging)) {
            return reply(200, json!({ "name": PATH, "tags": tags }).to_string());
        }
        let size = match parameter(query, "n").map(|n| n.parse::<usize>()) {
            None => 100,
            Some(Ok(n)) if n > 0 => n.min(100),
            Some(_) => return refusal(400, "PAGINATION_NUMBER_INVALID"),
        };
        let last = parameter(query, "last");
        let start = last.map_or(0, |last| tags.partition_point(|tag| *tag <= last));
        let end = tags.len().min(start + size);
        let shown = &tags[start..end];
        let mut response = reply(200, json!({ "name": PATH, "tags": shown }).to_string());
        if end < tags.len() && !matches!(self.fault, Some(Fault::NoLinks)) {
            let link = format!("</v2/{PATH}/tags/list?last={}&n={size}>; rel=\"next\"", tags[end - 1]);
            response.headers_mut().insert("link", link.parse().unwrap());
        }
        response
    }

    fn manifest(&self, reference: &str, accept: &str) -> Response {
        let Some((media_type, body)) = self.content.manifests.get(reference) else {
            return refusal(404, "MANIFEST_UNKNOWN");
        };
        // The real one does not convert: what the client does not accept does not exist for it.
        if !accept.split(',').any(|part| part.trim() == media_type) && media_type.contains("vnd.") {
            return refusal(404, "MANIFEST_UNKNOWN");
        }
        let mut headers = HeaderMap::new();
        let announced = match &self.fault {
            Some(Fault::WrongDigestHeader) => format!("sha256:{}", "0".repeat(64)),
            _ => timetracker_operator::api::names::Digest::of(body).to_string(),
        };
        headers.insert("docker-content-digest", announced.parse().unwrap());
        headers.insert("content-type", media_type.parse().unwrap());
        let mut body = body.clone();
        if matches!(self.fault, Some(Fault::OtherContent)) {
            headers.remove("docker-content-digest");
            body.push(b' ');
        }
        let mut response = Response::new(Body::from(body));
        *response.headers_mut() = headers;
        response
    }

    fn blob(&self, digest: &str) -> Response {
        match self.content.blobs.get(digest) {
            Some(blob) => Response::new(Body::from(blob.clone())),
            None => refusal(404, "BLOB_UNKNOWN"),
        }
    }
}

fn basic(account: &Account) -> String {
    let pair = format!("{}:{}", account.username, account.password);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

fn redirect(host: &str, path: &str, query: &str) -> Response {
    let location = if query.is_empty() { format!("{host}{path}") } else { format!("{host}{path}?{query}") };
    Response::builder().status(StatusCode::TEMPORARY_REDIRECT).header("location", location).body(Body::empty()).unwrap()
}

fn huge(bytes: usize, announced: bool) -> Response {
    const CHUNK: usize = 64 << 10;
    let chunk = Bytes::from(vec![b' '; CHUNK]);
    let chunks = stream::iter((0..bytes / CHUNK).map(move |_| Ok::<_, Infallible>(chunk.clone())));
    let mut response = reply(200, Body::from_stream(chunks));
    if announced {
        response.headers_mut().insert("content-length", (bytes / CHUNK * CHUNK).to_string().parse().unwrap());
    }
    response
}
