//! A bucket of Amazon S3, or of anything that speaks its protocol.

mod credentials;
mod trouble;
mod unfinished;

use std::fmt;
use std::io;
use std::path::{Path as File, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use crate::api::duration::Period;
pub(super) use trouble::{Trouble, is_missing_artifact};

/// S3 takes no part below 5 MiB but the last; some servers want all of the same length.
pub(super) const PART: usize = 5 << 20;
const REGION: &str = "us-east-1";
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer, or the next piece of it, may take. A part is sent within that too.
const READ: Duration = Duration::from_secs(60);
/// Uploads are tried again by whoever sends them: here only what passes soon is waited for.
const RETRIES: usize = 3;
const RETRY_WITHIN: Duration = Duration::from_secs(20);
/// No artifact has this name: its job has none.
const PROBE: &str = "probe";

/// Where in S3 artifacts are kept.
#[derive(Debug, Clone, Args)]
pub struct BucketArguments {
    /// The S3 bucket in which everything is kept, instead of a directory.
    #[arg(id = "s3-bucket", long = "s3-bucket", value_name = "NAME")]
    pub bucket: Option<String>,
    /// Its region; default: AWS_REGION, or us-east-1.
    #[arg(id = "s3-region", long = "s3-region", requires = "s3-bucket")]
    pub region: Option<String>,
    /// The address of a server that speaks S3; default: Amazon's of the region.
    #[arg(id = "s3-endpoint", long = "s3-endpoint", requires = "s3-bucket", value_name = "URL")]
    pub endpoint: Option<Url>,
    /// What the names of all objects begin with. Everything below it is the store's own, and removed when it is old.
    #[arg(id = "s3-prefix", long = "s3-prefix", default_value = "timetracker-artifacts")]
    pub prefix: String,
    /// Whether the bucket's name is part of the path, not of the host's name; default: with --s3-endpoint it is.
    #[arg(id = "s3-path-style", long = "s3-path-style", requires = "s3-bucket", value_name = "BOOL")]
    pub path_style: Option<bool>,
    /// Lets the endpoint be one without TLS: whoever sees the traffic reads and changes artifacts.
    #[arg(id = "s3-allow-http", long = "s3-allow-http", requires = "s3-endpoint")]
    pub allow_http: bool,
    /// A folder with the files `access-key-id`, `secret-access-key` and perhaps `session-token`, read before each use;
    /// default: the variables by which pods get an identity at Amazon (AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE,
    /// AWS_CONTAINER_CREDENTIALS_FULL_URI and what belongs to them).
    #[arg(id = "s3-credentials", long = "s3-credentials", requires = "s3-bucket", value_name = "FOLDER")]
    pub credentials: Option<PathBuf>,
    /// A PEM bundle that is trusted besides the public authorities.
    #[arg(id = "s3-trusted-ca-file", long = "s3-trusted-ca-file", requires = "s3-bucket", value_name = "FILE")]
    pub trusted_ca_file: Option<PathBuf>,
    /// How old an upload in parts is when it is taken for one of a process that has gone, and removed.
    #[arg(id = "s3-unfinished-after", long = "s3-unfinished-after", default_value = "24h")]
    pub unfinished_after: Period,
}

/// Why a bucket can't be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// That is no bucket's name.
    #[error("`{0}` is no name of a bucket: expected 3 to 63 lower-case letters, digits, dots and hyphens")]
    Name(String),
    /// That is no prefix.
    #[error(
        "`{0}` can't be the prefix: expected names of letters, digits, `-`, `_` and `.`, separated by single slashes"
    )]
    Prefix(String),
    /// That is no region.
    #[error("`{0}` is no region: expected letters, digits and hyphens, for example eu-central-1")]
    Region(String),
    /// That is no address of a server.
    #[error("the endpoint {url}: {message}")]
    Endpoint {
        /// The address without credentials.
        url: String,
        /// What is wrong, and what is expected.
        message: &'static str,
    },
    /// Unfinished uploads would be removed under whoever sends them.
    #[error("--s3-unfinished-after must be longer than --upload-timeout: uploads under way would be removed")]
    UnfinishedAfter,
    /// Nothing says who the store is.
    #[error(
        "there are no credentials: expected --s3-credentials, or the variables AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY, AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, or AWS_CONTAINER_CREDENTIALS_FULL_URI \
         and AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
    )]
    NoCredentials,
    /// The credentials can't be read.
    #[error("the file {path} with the credentials can't be used: {source}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bundle of authorities can't be used.
    #[error("the file {path} with trusted authorities can't be used: {message}")]
    TrustedCa {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The client refuses its settings.
    #[error("the client can't be made: {0}")]
    Client(#[from] reqwest::Error),
    /// The object store refuses its settings.
    #[error("the bucket can't be used: {0}")]
    Store(#[from] object_store::Error),
}

/// A bucket, and what of it is the store's.
pub(super) struct Bucket {
    s3: AmazonS3,
    /// For the one question that the object store's interface does not have: which uploads are unfinished.
    client: reqwest::Client,
    name: String,
    endpoint: String,
    prefix: Path,
    unfinished_after: Duration,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket `{}` at {}", self.name, self.endpoint)
    }
}

impl Bucket {
    /// `None`: no bucket is asked for. Asks nothing of any server.
    ///
    /// # Errors
    /// When a setting can't be used, or there are no credentials.
    pub(super) fn open(arguments: &BucketArguments, upload_timeout: Duration) -> Result<Option<Self>, BucketError> {
        let Some(name) = arguments.bucket.clone() else { return Ok(None) };
        if !is_bucket_name(&name) {
            return Err(BucketError::Name(name));
        }
        let unfinished_after = arguments.unfinished_after.length();
        if unfinished_after <= upload_timeout {
            return Err(BucketError::UnfinishedAfter);
        }
        let prefix = checked_prefix(&arguments.prefix)?;
        let region = arguments.region.clone().or_else(|| std::env::var("AWS_REGION").ok());
        let region = region.filter(|region| !region.is_empty()).unwrap_or_else(|| REGION.to_owned());
        if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(BucketError::Region(region));
        }
        let path_style = arguments.path_style.unwrap_or(arguments.endpoint.is_some());
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&name)
            .with_region(&region)
            .with_virtual_hosted_style_request(!path_style)
            // Not every server knows how to delete many at once.
            .with_disable_bulk_delete(true)
            .with_retry(retry())
            .with_client_options(client_options(arguments)?);
        let mut endpoint = format!("https://s3.{region}.amazonaws.com");
        if let Some(url) = &arguments.endpoint {
            endpoint = checked_endpoint(url, arguments.allow_http)?;
            let host_style = || endpoint.replacen("://", &format!("://{name}."), 1);
            builder = builder.with_endpoint(if path_style { endpoint.clone() } else { host_style() });
        }
        let s3 = credentials::given(builder, arguments.credentials.as_deref())?.build()?;
        let client = client(arguments)?;
        Ok(Some(Self { s3, client, name, endpoint, prefix, unfinished_after }))
    }

    pub(super) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(self.s3.clone(), self.prefix.clone()))
    }

    /// Whether it is there and may be listed, which every upload needs too.
    ///
    /// # Errors
    /// When it can't be used, with cause and next step.
    pub(super) async fn probe(&self) -> Result<(), Trouble> {
        match self.s3.list(Some(&self.prefix.clone().join(PROBE))).next().await {
            Some(Err(error)) => Err(self.trouble(&error)),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    pub(super) fn trouble(&self, error: &object_store::Error) -> Trouble {
        Trouble::of(self.to_string(), error)
    }
}

fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(5), base: 2.0 };
    RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_WITHIN }
}

