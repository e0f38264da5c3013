//! The `git` program, kept from doing anything but what it is told.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::failure::SourceError;
use super::remote::Remote;

/// The most of its output that is kept, in bytes.
const MAX_OUTPUT_BYTES: u64 = 1024 * 1024;

/// Git in one directory, for one remote.
pub(super) struct Git {
    directory: PathBuf,
    configuration: Vec<(String, String)>,
}

impl Git {
    pub(super) fn new(directory: &Path, remote: &Remote) -> Self {
        let fixed = [
            ("protocol.allow", "never"),
            ("protocol.http.allow", "always"),
            ("protocol.https.allow", "always"),
            ("protocol.ssh.allow", "always"),
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("submodule.recurse", "false"),
            ("fetch.recurseSubmodules", "false"),
            ("fetch.fsckObjects", "false"),
            ("transfer.bundleURI", "false"),
            ("init.defaultBranch", "main"),
            ("advice.detachedHead", "false"),
            ("gc.auto", "0"),
            ("http.lowSpeedLimit", "1000"),
            ("http.lowSpeedTime", "30"),
            // The volume may belong to another user than the one that we run as.
            ("safe.directory", "*"),
        ];
        let fixed = fixed.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self { directory: directory.to_owned(), configuration: fixed.chain(remote.configuration()).collect() }
    }

    /// Fetches refs or commits; `--` keeps each of them from being read as an option.
    pub(super) async fn fetch(&self, remote: &Remote, options: &[&str], wanted: &[&str]) -> Result<(), SourceError> {
        let mut arguments = vec!["fetch", "--quiet", "--no-recurse-submodules", "--no-write-fetch-head"];
        arguments.extend(options);
        arguments.extend(["--", remote.url()]);
        arguments.extend(wanted);
        self.run(&arguments).await.map(|_| ())
    }

    /// Whether the commit is here.
    pub(super) async fn has_commit(&self, commit: &str) -> bool {
        self.run(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).await.is_ok()
    }

    /// Runs Git and returns what it printed.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<String, SourceError> {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .current_dir(&self.directory)
            .env_remove("SOURCE_TOKEN")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=20")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_COUNT", self.configuration.len().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (index, (key, value)) in self.configuration.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key).env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        let mut child =
            command.spawn().map_err(|error| SourceError::Other(format!("git can't be started: {error}")))?;
        let (output, complaint) = (child.stdout.take(), child.stderr.take());
        let (output, complaint, status) = tokio::join!(read(output), read(complaint), child.wait());
        match status {
            Ok(status) if status.success() => Ok(output),
            Ok(_) => Err(SourceError::classify(&complaint)),
            Err(error) => Err(SourceError::Other(format!("git can't be waited for: {error}"))),
        }
    }
}

/// The start of what is printed; the rest is read and dropped, so that the program does not block.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = Vec::new();
    let _ = (&mut stream).take(MAX_OUTPUT_BYTES).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}
