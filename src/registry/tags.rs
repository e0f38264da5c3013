//! All tags of a repository, page by page, whatever the registry does.

use std::collections::HashSet;
use std::time::Duration;

use http::HeaderMap;
use http::header::LINK;
use oci_distribution::client::TagResponse;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::challenge::same_origin;
use super::credentials::Access;
use super::error::RegistryError;
use super::token::Scope;
use super::transport::{Question, Transport};
use crate::api::names::{Repository, Tag};

const MAX_LINK: usize = 4 << 10;

/// Why a list ends before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// More tags than the limit.
    TooManyTags,
    /// Not done within the time for a whole scan.
    OutOfTime,
    /// A further page brought nothing new, or leads in a circle.
    NotAdvancing,
}

impl Gap {
    fn describe(self) -> &'static str {
        match self {
            Self::TooManyTags => "the repository has more tags than the limit",
            Self::OutOfTime => "the registry took longer than the limit for one scan",
            Self::NotAdvancing => "the registry's next page brings nothing new",
        }
    }
}

/// The tags of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagList {
    /// The tags, sorted as text, each once.
    pub tags: Vec<Tag>,
    /// Entries left out because they are no tags.
    pub invalid: usize,
    /// Entries left out because they came twice.
    pub duplicates: usize,
    /// Pages that were read.
    pub pages: usize,
    /// Why the list has gaps; nothing when it is whole.
    pub gap: Option<Gap>,
}

impl TagList {
    /// Whether every page was read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.gap.is_none()
    }

    /// The list, or [`RegistryError::Incomplete`] when it has gaps: from a part no version may be picked.
    ///
    /// # Errors
    /// When the list is not complete.
    pub fn require_complete(&self, repository: &Repository) -> Result<&Self, RegistryError> {
        match self.gap {
            None => Ok(self),
            Some(gap) => Err(RegistryError::Incomplete {
                repository: repository.to_string(),
                seen: self.tags.len(),
                cause: gap.describe(),
            }),
        }
    }
}

/// What to do after a page.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Read the page with this query.
    Page(String),
    /// The list is whole.
    Done,
    /// Stop, the list has a gap.
    Stop(Gap),
}

/// Collects pages and says where to go on. No I/O.
#[derive(Debug)]
struct Pager {
    page_size: usize,
    max_tags: usize,
    tags: HashSet<Tag>,
    queries: HashSet<String>,
    invalid: usize,
    duplicates: usize,
    pages: usize,
    has_links: bool,
}

impl Pager {
    fn new(page_size: usize, max_tags: usize) -> Self {
        Self {
            page_size,
            max_tags,
            tags: HashSet::new(),
            queries: HashSet::new(),
            invalid: 0,
            duplicates: 0,
            pages: 0,
            has_links: false,
        }
    }

    /// Takes a page's entries and the query that its `Link` header leads to.
    ///
    /// A registry that has once sent a `Link` is believed when it sends none. One that never does may still have more
    /// behind a page of exactly the size asked for: it is asked once more, after the last entry.
    fn take(&mut self, entries: Vec<String>, link: Option<String>) -> Next {
        self.pages += 1;
        let received = entries.len();
        let last = entries.last().cloned();
        let known = self.tags.len();
        for entry in entries {
            match entry.parse::<Tag>() {
                Ok(tag) if self.tags.contains(&tag) => self.duplicates += 1,
                Ok(tag) if self.tags.len() < self.max_tags => {
                    self.tags.insert(tag);
                }
                Ok(_) => return Next::Stop(Gap::TooManyTags),
                Err(_) => self.invalid += 1,
            }
        }
        let brought_tags = self.tags.len() > known;
        if self.invalid > self.max_tags || self.duplicates > self.max_tags {
            return Next::Stop(Gap::TooManyTags);
        }
        if let Some(query) = link {
            self.has_links = true;
            return if brought_tags && self.queries.insert(query.clone()) {
                Next::Page(query)
            } else {
                Next::Stop(Gap::NotAdvancing)
            };
        }
        if self.has_links || received != self.page_size {
            return Next::Done;
        }
        if !brought_tags {
            // The same page again: this registry knows no `last`, and its list ends where it ended the first time.
            return if self.pages == 2 && self.duplicates == received {
                Next::Done
            } else {
                Next::Stop(Gap::NotAdvancing)
            };
        }
        last.map_or(Next::Done, |last| {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("n", &self.page_size.to_string())
                .append_pair("last", &last)
                .finish();
            Next::Page(query)
        })
    }

