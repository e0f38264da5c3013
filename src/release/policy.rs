//! Which image is wanted: the policy of `spec.image` read strictly, and the order of tags.

use semver::{Version, VersionReq};

use crate::api::names::{Digest, NameError, Repository, Tag};
use crate::api::release::{Channel, ImageSpec};

/// How many tags are looked at, newest first, before none of them is taken.
pub const MAX_WALK: usize = 8;

/// Which image is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// One version.
    Version(Version),
    /// The newest version in a range.
    Range(VersionReq),
    /// The newest development build.
    Development,
    /// What a tag stands for.
    Tag(Tag),
    /// One digest.
    Digest(Digest),
}

/// Why `spec.image` can't be read. Messages show the right spelling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The repository is none.
    #[error("spec.image.repository: {0}")]
    Repository(NameError),
    /// `version` is no version.
    #[error(
        "spec.image.version: `{0}` is not a full version: write three numbers such as 5.10.0; to follow a moving tag use `tag: \"{0}\"`"
    )]
    Version(String),
    /// `semver` is no range.
    #[error("spec.image.semver: `{given}` is not a range: {cause}. Write {example}")]
    Range {
        /// What was written.
        given: String,
        /// What the parser says.
        cause: String,
        /// The right spelling.
        example: String,
    },
    /// `tag` is no tag.
    #[error("spec.image.tag: {0}")]
    Tag(NameError),
    /// `digest` is no digest.
    #[error("spec.image.digest: {0}")]
    Digest(NameError),
    /// None, or more than one.
    #[error("spec.image: exactly one of version, semver, channel, tag, digest says which image is wanted")]
    NotOne,
}

/// The place of a tag in the order of a policy: newer is greater.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// By semantic version.
    Version(Version),
    /// By the time in a development tag.
    Build(String),
}

/// The repository of `image`.
///
/// # Errors
/// When it is none.
pub fn repository(image: &ImageSpec) -> Result<Repository, PolicyError> {
    image.repository_or_default().parse().map_err(PolicyError::Repository)
}

impl Policy {
    /// Reads the policy.
    ///
    /// # Errors
    /// When none or several are given, or the one can't be read.
    pub fn parse(image: &ImageSpec) -> Result<Self, PolicyError> {
        let mut found = Vec::new();
        if let Some(text) = &image.version {
            found.push(parse_version(text).map(Self::Version).ok_or_else(|| PolicyError::Version(text.clone())));
        }
        if let Some(text) = &image.semver {
            found.push(parse_range(text).map(Self::Range));
        }
        if let Some(channel) = image.channel {
            found.push(match channel {
                Channel::Development => Ok(Self::Development),
            });
        }
        if let Some(text) = &image.tag {
            found.push(text.parse().map(Self::Tag).map_err(PolicyError::Tag));
        }
        if let Some(text) = &image.digest {
            found.push(text.parse().map(Self::Digest).map_err(PolicyError::Digest));
        }
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => only,
            (Some(_) | None, _) => Err(PolicyError::NotOne),
        }
    }

    /// Whether the specification names one image: it is wanted as such, and its failure is the specification's.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        match self {
            Self::Version(_) | Self::Digest(_) => true,
            Self::Range(_) | Self::Development | Self::Tag(_) => false,
        }
    }

    /// Whether the registry's list of tags is needed.
    #[must_use]
    pub fn needs_tags(&self) -> bool {
        match self {
            Self::Version(_) | Self::Range(_) | Self::Development => true,
            Self::Tag(_) | Self::Digest(_) => false,
        }
    }

    /// Whether a tag of this policy names one image for ever.
    #[must_use]
    pub fn tags_are_immutable(&self) -> bool {
        match self {
            Self::Version(_) | Self::Range(_) | Self::Development => true,
            Self::Tag(_) | Self::Digest(_) => false,
        }
    }

    /// Whether the policy wants what is called `tag` and has `digest`.
    #[must_use]
    pub fn allows(&self, tag: Option<&Tag>, digest: &Digest) -> bool {
        match self {
            Self::Digest(wanted) => wanted == digest,
            Self::Tag(wanted) => tag == Some(wanted),
            Self::Version(_) | Self::Range(_) | Self::Development => tag.is_some_and(|tag| self.rank(tag).is_some()),
        }
    }

    /// The place of `tag` in this policy's order, when the policy wants it.
    #[must_use]
    pub fn rank(&self, tag: &Tag) -> Option<Rank> {
        match self {
            Self::Version(wanted) => tag_version(tag).filter(|version| version == wanted).map(Rank::Version),
            Self::Range(range) => tag_version(tag).filter(|version| range.matches(version)).map(Rank::Version),
            Self::Development => build_time(tag).map(Rank::Build),
            Self::Tag(_) | Self::Digest(_) => None,
        }
    }

    /// The tags that this policy may pick, newest first, at most [`MAX_WALK`]. One tag for each version: the one without
    /// `v`, where both are there.
    #[must_use]
    pub fn walk(&self, tags: &[Tag]) -> Vec<(Rank, Tag)> {
        let mut found: Vec<(Rank, Tag)> = tags.iter().filter_map(|tag| Some((self.rank(tag)?, tag.clone()))).collect();
        // Digits sort before `v`, so the plain spelling is the one that is kept.
        found.sort_by(|(a, a_tag), (b, b_tag)| b.cmp(a).then_with(|| a_tag.cmp(b_tag)));
        found.dedup_by(|(a, _), (b, _)| a == b);
        found.truncate(MAX_WALK);
        found
    }
}

