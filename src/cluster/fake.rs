//! An API server of unit tests: they see each request and answer it.

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{Handle, SendResponse, pair};

use super::{Cluster, Leadership};

/// The server's side.
pub(crate) struct FakeApi {
    requests: Handle<Request<Body>, Response<Body>>,
}

/// One request, to be answered.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    /// The body; null when there is none.
    pub(crate) body: Value,
    answer: SendResponse<Response<Body>>,
}

impl FakeApi {
    /// A client and the server that it talks to.
    pub(crate) fn client() -> (Client, Self) {
        let (service, requests) = pair();
        (Client::new(service, "default"), Self { requests })
    }

    /// A cluster that leads, and its server.
    pub(crate) fn cluster() -> (Cluster, Self) {
        let (client, api) = Self::client();
        (Cluster::new(client, Leadership::alone(), "test"), api)
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Asked {
        let (request, answer) = self.requests.next_request().await.unwrap();
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Asked {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            answer,
        }
    }
}

impl Asked {
    /// Answers with a JSON body.
    pub(crate) fn answer(self, status: u16, body: &Value) {
        let body = Body::from(serde_json::to_vec(body).unwrap());
        self.answer.send_response(Response::builder().status(status).body(body).unwrap());
    }

    /// Answers with an error of the API server.
    pub(crate) fn refuse(self, code: u16, reason: &str) {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "refused", "reason": reason, "code": code,
        });
        self.answer(code, &status);
    }
}
