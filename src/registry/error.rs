//! Why a registry could not be read, in words for a condition's message.

use std::time::Duration;

/// What went wrong with a registry. Messages name the repository, the cause and the next step; none holds a credential
/// or text that the server chose freely.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No usable answer: name, connection, TLS, timeout, or the server's own failure (5xx).
    #[error(
        "{repository}: the registry could not be reached: {cause}. It is tried again; check address, network and TLS"
    )]
    Unreachable {
        /// Which repository was asked.
        repository: String,
        /// What failed, without URLs.
        cause: String,
    },
    /// 401 that credentials, or the lack of them, did not resolve.
    #[error("{repository}: the registry refused to authenticate: {cause}. Check the pull secret")]
    Unauthorized {
        /// Which repository was asked.
        repository: String,
        /// At which step.
        cause: &'static str,
    },
    /// 403.
    #[error(
        "{repository}: the registry denies access. Give the pull secret's account the right to read this repository"
    )]
    Forbidden {
        /// Which repository was asked.
        repository: String,
    },
    /// 403, or a token that is not good for it: the account may read at most.
    #[error("{repository}: {action} is not allowed: the Secret's account needs that right (on GHCR {right})")]
    WriteDenied {
        /// Which repository was asked.
        repository: String,
        /// What was to be done.
        action: &'static str,
        /// What GHCR calls the right to do it.
        right: &'static str,
    },
    /// 405 or 501.
    #[error("{repository}: the registry does not offer {what}")]
    Unsupported {
        /// Which repository was asked.
        repository: String,
        /// What.
        what: &'static str,
    },
    /// 404: the repository, the tag or the digest does not exist, or is hidden from these credentials.
    #[error(
        "{repository}: {what} does not exist, or is hidden from these credentials. Check the name and the pull secret"
    )]
    NotFound {
        /// Which repository was asked.
        repository: String,
        /// What was asked for: the repository, a tag or a digest.
        what: String,
    },
    /// 429.
    #[error("{repository}: the registry's rate limit is reached{}. It is tried again then; use a pull secret or a longer interval", shown_wait(.retry_after.as_ref()))]
    RateLimited {
        /// Which repository was asked.
        repository: String,
        /// How long the registry asks to wait, at most an hour.
        retry_after: Option<Duration>,
    },
    /// An answer that is not what the distribution specification says.
    #[error("{repository}: the registry's answer is not valid: {cause}. Check that the host is a container registry")]
    InvalidResponse {
        /// Which repository was asked.
        repository: String,
        /// What is wrong with it.
        cause: String,
    },
    /// An answer above a limit; it was not read to its end.
    #[error("{repository}: {what} is larger than {limit} bytes. Nothing was taken from it; check the repository")]
    TooLarge {
        /// Which repository was asked.
        repository: String,
        /// What is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// A tag list that was not read to its end.
    #[error(
        "{repository}: the list of tags is not complete after {seen} tags: {cause}. No version is picked from a part of the list"
    )]
    Incomplete {
        /// Which repository was asked.
        repository: String,
        /// Tags read until then.
        seen: usize,
        /// Why reading stopped.
        cause: &'static str,
    },
    /// Content that does not have the digest by which it was asked for or announced.
    #[error("{repository}: content has the digest {actual}, not {expected}. It is not used; check registry and mirror")]
    DigestMismatch {
        /// Which repository was asked.
        repository: String,
        /// The digest asked for or announced.
        expected: String,
        /// The digest of what was received.
        actual: String,
    },
    /// The image does not run on the platform asked for.
    #[error(
        "{repository}: the image has no {wanted} variant, only {available}. Publish one for {wanted}, or choose other nodes"
    )]
    NoSuchPlatform {
        /// Which repository was asked.
        repository: String,
        /// The platform asked for.
        wanted: String,
        /// The platforms that the image has.
        available: String,
    },
    /// A token service or redirect that credentials or requests must not go to. Nothing was sent there.
    #[error(
        "{repository}: the registry points to {host}, {cause}. Nothing was sent there; allow the host in the operator's configuration if it is right"
    )]
    RefusedAddress {
        /// Which repository was asked.
        repository: String,
        /// The host pointed to.
        host: String,
        /// Why it is refused.
        cause: &'static str,
    },
}

fn shown_wait(wait: Option<&Duration>) -> String {
    wait.map_or_else(String::new, |wait| format!("; it asks to wait {} s", wait.as_secs()))
}

impl RegistryError {
    /// One static word for the condition's reason and the metric's label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "RegistryUnreachable",
            Self::Unauthorized { .. } => "RegistryUnauthorized",
            Self::Forbidden { .. } => "RegistryForbidden",
            Self::WriteDenied { .. } => "RegistryWriteDenied",
            Self::Unsupported { .. } => "RegistryUnsupported",
            Self::NotFound { .. } => "ImageNotFound",
            Self::RateLimited { .. } => "RegistryRateLimited",
            Self::InvalidResponse { .. } => "RegistryInvalidResponse",
            Self::TooLarge { .. } => "RegistryResponseTooLarge",
            Self::Incomplete { .. } => "TagListIncomplete",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::NoSuchPlatform { .. } => "NoSuchPlatform",
            Self::RefusedAddress { .. } => "RegistryAddressRefused",
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::RateLimited { .. } | Self::Incomplete { .. } => true,
            Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::WriteDenied { .. }
            | Self::Unsupported { .. }
            | Self::NotFound { .. }
            | Self::InvalidResponse { .. }
            | Self::TooLarge { .. }
            | Self::DigestMismatch { .. }
            | Self::NoSuchPlatform { .. }
            | Self::RefusedAddress { .. } => false,
        }
    }

    /// How long the registry asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::RateLimited { retry_after, .. } = self { *retry_after } else { None }
    }
}

/// Why a [`super::Registry`] can't be built from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum RegistryConfigError {
    /// The extra certificates are no PEM bundle.
    #[error("the extra CA bundle is not a list of PEM certificates: {0}")]
    CaBundle(#[source] reqwest::Error),
    /// The extra certificates hold none.
    #[error("the extra CA bundle holds no certificate")]
    EmptyCaBundle,
    /// An address that is not `host` or `host:port`.
    #[error("`{0}` is not a registry address: expected host or host:port in lower case")]
    Address(String),
    /// The proxy can't be used.
    #[error("the https proxy is not a URL that can be used")]
    Proxy,
    /// A limit is zero.
    #[error("registry limit `{0}` must be above zero")]
    ZeroLimit(&'static str),
    /// The HTTP client could not be set up (TLS trust store, for example).
    #[error("the registry's HTTP client could not be set up: {0}")]
    Client(#[source] reqwest::Error),
}
