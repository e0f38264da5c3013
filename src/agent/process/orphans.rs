//! Orphans: as process 1 of a container we inherit every process whose parent has ended, and must reap them.
//!
//! A job can make them faster than they can be found, so looking for them is bounded and put off: between two looks
//! everything else has its turn, above all the command's timeout.

use std::fs::ReadDir;
use std::future::pending;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::time::{Instant, sleep_until};

/// How many processes one look reads. They are read from a file each, which takes some ten microseconds.
const LOOK: usize = 256;
/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(20);

/// Where the search for orphans stands.
#[derive(Debug)]
pub(super) struct Orphans {
    /// Not reaped here: the command's own status belongs to the runtime.
    command: Pid,
    /// The processes of this sweep that were not read yet.
    left: Option<ReadDir>,
    /// When to look next; `None`: no child has ended since the last sweep.
    due: Option<Instant>,
    /// Whether a child ended while a sweep went on, which may have been past it.
    again: bool,
}

impl Orphans {
    pub(super) fn of(command: Pid) -> Self {
        Self { command, left: None, due: None, again: false }
    }

    /// A child has ended, which may be an orphan.
    pub(super) fn child_ended(&mut self) {
        self.again |= self.left.is_some();
        self.due.get_or_insert_with(|| Instant::now() + PAUSE);
    }

    /// Waits until it is time to look for some.
    pub(super) async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => pending().await,
        }
    }

    /// Reads some processes, and reaps the orphans among them.
    pub(super) fn look(&mut self) {
        let own = std::process::id().to_string();
        let mut left = match self.left.take() {
            Some(left) => left,
            None => match std::fs::read_dir("/proc") {
                Ok(processes) => {
                    self.again = false;
                    processes
                }
                Err(_) => {
                    self.due = None;
                    return;
                }
            },
        };
        let mut read = 0;
        for entry in left.by_ref() {
            let name = entry.ok().map(|entry| entry.file_name());
            let pid = name.as_ref().and_then(|name| name.to_str()?.parse().ok()).and_then(Pid::from_raw);
            let Some(pid) = pid else { continue };
            if pid != self.command && has_ended(pid, &own) {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
            read += 1;
            if read == LOOK {
                self.left = Some(left);
                self.due = Some(Instant::now() + PAUSE);
                return;
            }
        }
        self.due = std::mem::take(&mut self.again).then(|| Instant::now() + PAUSE);
    }
}

/// Whether it is a child of ours that waits to be reaped.
fn has_ended(pid: Pid, own: &str) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) else { return false };
    // The name in parentheses may itself contain some; state and parent stand behind the last one.
    let Some((_, fields)) = status.rsplit_once(')') else { return false };
    let mut fields = fields.split_ascii_whitespace();
    fields.next() == Some("Z") && fields.next() == Some(own)
}
