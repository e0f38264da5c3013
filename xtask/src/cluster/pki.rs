//! The cluster's certificate authority and certificates, made with the openssl command.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::layout::{API_SERVICE, GATEWAY, Layout, NODE};
use crate::host::run;

/// A certificate: file name, subject, alternative names.
struct Certificate {
    name: &'static str,
    subject: String,
    alternatives: String,
}

fn certificates() -> Vec<Certificate> {
    let client = |name: &'static str, subject: &str| Certificate {
        name,
        subject: subject.to_owned(),
        alternatives: format!("DNS:{name}"),
    };
    vec![
        Certificate {
            name: "apiserver",
            subject: "/CN=kube-apiserver".to_owned(),
            alternatives: format!(
                "IP:127.0.0.1,IP:{API_SERVICE},IP:{GATEWAY},DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
            ),
        },
        client("admin", "/O=system:masters/CN=admin"),
        client("controller-manager", "/CN=system:kube-controller-manager"),
        client("scheduler", "/CN=system:kube-scheduler"),
        Certificate {
            name: "node",
            subject: format!("/O=system:nodes/CN=system:node:{NODE}"),
            alternatives: format!("DNS:{NODE},IP:{GATEWAY}"),
        },
        client("proxy", "/CN=system:kube-proxy"),
    ]
}

/// Makes everything unless it is there. A run that is cut short leaves nothing that a later one would take for complete.
///
/// # Errors
/// When openssl fails or the folder can't be written.
pub fn ensure(layout: &Layout) -> Result<()> {
    let folder = layout.path("pki");
    if folder.exists() {
        return Ok(());
    }
    let fresh = layout.path("pki.new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir_all(&fresh).with_context(|| format!("creating {}", fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o700))?;
    authority(&fresh)?;
    for certificate in certificates() {
        issue(&fresh, &certificate)?;
    }
    openssl(&fresh, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "service-account.key"])?;
    openssl(&fresh, &["ec", "-in", "service-account.key", "-pubout", "-out", "service-account.pub"])?;
    fs::rename(&fresh, &folder)?;
    Ok(())
}

const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
const DAYS: [&str; 2] = ["-days", "3650"];

fn authority(folder: &Path) -> Result<()> {
    let mut arguments = vec!["req", "-x509"];
    arguments.extend(NEW_KEY);
    arguments.extend(DAYS);
    arguments.extend(["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=timetracker-cluster"]);
    arguments.extend(["-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"]);
    openssl(folder, &arguments)
}

fn issue(folder: &Path, certificate: &Certificate) -> Result<()> {
    let file = |extension: &str| format!("{}.{extension}", certificate.name);
    let (key, request, signed, extensions) = (file("key"), file("csr"), file("crt"), file("ext"));
    let text = format!("subjectAltName={}\nextendedKeyUsage=serverAuth,clientAuth\n", certificate.alternatives);
    fs::write(folder.join(&extensions), text)?;
    let mut arguments = vec!["req"];
    arguments.extend(NEW_KEY);
    arguments.extend(["-keyout", &key, "-out", &request, "-subj", &certificate.subject]);
    openssl(folder, &arguments)?;
    let mut arguments = vec!["x509", "-req", "-in", &request, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    arguments.extend(DAYS);
    arguments.extend(["-extfile", &extensions, "-out", &signed]);
    openssl(folder, &arguments)?;
    fs::remove_file(folder.join(&request))?;
    fs::remove_file(folder.join(&extensions))?;
    Ok(())
}

fn openssl(folder: &Path, arguments: &[&str]) -> Result<()> {
    run::output(Command::new("openssl").args(arguments).current_dir(folder))?;
    Ok(())
}
