//! `WWW-Authenticate`: what a registry wants, and whether what it wants may be given.
//!
//! The header is the registry's free choice, so it is bounded, and a token service (`realm`) is asked only where the
//! registry's credentials belong: at the registry's own host, at the known token service of a public registry, or at
//! a host that the administrator listed.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use url::{Host, Url};

use super::config::RegistryConfig;
use crate::api::names::Repository;

const MAX_HEADER: usize = 8 << 10;
const MAX_HEADERS: usize = 8;
const MAX_SERVICE: usize = 256;

/// Token services of public registries that live at another host than the registry.
const KNOWN_TOKEN_HOSTS: [(&str, &str); 2] =
    [("registry-1.docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

/// How a registry wants requests to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a token that the service at `realm` hands out.
    Bearer { realm: Url, service: Option<String> },
    /// With user name and password.
    Basic,
}

/// A host that must not be asked, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) host: String,
    pub(super) cause: &'static str,
}

/// Reads the challenges of an answer; Bearer is preferred to Basic.
pub(super) fn read(headers: &HeaderMap) -> Result<Challenge, &'static str> {
    let mut wants_basic = false;
    for value in headers.get_all(WWW_AUTHENTICATE).iter().take(MAX_HEADERS) {
        let text = value.to_str().map_err(|_| "its WWW-Authenticate header is not text")?;
        if text.len() > MAX_HEADER {
            return Err("its WWW-Authenticate header is larger than 8 KiB");
        }
        let challenges = http_auth::parse_challenges(text).map_err(|_| "its WWW-Authenticate header is malformed")?;
        for challenge in challenges.into_iter().take(MAX_HEADERS) {
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                wants_basic = true;
            } else if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let parameter = |name: &str| {
                    challenge
                        .params
                        .iter()
                        .find(|(key, _)| key.eq_ignore_ascii_case(name))
                        .map(|(_, value)| value.to_unescaped())
                };
                let realm = parameter("realm").ok_or("its Bearer challenge names no realm")?;
                let realm = Url::parse(&realm).map_err(|_| "its Bearer challenge's realm is no URL")?;
                let service = parameter("service");
                if service.as_ref().is_some_and(|text| text.len() > MAX_SERVICE || text.chars().any(char::is_control)) {
                    return Err("its Bearer challenge's service is not a name");
                }
                return Ok(Challenge::Bearer { realm, service });
            }
        }
    }
    if wants_basic { Ok(Challenge::Basic) } else { Err("it says neither Bearer nor Basic") }
}

/// `host[:port]` of a URL, without the port that its scheme implies; with an unusable URL, nothing.
pub(super) fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Whether two URLs have scheme, host and port in common: where the same credentials may go.
pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Whether the administrator named this `host[:port]` for `repository`'s host.
pub(super) fn is_listed(config: &RegistryConfig, repository: &Repository, authority: &str) -> bool {
    config.token_hosts.get(repository.host()).is_some_and(|hosts| hosts.contains(authority))
}

/// Says whether the token service at `realm` may be asked for `repository`, which is served at `base`.
pub(super) fn allow_realm(
    config: &RegistryConfig,
    repository: &Repository,
    base: &Url,
    realm: &Url,
) -> Result<(), Refusal> {
    let shown = authority(realm).unwrap_or_else(|| "a URL without host".to_owned());
    let refuse = |cause| Err(Refusal { host: shown.chars().take(120).collect(), cause });
    if !realm.username().is_empty() || realm.password().is_some() {
        return refuse("a URL with user name or password");
    }
    let is_own = same_origin(base, realm);
    let is_listed = is_listed(config, repository, &shown);
    match realm.scheme() {
        "https" => {}
        // Plain http is used only towards addresses that are listed for it.
        "http" if config.insecure.contains(&shown) && (is_own || is_listed) => return Ok(()),
        _ => return refuse("not over https"),
    }
    // Another port of the same host belongs to the same owner only when the host is a name on https: both then prove it.
    let is_same_name = base.scheme() == "https"
        && matches!((base.host(), realm.host()), (Some(Host::Domain(one)), Some(Host::Domain(other))) if one == other);
    let is_known =
        KNOWN_TOKEN_HOSTS.iter().any(|(registry, service)| base.host_str() == Some(registry) && shown == *service);
    if is_own || is_same_name || is_known || is_listed {
        Ok(())
    } else {
        refuse("another host than the registry's, as its token service")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use rstest::rstest;

    fn read_one(text: &str) -> Result<Challenge, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_str(text).unwrap());
        read(&headers)
    }

    #[test]
    fn the_challenge_of_ghcr_is_understood() {
        let header = r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:a/b:pull""#;
        let expected = Challenge::Bearer {
            realm: Url::parse("https://ghcr.io/token").unwrap(),
            service: Some("ghcr.io".to_owned()),
        };
        assert_eq!(read_one(header), Ok(expected));
    }

    #[rstest]
    #[case("")]
    #[case("Negotiate")]
    #[case("Bearer service=\"x\"")]
    #[case("Bearer realm=\"/token\"")]
    #[case("Bearer realm=")]
    fn a_challenge_that_cannot_be_met_is_an_error(#[case] header: &str) {
        assert!(read_one(header).is_err());
    }

    #[test]
    fn a_huge_challenge_is_an_error() {
        assert!(read_one(&format!("Bearer realm=\"https://ghcr.io/{}\"", "a".repeat(9000))).is_err());
    }

    fn allowed(repository: &str, realm: &str) -> bool {
        let config = RegistryConfig {
            insecure: ["127.0.0.1:5000".to_owned()].into(),
            token_hosts: [("registry.example.com".to_owned(), ["login.example.com".to_owned()].into())].into(),
            ..RegistryConfig::default()
        };
        let repository: Repository = repository.parse().unwrap();
        let address = config.address(&repository);
        let base = Url::parse(&format!("{}://{address}/", config.scheme(address))).unwrap();
        allow_realm(&config, &repository, &base, &Url::parse(realm).unwrap()).is_ok()
    }

    #[rstest]
    #[case("ghcr.io/a/b", "https://ghcr.io/token", true)]
    #[case("docker.io/a/b", "https://auth.docker.io/token", true)]
    #[case("registry.gitlab.com/a/b", "https://gitlab.com/jwt/auth", true)]
    #[case("registry.example.com:5050/a/b", "https://registry.example.com/token", true)]
    #[case("registry.example.com/a/b", "https://login.example.com/token", true)]
    #[case("127.0.0.1:5000/a/b", "http://127.0.0.1:5000/token", true)]
    #[case("ghcr.io/a/b", "http://ghcr.io/token", false)]
    #[case("ghcr.io/a/b", "https://ghcr.io.evil.example/token", false)]
    #[case("ghcr.io/a/b", "https://auth.docker.io/token", false)]
    #[case("ghcr.io/a/b", "https://login.example.com/token", false)]
    #[case("ghcr.io/a/b", "https://user:pw@ghcr.io/token", false)]
    #[case("ghcr.io/a/b", "https://169.254.169.254/token", false)]
    #[case("ghcr.io/a/b", "http://[::ffff:169.254.169.254]/token", false)]
    #[case("ghcr.io/a/b", "file:///etc/passwd", false)]
    #[case("127.0.0.1:5000/a/b", "http://127.0.0.1:5001/token", false)]
    #[case("127.0.0.1:5000/a/b", "https://127.0.0.1:5001/token", false)]
    fn a_token_service_is_asked_only_where_the_credentials_belong(
        #[case] repository: &str,
        #[case] realm: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(allowed(repository, realm), expected);
    }
}