    fn finish(self, gap: Option<Gap>) -> TagList {
        let mut tags: Vec<Tag> = self.tags.into_iter().collect();
        tags.sort_unstable();
        TagList { tags, invalid: self.invalid, duplicates: self.duplicates, pages: self.pages, gap }
    }
}

/// Reads all pages within the limits of the configuration.
pub(super) async fn list(
    transport: &Transport,
    repository: &Repository,
    access: &Access,
) -> Result<TagList, RegistryError> {
    let limits = &transport.config.limits;
    let question = Question {
        repository,
        access,
        subject: "the repository",
        what: "a page of the tag list",
        limit: limits.page_bytes,
        scope: Scope::Pull,
        patience: None,
    };
    let deadline = Instant::now() + transport.config.timeouts.scan.min(Duration::from_secs(86_400));
    let mut url = transport.url(repository, "tags/list")?;
    url.set_query(Some(&format!("n={}", limits.page_size)));
    let mut pager = Pager::new(limits.page_size, limits.tags);
    loop {
        let Ok(answer) = timeout_at(deadline, transport.get(question, &url, "application/json")).await else {
            return Ok(pager.finish(Some(Gap::OutOfTime)));
        };
        let answer = answer?;
        let page: TagResponse = serde_json::from_slice(&answer.body).map_err(|_| {
            let is_html = answer.body.trim_ascii_start().starts_with(b"<");
            question.invalid(if is_html { "a web page (HTML) instead of a tag list" } else { "it is no tag list" })
        })?;
        let link = next_query(&answer.headers, &url).map_err(|cause| question.invalid(cause))?;
        match pager.take(page.tags, link) {
            Next::Page(query) => url.set_query(Some(&query)),
            Next::Done => return Ok(pager.finish(None)),
            Next::Stop(gap) => return Ok(pager.finish(Some(gap))),
        }
    }
}

/// The query of the next page from `Link: <…>; rel="next"`, which must lead to the same list at the same host.
fn next_query(headers: &HeaderMap, current: &Url) -> Result<Option<String>, &'static str> {
    for value in headers.get_all(LINK).iter().take(8) {
        let text = value.to_str().map_err(|_| "its Link header is not text")?;
        if text.len() > MAX_LINK {
            return Err("its Link header is larger than 4 KiB");
        }
        // A target may hold commas, so parts are found by their angle brackets.
        let mut rest = text;
        while let Some((target, behind)) = rest.split_once('<').and_then(|(_, open)| open.split_once('>')) {
            let (parameters, following) = behind.split_once('<').map_or((behind, ""), |(parameters, _)| {
                (parameters, behind.get(parameters.len()..).unwrap_or_default())
            });
            rest = following;
            if !is_next(parameters) {
                continue;
            }
            let target = current.join(target).map_err(|_| "its Link header holds no URL")?;
            if !same_origin(current, &target) || target.path() != current.path() {
                return Err("its Link header leads away from the tag list");
            }
            return target.query().map(|query| Some(query.to_owned())).ok_or("its Link header leads nowhere");
        }
    }
    Ok(None)
}