fn client_options(arguments: &BucketArguments) -> Result<ClientOptions, BucketError> {
    // A download takes as long as its reader: only standing still is bounded.
    let options = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT)
        .with_config(object_store::ClientConfigKey::ReadTimeout, format!("{} s", READ.as_secs()))
        .with_allow_http(arguments.allow_http);
    let Some(path) = &arguments.trusted_ca_file else { return Ok(options) };
    let certificates = Certificate::from_pem_bundle(&read_bundle(path)?)
        .map_err(|error| BucketError::TrustedCa { path: path.clone(), message: error.to_string() })?;
    Ok(certificates.into_iter().fold(options, ClientOptions::with_root_certificate))
}

fn client(arguments: &BucketArguments) -> Result<reqwest::Client, BucketError> {
    let mut builder = reqwest::Client::builder()
        .https_only(!arguments.allow_http)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .timeout(READ);
    if let Some(path) = &arguments.trusted_ca_file {
        builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&read_bundle(path)?)?);
    }
    Ok(builder.build()?)
}

fn read_bundle(path: &File) -> Result<Vec<u8>, BucketError> {
    let failed = |message| BucketError::TrustedCa { path: path.to_owned(), message };
    let bundle = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    // A file without any certificate would be taken for an empty bundle.
    let has_one = String::from_utf8_lossy(&bundle).contains("-----BEGIN CERTIFICATE-----");
    if has_one { Ok(bundle) } else { Err(failed("it holds no certificate".to_owned())) }
}

