//! Logs as `exec` keeps them, of the command and of services: read at any time, also while they grow. What is kept of a
//! log, and under which names, is the same for those that the operator reads itself.

use std::path::Path;

use serde::Serialize;

use super::files::Folder;
use super::store::Content;
use crate::agent::report::ExecReport;
use crate::api::artifacts;

/// Head and tail are kept up to this length each, in bytes.
pub(crate) const PART_BYTES: usize = 256 * 1024;

/// A log: its head, its tail, and how much is missing between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Log {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// In bytes; `None`: it is not known how much.
    left_out: Option<u64>,
}

/// What is known of a log beside its content: the artifact `log.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    /// Whether the command had ended when it was kept.
    complete: bool,
    /// How much it printed in all, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl Log {
    /// With that head and tail, each not longer than [`PART_BYTES`], and so much left out between them.
    pub(crate) fn new(head: Vec<u8>, tail: Vec<u8>, left_out: Option<u64>) -> Self {
        Self { head, tail, left_out }
    }

    /// How it begins.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// How it ends, after what is left out.
    pub(crate) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// The same when it is only the newer part of a log whose head was kept before: all of it is tail.
    pub(crate) fn continuing(self) -> Self {
        let mut tail = match self.left_out {
            Some(0) => [self.head, self.tail].concat(),
            Some(_) | None => self.tail,
        };
        let excess = tail.len().saturating_sub(PART_BYTES);
        tail.drain(..excess);
        Self { head: Vec::new(), tail, left_out: None }
    }

    /// The log in that folder; `None`: there is none, or nothing was printed.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        let folder = Folder::open(directory).ok()?;
        let limit = u64::try_from(PART_BYTES).unwrap_or(u64::MAX);
        let read = |name: &str| folder.read(Path::new(name), limit).unwrap_or_default();
        let mut tail = [read("tail.previous.log"), read("tail.log")].concat();
        let excess = tail.len().saturating_sub(PART_BYTES);
        tail.drain(..excess);
        let told = String::from_utf8(read("left-out")).ok().and_then(|text| text.parse::<u64>().ok());
        let left_out = told.unwrap_or_default().saturating_add(length(excess));
        Some(Self { head: read("head.log"), tail, left_out: Some(left_out) }).filter(|log| !log.head.is_empty())
    }

    /// How much was printed, where that is known.
    pub(super) fn bytes(&self) -> Option<u64> {
        let kept = length(self.head.len()).saturating_add(length(self.tail.len()));
        self.left_out.map(|left_out| kept.saturating_add(left_out))
    }

    /// As artifacts: the state of one that is not complete comes first, so that what follows is never taken for one
    /// that is, and that of a complete one last.
    pub(crate) fn artifacts(self, complete: bool) -> Vec<(String, Content)> {
        let state = serde_json::to_vec(&State { complete, bytes: self.bytes() }).unwrap_or_default();
        let mut documents = vec![(artifacts::LOG_HEAD, self.head), (artifacts::LOG_TAIL, self.tail)];
        documents.insert(if complete { documents.len() } else { 0 }, (artifacts::LOG_STATE, state));
        documents
            .into_iter()
            .filter(|(_, content)| !content.is_empty())
            .map(|(name, content)| (name.to_owned(), Content::Document(content)))
            .collect()
    }

    /// As one text, with a line of our own where something is missing.
    pub(super) fn whole(self) -> Vec<u8> {
        let gap = match self.left_out {
            Some(0) => String::new(),
            Some(left_out) => format!("\n[timetracker: {left_out} bytes were not kept]\n"),
            None => "\n[timetracker: what came between was not kept]\n".to_owned(),
        };
        [self.head, gap.into_bytes(), self.tail].concat()
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The report that `exec` leaves beside the log of its command.
pub(super) fn exec_report(directory: &Path) -> Option<Vec<u8>> {
    let folder = Folder::open(directory).ok()?;
    folder.read(Path::new("exec.json"), 64 * 1024).ok().filter(|text| !text.is_empty())
}

/// Whether the command ended with another code than 0, or was killed before it could be told.
pub(super) fn has_failed(exec_report: Option<&[u8]>) -> bool {
    exec_report
        .and_then(|text| serde_json::from_slice::<ExecReport>(text).ok())
        .is_none_or(|report| report.exit_code != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn log(files: &[(&str, &[u8])]) -> Option<Log> {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        Log::read(directory.path())
    }

    fn names(artifacts: &[(String, Content)]) -> Vec<&str> {
        artifacts.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn a_short_log_is_its_head() {
        let log = log(&[("head.log", b"hello\n"), ("tail.log", b"")]).unwrap();
        assert_eq!((log.bytes(), log.clone().whole()), (Some(6), b"hello\n".to_vec()));
        assert_eq!(names(&log.artifacts(true)), ["log-head.txt", "log.json"]);
    }

    #[test]
    fn what_is_missing_of_a_long_log_is_counted_and_said() {
        let part = vec![b'x'; PART_BYTES];
        let files: [(&str, &[u8]); 4] =
            [("head.log", b"head"), ("tail.previous.log", &part), ("tail.log", b"end\n"), ("left-out", b"700")];
        let log = log(&files).unwrap();
        assert_eq!(log.bytes(), Some(4 + 700 + length(PART_BYTES) + 4));
        let whole = String::from_utf8(log.clone().whole()).unwrap();
        assert!(whole.starts_with("head\n[timetracker: 704 bytes were not kept]\nxxx") && whole.ends_with("xend\n"));
        assert_eq!(names(&log.clone().artifacts(false)), ["log.json", "log-head.txt", "log-tail.txt"]);
        assert_eq!(names(&log.artifacts(true)), ["log-head.txt", "log-tail.txt", "log.json"]);
    }

    #[test]
    fn what_continues_a_log_whose_head_was_kept_is_tail_and_says_not_how_much_there_was() {
        let newer = Log::new(b"second ".to_vec(), b"file".to_vec(), Some(0)).continuing();
        assert_eq!(newer, Log::new(Vec::new(), b"second file".to_vec(), None));
        assert_eq!(names(&newer.artifacts(true)), ["log-tail.txt", "log.json"]);
        let long = Log::new(vec![b'h'; PART_BYTES], vec![b't'; PART_BYTES], Some(0)).continuing();
        assert_eq!(long.tail, vec![b't'; PART_BYTES]);
        let gap = Log::new(b"h".to_vec(), b"t".to_vec(), Some(3)).continuing();
        assert_eq!((gap.tail.as_slice(), gap.bytes()), (b"t".as_slice(), None));
    }

    #[test]
    fn a_job_that_meddles_with_its_log_costs_the_log_alone() {
        assert_eq!(log(&[]), None);
        let long = vec![b'x'; PART_BYTES + 1];
        assert_eq!(log(&[("head.log", &long)]), None, "longer than it can be");
        let log = log(&[("head.log", b"h"), ("left-out", b"18446744073709551615"), ("tail.log", b"t")]).unwrap();
        assert_eq!(log.bytes(), Some(u64::MAX));
    }

    #[test]
    fn only_an_exit_code_of_0_that_was_told_is_no_failure() {
        let report = |code: i32| {
            format!(
                r#"{{"exitCode":{code},"timedOut":false,"terminated":false,"seconds":1,"memoryPeak":null,"logBytes":0}}"#
            )
        };
        assert!(!has_failed(Some(report(0).as_bytes())));
        assert!(has_failed(Some(report(3).as_bytes())) && has_failed(Some(b"{}")) && has_failed(None));
    }
}
