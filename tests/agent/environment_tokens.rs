//! Publishing to a registry behind a token service as GHCR has one, and deleting what is old: with tokens that end in the
//! middle, rights that are missing, and answers that lead elsewhere.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use timetracker_operator::agent::report::{EnvironmentFailure, EnvironmentReport};
use timetracker_operator::api::names::Digest;
use tokio::task::JoinHandle;

use crate::Finished;
use crate::environment_images::{IMAGES, PASSWORD, Registry, USER, WEEK, archive, compressed, identify};

/// How the gate behaves.
#[derive(Debug, Clone, Default)]
struct Manners {
    /// What tokens are never good for.
    withheld: Option<&'static str>,
    /// The token service refuses to withhold anything: it gives no token at all.
    no_token: bool,
    /// The status of a request whose token is not good for it, other than 401.
    refusal: Option<u16>,
    /// Tokens end after so many requests.
    requests: Option<usize>,
    /// Where the challenge sends.
    realm: Option<String>,
    /// Where uploads are sent.
    uploads: Option<String>,
    /// It deletes nothing.
    keeps_all: bool,
    /// Its list of tags never ends.
    endless: bool,
}

/// What a request looked like: method, path, query and the kind of its authorization.
type Seen = (String, String, String, String);

struct Shared {
    upstream: String,
    address: String,
    manners: Manners,
    requests: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    client: reqwest::Client,
}

/// A token service and what it guards, in front of a real registry.
struct Gate {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn refusal(status: u16, code: &str) -> Response {
    let body = json!({ "errors": [{ "code": code, "message": "refused" }] }).to_string();
    Response::builder().status(status).header("content-type", "application/json").body(body.into()).unwrap()
}

impl Gate {
    async fn before(registry: &Registry, manners: Manners) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            upstream: registry.address.clone(),
            address: listener.local_addr().unwrap().to_string(),
            manners,
            requests: AtomicUsize::new(0),
            seen: Mutex::default(),
            client: reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, server }
    }

    fn publish(&self, registry: &Registry, week: u64, content: &str) -> Finished {
        let archive = compressed(&archive(&[("x", content.as_bytes())]));
        registry.publish_with(
            &registry.options_at(&self.shared.address, week),
            &Digest::of(content.as_bytes()),
            archive,
        )
    }

    fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
    let authorization =
        parts.headers.get("authorization").map(|header| header.to_str().unwrap().to_owned()).unwrap_or_default();
    let kind = authorization.split(' ').next().unwrap_or_default().to_owned();
    shared.seen.lock().unwrap().push((parts.method.to_string(), path.clone(), query.clone(), kind));
    if path == "/token" {
        return shared.token(&query, &authorization);
    }
    if let Some(refusal) = shared.refused(parts.method.as_str(), &path, &authorization) {
        return refusal;
    }
    if shared.manners.keeps_all && parts.method == "DELETE" {
        return refusal(405, "UNSUPPORTED");
    }
    if shared.manners.endless && path.ends_with("/tags/list") {
        let page: usize = query.rsplit_once("page=").map_or(0, |(_, page)| page.parse().unwrap());
        let tags: Vec<String> = (0..100).map(|number| format!("t{page}-{number}")).collect();
        let next = format!("<{path}?page={}>; rel=\"next\"", page + 1);
        return Response::builder()
            .header("link", next)
            .body(json!({ "name": "x", "tags": tags }).to_string().into())
            .unwrap();
    }
    shared.forward(parts, body).await
}

impl Shared {
    /// How many tokens have ended.
    fn generation(&self) -> usize {
        self.manners.requests.map_or(0, |most| self.requests.load(Ordering::Relaxed) / most)
    }