fn is_bucket_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (3..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-'])
        && !name.contains("..")
}

/// Never empty: what is old below it is removed, and a bucket may hold other things.
fn checked_prefix(prefix: &str) -> Result<Path, BucketError> {
    let fits = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('.')
    };
    if prefix.len() <= 512 && prefix.split('/').all(fits) {
        Ok(Path::from_iter(prefix.split('/')))
    } else {
        Err(BucketError::Prefix(prefix.to_owned()))
    }
}

/// The endpoint without a slash at its end.
fn checked_endpoint(url: &Url, allow_http: bool) -> Result<String, BucketError> {
    let mut shown = url.clone();
    let (_, _) = (shown.set_username(""), shown.set_password(None));
    let shown = shown.as_str().trim_end_matches('/').to_owned();
    let message = match url.scheme() {
        "http" if !allow_http => "it has no TLS: expected https:, or --s3-allow-http where the network is trusted",
        "https" | "http" if url.host_str().is_none() => "it names no host",
        "https" | "http" if !url.username().is_empty() || url.password().is_some() => {
            "it holds credentials: they belong into --s3-credentials"
        }
        "https" | "http" if url.path() != "/" || url.query().is_some() || url.fragment().is_some() => {
            "expected nothing behind host and port; the bucket belongs into --s3-bucket"
        }
        "https" | "http" => return Ok(shown),
        _ => "expected https://host",
    };
    Err(BucketError::Endpoint { url: shown, message })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("artifacts", true)]
    #[case("ci.example.org", true)]
    #[case("ab", false)]
    #[case("../etc", false)]
    #[case("a..b", false)]
    #[case("Artifacts", false)]
    #[case("bucket/path", false)]
    #[case("bucket?x=y", false)]
    fn a_bucket_has_a_name_of_s3(#[case] name: &str, #[case] fits: bool) {
        assert_eq!(is_bucket_name(name), fits);
    }

    #[rstest]
    #[case("")]
    #[case("/")]
    #[case("a//b")]
    #[case("a/../b")]
    #[case("a b")]
    #[case("a/")]
    fn a_prefix_is_never_empty_and_leads_nowhere_else(#[case] prefix: &str) {
        assert!(checked_prefix(prefix).is_err());
    }

    #[rstest]
    #[case("https://s3.example.org", false, None)]
    #[case("http://10.0.0.5:9000", true, None)]
    #[case("http://10.0.0.5:9000", false, Some("no TLS"))]
    #[case("https://key:secret@s3.example.org", false, Some("credentials"))]
    #[case("https://s3.example.org/bucket", false, Some("--s3-bucket"))]
    #[case("https://s3.example.org/?x=1", false, Some("--s3-bucket"))]
    #[case("ftp://s3.example.org", true, Some("expected https"))]
    fn an_endpoint_is_an_address_with_tls(#[case] url: &str, #[case] allow_http: bool, #[case] refused: Option<&str>) {
        let checked = checked_endpoint(&url.parse().unwrap(), allow_http);
        match refused {
            None => assert_eq!(checked.unwrap(), url),
            Some(words) => {
                let message = checked.unwrap_err().to_string();
                assert!(message.contains(words) && !message.contains("secret@"), "{message}");
            }
        }
    }
}