fn is_next(parameters: &str) -> bool {
    parameters.split([';', ',']).any(|parameter| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use rstest::rstest;

    fn page(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|number| format!("t{number:05}")).collect()
    }

    fn link(number: usize) -> Option<String> {
        Some(format!("n=100&last={number}"))
    }

    #[test]
    fn a_registry_with_links_is_followed_until_it_sends_none() {
        let mut pager = Pager::new(100, 1000);
        assert_eq!(pager.take(page(0..100), link(1)), Next::Page("n=100&last=1".to_owned()));
        assert_eq!(pager.take(page(100..200), None), Next::Done);
        assert_eq!(pager.finish(None).tags.len(), 200);
    }

    #[test]
    fn a_registry_without_links_is_asked_again_after_a_full_page() {
        let mut pager = Pager::new(100, 1000);
        assert_eq!(pager.take(page(0..100), None), Next::Page("n=100&last=t00099".to_owned()));
        assert_eq!(pager.take(page(100..150), None), Next::Done);
    }

    #[test]
    fn a_registry_that_ignores_paging_gives_its_whole_list_at_once() {
        let mut pager = Pager::new(100, 1000);
        assert_eq!(pager.take(page(0..250), None), Next::Done);
        let mut pager = Pager::new(100, 1000);
        assert_eq!(pager.take(page(0..100), None), Next::Page("n=100&last=t00099".to_owned()));
        assert_eq!(pager.take(page(0..100), None), Next::Done);
    }

    #[test]
    fn a_link_in_a_circle_is_a_gap() {
        let mut pager = Pager::new(100, 1000);
        pager.take(page(0..100), link(1));
        assert_eq!(pager.take(page(0..100), link(2)), Next::Stop(Gap::NotAdvancing));
        let mut pager = Pager::new(100, 1000);
        pager.take(page(0..100), link(1));
        assert_eq!(pager.take(page(100..200), link(1)), Next::Stop(Gap::NotAdvancing));
    }

    #[test]
    fn more_tags_than_the_limit_are_a_gap() {
        let mut pager = Pager::new(100, 150);
        pager.take(page(0..100), link(1));
        assert_eq!(pager.take(page(100..200), link(2)), Next::Stop(Gap::TooManyTags));
        let list = pager.finish(Some(Gap::TooManyTags));
        assert_eq!(list.tags.len(), 150);
        let repository = "ghcr.io/a/b".parse().unwrap();
        assert!(list.require_complete(&repository).is_err());
    }

    #[test]
    fn what_is_no_tag_is_left_out_and_counted() {
        let mut pager = Pager::new(100, 100);
        let entries = ["1.0", "", "-x", "a b", "1.0", "1e10"].map(str::to_owned).to_vec();
        assert_eq!(pager.take(entries, None), Next::Done);
        let list = pager.finish(None);
        assert_eq!((list.tags.len(), list.invalid, list.duplicates), (2, 3, 1));
    }

    #[rstest]
    #[case("</v2/a/tags/list?last=x&n=100>; rel=\"next\"", Ok(Some("last=x&n=100")))]
    #[case("<https://ghcr.io/v2/a/tags/list?last=x>; rel=next", Ok(Some("last=x")))]
    #[case("</first?a,b>; rel=\"first\", </v2/a/tags/list?last=y>; rel=\"next\"", Ok(Some("last=y")))]
    #[case("</v2/a/tags/list?last=x>; rel=\"prev\"", Ok(None))]
    #[case("nonsense", Ok(None))]
    #[case("<https://evil.example/v2/a/tags/list?last=x>; rel=\"next\"", Err(()))]
    #[case("<http://ghcr.io/v2/a/tags/list?last=x>; rel=\"next\"", Err(()))]
    #[case("<//evil.example/v2/a/tags/list?last=x>; rel=\"next\"", Err(()))]
    #[case("<file:///etc/passwd>; rel=\"next\"", Err(()))]
    #[case("</v2/b/tags/list?last=x>; rel=\"next\"", Err(()))]
    #[case("</v2/a/tags/list>; rel=\"next\"", Err(()))]
    fn a_link_is_followed_only_within_the_same_list(#[case] header: &str, #[case] expected: Result<Option<&str>, ()>) {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, HeaderValue::from_str(header).unwrap());
        let current = Url::parse("https://ghcr.io/v2/a/tags/list?n=100").unwrap();
        let found = next_query(&headers, &current).map_err(|_| ());
        assert_eq!(found, expected.map(|query| query.map(str::to_owned)));
    }
}
