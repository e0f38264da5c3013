//! The migration command itself: its environment, and what its output gives away.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use super::connection::Session;
use super::lock::AttemptName;
use super::migrate::MigrateOptions;
use super::url::DatabaseUrl;
use super::verdict::CommandEnd;
use crate::agent::process::{Limits, Observer, PassOn, Shared, Specification, Stopped, Tail, Terminate, start};
use crate::agent::python::TAIL_BYTES;

/// From TERM to KILL.
const GRACE: Duration = Duration::from_secs(20);

/// How the command ended and what it said last.
pub(super) struct CommandResult {
    pub(super) end: CommandEnd,
    pub(super) code: i32,
    pub(super) elapsed: Duration,
    pub(super) output: String,
}

/// The variables that the command gets besides its own.
///
/// `name` is what its sessions are called.
pub(super) fn environment(url: &DatabaseUrl, name: &str, lock_timeout: Duration) -> Vec<(String, OsString)> {
    let inherited = std::env::var("PGOPTIONS").unwrap_or_default();
    let options = [
        inherited.as_str(),
        url.options.as_deref().unwrap_or_default(),
        &format!("-c lock_timeout={} -c client_connection_check_interval=2000", lock_timeout.as_millis()),
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .collect::<Vec<_>>()
    .join(" ");
    let flask_app = std::env::var_os("FLASK_APP").filter(|app| !app.is_empty()).unwrap_or_else(|| "app".into());
    vec![
        ("DATABASE_URL".into(), url.for_command().into()),
        ("PGAPPNAME".into(), name.into()),
        ("PGOPTIONS".into(), options.into()),
        ("TT_BOOTSTRAP_MODE".into(), "migrate".into()),
        ("TT_SKIP_DB_CLEANUP".into(), "true".into()),
        ("FLASK_APP".into(), flask_app),
    ]
}

/// Runs the command to its end. `None`: the lock was lost and the command killed for it.
pub(super) async fn run(
    options: &MigrateOptions,
    url: &DatabaseUrl,
    name: &AttemptName,
    session: &Session,
    terminate: &mut Terminate,
) -> io::Result<Option<CommandResult>> {
    let specification = Specification {
        arguments: options.command.clone(),
        environment: environment(url, &name.command, options.lock_timeout),
        directory: None,
        input: None,
        pass_on: PassOn::StandardOutput,
    };
    let output = Shared::new(Output::new());
    let limits = Limits { timeout: options.timeout, grace: GRACE };
    let ended = start(specification, output.clone())?.wait(limits, terminate, session.lost()).await?;
    let output = output.lock();
    let end = match (ended.stopped, ended.code) {
        (Some(Stopped::Abandoned), _) => return Ok(None),
        (Some(Stopped::TimedOut), _) => CommandEnd::TimedOut,
        (Some(Stopped::Terminated), _) => CommandEnd::Interrupted,
        (None, 0) => CommandEnd::Succeeded,
        (None, _) => CommandEnd::Failed {
            lock_timeout: output.lock_timeout.found,
            unknown_revision: output.unknown_revision.found,
        },
    };
    Ok(Some(CommandResult { end, code: ended.code, elapsed: ended.elapsed, output: output.tail.text() }))
}

/// Watches for the two complaints that have a class of their own: a long statement may push them out of the tail.
struct Output {
    tail: Tail,
    lock_timeout: Needle,
    unknown_revision: Needle,
}

impl Output {
    fn new() -> Self {
        Self {
            tail: Tail::new(TAIL_BYTES),
            lock_timeout: Needle::new("canceling statement due to lock timeout"),
            unknown_revision: Needle::new("Can't locate revision identified by"),
        }
    }
}

impl Observer for Output {
    fn see(&mut self, bytes: &[u8]) {
        self.tail.see(bytes);
        self.lock_timeout.see(bytes);
        self.unknown_revision.see(bytes);
    }
}

/// A text to be found in a stream, also across the borders of its chunks.
struct Needle {
    text: &'static [u8],
    carried: Vec<u8>,
    found: bool,
}

impl Needle {
    fn new(text: &'static str) -> Self {
        Self { text: text.as_bytes(), carried: Vec::new(), found: false }
    }

    fn see(&mut self, bytes: &[u8]) {
        if self.found {
            return;
        }
        self.carried.extend_from_slice(bytes);
        self.found = self.carried.windows(self.text.len()).any(|window| window == self.text);
        let keep = self.carried.len().saturating_sub(self.text.len() - 1);
        self.carried.drain(..keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_complaint_is_found_however_the_output_is_cut(before in ".{0,80}", after in ".{0,80}", size in 1_usize..50) {
            let mut output = Output::new();
            let text = format!("{before}ERROR: canceling statement due to lock timeout\n{after}");
            for chunk in text.as_bytes().chunks(size) {
                output.see(chunk);
            }
            prop_assert!(output.lock_timeout.found);
            prop_assert!(!output.unknown_revision.found);
        }
    }
}
