//! Database URLs as SQLAlchemy and libpq read them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};

/// How much TLS a URL demands, weakest first. The words and their meaning are libpq's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Where and how to connect.
#[derive(Debug, Clone)]
pub(super) struct DatabaseUrl {
    pub(super) user: String,
    pub(super) password: Option<SecretString>,
    /// A host name, an address without brackets, or the absolute path of a socket directory.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) ssl_mode: SslMode,
    pub(super) root_certificate: Option<RootCertificate>,
    /// Server options of the URL (`-c search_path=…`).
    pub(super) options: Option<String>,
    /// The URL for the app: scheme as SQLAlchemy takes it, without what our own environment variables set.
    for_command: SecretString,
}

/// What the server's certificate is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RootCertificate {
    /// The system's certificate bundle.
    System,
    /// This PEM file.
    File(PathBuf),
}

/// Why a URL can't be used. Never quotes the URL: it has a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    #[error("the database URL starts with neither postgresql:// nor postgresql+psycopg2://")]
    Scheme,
    #[error("the database URL has a broken percent escape in its {0}")]
    Escape(&'static str),
    #[error("the database URL names no {0}")]
    Missing(&'static str),
    #[error("the port in the database URL is not a number from 1 to 65535")]
    Port,
    #[error("the database URL names several hosts: give the one that accepts writes")]
    SeveralHosts,
    #[error("sslmode in the database URL is not one of disable, allow, prefer, require, verify-ca, verify-full")]
    SslMode,
    #[error("the database URL asks for a client certificate ({0}), which is not supported: use a password")]
    ClientCertificate(String),
}

impl DatabaseUrl {
    /// The URL that the app gets: `postgres://` is written out, and `application_name` and `options` are taken out,
    /// for in a URL they would win over PGAPPNAME and PGOPTIONS.
    pub(super) fn for_command(&self) -> &str {
        self.for_command.expose_secret()
    }

    /// The same database and user, by way of somebody who listens there without TLS.
    ///
    /// # Errors
    /// Never in fact: what is put together here is well formed.
    pub(super) fn at(&self, host: &str, port: u16) -> Result<Self, UrlError> {
        let password = self.password.as_ref().map(|password| format!(":{}", encoded(password.expose_secret())));
        let (user, database) = (encoded(&self.user), encoded(&self.database));
        let text = format!("postgresql://{user}{}@{host}:{port}/{database}", password.unwrap_or_default());
        let mut url: Self = text.parse()?;
        url.options.clone_from(&self.options);
        Ok(url)
    }

    /// The password as it is and as it stands in the URL: neither may be shown.
    pub(super) fn secrets(&self) -> Vec<String> {
        let plain = self.password.as_ref().map(|password| password.expose_secret().to_owned());
        let escaped = split(self.for_command()).ok().and_then(|parts| parts.password.map(str::to_owned));
        plain.into_iter().chain(escaped).collect()
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database `{}` on {}:{}", self.database, self.host, self.port)
    }
}

/// Every byte that is not plain, as a percent escape.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

struct Parts<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    password: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
    database: &'a str,
    query: &'a str,
}

/// Cuts the URL as SQLAlchemy does: the user has no `:` or `/`, the password ends at the first `@`.
fn split(text: &str) -> Result<Parts<'_>, UrlError> {
    let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
    if !matches!(scheme, "postgresql" | "postgresql+psycopg2" | "postgres") {
        return Err(UrlError::Scheme);
    }
    let mut user = None;
    let mut password = None;
    let mut behind = rest;
    if let Some((userinfo, after)) = rest.split_once('@') {
        let (name, secret) = userinfo.split_once(':').map_or((userinfo, None), |(name, secret)| (name, Some(secret)));
        if !name.contains(['/', '?']) {
            (user, password, behind) = (Some(name), secret, after);
        }
    }
    let (address, query) = behind.split_once('?').unwrap_or((behind, ""));
    let (authority, database) = address.split_once('/').unwrap_or((address, ""));
    let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((address, after)) => (address, after.strip_prefix(':')),
        None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    Ok(Parts { scheme, user, password, host, port: port.filter(|port| !port.is_empty()), database, query })
}

fn decoded(text: &str, what: &'static str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let value = digit(rest.next()).zip(digit(rest.next())).map(|(high, low)| high * 16 + low);
        bytes.push(value.and_then(|value| u8::try_from(value).ok()).ok_or(UrlError::Escape(what))?);
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Escape(what))
}

