//! Validated names: every external string becomes one of these before it is used as a name, path, URL or argument.
//!
//! Parsing is the only way to build them, so code that holds a [`Digest`] or a [`Tag`] need not check it again.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Why a string is not a valid name. The message says what was given and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `sha256:` and 64 lower-case hexadecimal digits.
    #[error("`{0}` is not a digest: expected `sha256:` followed by 64 lower-case hexadecimal digits")]
    Digest(String),
    /// Not a tag of the OCI distribution specification.
    #[error("`{0}` is not an image tag: expected [A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}")]
    Tag(String),
    /// A repository with capital letters, which no registry serves.
    #[error("`{0}` has upper-case letters: image repositories are lower case, write `{1}`")]
    UpperCaseRepository(String, String),
    /// Not `host[:port]/path`.
    #[error("`{0}` is not an image repository: expected host[:port]/path in lower case, without tag or digest")]
    Repository(String),
    /// Neither `repository:tag` nor `repository@digest`.
    #[error("`{0}` is not an image reference: expected repository:tag or repository@sha256:…")]
    Reference(String),
    /// Not 40 (or 64) lower-case hexadecimal digits.
    #[error("`{0}` is not a commit: expected the full 40 lower-case hexadecimal digits")]
    Commit(String),
    /// Not a ref name that `git check-ref-format` takes.
    #[error("`{0}` is not a valid branch or tag name: {1}")]
    GitRef(String, &'static str),
    /// Not an Alembic revision identifier.
    #[error("`{0}` is not a migration revision: expected 1 to 255 of [A-Za-z0-9_.-]")]
    Revision(String),
}

/// What a string that ends up in an error message may look like: short, and without control characters.
fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(120).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().count() > 120 {
        shown.push('…');
    }
    shown
}

macro_rules! validated_string {
    ($name:ident, $pattern:literal, $max:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The validated text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "maxLength": $max })
            }
        }
    };
}

validated_string!(Digest, "^sha256:[0-9a-f]{64}$", 71, "A content digest, `sha256:` and 64 hexadecimal digits.");
validated_string!(
    Tag,
    "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$",
    128,
    "An image tag as the OCI distribution specification defines it."
);
validated_string!(
    Repository,
    "^[a-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$",
    255,
    "An image repository `host[:port]/path`, lower case, without tag or digest."
);
validated_string!(CommitSha, "^[0-9a-f]{40}([0-9a-f]{24})?$", 64, "A full Git commit id (SHA-1 or SHA-256).");
validated_string!(GitRef, "^[^-].*$", 200, "A Git branch or tag name that `git check-ref-format` accepts.");
validated_string!(Revision, "^[A-Za-z0-9_.-]{1,255}$", 255, "One Alembic revision identifier.");

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl FromStr for Digest {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && is_lower_hex(hex) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(NameError::Digest(quoted(text))),
        }
    }
}

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))
    }

    /// The first 12 hexadecimal digits: what names and printer columns show.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(7..19).unwrap_or(&self.0)
    }

    /// The 64 hexadecimal digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.get(7..).unwrap_or(&self.0)
    }
}

impl FromStr for Tag {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let first_fits = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        let rest_fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if first_fits && rest_fits && text.len() <= 128 {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Tag(quoted(text)))
        }
    }
}

/// One path component: alphanumerics, separated by `.`, `_`, `__` or dashes (OCI distribution specification).
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    part.bytes().next().is_some_and(alphanumeric)
        && part.bytes().last().is_some_and(alphanumeric)
        && part.bytes().all(|b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'))
        && !part.contains("..")
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let name_fits = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'));
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    // Without a dot, a port or `localhost` the first part is a path on Docker Hub, which we ask to be written out.
    name_fits && port_fits && (name.contains('.') || name == "localhost" || port.is_some())
}

impl FromStr for Repository {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(NameError::UpperCaseRepository(quoted(text), quoted(&text.to_ascii_lowercase())));
        }
        let fits = text.len() <= 255
            && text.split_once('/').is_some_and(|(host, path)| is_host(host) && path.split('/').all(is_path_component));
        if fits { Ok(Self(text.to_owned())) } else { Err(NameError::Repository(quoted(text))) }
    }
}

impl Repository {
    /// The registry's host with its port, for example `ghcr.io`.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.split_once('/').map_or(self.0.as_str(), |(host, _)| host)
    }

    /// The path behind the host, for example `drytrix/timetracker`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, path)| path)
    }

    /// `repository@digest`: the only form in which images are deployed.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> String {
        format!("{self}@{digest}")
    }
}

impl FromStr for CommitSha {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if matches!(text.len(), 40 | 64) && is_lower_hex(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Commit(quoted(text)))
        }
    }
}

impl CommitSha {
    /// The first 7 digits, as GitHub shows a commit.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..7).unwrap_or(&self.0)
    }
}

