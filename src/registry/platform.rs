//! What an image runs on, and whether a node is that.

use std::fmt;
use std::str::FromStr;

/// What an image runs on, `os/architecture[/variant]` in the words of the OCI image specification.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// Operating system, for example `linux`.
    pub os: String,
    /// Processor architecture as Go and Kubernetes name it, for example `amd64`.
    pub architecture: String,
    /// Variant of the architecture, for example `v7`.
    pub variant: Option<String>,
}

/// A text that is not `os/architecture[/variant]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a platform: expected os/architecture or os/architecture/variant, for example linux/amd64")]
pub struct PlatformError;

impl Platform {
    /// Linux on `architecture`, the value of a node's `kubernetes.io/arch` label.
    #[must_use]
    pub fn linux(architecture: &str) -> Self {
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether an image for this platform serves a node that `wanted` describes. A variant that only one of them names
    /// does not part them.
    #[must_use]
    pub fn serves(&self, wanted: &Self) -> bool {
        let variants_fit = match (&self.variant, &wanted.variant) {
            (Some(own), Some(wanted)) => own == wanted,
            (None, _) | (_, None) => true,
        };
        self.os == wanted.os && self.architecture == wanted.architecture && variants_fit
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let mut parts = text.split('/');
        let mut next = || parts.next().filter(|part| is_platform_word(part)).map(str::to_owned);
        let (os, architecture, variant) = (next(), next(), next());
        let written: usize = text.split('/').count();
        match (os, architecture) {
            (Some(os), Some(architecture)) if written == 2 + usize::from(variant.is_some()) => {
                Ok(Self { os, architecture, variant })
            }
            _ => Err(PlatformError),
        }
    }
}

/// Whether `text` is one part of a platform's name.
pub(super) fn is_platform_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 32
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("linux/amd64", "linux/amd64", true)]
    #[case("linux/arm64/v8", "linux/arm64", true)]
    #[case("linux/arm/v6", "linux/arm/v7", false)]
    #[case("linux/arm64", "linux/amd64", false)]
    #[case("windows/amd64", "linux/amd64", false)]
    fn a_platform_serves_nodes_like_it(#[case] own: &str, #[case] wanted: &str, #[case] expected: bool) {
        assert_eq!(own.parse::<Platform>().unwrap().serves(&wanted.parse().unwrap()), expected);
    }

    #[rstest]
    #[case("linux")]
    #[case("linux/")]
    #[case("linux/amd64/v1/x")]
    #[case("Linux/amd64")]
    #[case("linux/amd64/")]
    fn a_platform_is_two_or_three_words(#[case] text: &str) {
        assert_eq!(text.parse::<Platform>(), Err(PlatformError));
    }
}
