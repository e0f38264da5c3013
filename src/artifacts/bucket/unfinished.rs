//! Uploads in parts that nobody will end: of a store that was killed. S3 keeps, and charges for, their parts for ever.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use http::Method;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

use super::{Bucket, Trouble};

/// One answer has a thousand of them, of some 700 bytes each.
const MAX_ANSWER: usize = 4 << 20;
const MAX_PAGES: usize = 50;
const VALID: Duration = Duration::from_secs(60);

/// Why unfinished uploads can't be removed.
#[derive(Debug, thiserror::Error)]
pub(in crate::artifacts) enum UnfinishedError {
    #[error("{0}")]
    Bucket(Trouble),
    #[error("the server can't be asked: {0}")]
    Request(#[from] reqwest::Error),
    #[error("the list of them is longer than {MAX_ANSWER} bytes")]
    TooLarge,
    #[error("the list of them can't be read: {0}")]
    Document(String),
}

/// An upload that has begun.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Begun {
    key: String,
    id: String,
    at: String,
}

/// One answer of the list.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    uploads: Vec<Begun>,
    /// Where the next one goes on.
    next: Option<(String, String)>,
}

impl Bucket {
    /// Removes those below the prefix that are older than any upload gets; returns how many.
    ///
    /// # Errors
    /// When they can't be listed or removed.
    pub(in crate::artifacts) async fn remove_unfinished(&self, now: DateTime<Utc>) -> Result<usize, UnfinishedError> {
        let mut removed = 0;
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let page = parse(&self.list_unfinished(next.as_ref()).await?)?;
            for Begun { key, id, at } in page.uploads {
                // Not all servers hold to the prefix.
                let Some(location) = Path::parse(&key).ok().filter(|location| location.prefix_matches(&self.prefix))
                else {
                    continue;
                };
                let Ok(at) = DateTime::parse_from_rfc3339(&at) else { continue };
                let age = now.signed_duration_since(at).to_std().unwrap_or_default();
                if age > self.unfinished_after {
                    let aborted = self.s3.abort_multipart(&location, &id).await;
                    aborted.map_err(|error| UnfinishedError::Bucket(self.trouble(&error)))?;
                    removed += 1;
                }
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        Ok(removed)
    }

    /// `ListMultipartUploads`.
    async fn list_unfinished(&self, from: Option<&(String, String)>) -> Result<Vec<u8>, UnfinishedError> {
        let mut query = vec![("uploads", String::new()), ("prefix", format!("{}/", self.prefix))];
        if let Some((key, id)) = from {
            query.extend([("key-marker", key.clone()), ("upload-id-marker", id.clone())]);
        }
        let options = SignedUrlOptions::new().with_query(query);
        let signed = self.s3.signed_url_opts(Method::GET, &Path::default(), VALID, &options).await;
        let url = signed.map_err(|error| UnfinishedError::Bucket(self.trouble(&error)))?;
        // The address is a credential for a minute: it must not get into the log.
        let response = self.client.get(url).send().await.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        let mut body = response.bytes_stream();
        let mut answer = Vec::new();
        while let Some(chunk) = body.next().await {
            answer.extend_from_slice(&chunk.map_err(reqwest::Error::without_url)?);
            if answer.len() > MAX_ANSWER {
                return Err(UnfinishedError::TooLarge);
            }
        }
        if status.is_success() {
            return Ok(answer);
        }
        let trouble = Trouble::answered(self.to_string(), status.as_u16(), &String::from_utf8_lossy(&answer));
        Err(UnfinishedError::Bucket(trouble))
    }
}

fn parse(answer: &[u8]) -> Result<Page, UnfinishedError> {
    let failed = |error: quick_xml::Error| UnfinishedError::Document(error.to_string());
    let mut reader = Reader::from_reader(answer);
    let (mut page, mut upload) = (Page::default(), None::<Begun>);
    let (mut truncated, mut key, mut id) = (String::new(), String::new(), String::new());
    let mut text = String::new();
    loop {
        match reader.read_event().map_err(failed)? {
            Event::Eof => break,
            Event::Start(tag) => {
                text.clear();
                if tag.name().as_ref() == "Upload" {
                    upload = Some(Begun::default());
                }
            }
            Event::Text(part) => text.push_str(&part),
            Event::GeneralRef(reference) => text.push_str(resolve_predefined_entity(&reference).unwrap_or_default()),
            Event::End(tag) => {
                let value = std::mem::take(&mut text);
                match (tag.name().as_ref(), &mut upload) {
                    ("Upload", _) => page.uploads.extend(upload.take()),
                    ("Key", Some(upload)) => upload.key = value,
                    ("UploadId", Some(upload)) => upload.id = value,
                    ("Initiated", Some(upload)) => upload.at = value,
                    ("IsTruncated", None) => truncated = value,
                    ("NextKeyMarker", None) => key = value,
                    ("NextUploadIdMarker", None) => id = value,
                    _ => {}
                }
            }
            Event::Empty(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_) => {}
        }
    }
    page.next = (truncated == "true" && !key.is_empty()).then_some((key, id));
    Ok(page)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_read_with_where_the_list_goes_on() {
        let answer = br#"<?xml version="1.0"?><ListMultipartUploadsResult><Bucket>b</Bucket><KeyMarker></KeyMarker>
            <NextKeyMarker>p/ci/a&amp;b</NextKeyMarker><NextUploadIdMarker>two</NextUploadIdMarker><IsTruncated>true</IsTruncated>
            <Upload><Key>p/ci/r/j/log</Key><UploadId>one</UploadId><Initiator><ID>x</ID></Initiator>
            <Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload></ListMultipartUploadsResult>"#;
        let page = parse(answer).unwrap();
        let at = "2026-01-02T03:04:05.000Z".to_owned();
        assert_eq!(page.uploads, [Begun { key: "p/ci/r/j/log".to_owned(), id: "one".to_owned(), at }]);
        assert_eq!(page.next, Some(("p/ci/a&b".to_owned(), "two".to_owned())));
    }

    #[test]
    fn an_answer_that_is_no_list_has_none_or_is_an_error() {
        assert_eq!(parse(b"<html><body>hello</body></html>").unwrap(), Page::default());
        assert!(parse(b"<a></b>").is_err());
    }
}
