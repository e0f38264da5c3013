//! Child processes: started in a group of their own, watched, stopped with a grace, their output passed on.

mod orphans;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};

use orphans::Orphans;

/// How long output may still come after the command has ended, from processes that left its group.
const DRAIN: Duration = Duration::from_secs(2);

/// The wish of the outside world that we stop: SIGTERM or SIGINT.
///
/// Installed before anything is started: as process 1 of a container we would not even get them otherwise.
pub(super) struct Terminate {
    term: SignalStream,
    interrupt: SignalStream,
}

impl Terminate {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next such signal.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Sees the output as it passes.
pub(super) trait Observer: Send + 'static {
    fn see(&mut self, bytes: &[u8]);
}

/// An observer that can be asked while output still comes.
#[derive(Debug, Default)]
pub(super) struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    pub(super) fn new(observer: T) -> Self {
        Self(Arc::new(Mutex::new(observer)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Observer> Observer for Shared<T> {
    fn see(&mut self, bytes: &[u8]) {
        self.lock().see(bytes);
    }
}

/// Where the command's output is passed on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PassOn {
    StandardOutput,
    StandardError,
    /// Only to the observer.
    Nowhere,
}

/// What to start.
#[derive(Debug)]
pub(super) struct Specification {
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(String, OsString)>,
    pub(super) directory: Option<PathBuf>,
    /// Fed to the command's standard input; nothing when absent.
    pub(super) input: Option<Vec<u8>>,
    pub(super) pass_on: PassOn,
}

/// A started command.
pub(super) struct Running {
    child: Child,
    group: Pid,
    started: Instant,
    output: JoinHandle<()>,
}

/// Why a command was stopped before it ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Its timeout was over.
    TimedOut,
    /// We were told to terminate.
    Terminated,
    /// What it may not run without is gone.
    Abandoned,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// Exit code, or 128 + signal.
    pub(super) code: i32,
    pub(super) stopped: Option<Stopped>,
    pub(super) elapsed: Duration,
}

/// How long a command may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) timeout: Duration,
    /// From TERM to KILL.
    pub(super) grace: Duration,
}

/// Starts a command. Its standard output and error are one pipe, so that their lines keep their order.
pub(super) fn start(specification: Specification, observer: impl Observer) -> io::Result<Running> {
    let mut arguments = specification.arguments.into_iter();
    let program = arguments.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command given"))?;
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(specification.environment)
        .stdout(Stdio::from(writer.try_clone()?))
        .stderr(Stdio::from(writer))
        .stdin(if specification.input.is_some() { Stdio::piped() } else { Stdio::null() })
        .process_group(0)
        .kill_on_drop(true);
    if let Some(directory) = specification.directory {
        command.current_dir(directory);
    }
    let mut child = command.spawn()?;
    let started = Instant::now();
    // Our own copies of the pipe's write end must go, or its end would never be seen.
    drop(command);
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("the command ended before it could be watched"))?;
    if let (Some(input), Some(mut stdin)) = (specification.input, child.stdin.take()) {
        tokio::spawn(async move {
            let _ = stdin.write_all(&input).await;
        });
    }
    let reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    let to = |target: OwnedFd| tokio::fs::File::from_std(target.into());
    let output = match specification.pass_on {
        PassOn::StandardOutput => {
            tokio::spawn(pass_on(reader, to(io::stdout().as_fd().try_clone_to_owned()?), observer))
        }
        PassOn::StandardError => {
            tokio::spawn(pass_on(reader, to(io::stderr().as_fd().try_clone_to_owned()?), observer))
        }
        PassOn::Nowhere => tokio::spawn(pass_on(reader, tokio::io::sink(), observer)),
    };
    Ok(Running { child, group, started, output })
}

/// In chunks, never in lines: a line may be as long as the disk.
async fn pass_on(mut reader: pipe::Receiver, mut target: impl AsyncWrite + Unpin, mut observer: impl Observer) {
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let count = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        observer.see(bytes);
        // Nobody listening any more is no reason to block the command.
        let _ = target.write_all(bytes).await;
    }
    let _ = target.flush().await;
}