    fn token(&self, query: &str, authorization: &str) -> Response {
        if authorization != format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}"))) {
            return refusal(401, "UNAUTHORIZED");
        }
        let scope =
            url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "scope").unwrap().1.into_owned();
        let withheld = self.manners.withheld.filter(|action| scope.split([',', ':']).any(|asked| asked == *action));
        if self.manners.no_token && withheld.is_some() {
            return refusal(403, "DENIED");
        }
        let (place, actions) = scope.rsplit_once(':').unwrap();
        let granted: Vec<&str> = actions.split(',').filter(|action| Some(*action) != withheld).collect();
        let token = format!("{}|{place}|{}|", self.generation(), granted.join("|"));
        Response::new(json!({ "token": token, "expires_in": 300 }).to_string().into())
    }

    fn refused(&self, method: &str, path: &str, authorization: &str) -> Option<Response> {
        let action = match method {
            "GET" | "HEAD" => "pull",
            "DELETE" => "delete",
            _ => "push",
        };
        let place = path.strip_prefix("/v2/").unwrap();
        let place =
            ["/manifests/", "/blobs/", "/tags/"].iter().find_map(|part| Some(place.split_once(part)?.0)).unwrap();
        let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
        let is_known = token.starts_with(&format!("{}|repository:{place}|", self.generation()));
        if is_known && token.contains(&format!("|{action}|")) {
            self.requests.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if let Some(status) = self.manners.refusal.filter(|_| is_known) {
            return Some(refusal(status, "DENIED"));
        }
        let realm = self.manners.realm.clone().unwrap_or_else(|| format!("http://{}/token", self.address));
        let mut response = refusal(401, "UNAUTHORIZED");
        let challenge = format!("Bearer realm=\"{realm}\",service=\"gate\",scope=\"repository:{place}:{action}\"");
        response.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
        Some(response)
    }

    async fn forward(&self, parts: http::request::Parts, body: Body) -> Response {
        let url = format!("http://{}{}", self.upstream, parts.uri);
        let mut request = self.client.request(parts.method, url).basic_auth(USER, Some(PASSWORD));
        for name in ["accept", "content-type", "content-length"] {
            request = request.headers(
                parts.headers.get(name).map(|value| (name.parse().unwrap(), value.clone())).into_iter().collect(),
            );
        }
        let answer = request.body(reqwest::Body::wrap_stream(body.into_data_stream())).send().await.unwrap();
        let mut response = Response::builder().status(answer.status());
        for name in ["location", "docker-content-digest", "content-type", "content-length", "link"] {
            if let Some(value) = answer.headers().get(name) {
                response = response.header(name, value.clone());
            }
        }
        let mut response = response.body(Body::from_stream(answer.bytes_stream())).unwrap();
        if let Some(elsewhere) = self.manners.uploads.as_ref().filter(|_| response.headers().contains_key("location")) {
            response.headers_mut().insert("location", elsewhere.parse().unwrap());
        }
        response
    }
}

fn failure(finished: &Finished) -> (EnvironmentFailure, String) {
    let EnvironmentReport::Failed { failure, message } = finished.report() else { panic!("{}", finished.report) };
    (failure, message)
}