impl FromStr for GitRef {
    type Err = NameError;
    /// The rules of `git check-ref-format --branch`, plus a length of 200.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| Err(NameError::GitRef(quoted(text), why));
        if text.is_empty() || text.len() > 200 {
            return refuse("it must have 1 to 200 bytes");
        }
        if text.starts_with('-') || text == "@" {
            return refuse("it must not start with a dash or be `@`");
        }
        if text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || matches!(c, '~' | '^' | ':' | '?' | '*' | '[' | '\\'))
        {
            return refuse("it has white space, a control character or one of ~ ^ : ? * [ \\");
        }
        if text.contains("..") || text.contains("@{") || text.contains("//") {
            return refuse("it contains `..`, `@{` or `//`");
        }
        if text.starts_with('/') || text.ends_with('/') || text.ends_with('.') {
            return refuse("it starts or ends with `/`, or ends with a dot");
        }
        if text.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock")) {
            return refuse("a part of it starts with a dot or ends with `.lock`");
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Revision {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = (1..=255).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if fits { Ok(Self(text.to_owned())) } else { Err(NameError::Revision(quoted(text))) }
    }
}

/// The set of Alembic revisions that a database is at, or that an image's migrations end in.
///
/// A *set*: released versions of TimeTracker had up to three heads, and `alembic_version` one row for each.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Revisions(#[schemars(length(max = 32))] BTreeSet<Revision>);

impl Revisions {
    /// No revision: an empty or never migrated database.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The revisions in order.
    pub fn iter(&self) -> impl Iterator<Item = &Revision> {
        self.0.iter()
    }

    /// How many revisions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<Revision> for Revisions {
    fn from_iter<T: IntoIterator<Item = Revision>>(revisions: T) -> Self {
        Self(revisions.into_iter().collect())
    }
}

impl fmt::Display for Revisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, revision) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{revision}")?;
        }
        Ok(())
    }
}

/// An image as a person writes it: `repository:tag` or `repository@digest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    /// Where the image lives.
    pub repository: Repository,
    /// Which one.
    pub version: ImageVersion,
}

/// What behind the repository names one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageVersion {
    /// A tag, which may move.
    Tag(Tag),
    /// A digest, which can't.
    Digest(Digest),
}

impl FromStr for ImageReference {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some((repository, digest)) = text.split_once('@') {
            return Ok(Self { repository: repository.parse()?, version: ImageVersion::Digest(digest.parse()?) });
        }
        match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => {
                Ok(Self { repository: repository.parse()?, version: ImageVersion::Tag(tag.parse()?) })
            }
            Some(_) | None => Err(NameError::Reference(quoted(text))),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            ImageVersion::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            ImageVersion::Digest(digest) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> String {
        reference.to_string()
    }
}

impl TryFrom<String> for ImageReference {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn an_upper_case_repository_is_refused_with_the_right_spelling() {
        let error = "ghcr.io/DRYTRIX/TimeTracker".parse::<Repository>().unwrap_err();
        assert!(error.to_string().contains("write `ghcr.io/drytrix/timetracker`"), "{error}");
    }

    #[rstest]
    #[case("ghcr.io/drytrix/timetracker", true)]
    #[case("localhost:5000/a/b", true)]
    #[case("timetracker", false)]
    #[case("drytrix/timetracker", false)]
    #[case("ghcr.io/", false)]
    #[case("ghcr.io/../etc", false)]
    #[case("ghcr.io/a:tag", false)]
    #[case("ghcr.io:99999/a", false)]
    fn a_repository_is_host_and_path(#[case] text: &str, #[case] fits: bool) {
        assert_eq!(text.parse::<Repository>().is_ok(), fits);
    }

    #[rstest]
    #[case("1.10", true)]
    #[case("1e10", true)]
    #[case("null", true)]
    #[case("dev-20260101-000000", true)]
    #[case("", false)]
    #[case(".", false)]
    #[case("-x", false)]
    #[case("a b", false)]
    fn a_tag_keeps_the_oci_grammar(#[case] text: &str, #[case] fits: bool) {
        assert_eq!(text.parse::<Tag>().is_ok(), fits);
    }

    #[test]
    fn a_tag_has_at_most_128_characters() {
        assert!("a".repeat(128).parse::<Tag>().is_ok());
        assert!("a".repeat(129).parse::<Tag>().is_err());
    }

    #[rstest]
    #[case("develop", true)]
    #[case("feature/$(curl evil)", false)]
    #[case("feature/$(X)", true)]
    #[case("a;b", true)]
    #[case("--upload-pack=x", false)]
    #[case("../..", false)]
    #[case("a\nb", false)]
    #[case("refs/heads/refs/heads/x", true)]
    #[case("x.lock", false)]
    fn a_branch_name_keeps_the_grammar_of_git(#[case] text: &str, #[case] fits: bool) {
        assert_eq!(text.parse::<GitRef>().is_ok(), fits);
    }

    #[test]
    fn an_error_shows_no_control_characters() {
        let error = "a\u{1b}[31m\n".parse::<Tag>().unwrap_err();
        assert!(!error.to_string().chars().any(char::is_control), "{error}");
    }

    #[test]
    fn a_reference_is_read_and_written_the_same() {
        let digest = Digest::of(b"x");
        for text in ["ghcr.io/a/b:1.0".to_owned(), "localhost:5000/a:x".to_owned(), format!("ghcr.io/a/b@{digest}")] {
            assert_eq!(text.parse::<ImageReference>().unwrap().to_string(), text);
        }
        assert!("localhost:5000/a".parse::<ImageReference>().is_err());
    }
}
