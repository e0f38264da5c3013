//! Images of environments in a real registry that wants a password: looked up, made, pushed, read back.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tempfile::TempDir;
use timetracker_operator::agent::report::{EnvironmentFailure, EnvironmentReport};
use timetracker_operator::api::names::Digest;

use crate::fetch::store;
use crate::support::cache;
use crate::{Agent, Finished};

pub const USER: &str = "ci";
pub const PASSWORD: &str = "s3cret";
/// This week.
pub const WEEK: u64 = 2968;
/// The password above as the registry keeps it.
const ENTRY: &str = "ci:$2b$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n";
pub const IMAGES: &str = "ghcr.io/o/app-environment";

pub struct Registry {
    pub address: String,
    directory: TempDir,
    process: Child,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("TIMETRACKER_TEST_REGISTRY") {
        return path.into();
    }
    let package = "github.com/distribution/distribution/v3/cmd/registry@v3.1.2";
    let directory = cache::directory().join("contract-tests");
    let built = Command::new("go").args(["install", package]).env("GOBIN", &directory).status();
    assert!(built.is_ok_and(|status| status.success()), "`go install {package}` failed: is Go installed?");
    directory.join("registry")
}

impl Registry {
    /// With Python's image in it, of one layer.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("users"), ENTRY).unwrap();
        let configuration = json!({
            "version": 0.1,
            "storage": { "filesystem": { "rootdirectory": path("storage") }, "delete": { "enabled": true } },
            "auth": { "htpasswd": { "realm": "test", "path": path("users") } },
            "http": { "addr": "127.0.0.1:0", "relativeurls": true },
        });
        fs::write(path("config.yml"), configuration.to_string()).unwrap();
        let mut process = Command::new(program())
            .arg("serve")
            .arg(path("config.yml"))
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("listening on ")).expect("the registry ended before it listened");
        // The pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        let (_, rest) = line.split_once("listening on ").unwrap();
        let address = rest.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
        let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let hosts = json!({"auths": {"ghcr.io": {"auth": auth}, "docker.io": {"auth": auth}}});
        fs::write(path("config.json"), hosts.to_string()).unwrap();
        let registry = Self { address, directory, process };
        registry.push_python().await;
        registry
    }

    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// How the agent reaches it.
    fn options(&self) -> Vec<String> {
        self.options_at(&self.address, WEEK)
    }

    /// How the agent reaches it behind this address, in this week.
    pub fn options_at(&self, address: &str, week: u64) -> Vec<String> {
        let when = format!("--week={week}");
        let hosts = [format!("--mirror=ghcr.io={address}"), format!("--mirror=docker.io={address}")];
        let config = self.path("config.json");
        let how =
            [format!("--plain-http={address}"), format!("--images={IMAGES}"), format!("--docker-config={config}")];
        hosts.into_iter().chain(how).chain([when]).collect()
    }

    async fn push_python(&self) {
        let layer = compressed(&archive(&[("usr/bin/python", b"python")]));
        let content = inflated(&layer);
        let config = json!({"architecture": "amd64", "os": "linux", "config": {"Env": ["LANG=C.UTF-8"], "Cmd": ["python3"]},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&content)]}, "history": [{"created_by": "python"}]});
        let config = config.to_string().into_bytes();
        let client = reqwest::Client::new();
        let base = format!("http://{}/v2/library/python", self.address);
        for blob in [&layer, &config] {
            let upload = client.post(format!("{base}/blobs/uploads/")).basic_auth(USER, Some(PASSWORD));
            let upload = upload.send().await.unwrap();
            let mut url = upload.url().join(upload.headers()["location"].to_str().unwrap()).unwrap();
            url.query_pairs_mut().append_pair("digest", Digest::of(blob).as_str());
            let stored = client.put(url).basic_auth(USER, Some(PASSWORD)).body(blob.clone()).send().await.unwrap();
            assert_eq!(stored.status().as_u16(), 201);
        }
        let kind = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": Digest::of(&config), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": Digest::of(&layer), "size": layer.len()}]});
        let put = client.put(format!("{base}/manifests/3.11-slim")).basic_auth(USER, Some(PASSWORD));
        let stored = put.header("content-type", kind).body(manifest.to_string()).send().await.unwrap();
        assert_eq!(stored.status().as_u16(), 201);
    }

    /// What it has at a path below our repository.
    pub async fn get(&self, path: &str) -> Vec<u8> {
        let url = format!("http://{}/v2/o/app-environment/{path}", self.address);
        let accept = "application/vnd.oci.image.manifest.v1+json";
        let answer = reqwest::Client::new().get(url).basic_auth(USER, Some(PASSWORD)).header("accept", accept);
        let answer = answer.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.bytes().await.unwrap().to_vec()
    }

    /// Puts a manifest there.
    pub async fn put(&self, tag: &str, manifest: Vec<u8>) {
        let url = format!("http://{}/v2/o/app-environment/manifests/{tag}", self.address);
        let put = reqwest::Client::new().put(url).basic_auth(USER, Some(PASSWORD)).body(manifest);
        let stored = put.header("content-type", "application/vnd.oci.image.manifest.v1+json").send().await.unwrap();
        assert_eq!(stored.status().as_u16(), 201);
    }

    fn publish(&self, hash: &Digest, archive: Vec<u8>) -> Finished {
        self.publish_with(&self.options(), hash, archive)
    }

    pub fn publish_with(&self, options: &[String], hash: &Digest, archive: Vec<u8>) -> Finished {
        let (url, _) = store("200 OK", BTreeMap::from([("run-1-e/environment".to_owned(), archive)]));
        fs::write(self.path("token"), "t0ken").unwrap();
        Agent::new([
            "environment",
            "publish",
            "--store",
            &url,
            "--namespace",
            "ci",
            "--run",
            "run-1",
            "--job",
            "run-1-e",
        ])
        .arguments(["--artifact", "environment", "--token-file", &self.path("token"), "--hash", hash.as_str()])
        .arguments(["--base", "docker.io/library/python:3.11-slim", "--platform", "amd64"])
        .arguments(["--place", "/timetracker/environment", "--scratch", &self.path("scratch")])
        .arguments(options.iter().map(String::as_str))
        .env("NO_PROXY", "127.0.0.1")
        .run()
    }

    fn identify(&self, requirements: &str) -> (EnvironmentReport, Option<String>) {
        identify(&self.options(), requirements)
    }
}

