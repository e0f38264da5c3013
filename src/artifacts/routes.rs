//! The paths of the store, and what every answer says to browsers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use object_store::ObjectStoreExt;

use super::access::Access;
use super::listing::Listing;
use super::place::{Place, RunPlace};
use super::refusal::Refusal;
use super::storage::Storage;
use super::upload::Uploads;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// What requests share.
pub(super) struct Shared {
    pub(super) access: Access,
    pub(super) uploads: Uploads,
    pub(super) storage: Arc<Storage>,
}

type Names<T> = Result<Path<T>, PathRejection>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/v1/artifacts/{namespace}/{run}", get(list))
        .route("/v1/artifacts/{namespace}/{run}/{job}/{name}", get(download).put(upload))
        .fallback(|| async { Refusal::NotFound })
        .layer(middleware::from_fn(harden))
        // Uploads have bounds of their own.
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

/// Artifacts are made by code that nobody has looked at: a browser must neither show nor run them here.
async fn harden(request: Request<Body>, next: Next) -> Response {
    let mut response = next.run(request).await;
    let policy = "default-src 'none'; sandbox; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "private, no-store"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn place(names: Names<[String; 4]>) -> Result<Place, Refusal> {
    let Path([namespace, run, job, name]) = names.map_err(|_| Refusal::Path)?;
    Place::new(&namespace, &run, &job, &name).ok_or(Refusal::Path)
}

/// Whether artifacts can be kept and read: not when a restart would help, but where to look.
async fn ready(State(shared): State<Arc<Shared>>) -> Result<&'static str, Refusal> {
    shared.storage.ready().map(|()| "ok\n")
}

async fn upload(
    State(shared): State<Arc<Shared>>,
    names: Names<[String; 4]>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let place = place(names)?;
    let kept = async {
        shared.access.write(&headers, &place).await?;
        shared.uploads.put(&place, &headers, body).await
    };
    match kept.await {
        Ok(bytes) => {
            tracing::info!(%place, bytes, "kept");
            Ok(StatusCode::CREATED)
        }
        Err(refusal) => {
            tracing::warn!(%place, reason = %refusal, "an upload was refused");
            Err(refusal)
        }
    }
}

async fn download(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    names: Names<[String; 4]>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let place = place(names)?;
    shared.access.read(&headers, peer, &place.run).await?;
    let got = shared.storage.store().get(&place.path()).await;
    let object = got.map_err(|error| shared.storage.unread(&error))?;
    // The name has no quotes, no spaces and no control characters.
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{}\"", place.name))
        .unwrap_or_else(|_| HeaderValue::from_static("attachment"));
    let size = object.meta.size;
    let mut response = Body::from_stream(object.into_stream()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    Ok(response)
}

async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    names: Names<[String; 2]>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Path([namespace, run]) = names.map_err(|_| Refusal::Path)?;
    let run = RunPlace::new(&namespace, &run).ok_or(Refusal::Path)?;
    shared.access.read(&headers, peer, &run).await?;
    let listing = Listing::read(&shared.storage, &run).await?;
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains("text/html") {
        return Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], listing.page()).into_response());
    }
    Ok(Json(listing).into_response())
}
