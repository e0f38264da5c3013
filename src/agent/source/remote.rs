//! The server: its URL, and the token that goes only there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::failure::SourceError;

/// A repository's URL, and a header with credentials for its host alone.
pub(super) struct Remote {
    url: String,
    credentials: Option<Credentials>,
}

struct Credentials {
    /// `https://host:port/`: Git sends the header to URLs below it only.
    origin: String,
    header: SecretString,
}

impl Remote {
    /// The URL, with the token in `SOURCE_TOKEN` when there is one.
    pub(super) fn from_environment(url: &str) -> Result<Self, SourceError> {
        Self::new(url, std::env::var("SOURCE_TOKEN").ok().filter(|token| !token.trim().is_empty()))
    }

    fn new(text: &str, token: Option<String>) -> Result<Self, SourceError> {
        let refused = |why: &str| Err(SourceError::Url(why.to_owned()));
        let Ok(url) = Url::parse(text) else {
            return refused("expected http://, https:// or ssh:// with a host and a path");
        };
        if !matches!(url.scheme(), "http" | "https" | "ssh") {
            return refused("only http, https and ssh are allowed");
        }
        if url.host_str().is_none_or(str::is_empty) {
            return refused("it names no host");
        }
        if url.password().is_some() || (url.scheme() != "ssh" && !url.username().is_empty()) {
            return refused("it has credentials in it: keep them in a Secret");
        }
        let credentials = match token {
            Some(_) if url.scheme() == "ssh" => return refused("a token can't be used over ssh: write https://"),
            Some(token) => {
                // GitHub and its kind take any user name beside a token.
                let basic = STANDARD.encode(format!("x-access-token:{}", token.trim()));
                Some(Credentials {
                    origin: format!("{}/", url.origin().ascii_serialization()),
                    header: SecretString::from(format!("Authorization: Basic {basic}")),
                })
            }
            None => None,
        };
        Ok(Self { url: url.to_string(), credentials })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Git's configuration for this remote: given by the environment, so that it stands neither in an argument nor on
    /// disk.
    pub(super) fn configuration(&self) -> Vec<(String, String)> {
        let Some(Credentials { origin, header }) = &self.credentials else {
            return vec![("http.followRedirects".into(), "initial".into())];
        };
        vec![
            (format!("http.{origin}.extraHeader"), header.expose_secret().to_owned()),
            // Curl would take the header along to wherever a redirect points.
            ("http.followRedirects".into(), "false".into()),
        ]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn a_token_is_bound_to_its_origin_and_redirects_are_refused() {
        let remote = Remote::new("https://git.example:8443/a/b.git", Some("t0ken".into())).unwrap();
        let configuration = remote.configuration();
        assert_eq!(configuration.first().unwrap().0, "http.https://git.example:8443/.extraHeader");
        assert!(configuration.contains(&("http.followRedirects".into(), "false".into())));
        assert!(!remote.url().contains("t0ken"));
    }

    #[rstest]
    #[case("file:///etc")]
    #[case("ext::sh -c id")]
    #[case("/srv/repository")]
    #[case("--upload-pack=id")]
    #[case("https://user:password@git.example/a")]
    #[case("https://token@git.example/a")]
    fn only_plain_http_and_ssh_urls_are_taken(#[case] url: &str) {
        assert!(Remote::new(url, None).is_err());
    }

    #[test]
    fn an_ssh_user_is_no_secret_but_a_token_needs_https() {
        assert!(Remote::new("ssh://git@git.example/a", None).is_ok());
        assert!(Remote::new("ssh://git@git.example/a", Some("t".into())).is_err());
    }
}