pub fn identify(options: &[String], requirements: &str) -> (EnvironmentReport, Option<String>) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("requirements.txt"), requirements).unwrap();
    let finished = Agent::new(["environment", "identify", "--workspace", &path(""), "--python", "3.11"])
        .arguments(["--requirement", "requirements.txt", "--known", &path("known")])
        .arguments(options.iter().map(String::as_str))
        .env("NO_PROXY", "127.0.0.1")
        .run();
    (finished.report(), fs::read_to_string(path("known")).ok())
}

pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

pub fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut content).unwrap();
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_becomes_one_layer_on_python_and_is_found_by_its_hash() {
    let registry = Registry::start().await;
    let (named, known) = registry.identify("flask==3.1\n");
    let EnvironmentReport::Identified { hash, image: None, problem: None, .. } = named else { panic!("{named:?}") };
    assert_eq!(known, None);

    let environment = compressed(&archive(&[("bin/flask", b"#!/usr/bin/python"), ("flask/__init__.py", b"")]));
    let finished = registry.publish(&hash, environment.clone());
    let EnvironmentReport::Published { image, found: false, removed: 0, problem: None } = finished.report() else {
        panic!("{}", finished.report)
    };
    let manifest = registry.get(&format!("manifests/{}-{WEEK}", hash.hex())).await;
    assert_eq!(image, format!("{IMAGES}@{}", Digest::of(&manifest)));
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["annotations"]["dev.timetracker.environment"], json!(hash));
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let blob = |digest: &Value| format!("blobs/{}", digest.as_str().unwrap());
    let top = registry.get(&blob(&manifest["layers"][1]["digest"])).await;
    assert_eq!(manifest["layers"][1]["size"], json!(top.len()));
    let top = inflated(&top);
    let mut entries = tar::Archive::new(top.as_slice());
    let paths: Vec<PathBuf> =
        entries.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    let expected = ["timetracker", "timetracker/environment", "timetracker/environment/bin/flask"];
    assert!(expected.iter().all(|path| paths.contains(&Path::new(path).to_owned())), "{paths:?}");
    let config: Value = serde_json::from_slice(&registry.get(&blob(&manifest["config"]["digest"])).await).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][1], json!(Digest::of(&top)));
    assert_eq!(config["config"]["Env"], json!(["LANG=C.UTF-8"]), "what is below stays as it is");

    let (named, known) = registry.identify("flask==3.1\n");
    let EnvironmentReport::Identified { image: Some(seen), stale: false, .. } = named else { panic!("{named:?}") };
    assert_eq!((seen.as_str(), known.as_deref()), (image.as_str(), Some(image.as_str())));
    let (other, _) = registry.identify("flask==3.2\n");
    assert!(matches!(other, EnvironmentReport::Identified { image: None, problem: None, .. }), "{other:?}");
    let again = registry.publish(&hash, Vec::new());
    assert_eq!(
        again.report::<EnvironmentReport>(),
        EnvironmentReport::Published { image, found: true, removed: 0, problem: None }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_archive_is_not_pushed() {
    let registry = Registry::start().await;
    let hash = Digest::of(b"hostile");
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_link(&mut header, "bin", "/usr/bin").unwrap();
    let finished = registry.publish(&hash, compressed(&archive.into_inner().unwrap()));
    let EnvironmentReport::Failed { failure, message } = finished.report() else { panic!("it was pushed") };
    assert_eq!(failure, EnvironmentFailure::Archive);
    assert!(message.contains("bin is neither a file nor a folder"), "{message}");
    let url = format!("http://{}/v2/o/app-environment/manifests/{}-{WEEK}", registry.address, hash.hex());
    let answer = reqwest::Client::new().get(url).basic_auth(USER, Some(PASSWORD)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_password_nothing_is_found_and_nothing_fails() {
    let registry = Registry::start().await;
    let auth = STANDARD.encode(format!("{USER}:wr0ng-password"));
    fs::write(registry.path("config.json"), json!({"auths": {"ghcr.io": {"auth": auth}}}).to_string()).unwrap();
    let (named, _) = registry.identify("flask\n");
    let EnvironmentReport::Identified { hash, image: None, problem: Some(problem), .. } = named else {
        panic!("{named:?}")
    };
    assert!(problem.contains(IMAGES) && !problem.contains("wr0ng"), "{problem}");
    let finished = registry.publish(&hash, compressed(&archive(&[("x", b"x")])));
    let EnvironmentReport::Failed { message, .. } = finished.report() else { panic!("it was pushed") };
    assert!(!message.contains("wr0ng"), "{message}");
}

#[test]
fn a_registry_that_is_gone_leaves_the_environment_to_be_installed() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options =
        [format!("--images={IMAGES}"), format!("--mirror=ghcr.io={closed}"), format!("--plain-http={closed}")];
    let (named, known) = identify(&options, "flask\n");
    assert!(matches!(named, EnvironmentReport::Identified { image: None, problem: Some(_), .. }), "{named:?}");
    assert_eq!(known, None);
}
