//! Why a request is refused, and the answer that says so.

use std::error::Error;
use std::io;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

/// Why a request is refused. The text is the answer's body and has nothing of the request in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the path is not /v1/artifacts/{{namespace}}/{{run}}/{{job}}/{{name}}")]
    Path,
    #[error("Content-Digest is not sha-256=:<base64>:")]
    DigestHeader,
    #[error("the content does not have the announced digest")]
    Digest,
    #[error("the upload ended before its end")]
    BrokenOff,
    #[error("no valid token")]
    Unauthenticated,
    #[error("the token does not open this path")]
    Forbidden,
    #[error("there is no such thing")]
    NotFound,
    #[error("the upload stood still or took too long")]
    TooSlow,
    #[error("the artifact is too large")]
    TooLarge,
    #[error("the artifacts of this job are too large together, or too many")]
    JobFull,
    #[error("another upload of this job is under way")]
    Busy,
    #[error("too many uploads are under way")]
    Overloaded,
    #[error("the keys of the cluster's tokens can't be read")]
    KeysUnknown,
    #[error("the volume is full")]
    VolumeFull,
    #[error("the volume can't be used")]
    Volume,
    #[error("the bucket can't be used; the store's log says why")]
    Bucket,
}

impl Refusal {
    /// What a failure of the volume means for whom it is told to.
    pub(super) fn of_volume(error: &object_store::Error) -> Self {
        tracing::error!(error = error as &dyn Error, "the volume can't be used");
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>()
                && matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            {
                return Self::VolumeFull;
            }
            cause = error.source();
        }
        Self::Volume
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Path | Self::DigestHeader | Self::Digest | Self::BrokenOff => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge | Self::JobFull => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::KeysUnknown | Self::Bucket => StatusCode::SERVICE_UNAVAILABLE,
            Self::VolumeFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::Volume => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status(), format!("{self}\n")).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Busy | Self::Overloaded | Self::KeysUnknown | Self::Bucket => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Path
            | Self::DigestHeader
            | Self::Digest
            | Self::BrokenOff
            | Self::Forbidden
            | Self::NotFound
            | Self::TooSlow
            | Self::TooLarge
            | Self::JobFull
            | Self::VolumeFull
            | Self::Volume => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(kind: io::ErrorKind) -> object_store::Error {
        object_store::Error::Generic { store: "test", source: Box::new(io::Error::from(kind)) }
    }

    #[test]
    fn a_full_volume_is_told_from_a_broken_one() {
        assert_eq!(Refusal::of_volume(&generic(io::ErrorKind::StorageFull)).status(), StatusCode::INSUFFICIENT_STORAGE);
        assert_eq!(
            Refusal::of_volume(&generic(io::ErrorKind::QuotaExceeded)).status(),
            StatusCode::INSUFFICIENT_STORAGE
        );
        assert_eq!(
            Refusal::of_volume(&generic(io::ErrorKind::PermissionDenied)).status(),
            StatusCode::INTERNAL_SERVER_ERROR
        );
    }
}
