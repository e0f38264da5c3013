//! `sslmode` against a server that speaks TLS.
//!
//! The Postgres of the tests is built without TLS, so a proxy of ours speaks it in front of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use timetracker_operator::agent::report::{DatabaseFailure, InspectReport};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::Agent;
use crate::support::postgres::Postgres;

/// What a client sends before anything else when it wants TLS.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Starts the proxy with a certificate for `localhost` that is its own CA, and returns its port.
fn serve_tls(server: u16, directory: &Path) -> u16 {
    let (certificate, key) = (directory.join("server.crt"), directory.join("server.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .args([&key, Path::new("-out"), &certificate])
        .output()
        .expect("openssl makes the test's certificate");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let chain = vec![CertificateDer::from_pem_slice(&fs::read(certificate).unwrap()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&fs::read(key).unwrap()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap().port()).unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, acceptor.clone(), server));
            }
        });
    });
    told.recv().unwrap()
}

async fn forward(mut client: TcpStream, acceptor: TlsAcceptor, server: u16) -> std::io::Result<()> {
    let mut request = [0; 8];
    client.read_exact(&mut request).await?;
    if request != TLS_REQUEST {
        return Ok(());
    }
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

#[test]
fn tls_is_as_strict_as_the_url_says() {
    let postgres = Postgres::start();
    let directory = tempfile::tempdir().unwrap();
    let port = serve_tls(postgres.port(), directory.path());
    let certificate = directory.path().join("server.crt");
    let certificate = certificate.to_str().unwrap();
    let url = postgres.url().replace(&format!(":{}/", postgres.port()), &format!(":{port}/"));
    let other = tempfile::NamedTempFile::new().unwrap();
    let by_name = url.replace("127.0.0.1", "localhost");
    let inspect = |url: &str, mode: &str, root: Option<&str>| {
        let agent = Agent::new(["database", "inspect", "--connect-timeout", "1s"])
            .env("DATABASE_URL", &format!("{url}?sslmode={mode}"));
        let finished = match root {
            Some(root) => agent.env("PGSSLROOTCERT", root).run(),
            None => agent.run(),
        };
        match finished.report() {
            InspectReport::Inspected { .. } => Ok(()),
            InspectReport::Failed { failure, message } => Err((failure, message)),
        }
    };
    for mode in ["prefer", "require"] {
        assert_eq!(inspect(&url, mode, None), Ok(()), "{mode}");
    }
    assert_eq!(inspect(&postgres.url(), "disable", None), Ok(()));
    assert!(inspect(&url, "disable", None).is_err(), "this server speaks nothing but TLS");
    assert_eq!(inspect(&by_name, "verify-full", Some(certificate)), Ok(()));
    assert_eq!(inspect(&url, "verify-ca", Some(certificate)), Ok(()), "the name does not matter");
    let refused = |result: Result<(), (DatabaseFailure, String)>| {
        let (failure, message) = result.unwrap_err();
        assert_eq!(failure, DatabaseFailure::Configuration, "{message}");
        message
    };
    let message = refused(inspect(&url, "verify-full", Some(certificate)));
    assert!(message.contains("certificate is refused"), "{message}");
    let message = refused(inspect(&by_name, "verify-full", None));
    assert!(message.contains("caFrom"), "{message}");
    let message = refused(inspect(&by_name, "verify-full", other.path().to_str()));
    assert!(message.contains("no certificate"), "{message}");
}