/// A port at which nobody should ask for anything, and whether somebody did.
fn elsewhere() -> (String, std::net::TcpListener) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    (format!("http://{}", listener.local_addr().unwrap()), listener)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_published_although_tokens_end_in_the_middle() {
    let registry = Registry::start().await;
    let gate = Gate::before(&registry, Manners { requests: Some(3), ..Manners::default() }).await;
    let finished = gate.publish(&registry, WEEK, "a");
    let EnvironmentReport::Published { image, found: false, problem: None, .. } = finished.report() else {
        panic!("{}", finished.report)
    };
    let manifest = registry.get(&format!("manifests/{}-{WEEK}", Digest::of(b"a").hex())).await;
    assert_eq!(image, format!("{IMAGES}@{}", Digest::of(&manifest)));
    let mut scopes = Vec::new();
    for (_, path, query, kind) in gate.seen() {
        assert_eq!(kind == "Basic", path == "/token", "the password goes to the token service alone");
        scopes.extend((path == "/token").then_some(query));
    }
    assert!(scopes.len() > 3, "{scopes:?}");
    let base = scopes.iter().filter(|scope| scope.contains("library%2Fpython"));
    assert!(base.clone().count() > 0 && base.clone().all(|scope| scope.contains("%3Apull&")), "{scopes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_only_looks_asks_for_reading_only() {
    let registry = Registry::start().await;
    let gate = Gate::before(&registry, Manners::default()).await;
    let (named, _) = identify(&registry.options_at(&gate.shared.address, WEEK), "flask\n");
    assert!(matches!(named, EnvironmentReport::Identified { image: None, problem: None, .. }), "{named:?}");
    let scopes: Vec<String> =
        gate.seen().into_iter().filter(|(_, path, ..)| path == "/token").map(|seen| seen.2).collect();
    assert_eq!(scopes, ["scope=repository%3Ao%2Fapp-environment%3Apull&service=gate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_told_with_what_to_do_and_not_tried_again() {
    let registry = Registry::start().await;
    let without = Manners { withheld: Some("push"), ..Manners::default() };
    let ways =
        [Manners { no_token: true, ..without.clone() }, without.clone(), Manners { refusal: Some(403), ..without }];
    for manners in ways {
        let gate = Gate::before(&registry, manners.clone()).await;
        let (failure, message) = failure(&gate.publish(&registry, WEEK, "a"));
        assert_eq!(failure, EnvironmentFailure::Denied, "{manners:?}: {message}");
        let expected =
            format!("{IMAGES}: pushing is not allowed: the Secret's account needs that right (on GHCR write:packages)");
        assert_eq!(message, expected, "{manners:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_service_at_another_host_gets_nothing() {
    let registry = Registry::start().await;
    let (url, listener) = elsewhere();
    let gate = Gate::before(&registry, Manners { realm: Some(format!("{url}/token")), ..Manners::default() }).await;
    let (failure, message) = failure(&gate.publish(&registry, WEEK, "a"));
    assert_eq!(failure, EnvironmentFailure::Denied, "{message}");
    assert!(message.contains(url.trim_start_matches("http://")) && message.contains("Nothing was sent"), "{message}");
    assert!(listener.accept().is_err(), "somebody asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_sent_elsewhere_does_not_go_there() {
    let registry = Registry::start().await;
    let (url, listener) = elsewhere();
    let gate = Gate::before(&registry, Manners { uploads: Some(format!("{url}/upload")), ..Manners::default() }).await;
    let (failure, message) = failure(&gate.publish(&registry, WEEK, "a"));
    assert_eq!(failure, EnvironmentFailure::Denied, "{message}");
    assert!(message.contains("Nothing was sent there"), "{message}");
    assert!(listener.accept().is_err(), "somebody asked");
}

/// Published so: whether it was there, how many others were deleted, and why not more.
fn published(finished: &Finished) -> (String, bool, u32, Option<String>) {
    let EnvironmentReport::Published { image, found, removed, problem } = finished.report() else {
        panic!("{}", finished.report)
    };
    (image, found, removed, problem)
}

async fn tags(registry: &Registry) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_slice(&registry.get("tags/list").await).unwrap();
    list["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

fn tag(content: &str, week: u64) -> String {
    format!("{}-{week}", Digest::of(content.as_bytes()).hex())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_used_gets_the_weeks_tag_and_one_that_is_not_goes() {
    let registry = Registry::start().await;
    let gate = Gate::before(&registry, Manners::default()).await;
    for content in ["used", "unused"] {
        assert!(!published(&gate.publish(&registry, 100, content)).1);
    }
    let (image, found, removed, problem) = published(&gate.publish(&registry, 101, "used"));
    assert_eq!((found, removed, problem), (true, 0, None));
    assert!(tags(&registry).await.contains(&tag("used", 101)));
    // What a run of last week may still use stays for one week more.
    assert_eq!(published(&gate.publish(&registry, 103, "other")).2, 0);
    let (_, found, removed, problem) = published(&gate.publish(&registry, 103, "used"));
    assert_eq!((found, removed, problem), (true, 0, None));
    assert_eq!(published(&gate.publish(&registry, 104, "another")).2, 1);
    let left = tags(&registry).await;
    assert!(!left.contains(&tag("unused", 100)), "{left:?}");
    assert!(
        left.contains(&tag("used", 103)) && left.contains(&tag("used", 100)),
        "its digest has a younger tag: {left:?}"
    );
    let digest = image.rsplit_once('@').unwrap().1;
    registry.get(&format!("manifests/{digest}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_put_there_stays() {
    let registry = Registry::start().await;
    let gate = Gate::before(&registry, Manners::default()).await;
    published(&gate.publish(&registry, 100, "a"));
    published(&gate.publish(&registry, 100, "b"));
    let manifest = registry.get(&format!("manifests/{}", tag("a", 100))).await;
    // Somebody's tag on an image of ours, and somebody's image under a tag like ours.
    registry.put("release", manifest.clone()).await;
    let mut foreign: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    foreign["annotations"] = json!({});
    registry.put(&tag("foreign", 90), foreign.to_string().into_bytes()).await;
    foreign["annotations"] = json!({"dev.timetracker.environment": Digest::of(b"a")});
    registry.put(&tag("forged", 90), foreign.to_string().into_bytes()).await;
    assert_eq!(published(&gate.publish(&registry, 110, "c")).2, 1, "b");
    let left = tags(&registry).await;
    for kept in ["release".to_owned(), tag("a", 100), tag("foreign", 90), tag("forged", 90), tag("c", 110)] {
        assert!(left.contains(&kept), "{kept}: {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_deletes_nothing_is_asked_once_and_the_image_is_published() {
    let registry = Registry::start().await;
    let keeps = Manners { keeps_all: true, ..Manners::default() };
    let without = Manners { withheld: Some("delete"), ..Manners::default() };
    for (round, (manners, why)) in
        [(keeps, "does not offer deleting images"), (without, "deleting is not allowed")].into_iter().enumerate()
    {
        let gate = Gate::before(&registry, manners).await;
        for content in ["a", "b"] {
            published(&gate.publish(&registry, 100, content));
        }
        let (_, _, removed, problem) = published(&gate.publish(&registry, 110, &format!("c{round}")));
        let problem = problem.unwrap();
        assert!(removed == 0 && problem.starts_with("old images stay: ") && problem.contains(why), "{problem}");
        let asked = gate.seen().iter().filter(|(method, _, _, kind)| method == "DELETE" && kind == "Bearer").count();
        assert!(asked <= 2, "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_list_without_end_nothing_is_deleted() {
    let registry = Registry::start().await;
    published(&Gate::before(&registry, Manners::default()).await.publish(&registry, 100, "a"));
    let gate = Gate::before(&registry, Manners { endless: true, ..Manners::default() }).await;
    let (_, _, removed, problem) = published(&gate.publish(&registry, 110, "b"));
    assert!(removed == 0 && problem.as_ref().is_some_and(|why| why.starts_with("old images stay: ")), "{problem:?}");
    registry.get(&format!("manifests/{}", tag("a", 100))).await;
}