/// The place of a tag that was picked earlier, under whatever policy.
#[must_use]
pub fn any_rank(tag: &Tag) -> Option<Rank> {
    tag_version(tag).map(Rank::Version).or_else(|| build_time(tag).map(Rank::Build))
}

/// Whether `a` is older than `b`. `None`: they can't be compared.
#[must_use]
pub fn is_older(a: &Rank, b: &Rank) -> Option<bool> {
    match (a, b) {
        (Rank::Version(a), Rank::Version(b)) => Some(a.cmp_precedence(b).is_lt()),
        (Rank::Build(a), Rank::Build(b)) => Some(a < b),
        (Rank::Version(_), Rank::Build(_)) | (Rank::Build(_), Rank::Version(_)) => None,
    }
}

/// What people call the image behind `tag`.
#[must_use]
pub fn display_version(tag: Option<&Tag>, digest: &Digest) -> String {
    match tag {
        Some(tag) => tag_version(tag).map_or_else(|| tag.to_string(), |version| version.to_string()),
        None => digest.short().to_owned(),
    }
}

/// A full version of three numbers, with or without a leading `v`. `5.10` and `1e10` are none.
fn parse_version(text: &str) -> Option<Version> {
    Version::parse(text.strip_prefix('v').unwrap_or(text)).ok()
}

fn tag_version(tag: &Tag) -> Option<Version> {
    parse_version(tag.as_str())
}

/// The time in `dev-YYYYMMDD-HHMMSS`, as text that sorts like it. Other development tags have no order.
fn build_time(tag: &Tag) -> Option<String> {
    let (day, time) = tag.as_str().strip_prefix("dev-")?.split_once('-')?;
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    let plausible = |text: &str, from: usize, most: u8| {
        text.get(from..from + 2).and_then(|part| part.parse::<u8>().ok()).is_some_and(|part| part <= most)
    };
    let fits = digits(day, 8)
        && digits(time, 6)
        && plausible(day, 4, 12)
        && plausible(day, 6, 31)
        && plausible(time, 0, 23)
        && plausible(time, 2, 59)
        && plausible(time, 4, 59);
    fits.then(|| format!("{day}{time}"))
}

fn parse_range(text: &str) -> Result<VersionReq, PolicyError> {
    VersionReq::parse(text).map_err(|error| {
        // The spellings of other ecosystems, as Rust's semver writes them.
        let spelled = text.replace("~>", "~").replace("&&", ",").replace(".x", ".*").replace(".X", ".*");
        let commas = join_with_commas(&spelled);
        let example = [spelled, commas]
            .into_iter()
            .find(|candidate| !text.contains("||") && VersionReq::parse(candidate).is_ok())
            .map_or_else(|| "a range such as `>=5, <6`".to_owned(), |right| format!("`{right}`"));
        PolicyError::Range { given: text.to_owned(), cause: error.to_string(), example }
    })
}

