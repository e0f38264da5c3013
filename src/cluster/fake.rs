//! An API server of unit tests: they see each request and answer it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{Handle, SendResponse, pair};

use super::{Cluster, Leadership};

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// The server's side.
pub(crate) struct FakeApi {
    requests: Handle<Request<Body>, Response<Answer>>,
}

/// One request, to be answered.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    /// The body; null when there is none.
    pub(crate) body: Value,
    answer: SendResponse<Response<Answer>>,
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
        let body = Full::from(serde_json::to_vec(body).unwrap()).boxed_unsync();
        self.answer.send_response(Response::builder().status(status).body(body).unwrap());
    }

    /// Answers with this text as it stands.
    pub(crate) fn answer_bytes(self, bytes: Vec<u8>) {
        self.answer.send_response(Response::new(Full::from(bytes).boxed_unsync()));
    }

    /// Answers with this text again and again, without end; returns how often it was taken.
    pub(crate) fn answer_endlessly(self, text: &'static [u8]) -> Arc<AtomicUsize> {
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        let frames = futures::stream::repeat_with(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(text)))
        });
        self.answer.send_response(Response::new(StreamBody::new(frames).boxed_unsync()));
        taken
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