impl FromStr for DatabaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let parts = split(text)?;
        let mut user = parts.user.filter(|user| !user.is_empty()).map(|user| decoded(user, "user")).transpose()?;
        let mut password = parts.password.map(|password| decoded(password, "password")).transpose()?;
        let mut host = decoded(parts.host, "host")?;
        let mut port = parts.port.map(str::to_owned);
        let mut database = decoded(parts.database, "database name")?;
        let mut ssl_mode = SslMode::Prefer;
        let mut root_certificate = None;
        let mut options = None;
        let mut kept = Vec::new();
        for parameter in parts.query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = decoded(&value.replace('+', "%20"), "parameters")?;
            match name {
                "application_name" => continue,
                "options" => {
                    options = Some(value);
                    continue;
                }
                "user" => user = Some(value),
                "password" => password = Some(value),
                "host" => host = value,
                "port" => port = Some(value),
                "dbname" => database = value,
                "sslmode" => ssl_mode = parse_ssl_mode(&value)?,
                "sslrootcert" => root_certificate = Some(RootCertificate::from(value)),
                "sslcert" | "sslkey" => return Err(UrlError::ClientCertificate(name.to_owned())),
                _ => {}
            }
            kept.push(parameter);
        }
        if host.contains(',') {
            return Err(UrlError::SeveralHosts);
        }
        let port = match port {
            Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0).ok_or(UrlError::Port)?,
            None => 5432,
        };
        let scheme = if parts.scheme == "postgres" { "postgresql" } else { parts.scheme };
        let behind = text.get(parts.scheme.len()..).unwrap_or_default();
        let address = behind.get(..behind.len() - parts.query.len()).unwrap_or_default().trim_end_matches('?');
        let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
        Ok(Self {
            user: user.ok_or(UrlError::Missing("user"))?,
            password: password.map(SecretString::from),
            host: if host.is_empty() { return Err(UrlError::Missing("host")) } else { host },
            port,
            database: if database.is_empty() { return Err(UrlError::Missing("database")) } else { database },
            ssl_mode,
            root_certificate,
            options,
            for_command: SecretString::from(format!("{scheme}{address}{query}")),
        })
    }
}

fn parse_ssl_mode(text: &str) -> Result<SslMode, UrlError> {
    Ok(match text {
        "disable" => SslMode::Disable,
        "allow" | "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => return Err(UrlError::SslMode),
    })
}

impl From<String> for RootCertificate {
    fn from(value: String) -> Self {
        if value == "system" { Self::System } else { Self::File(value.into()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn password(url: &DatabaseUrl) -> Option<&str> {
        url.password.as_ref().map(|password| password.expose_secret())
    }

    #[test]
    fn a_whole_url_is_read() {
        let url: DatabaseUrl = "postgresql+psycopg2://app:p%40ss%2F%3a@db.example:6543/time?sslmode=verify-full&sslrootcert=/ca.pem&application_name=x&options=-c%20search_path%3Da"
            .parse()
            .unwrap();
        assert_eq!((url.user.as_str(), password(&url)), ("app", Some("p@ss/:")));
        assert_eq!((url.host.as_str(), url.port, url.database.as_str()), ("db.example", 6543, "time"));
        assert_eq!(url.ssl_mode, SslMode::VerifyFull);
        assert_eq!(url.root_certificate, Some(RootCertificate::File("/ca.pem".into())));
        assert_eq!(url.options.as_deref(), Some("-c search_path=a"));
        assert_eq!(
            url.for_command(),
            "postgresql+psycopg2://app:p%40ss%2F%3a@db.example:6543/time?sslmode=verify-full&sslrootcert=/ca.pem"
        );
        assert_eq!(url.secrets(), ["p@ss/:", "p%40ss%2F%3a"]);
    }

    #[rstest]
    #[case("postgres://u:p@h/d", "h", 5432, "d", "postgresql://u:p@h/d")]
    #[case("postgresql://u:p/w?x@h/d", "h", 5432, "d", "postgresql://u:p/w?x@h/d")]
    #[case("postgresql://u:p@[::1]:15432/d", "::1", 15432, "d", "postgresql://u:p@[::1]:15432/d")]
    #[case("postgresql://u@/d?host=/run/pg", "/run/pg", 5432, "d", "postgresql://u@/d?host=/run/pg")]
    #[case("postgresql://h/d?user=u", "h", 5432, "d", "postgresql://h/d?user=u")]
    #[case(" postgresql://u:p@h:5433/d?application_name=a\n", "h", 5433, "d", "postgresql://u:p@h:5433/d")]
    fn usual_spellings_are_understood(
        #[case] text: &str,
        #[case] host: &str,
        #[case] port: u16,
        #[case] database: &str,
        #[case] for_command: &str,
    ) {
        let url: DatabaseUrl = text.parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.database.as_str()), (host, port, database));
        assert_eq!(url.for_command(), for_command);
    }

    #[rstest]
    #[case("mysql://u:p@h/d", UrlError::Scheme)]
    #[case("u:p@h/d", UrlError::Scheme)]
    #[case("postgresql://u:p%4@h/d", UrlError::Escape("password"))]
    #[case("postgresql://u:%ff@h/d", UrlError::Escape("password"))]
    #[case("postgresql://u:p@h:99999/d", UrlError::Port)]
    #[case("postgresql://u:p@h", UrlError::Missing("database"))]
    #[case("postgresql://u:p@/d", UrlError::Missing("host"))]
    #[case("postgresql://h/d", UrlError::Missing("user"))]
    #[case("postgresql://u:p@a,b/d", UrlError::SeveralHosts)]
    #[case("postgresql://u:p@h/d?sslmode=maybe", UrlError::SslMode)]
    #[case("postgresql://u:p@h/d?sslcert=/c", UrlError::ClientCertificate("sslcert".to_owned()))]
    fn what_cannot_be_used_is_refused_without_quoting_it(#[case] text: &str, #[case] expected: UrlError) {
        assert_eq!(text.parse::<DatabaseUrl>().unwrap_err(), expected);
    }

    proptest! {
        #[test]
        fn any_password_survives_its_escaping(secret in any::<String>()) {
            let escaped: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let url: DatabaseUrl = format!("postgresql://u:{escaped}@h/d").parse().unwrap();
            prop_assert_eq!(password(&url), Some(secret.as_str()));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<DatabaseUrl>();
            let _ = format!("postgresql://{text}").parse::<DatabaseUrl>();
        }
    }
}