/// `>=5 <6` as `>=5, <6`: a comma before every operator that starts another comparison.
fn join_with_commas(text: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
        match parts.last_mut() {
            Some(last) if last.bytes().all(|b| matches!(b, b'<' | b'>' | b'=' | b'~' | b'^')) => last.push_str(word),
            Some(_) | None => parts.push(word.to_owned()),
        }
    }
    parts.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn tags(names: &[&str]) -> Vec<Tag> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn walk(image: &ImageSpec, names: &[&str]) -> Vec<String> {
        Policy::parse(image).unwrap().walk(&tags(names)).into_iter().map(|(_, tag)| tag.to_string()).collect()
    }

    fn semver(range: &str) -> ImageSpec {
        ImageSpec { semver: Some(range.into()), ..ImageSpec::default() }
    }

    #[test]
    fn a_range_sorts_by_precedence_and_not_by_text() {
        assert_eq!(walk(&semver(">=1"), &["1.9.0", "v1.10.0", "1.2.0"]), ["v1.10.0", "1.9.0", "1.2.0"]);
    }

    #[test]
    fn floating_numeric_and_odd_tags_are_no_versions() {
        let odd = ["1e10", "0123", "1234567", "on", "null", "1.10", "1", "latest", "01.2.3", "1.2.3.4"];
        assert!(walk(&semver("*"), &odd).is_empty());
    }

    #[test]
    fn pre_releases_are_taken_only_when_the_range_asks() {
        assert_eq!(walk(&semver(">=5, <6"), &["5.1.0", "5.2.0-rc.1"]), ["5.1.0"]);
        assert_eq!(
            walk(&semver(">=5.2.0-rc.0, <6"), &["5.1.0", "5.2.0-rc.9", "5.2.0-rc.10"]),
            ["5.2.0-rc.10", "5.2.0-rc.9"]
        );
    }

    #[test]
    fn a_version_with_and_without_v_is_one() {
        assert_eq!(walk(&semver("*"), &["v5.1.0", "5.1.0"]), ["5.1.0"]);
    }

    #[test]
    fn development_builds_sort_by_their_time_and_hash_tags_are_left_out() {
        let image = ImageSpec { channel: Some(Channel::Development), ..ImageSpec::default() };
        let names = ["dev-20260101-000000", "dev-f0a1b2c", "dev-1234567", "dev-20260102-235959", "dev-20269901-000000"];
        assert_eq!(walk(&image, &names), ["dev-20260102-235959", "dev-20260101-000000"]);
    }

    #[test]
    fn the_walk_is_bounded() {
        let many: Vec<String> = (0..50).map(|n| format!("5.0.{n}")).collect();
        let names: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(walk(&semver("*"), &names).len(), MAX_WALK);
    }

    #[rstest]
    #[case(">=5 <6", "`>=5, <6`")]
    #[case(">= 5 < 6", "`>=5, <6`")]
    #[case("~> 5.1", "`~ 5.1`")]
    #[case("5 || 6", "such as `>=5, <6`")]
    #[case("newest", "such as `>=5, <6`")]
    fn a_bad_range_is_answered_with_the_right_spelling(#[case] given: &str, #[case] shown: &str) {
        let error = Policy::parse(&semver(given)).unwrap_err().to_string();
        assert!(error.contains(shown), "{error}");
    }

    #[rstest]
    #[case("5.10")]
    #[case("1e10")]
    #[case("latest")]
    fn a_version_that_is_none_is_refused_with_the_remedy(#[case] given: &str) {
        let image = ImageSpec { version: Some(given.into()), ..ImageSpec::default() };
        let error = Policy::parse(&image).unwrap_err().to_string();
        assert!(error.contains("5.10.0") && error.contains(&format!("tag: \"{given}\"")), "{error}");
    }

    #[test]
    fn both_version_and_semver_or_none_is_refused() {
        let both = ImageSpec { version: Some("5.0.0".into()), ..semver("*") };
        assert_eq!(Policy::parse(&both), Err(PolicyError::NotOne));
        assert_eq!(Policy::parse(&ImageSpec::default()), Err(PolicyError::NotOne));
    }

    #[test]
    fn an_upper_case_repository_is_refused_with_the_right_spelling() {
        let image = ImageSpec { repository: Some("ghcr.io/DRYTRIX/TimeTracker".into()), ..ImageSpec::default() };
        assert!(repository(&image).unwrap_err().to_string().contains("ghcr.io/drytrix/timetracker"));
    }
}
