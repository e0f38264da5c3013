//! The sample app's repository behind a git server that pods reach; one for all tests.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use crate::stage::{output, repository, setting};

/// The server; it ends with this process, whose end closes its standard input.
pub struct Server {
    served: Served,
    folder: PathBuf,
    directory: tempfile::TempDir,
}

/// A process that serves the repository.
pub struct Served {
    address: String,
    _process: Child,
    _lifeline: ChildStdin,
}

/// Starts the server with the first test that needs it.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("timetracker");
        let mut versions = Command::new("python3");
        versions.arg(repository().join("dev/timetracker/versions.py")).args(["--git", "--out"]).arg(&folder);
        output(versions.env("PYTHONDONTWRITEBYTECODE", "1"));
        Server { served: serve(directory.path(), &[]), folder, directory }
    })
}

fn serve(root: &Path, options: &[&str]) -> Served {
    let mut process = Command::new("python3")
        .arg(repository().join("dev/git-server.py"))
        .arg("--root")
        .arg(root)
        .args(["--listen", &format!("{}:0", setting("TIMETRACKER_TEST_GATEWAY"))])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lifeline = process.stdin.take().unwrap();
    let mut address = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
    assert!(!address.trim().is_empty(), "dev/git-server.py ended at once");
    Served { address: address.trim().to_owned(), _process: process, _lifeline: lifeline }
}

impl Served {
    /// Where the repository is cloned from.
    pub fn clone_url(&self) -> String {
        format!("http://{}/timetracker", self.address)
    }
}

impl Server {
    /// Where the repository is cloned from.
    pub fn clone_url(&self) -> String {
        self.served.clone_url()
    }

    /// The same repository behind another door, which only this token opens.
    pub fn locked(&self, token: &str) -> Served {
        serve(self.directory.path(), &["--token", token])
    }

    /// A branch of this name on v1.1.0, with one commit of this message: the commit.
    pub fn branch(&self, name: &str, message: &str) -> String {
        self.branch_to(name, message, "v1.1.0^{tree}")
    }

    fn git(&self) -> Command {
        let mut git = Command::new("git");
        git.arg("-C").arg(&self.folder).args(["-c", "user.name=Test", "-c", "user.email=test@example.org"]);
        git
    }

    fn branch_to(&self, name: &str, message: &str, tree: &str) -> String {
        let make = ["commit-tree", "-p", "v1.1.0^{commit}", "-m", message, tree];
        let commit = output(self.git().args(make)).trim().to_owned();
        output(self.git().args(["update-ref", &format!("refs/heads/{name}"), &commit]));
        commit
    }

    /// A branch of this name on v1.1.0, with one commit that changes one file: the commit.
    pub fn edit(&self, name: &str, file: &str, change: impl Fn(&str) -> String) -> String {
        let index = self.directory.path().join(format!("index-of-{name}"));
        let git = || {
            let mut git = self.git();
            git.env("GIT_INDEX_FILE", &index);
            git
        };
        let content = change(&output(self.git().args(["show", &format!("v1.1.0:{file}")])));
        let changed = self.directory.path().join(format!("file-of-{name}"));
        std::fs::write(&changed, content).unwrap();
        let blob = output(self.git().args(["hash-object", "-w"]).arg(&changed)).trim().to_owned();
        output(git().args(["read-tree", "v1.1.0^{tree}"]));
        output(git().args(["update-index", "--cacheinfo", &format!("100644,{blob},{file}")]));
        let tree = output(git().args(["write-tree"])).trim().to_owned();
        self.branch_to(name, "Change one file", &tree)
    }

    /// The commit that a tag names.
    pub fn commit(&self, revision: &str) -> String {
        output(self.git().args(["rev-parse", &format!("{revision}^{{commit}}")])).trim().to_owned()
    }
}
