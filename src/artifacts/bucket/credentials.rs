//! Who the store is to S3: never part of the configuration, but files or variables that the pod is given.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};

use super::BucketError;

const ACCESS_KEY_ID: &str = "access-key-id";
const SECRET_ACCESS_KEY: &str = "secret-access-key";
const SESSION_TOKEN: &str = "session-token";

/// What is taken from the environment: an identity and nothing else. Endpoints or switches that stand there too, for
/// other programs perhaps, change nothing.
const VARIABLES: [(&str, AmazonS3ConfigKey); 9] = [
    ("AWS_ACCESS_KEY_ID", AmazonS3ConfigKey::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", AmazonS3ConfigKey::SecretAccessKey),
    ("AWS_SESSION_TOKEN", AmazonS3ConfigKey::Token),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];
/// Each of these pairs is an identity. Without one the node's own would be asked for, which is not the store's.
const IDENTITIES: [[&str; 2]; 3] = [
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"],
    ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"],
];

/// The builder with credentials from the folder, or else from the environment.
///
/// # Errors
/// When they can't be read, or there are none.
pub(super) fn given(builder: AmazonS3Builder, folder: Option<&Path>) -> Result<AmazonS3Builder, BucketError> {
    let Some(folder) = folder else {
        return from_variables(builder, |name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    };
    let mounted = Mounted { folder: folder.to_owned() };
    mounted.read()?;
    Ok(builder.with_credentials(Arc::new(mounted)))
}

fn from_variables(
    builder: AmazonS3Builder,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<AmazonS3Builder, BucketError> {
    if !IDENTITIES.iter().any(|pair| pair.iter().all(|name| variable(name).is_some())) {
        return Err(BucketError::NoCredentials);
    }
    for name in [IDENTITIES[0][0], IDENTITIES[0][1], "AWS_SESSION_TOKEN"] {
        if variable(name).is_some_and(|value| !is_header(&value)) {
            return Err(BucketError::Credentials { path: PathBuf::from(name), source: unreadable() });
        }
    }
    let found = VARIABLES.into_iter().filter_map(|(name, key)| Some((key, variable(name)?)));
    Ok(found.fold(builder, |builder, (key, value)| builder.with_config(key, value)))
}

/// A mounted Secret. Read for each request, so that new keys are taken without a restart.
#[derive(Debug)]
struct Mounted {
    folder: PathBuf,
}

impl Mounted {
    fn read(&self) -> Result<AwsCredential, BucketError> {
        // Kubelet exchanges all files of a Secret at once by this link: key and secret belong together.
        let folder = self.folder.join("..data").canonicalize().unwrap_or_else(|_| self.folder.clone());
        let read = |name: &str| {
            let path = folder.join(name);
            let failed = |source| BucketError::Credentials { path: self.folder.join(name), source };
            let text = std::fs::read_to_string(path).map_err(failed)?;
            let value = text.trim();
            if is_header(value) { Ok(value.to_owned()) } else { Err(failed(unreadable())) }
        };
        let token = match read(SESSION_TOKEN) {
            Err(BucketError::Credentials { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            token => Some(token?),
        };
        Ok(AwsCredential { key_id: read(ACCESS_KEY_ID)?, secret_key: read(SECRET_ACCESS_KEY)?, token })
    }
}

/// What S3's signatures take: anything else would end the process, not the request.
fn is_header(value: &str) -> bool {
    (1..=4096).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic())
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "expected one line of printable characters without spaces")
}

#[async_trait]
impl CredentialProvider for Mounted {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        // Two small files in memory.
        let read = self.read().map(Arc::new);
        read.map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rstest::rstest;

    use super::*;

    #[test]
    fn a_secret_that_kubelet_exchanges_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        for (version, key) in [("..1", "first"), ("..2", "second")] {
            fs::create_dir(folder.path().join(version)).unwrap();
            fs::write(folder.path().join(version).join(ACCESS_KEY_ID), format!("{key}\n")).unwrap();
            fs::write(folder.path().join(version).join(SECRET_ACCESS_KEY), "secret").unwrap();
        }
        let mounted = Mounted { folder: folder.path().to_owned() };
        for (version, key) in [("..1", "first"), ("..2", "second")] {
            let _ = fs::remove_file(folder.path().join("..data"));
            symlink(version, folder.path().join("..data")).unwrap();
            let read = mounted.read().unwrap();
            assert_eq!((read.key_id.as_str(), read.token), (key, None));
        }
    }

    #[rstest]
    #[case("")]
    #[case("two words")]
    #[case("two\nlines")]
    #[case("nul\0")]
    #[case("ключ")]
    fn a_key_that_no_signature_takes_is_refused_by_its_file(#[case] secret: &str) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(ACCESS_KEY_ID), "key").unwrap();
        fs::write(folder.path().join(SECRET_ACCESS_KEY), secret).unwrap();
        let error = Mounted { folder: folder.path().to_owned() }.read().unwrap_err().to_string();
        assert!(error.contains("secret-access-key"), "{error}");
        assert!(secret.is_empty() || !error.contains(secret), "{error}");
    }

    #[rstest]
    #[case(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], true)]
    #[case(&["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"], true)]
    #[case(&["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"], true)]
    #[case(&["AWS_ACCESS_KEY_ID"], false)]
    #[case(&["AWS_ROLE_ARN"], false)]
    #[case(&[], false)]
    fn half_an_identity_is_none(#[case] set: &[&str], #[case] is_one: bool) {
        let variable = |name: &str| set.contains(&name).then(|| "value".to_owned());
        assert_eq!(from_variables(AmazonS3Builder::new(), variable).is_ok(), is_one);
    }

    #[test]
    fn the_environment_changes_neither_endpoint_nor_encryption() {
        let builder = from_variables(AmazonS3Builder::new(), |_| Some("true".to_owned())).unwrap();
        assert_eq!(builder.get_config_value(&AmazonS3ConfigKey::Endpoint), None);
        let allow_http = AmazonS3ConfigKey::Client(object_store::ClientConfigKey::AllowHttp);
        assert_eq!(builder.get_config_value(&allow_http).as_deref(), Some("false"));
        assert_eq!(builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).as_deref(), Some("false"));
    }
}