impl Running {
    /// Waits for the command's end; forwards `terminate`, stops it after `limits`, kills it at once when `abandoned`
    /// resolves. Whatever is left of its process group afterwards is killed.
    pub(super) async fn wait(
        mut self,
        limits: Limits,
        terminate: &mut Terminate,
        abandoned: impl Future<Output = ()>,
    ) -> io::Result<Ended> {
        let mut children = signal(SignalKind::child())?;
        let deadline = tokio::time::Instant::from_std(self.started) + limits.timeout;
        let mut orphans = Orphans::of(self.group);
        let mut stopped = None;
        let mut kill_at = None;
        tokio::pin!(abandoned);
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status?,
                () = terminate.asked() => {
                    stopped.get_or_insert(Stopped::Terminated);
                    self.signal(Signal::TERM);
                    kill_at.get_or_insert(tokio::time::Instant::now() + limits.grace);
                }
                () = sleep_until(deadline), if stopped.is_none() => {
                    stopped = Some(Stopped::TimedOut);
                    self.signal(Signal::TERM);
                    kill_at.get_or_insert(tokio::time::Instant::now() + limits.grace);
                }
                () = &mut abandoned, if stopped != Some(Stopped::Abandoned) => {
                    stopped = Some(Stopped::Abandoned);
                    self.signal(Signal::KILL);
                }
                () = at(kill_at), if kill_at.is_some() => {
                    self.signal(Signal::KILL);
                    // Again until it is seen: a process may be held in the kernel.
                    kill_at = Some(tokio::time::Instant::now() + Duration::from_secs(1));
                }
                _ = children.recv() => orphans.child_ended(),
                () = orphans.due() => orphans.look(),
            }
        };
        let elapsed = self.started.elapsed();
        self.signal(Signal::KILL);
        let drained = timeout(DRAIN, &mut self.output).await;
        if drained.is_err() {
            self.output.abort();
        }
        orphans.look();
        Ok(Ended { code: code_of(status), stopped, elapsed })
    }

    fn signal(&self, signal: Signal) {
        // The only failure is that nobody is left in the group.
        let _ = kill_process_group(self.group, signal);
    }
}

async fn at(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => sleep(Duration::MAX).await,
    }
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

/// The exit code that a shell gives a command which can't be started.
pub(super) fn code_of_start_error(error: &io::Error) -> i32 {
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// The last bytes of an output.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: std::collections::VecDeque<u8>,
    limit: usize,
    complete: bool,
}

impl Tail {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: std::collections::VecDeque::new(), limit, complete: true }
    }

    /// The end as text; a line that was cut at its start is left out, for half a secret can't be recognised.
    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if self.complete {
            return text;
        }
        text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default()
    }
}

impl Observer for Tail {
    fn see(&mut self, bytes: &[u8]) {
        let kept = bytes.get(bytes.len().saturating_sub(self.limit)..).unwrap_or_default();
        let excess = (self.bytes.len() + kept.len()).saturating_sub(self.limit);
        self.complete &= excess == 0 && kept.len() == bytes.len();
        self.bytes.drain(..excess.min(self.bytes.len()));
        self.bytes.extend(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tail_is_the_end_of_the_output_from_a_line_start(chunks in prop::collection::vec("[a-z\n]{0,40}", 0..20)) {
            let mut tail = Tail::new(64);
            for chunk in &chunks {
                tail.see(chunk.as_bytes());
            }
            let all = chunks.concat();
            let text = tail.text();
            prop_assert!(all.ends_with(&text));
            prop_assert!(text.len() <= 64);
            if all.len() <= 64 {
                prop_assert_eq!(text, all);
            } else if let Some(before) = all.len().checked_sub(text.len() + 1) {
                prop_assert!(text.is_empty() || all.as_bytes().get(before) == Some(&b'\n'));
            }
        }
    }
}
