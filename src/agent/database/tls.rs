//! TLS to the database, with libpq's meaning of `sslmode`.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as RustlsStream;

use super::url::{RootCertificate, SslMode};
use crate::agent::report::DatabaseFailure;

/// Where Debian, Alpine and the trusted-CA setting keep the system's bundle.
const SYSTEM_BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem"];

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("sslmode demands a checked certificate and there is no CA to check it with (set caFrom)")]
    NoRoot,
    #[error("the CA file {0} can't be used: {1}")]
    Root(String, String),
    #[error("the host name can't be used for TLS: {0}")]
    Name(String),
    #[error("TLS can't be set up: {0}")]
    Setup(RustlsError),
    #[error("the server's certificate is refused: {0} (check caFrom, the host name and sslmode)")]
    Certificate(RustlsError),
    #[error("the TLS handshake broke off: {0}")]
    Handshake(io::Error),
}

impl TlsError {
    pub(super) fn failure(&self) -> DatabaseFailure {
        match self {
            Self::NoRoot | Self::Root(..) | Self::Name(_) | Self::Setup(_) | Self::Certificate(_) => {
                DatabaseFailure::Configuration
            }
            Self::Handshake(_) => DatabaseFailure::Unreachable,
        }
    }
}

/// Makes TLS sessions for one database URL.
#[derive(Clone)]
pub(super) struct MakeTls(Arc<ClientConfig>);

impl MakeTls {
    /// # Errors
    /// When a certificate must be checked and the CA is missing or unreadable.
    pub(super) fn new(mode: SslMode, root: Option<&RootCertificate>) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let checks = match (mode, root) {
            (SslMode::VerifyCa | SslMode::VerifyFull, None) => return Err(TlsError::NoRoot),
            (SslMode::Disable | SslMode::Prefer, _) | (SslMode::Require, None) => None,
            // A root given by hand makes `require` mean `verify-ca`, as in libpq.
            (SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull, Some(root)) => {
                let store = Arc::new(roots(root)?);
                let verifier = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&provider))
                    .build()
                    .map_err(|error| TlsError::Root(format!("{root:?}"), error.to_string()))?;
                Some(verifier)
            }
        };
        let verifier = Verifier { provider: Arc::clone(&provider), checks, name_matters: mode == SslMode::VerifyFull };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

fn roots(root: &RootCertificate) -> Result<RootCertStore, TlsError> {
    let files: Vec<String> = match root {
        RootCertificate::File(path) => vec![path.display().to_string()],
        RootCertificate::System => {
            std::env::var("SSL_CERT_FILE").into_iter().chain(SYSTEM_BUNDLES.map(str::to_owned)).collect()
        }
    };
    let mut last = TlsError::NoRoot;
    for file in files {
        let refused = |why: String| TlsError::Root(file.clone(), why);
        let certificates: Result<Vec<_>, _> = match CertificateDer::pem_file_iter(&file) {
            Ok(certificates) => certificates.collect(),
            Err(error) => {
                last = refused(error.to_string());
                continue;
            }
        };
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(certificates.map_err(|error| refused(error.to_string()))?);
        if added > 0 {
            return Ok(store);
        }
        last = refused("it has no certificate in it".to_owned());
    }
    Err(last)
}

/// Checks as much as the mode demands; the handshake's signature always.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    checks: Option<Arc<WebPkiServerVerifier>>,
    name_matters: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let Some(checks) = &self.checks else { return Ok(ServerCertVerified::assertion()) };
        let verified = checks.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            Err(RustlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name_matters => Ok(ServerCertVerified::assertion()),
            Ok(_) | Err(_) => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl<S> MakeTlsConnect<S> for MakeTls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Connect;
    type Error = TlsError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Connect, TlsError> {
        // A socket directory has no name; TLS is never spoken there.
        let domain = if domain.is_empty() { "localhost" } else { domain };
        let name = ServerName::try_from(domain.to_owned()).map_err(|error| TlsError::Name(error.to_string()))?;
        Ok(Connect { config: Arc::clone(&self.0), name })
    }
}

/// One handshake to come.
pub(super) struct Connect {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl<S> TlsConnect<S> for Connect
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream<S>, TlsError>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            match TlsConnector::from(self.config).connect(self.name, stream).await {
                Ok(stream) => Ok(Stream(stream)),
                Err(error) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>()) {
                    Some(refused) => TlsError::Certificate(refused.clone()),
                    None => TlsError::Handshake(error),
                }),
            }
        })
    }
}

/// A TLS session.
pub(super) struct Stream<S>(RustlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
