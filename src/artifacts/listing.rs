//! What a run has left, for programs and for people.

use std::fmt::Write as _;

use futures::StreamExt;
use serde::Serialize;

use super::place::RunPlace;
use super::refusal::Refusal;
use super::storage::Storage;

const MAX_ENTRIES: usize = 5000;

/// What a run has left.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    namespace: String,
    run: String,
    /// Whether there is more than is listed.
    truncated: bool,
    artifacts: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    job: String,
    name: String,
    /// Bytes.
    size: u64,
    /// RFC 3339.
    modified: String,
    path: String,
}

impl Listing {
    /// # Errors
    /// When the run has left nothing, or the volume or bucket can't be read.
    pub(super) async fn read(storage: &Storage, run: &RunPlace) -> Result<Self, Refusal> {
        let mut found = storage.store().list(Some(&run.path()));
        let mut artifacts = Vec::new();
        let mut truncated = false;
        while let Some(object) = found.next().await {
            let object = object.map_err(|error| storage.refusal(&error))?;
            let parts: Vec<String> = object.location.parts().map(|part| part.as_ref().to_owned()).collect();
            let [_, _, job, name] = parts.as_slice() else { continue };
            if artifacts.len() >= MAX_ENTRIES {
                truncated = true;
                break;
            }
            artifacts.push(Entry {
                job: job.clone(),
                name: name.clone(),
                size: object.size,
                modified: object.last_modified.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                path: format!("/v1/artifacts/{}", object.location),
            });
        }
        if artifacts.is_empty() {
            return Err(Refusal::NotFound);
        }
        artifacts.sort_by(|a, b| (&a.job, &a.name).cmp(&(&b.job, &b.name)));
        Ok(Self { namespace: run.namespace.clone(), run: run.run.clone(), truncated, artifacts })
    }

    /// A page for browsers, without scripts or styles from anywhere.
    pub(super) fn page(&self) -> String {
        let title = escaped(&format!("{}/{}", self.namespace, self.run));
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
             <body><h1>{title}</h1>\n<table><thead><tr><th scope=\"col\">Job</th><th scope=\"col\">Artifact</th>\
             <th scope=\"col\">Bytes</th><th scope=\"col\">Kept at</th></tr></thead><tbody>\n"
        );
        for Entry { job, name, size, modified, path } in &self.artifacts {
            let (job, name, path) = (escaped(job), escaped(name), escaped(path));
            // Writing to a string can't fail.
            let _ = writeln!(
                page,
                "<tr><td>{job}</td><td><a href=\"{path}\">{name}</a></td><td>{size}</td><td>{modified}</td></tr>"
            );
        }
        page.push_str("</tbody></table>\n");
        if self.truncated {
            page.push_str("<p>There are more artifacts than this page shows.</p>\n");
        }
        page.push_str("</body></html>\n");
        page
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_on_the_page() {
        let entry = Entry {
            job: "\"><script>alert(1)</script>".to_owned(),
            name: "'onload='x".to_owned(),
            size: 1,
            modified: String::new(),
            path: "\" onclick=\"x".to_owned(),
        };
        let listing =
            Listing { namespace: "ci".to_owned(), run: "<b>".to_owned(), truncated: true, artifacts: vec![entry] };
        let page = listing.page();
        assert!(!page.contains("<script>") && !page.contains("<b>") && !page.contains("\" onclick"), "{page}");
        assert!(page.contains("more artifacts"));
    }
}
