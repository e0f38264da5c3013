//! The real thing: `distribution`, the registry that the embedded cluster runs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{ImageFixture, Variant, amd64, config, repository, tag};
use timetracker_operator::registry::{Access, Registry, RegistryConfig};

const PACKAGE: &str = "github.com/distribution/distribution/v3/cmd/registry@v3.1.2";
const PATH: &str = "drytrix/timetracker";

/// A registry with its own directory and port; both are gone when it is dropped.
struct RealRegistry {
    address: String,
    _process: Child,
    _directory: TempDir,
}

/// The program: what `TIMETRACKER_TEST_REGISTRY` names, else the cache's, else built into the cache.
async fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("TIMETRACKER_TEST_REGISTRY") {
        return path.into();
    }
    let cache = std::env::var_os("TIMETRACKER_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/timetracker-operator")
    });
    if let Some(found) = find(&cache, 3) {
        return found;
    }
    let directory = cache.join("contract-tests");
    let built = Command::new("go").args(["install", PACKAGE]).env("GOBIN", &directory).status().await;
    assert!(built.is_ok_and(|status| status.success()), "`go install {PACKAGE}` failed: is Go installed?");
    directory.join("registry")
}

fn find(directory: &Path, depth: usize) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect();
    let is_program = |path: &&PathBuf| path.file_name().is_some_and(|name| name == "registry") && path.is_file();
    entries.iter().find(is_program).cloned().or_else(|| {
        let deeper = entries.iter().filter(|path| depth > 0 && path.is_dir());
        deeper.filter_map(|path| find(path, depth - 1)).next()
    })
}

impl RealRegistry {
    async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Over https when given a certificate and its key as PEM.
    async fn start_with(tls: Option<(&str, &str)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        // YAML takes JSON.
        let mut configuration = json!({
            "version": 0.1,
            "storage": { "filesystem": { "rootdirectory": path("storage") } },
            "http": { "addr": "127.0.0.1:0" },
        });
        if let Some((certificate, key)) = tls {
            std::fs::write(path("tls.crt"), certificate).unwrap();
            std::fs::write(path("tls.key"), key).unwrap();
            configuration["http"]["tls"] = json!({ "certificate": path("tls.crt"), "key": path("tls.key") });
        }
        let file = path("config.yml");
        std::fs::write(&file, configuration.to_string()).unwrap();
        let mut process = Command::new(program().await)
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let listening = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    return rest.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
                }
            }
            panic!("the registry ended before it listened");
        };
        let address = tokio::time::timeout(Duration::from_secs(30), listening).await.unwrap();
        // The pipe must not fill up.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { address, _process: process, _directory: directory }
    }

    async fn push(&self, client: &reqwest::Client, tags: &[String], image: &ImageFixture) {
        let base = format!("http://{}/v2/{PATH}", self.address);
        for (digest, blob) in &image.blobs {
            let upload = client.post(format!("{base}/blobs/uploads/")).send().await.unwrap();
            let location = upload.headers()["location"].to_str().unwrap().to_owned();
            let mut url = upload.url().join(&location).unwrap();
            url.query_pairs_mut().append_pair("digest", digest);
            let stored = client.put(url).body(blob.clone()).send().await.unwrap();
            assert_eq!(stored.status().as_u16(), 201);
        }
        // Inner manifests before those that name them, which stand first.
        let by_digest = image.manifests.iter().rev().map(|manifest| (manifest.0.clone(), manifest));
        for (reference, manifest) in by_digest {
            put(client, &base, &reference, manifest).await;
        }
        let top = image.manifests.iter().find(|(digest, ..)| *digest == image.digest).unwrap();
        stream::iter(tags).for_each_concurrent(16, |tag| put(client, &base, tag, top)).await;
    }
}

async fn put(client: &reqwest::Client, base: &str, reference: &str, manifest: &(String, String, Vec<u8>)) {
    let (_, media_type, body) = manifest;
    let request = client.put(format!("{base}/manifests/{reference}"));
    let stored = request.header("content-type", media_type).body(body.clone()).send().await.unwrap();
    assert_eq!(stored.status().as_u16(), 201, "{reference}: {}", stored.text().await.unwrap());
}

#[tokio::test]
async fn two_hundred_and_fifty_pushed_tags_are_all_found_and_resolved() {
    let registry = RealRegistry::start().await;
    let image = ImageFixture::index(&[Variant::linux("amd64"), Variant::linux("arm64")]);
    let mut tags: Vec<String> = (0..250).map(|number| format!("1.{number}.0")).collect();
    registry.push(&reqwest::Client::new(), &tags, &image).await;

    let reader = Registry::new(config(&registry.address)).unwrap();
    let list = reader.list_tags(&repository(), &Access::anonymous()).await.unwrap();
    tags.sort();
    let found: Vec<&str> = list.tags.iter().map(|tag| tag.as_str()).collect();
    assert_eq!(found, tags);
    assert_eq!((list.is_complete(), list.pages), (true, 3));

    let resolved = reader.resolve(&repository(), &tag("1.7.0"), &Access::anonymous(), &amd64()).await.unwrap();
    assert_eq!(resolved.digest.as_str(), image.digest);
    let error = reader.resolve(&repository(), &tag("9.9.9"), &Access::anonymous(), &amd64()).await.unwrap_err();
    assert_eq!(error.reason(), "ImageNotFound");
}

#[tokio::test]
async fn a_repository_that_does_not_exist_is_not_found_under_its_own_host_too() {
    let registry = RealRegistry::start().await;
    let config = RegistryConfig { insecure: [registry.address.clone()].into(), ..RegistryConfig::default() };
    let repository = format!("{}/nobody/nothing", registry.address).parse().unwrap();
    let reader = Registry::new(config).unwrap();
    let error = reader.list_tags(&repository, &Access::anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "ImageNotFound");
}

#[tokio::test]
async fn a_registry_with_an_own_certificate_is_read_once_its_ca_is_trusted() {
    let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = issued.cert.pem();
    let registry = RealRegistry::start_with(Some((&certificate, &issued.signing_key.serialize_pem()))).await;
    let mirrors = [("ghcr.io".to_owned(), registry.address.clone())].into();
    let config = RegistryConfig { mirrors, ..RegistryConfig::default() };

    let reader = Registry::new(config.clone()).unwrap();
    let error = reader.list_tags(&repository(), &Access::anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnreachable");
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");

    let trusting = RegistryConfig { extra_ca_bundle: Some(certificate.into_bytes()), ..config };
    let reader = Registry::new(trusting).unwrap();
    let error = reader.list_tags(&repository(), &Access::anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "ImageNotFound", "{error}");
}
