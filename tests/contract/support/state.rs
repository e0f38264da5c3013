//! What the test registry holds, what is wrong with it, and what it was asked.

use std::collections::BTreeMap;

use super::ImageFixture;

/// One way in which the registry misbehaves. Each replaces the answers under `/v2/…`, unless it says otherwise.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A web page with status 200.
    Html,
    /// Every page of tags has new tags and a link to the next.
    EndlessPages,
    /// The link of each page leads to the same tags under another query.
    NotAdvancing,
    /// The link of the first page leads to itself.
    LinkToItself,
    /// The link leads to this URL.
    LinkTo(String),
    /// `"tags": null`.
    NullTags,
    /// This status with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// Manifests announce another digest than theirs.
    WrongDigestHeader,
    /// Manifests and blobs have other content than their digest says.
    OtherContent,
    /// A body of this many bytes, with or without saying so in advance.
    Huge { bytes: usize, announced: bool },
    /// The challenge names this realm.
    RealmAt(String),
    /// The challenge wants Basic.
    BasicChallenge,
    /// Redirected to this URL and the same path.
    RedirectTo(String),
    /// Blobs alone are redirected to this URL and the same path.
    RedirectBlobsTo(String),
    /// The body begins and does not end.
    NeverEndingBody,
    /// The connection closes in the middle of the body.
    Truncated,
    /// No `Link` headers, though there are more pages.
    NoLinks,
    /// No `Link` headers, and neither `n` nor `last` is looked at.
    IgnoresPaging,
    /// The token service answers with this text and status 200.
    TokenAnswer(String),
    /// Every token is refused.
    RefusesTokens,
    /// The token service answers with this status.
    TokenStatus(u16),
}

/// Who may read.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) username: &'static str,
    pub(crate) password: &'static str,
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) tags: Vec<String>,
    /// Tag or digest → media type and bytes.
    pub(crate) manifests: BTreeMap<String, (String, Vec<u8>)>,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
}

impl Content {
    pub(crate) fn add(&mut self, tag: &str, image: &ImageFixture) {
        for (digest, media_type, body) in &image.manifests {
            self.manifests.insert(digest.clone(), (media_type.clone(), body.clone()));
        }
        self.blobs.extend(image.blobs.iter().cloned());
        let top = self.manifests[&image.digest].clone();
        self.manifests.insert(tag.to_owned(), top);
        self.tags.push(tag.to_owned());
    }
}
