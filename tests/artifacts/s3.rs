//! A real server that speaks S3: versitygw, keeping buckets as folders.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

pub const BUCKET: &str = "artifacts";
pub const REGION: &str = "eu-central-1";
const KEY: &str = "test-key";
const SECRET: &str = "test+secret/with=signs";

/// A running server with one bucket; gone with the value.
pub struct Server {
    folder: TempDir,
    port: u16,
    tls: bool,
    process: Mutex<Option<Child>>,
}

/// What `dev/versions.toml` says of it, as `go install` takes it.
fn package() -> String {
    let versions = include_str!("../../dev/versions.toml");
    let (_, section) = versions.split_once("[test-tools.versitygw]").unwrap();
    let value = |key: &str| {
        let line = section.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_prefix("= \"")).unwrap();
        line.trim_end_matches('"').to_owned()
    };
    format!("{}@{}", value("package"), value("version"))
}

/// What `TIMETRACKER_TEST_S3` names, else built once into the cache.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os("TIMETRACKER_TEST_S3") {
            return path.into();
        }
        let package = package();
        let version = package.rsplit('@').next().unwrap();
        let cache = std::env::var_os("TIMETRACKER_CACHE").map(PathBuf::from).unwrap_or_else(|| {
            PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/timetracker-operator")
        });
        let folder = cache.join("contract-tests").join(format!("versitygw-{version}"));
        let program = folder.join("versitygw");
        if !program.exists() {
            // As xtask builds it: what Go has compiled for one serves the other.
            let mut go = Command::new("go");
            go.args(["install", "-trimpath", "-mod=mod", "-ldflags", "-s -w", &package]).env("GOBIN", &folder);
            let built = go.env("CGO_ENABLED", "0").env("GOWORK", "off").env("GOFLAGS", "").status();
            assert!(built.is_ok_and(|status| status.success()), "`go install {package}` failed: is Go installed?");
        }
        program
    })
}

impl Server {
    /// One for all tests that neither stop it nor look at the whole of it.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// By a certificate that nobody trusts who isn't told to: `authority()`.
    pub fn start_with_tls() -> Self {
        Self::start_with(true)
    }

    fn start_with(tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("buckets").join(BUCKET)).unwrap();
        fs::create_dir_all(path("metadata")).unwrap();
        fs::create_dir_all(path("credentials")).unwrap();
        fs::write(path("credentials/access-key-id"), KEY).unwrap();
        fs::write(path("credentials/secret-access-key"), format!("{SECRET}\n")).unwrap();
        if tls {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
            fs::write(path("tls.crt"), cert.pem()).unwrap();
            fs::write(path("tls.key"), signing_key.serialize_pem()).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { folder, port, tls, process: Mutex::new(None) };
        server.resume();
        server
    }

    /// Starts it again, with all that was kept and on the same port.
    pub fn resume(&self) {
        let path = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(program());
        command.args(["--quiet", "--region", REGION, "--port", &format!("127.0.0.1:{}", self.port)]);
        if self.tls {
            command.arg("--cert").arg(path("tls.crt")).arg("--key").arg(path("tls.key"));
        }
        command.args(["posix", "--sidecar"]).arg(path("metadata")).arg(path("buckets"));
        command.env("ROOT_ACCESS_KEY_ID", KEY).env("ROOT_SECRET_ACCESS_KEY", SECRET);
        let log = fs::File::create(path("server.log")).unwrap();
        let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        *self.process.lock().unwrap() = Some(process);
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || fs::read_to_string(path("server.log")).unwrap();
            assert!(Instant::now() < deadline, "versitygw does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once, as a crash does.
    pub fn crash(&self) {
        if let Some(mut process) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// The folder that is the bucket: objects are files in it.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join("buckets").join(BUCKET)
    }

    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    pub fn credentials(&self) -> PathBuf {
        self.folder.path().join("credentials")
    }

    /// Arguments with which a store uses it.
    pub fn arguments(&self, prefix: &str) -> Vec<String> {
        let scheme = if self.tls { "https" } else { "http" };
        let endpoint = format!("{scheme}://127.0.0.1:{}", self.port);
        let credentials = self.credentials();
        let mut arguments = ["--s3-bucket", BUCKET, "--s3-region", REGION, "--s3-prefix", prefix].to_vec();
        arguments.extend(["--s3-endpoint", &endpoint, "--s3-credentials", credentials.to_str().unwrap()]);
        if !self.tls {
            arguments.push("--s3-allow-http");
        }
        arguments.into_iter().map(str::to_owned).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.crash();
    }
}
