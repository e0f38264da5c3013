//! Runs a script of ours with the interpreter of a foreign image.
//!
//! The script comes by standard input and answers through a pipe of its own: standard output belongs to the app.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::io::{FdFlags, fcntl_setfd};

use super::frame::MAX_DOCUMENT_BYTES;
use super::process::{Ended, Limits, PassOn, Shared, Specification, Tail, Terminate, start};

/// How much of the app's output is kept for a message.
pub(super) const TAIL_BYTES: usize = 4 * 1024;

/// What to run.
pub(super) struct Script {
    /// For example `python -`.
    pub(super) interpreter: Vec<OsString>,
    pub(super) text: &'static str,
    pub(super) environment: Vec<(String, OsString)>,
    /// Where it is started.
    pub(super) directory: Option<PathBuf>,
    pub(super) pass_on: PassOn,
}

/// What came of it.
pub(super) struct ScriptResult {
    pub(super) ended: Ended,
    /// What the script wrote to its pipe, at most [`MAX_DOCUMENT_BYTES`] and a byte.
    pub(super) document: Vec<u8>,
    /// The end of what it printed.
    pub(super) output: String,
}

/// Runs the script to its end.
pub(super) async fn run(
    script: Script,
    limits: Limits,
    terminate: &mut Terminate,
    abandoned: impl Future<Output = ()>,
) -> io::Result<ScriptResult> {
    let (reader, writer) = io::pipe()?;
    // Only this end, and only until the script is started, may be inherited.
    fcntl_setfd(&writer, FdFlags::empty())?;
    let mut environment = script.environment;
    environment.push(("TT_AGENT_RESULT_FD".to_owned(), writer.as_raw_fd().to_string().into()));
    let specification = Specification {
        arguments: script.interpreter,
        environment,
        directory: script.directory,
        input: Some(script.text.as_bytes().to_vec()),
        pass_on: script.pass_on,
    };
    let tail = Shared::new(Tail::new(TAIL_BYTES));
    let running = start(specification, tail.clone())?;
    drop(writer);
    let bound = u64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let reading = tokio::task::spawn_blocking(move || {
        let mut document = Vec::new();
        reader.take(bound).read_to_end(&mut document).map(|_| document)
    });
    let ended = running.wait(limits, terminate, abandoned).await?;
    // Its process group is gone. Somebody who left it could hold the pipe open, so the wait is bounded.
    let document = match tokio::time::timeout(std::time::Duration::from_secs(5), reading).await {
        Ok(read) => read.map_err(io::Error::other)??,
        Err(_) => return Err(io::Error::other("a process that the script left behind holds its pipe open")),
    };
    let output = tail.lock().text();
    Ok(ScriptResult { ended, document, output })
}
