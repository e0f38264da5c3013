//! A real Postgres 16 for one test: a cluster of its own on a free loopback port, gone with the value.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::cache;
use super::waiting::wait_for;

/// The user that Postgres runs as when the test runs as root, which Postgres refuses.
const NOBODY: u32 = 65_534;

/// A running server with one database `app` of user `app`, password `s3cret/@:`.
pub struct Postgres {
    directory: TempDir,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Starts one.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let password = directory.path().join("password");
        fs::write(&password, "s3cret/@:").unwrap();
        if rustix::process::geteuid().is_root() {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            chown(&password, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut postgres = Self { directory, port: free_port(), server: None };
        let initialised = postgres
            .tool("initdb")
            .args(["--no-sync", "--auth=scram-sha-256", "--username=app", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(postgres.data())
            .arg("--pwfile")
            .arg(&password)
            .output()
            .unwrap();
        assert!(initialised.status.success(), "initdb: {}", String::from_utf8_lossy(&initialised.stderr));
        postgres.resume();
        postgres.sql_in("postgres", "create database app");
        postgres
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A program of Postgres, as a user that Postgres accepts.
    fn tool(&self, name: &str) -> Command {
        let program = cache::postgres().join("bin").join(name);
        if !rustix::process::geteuid().is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]);
        command.arg(program).current_dir("/");
        command
    }

    /// Starts the server again on the same port.
    pub fn resume(&mut self) {
        let log = fs::File::create(self.directory.path().join("server.log")).unwrap();
        let server = self
            .tool("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", "unix_socket_directories="])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(server);
        wait_for("Postgres to answer", || {
            let status = Command::new(cache::postgres().join("bin/pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status();
            status.unwrap().success().then_some(())
        });
    }

    /// Stops the server at once, as a crash does.
    pub fn crash(&mut self) {
        if let Some(mut server) = self.server.take() {
            let pid = Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
            kill_process(pid, Signal::QUIT).unwrap();
            server.wait().unwrap();
        }
    }

    /// The URL of the app's database.
    pub fn url(&self) -> String {
        self.url_with_password("s3cret%2F%40%3A")
    }

    /// The same with another password.
    pub fn url_with_password(&self, password: &str) -> String {
        format!("postgresql://app:{password}@127.0.0.1:{}/app", self.port)
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path of `psql`.
    pub fn psql() -> PathBuf {
        cache::postgres().join("bin/psql")
    }

    /// Runs SQL in the app's database and returns its rows as text.
    pub fn sql(&self, statement: &str) -> String {
        self.sql_in("app", statement)
    }

    /// Makes a further, empty database and returns its URL.
    pub fn database(&self, name: &str) -> String {
        self.sql_in("postgres", &format!("create database {name}"));
        format!("postgresql://app:s3cret%2F%40%3A@127.0.0.1:{}/{name}", self.port)
    }

    /// How many of the app's sessions are asleep in a statement, seen from another database: who looks on from inside
    /// the app's own may be ended with its sessions.
    pub fn asleep(&self) -> usize {
        let statement = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
        self.sql_in("postgres", statement).parse().unwrap()
    }

    fn sql_in(&self, database: &str, statement: &str) -> String {
        let output = Command::new(Self::psql())
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "app"])
            .args(["-d", database, "-c", statement])
            .env("PGPASSWORD", "s3cret/@:")
            .output()
            .unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
