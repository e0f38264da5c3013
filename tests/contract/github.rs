//! The GitHub client against a stand-in that answers `/rate_limit` and mints installation tokens.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::json;
use timetracker_operator::github::{GitHubClient, GitHubConfig, GitHubCredentials, GitHubError, Identity, Validated};

const TOKEN: &str = "ghp_canary";
const MINTED: &str = "ghs_minted_canary";

struct Shared {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    seen: Mutex<Vec<(String, Option<String>)>>,
}

struct StandIn {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn limits() -> String {
    let rate = json!({ "limit": 5000, "used": 1, "remaining": 4999, "reset": 1_800_000_000 });
    json!({ "resources": { "core": rate, "search": rate }, "rate": rate }).to_string()
}

async fn stand_in(status: u16, headers: Vec<(&'static str, &'static str)>, body: String) -> StandIn {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::new(Shared { status, headers, body, seen: Mutex::default() });
    let router = Router::new().fallback(answer).with_state(shared.clone());
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    StandIn { address, shared, server }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let path = request.uri().path().to_owned();
    let is_minting = path.ends_with("/access_tokens");
    shared.seen.lock().unwrap().push((path, authorization));
    if is_minting && shared.status == 200 {
        let token = json!({ "token": MINTED, "expires_at": "2099-01-01T00:00:00Z", "permissions": {} });
        return Response::builder().status(201).body(token.to_string().into()).unwrap();
    }
    let mut response = Response::builder().status(shared.status).header("content-type", "application/json");
    for (name, value) in &shared.headers {
        response = response.header(*name, *value);
    }
    response.body(shared.body.clone().into()).unwrap()
}

impl StandIn {
    async fn validate(&self) -> Result<Validated, GitHubError> {
        self.validate_as(GitHubCredentials::Token(format!("{TOKEN}\n").into())).await
    }

    async fn validate_as(&self, credentials: GitHubCredentials) -> Result<Validated, GitHubError> {
        let config = GitHubConfig {
            api_url: format!("http://{}", self.address),
            credentials,
            allow_http_to_loopback: true,
            request_timeout: Some(Duration::from_secs(10)),
        };
        GitHubClient::new(&config)?.validate().await
    }
}

#[tokio::test]
async fn a_good_token_is_validated_with_its_limits() {
    let github = stand_in(200, Vec::new(), limits()).await;
    let validated = github.validate().await.unwrap();
    assert_eq!((validated.identity, validated.limit, validated.remaining), (Identity::Token, 5000, 4999));
    let expected = vec![("/rate_limit".to_owned(), Some(format!("Bearer {TOKEN}")))];
    assert_eq!(*github.shared.seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn every_refusal_has_its_reason_and_nothing_is_sent_twice() {
    let message = json!({ "message": format!("you sent {TOKEN}") }).to_string();
    let none_left = vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1800000000")];
    for (status, headers, reason, is_transient) in [
        (401, Vec::new(), "GitHubUnauthorized", false),
        (403, Vec::new(), "GitHubForbidden", false),
        (403, none_left, "GitHubRateLimited", true),
        (404, Vec::new(), "GitHubNotFound", false),
        (429, Vec::new(), "GitHubRateLimited", true),
        (500, Vec::new(), "GitHubUnreachable", true),
        (503, Vec::new(), "GitHubUnreachable", true),
    ] {
        let github = stand_in(status, headers, message.clone()).await;
        let error = github.validate().await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), (reason, is_transient), "{status}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        assert_eq!(github.shared.seen.lock().unwrap().len(), 1, "{status} is not repeated");
    }
}

#[tokio::test]
async fn a_web_page_is_an_invalid_response() {
    let github = stand_in(200, Vec::new(), "<html>".to_owned()).await;
    assert_eq!(github.validate().await.unwrap_err().reason(), "GitHubInvalidResponse");
}

#[tokio::test]
async fn a_redirect_to_another_host_does_not_carry_the_token() {
    let thief = stand_in(200, Vec::new(), limits()).await;
    let location: &'static str = format!("http://{}/rate_limit", thief.address).leak();
    let github = stand_in(307, vec![("location", location)], String::new()).await;
    let _outcome = github.validate().await;
    assert!(thief.shared.seen.lock().unwrap().iter().all(|(_, authorization)| authorization.is_none()));
}

#[tokio::test]
async fn an_app_speaks_with_its_installations_token_which_is_made_once() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().serialize_pem();
    let app = || GitHubCredentials::App { app_id: 11, installation_id: 22, private_key: key.clone().into() };
    let github = stand_in(200, Vec::new(), limits()).await;
    let validated = github.validate_as(app()).await.unwrap();
    assert_eq!(validated.identity, Identity::Installation { app_id: 11, installation_id: 22 });
    let seen = github.shared.seen.lock().unwrap().clone();
    let [(minting, signed), (asking, token)] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((minting.as_str(), asking.as_str()), ("/app/installations/22/access_tokens", "/rate_limit"));
    assert!(signed.as_ref().unwrap().starts_with("Bearer ey"), "the App signs for itself");
    assert!(token.as_ref().unwrap().ends_with(MINTED), "{token:?}");

    let unknown = stand_in(404, Vec::new(), "{\"message\":\"Not Found\"}".to_owned()).await;
    let error = unknown.validate_as(app()).await.unwrap_err();
    assert_eq!(error.reason(), "GitHubNotFound");
    assert!(error.to_string().contains("App 11, installation 22"), "{error}");
    assert_eq!(unknown.shared.seen.lock().unwrap().len(), 1);
}
