//! Rounds: a script that is run again for the tests that failed, at most as often as it may.
//!
//! Which tests those are, the plugin for pytest writes down. Its file stands where the job's code may write as well, so
//! it is data of unknown quality: where anything is odd about it, nothing is run again, and why not is told.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::agent::collect::files::Folder;
use crate::agent::report::rerun_folder;

/// More failed tests than this are not run again: that is no matter of chance.
const MAX_FAILED: usize = 100;
/// The longest record of a round, in bytes: some 400,000 tests.
const MAX_RECORD_BYTES: u64 = 32 * 1024 * 1024;
/// The longest file of raw coverage data that a later round is given, in bytes.
const MAX_COVERAGE_BYTES: u64 = 64 * 1024 * 1024;
/// By this variable the plugin knows the round: its number, a colon, and the folder of the records.
const ROUND: &str = "TIMETRACKER_ROUND";
const COVERAGE_FILE: &str = "COVERAGE_FILE";

/// Why nothing is run again although something failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Obstacle {
    #[error("what pytest wrote down of its tests can't be read: {0}")]
    Unreadable(String),
    /// None was started, or it had not the plugin.
    #[error("no pytest told of its tests")]
    Silent,
    #[error("a pytest ended before it had told of all its tests")]
    BrokenOff,
    #[error("a pytest ended with exit code {0}, which is no matter of single tests")]
    Ended(i32),
    #[error("more than tests failed: a file that can't be collected, or a threshold of coverage")]
    Others,
    #[error("{0} tests failed; more than {MAX_FAILED} are no matter of chance")]
    TooMany(usize),
    #[error("the next round can't be prepared: {0}")]
    Unprepared(String),
}

/// What follows a round.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// So many tests failed: they are run again.
    Again(usize),
    /// No test is known to have failed.
    Over,
    /// Some did, or it is not known.
    Not(Obstacle),
}

/// The rounds of one script.
#[derive(Debug)]
pub(super) struct Rounds {
    most: u32,
    records: PathBuf,
    /// `$REPORTS` of the first round.
    reports: PathBuf,
    coverage: Option<PathBuf>,
}

impl Rounds {
    /// At most `most` rounds after the first, for a script with these variables.
    pub(super) fn new(most: u32, plugins: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let reports = variable("REPORTS").filter(|_| most > 0)?.into();
        let coverage = variable(COVERAGE_FILE).map(PathBuf::from);
        Some(Self { most, records: plugins.join("rounds"), reports, coverage })
    }

    /// How many rounds may still follow this one.
    pub(super) fn left(&self, round: u32) -> u32 {
        self.most.saturating_sub(round)
    }

    /// Makes the places of a round, and returns the variables that it has of its own.
    pub(super) fn begin(&self, round: u32) -> Result<Vec<(String, OsString)>, Obstacle> {
        self.prepare(round).map_err(|error| Obstacle::Unprepared(error.to_string()))
    }

    fn prepare(&self, round: u32) -> io::Result<Vec<(String, OsString)>> {
        fs::create_dir_all(&self.records)?;
        let _ = fs::remove_file(self.records.join(record(round)));
        let mut named = OsString::from(format!("{round}:"));
        named.push(&self.records);
        let mut variables = vec![(ROUND.to_owned(), named)];
        if round > 0 {
            let reports = self.reports.join(rerun_folder(round));
            fs::create_dir_all(&reports)?;
            variables.push(("REPORTS".to_owned(), reports.into()));
            if let Some(first) = &self.coverage {
                // Raw data is the first round's. A script that goes on to read it finds a copy; what it writes is lost.
                let copy = self.records.join(format!("coverage-{round}"));
                let _ = copy_coverage(first, &copy);
                variables.push((COVERAGE_FILE.to_owned(), copy.into()));
            }
        }
        Ok(variables)
    }

    /// What follows the round, by what is written down of it.
    pub(super) fn after(&self, round: u32) -> Verdict {
        let read =
            Folder::open(&self.records).and_then(|folder| folder.read(Path::new(&record(round)), MAX_RECORD_BYTES));
        match read {
            Ok(text) => verdict(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Verdict::Not(Obstacle::Silent),
            Err(error) => Verdict::Not(Obstacle::Unreadable(error.to_string())),
        }
    }
}

fn record(round: u32) -> String {
    format!("round-{round}")
}

/// Nothing is followed or overwritten that the script may have put in the copy's place.
fn copy_coverage(from: &Path, to: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (from.parent(), from.file_name()) else { return Ok(()) };
    let source = Folder::open(folder)?.file(Path::new(name))?;
    let _ = fs::remove_file(to);
    let mut target = OpenOptions::new().write(true).create_new(true).open(to)?;
    io::copy(&mut source.take(MAX_COVERAGE_BYTES), &mut target)?;
    Ok(())
}

/// Reads `begin SESSION`, `passed SESSION TEST`, `failed SESSION TEST` and `end SESSION CODE OTHERS`.
fn verdict(text: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(text) else {
        return Verdict::Not(Obstacle::Unreadable("it is no text".to_owned()));
    };
    let mut failed = BTreeSet::new();
    let (mut begun, mut ended) = (0_usize, 0_usize);
    let mut obstacle = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["begin", _] => begun += 1,
            ["passed", _, _] => {}
            ["failed", session, test] => {
                failed.insert((*session, *test));
            }
            ["end", _, code, others] => {
                ended += 1;
                obstacle = obstacle.or_else(|| of_end(code, others));
            }
            _ => obstacle = Some(Obstacle::Unreadable("a line is none of the plugin's".to_owned())),
        }
    }
    let broken_off = (begun != ended).then_some(Obstacle::BrokenOff);
    let many = (failed.len() > MAX_FAILED).then_some(Obstacle::TooMany(failed.len()));
    match (obstacle.or(broken_off).or(many), failed.len()) {
        (Some(obstacle), _) => Verdict::Not(obstacle),
        (None, 0) => Verdict::Over,
        (None, failed) => Verdict::Again(failed),
    }
}

/// pytest ends with 0 or 1 when its tests ran, with 5 when there were none.
fn of_end(code: &str, others: &str) -> Option<Obstacle> {
    match (code.parse::<i32>(), others.parse::<u32>()) {
        (Ok(0 | 1 | 5), Ok(0)) => None,
        (Ok(0 | 1 | 5), Ok(_)) => Some(Obstacle::Others),
        (Ok(code), Ok(_)) => Some(Obstacle::Ended(code)),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => Some(Obstacle::Unreadable("an end is none of the plugin's".to_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", Verdict::Over)]
    #[case("begin s\npassed s a\nend s 0 0\n", Verdict::Over)]
    #[case("begin s\nend s 5 0\n", Verdict::Over)]
    #[case("begin s\npassed s b\nfailed s a\nfailed s a\nend s 1 0\n", Verdict::Again(1))]
    #[case("begin s\nfailed s a\nend s 1 0\nbegin r\nfailed r a\nend r 1 0\n", Verdict::Again(2))]
    #[case("begin s\nfailed s a\n", Verdict::Not(Obstacle::BrokenOff))]
    #[case("begin s\nfailed s a\nend s 1 1\n", Verdict::Not(Obstacle::Others))]
    #[case("begin s\nfailed s a\nend s 2 0\n", Verdict::Not(Obstacle::Ended(2)))]
    #[case("begin r\nend r 4 0\nbegin s\nfailed s a\nend s 1 0\n", Verdict::Not(Obstacle::Ended(4)))]
    fn only_sessions_that_failed_for_their_tests_alone_run_again(#[case] text: &str, #[case] expected: Verdict) {
        assert_eq!(verdict(text.as_bytes()), expected);
    }

    #[test]
    fn hundreds_of_failed_tests_are_not_run_again() {
        let failed = |count: usize| {
            let lines: String = (0..count).map(|test| format!("failed s {test}\n")).collect();
            verdict(format!("begin s\n{lines}end s 1 0\n").as_bytes())
        };
        assert_eq!(failed(MAX_FAILED), Verdict::Again(MAX_FAILED));
        assert_eq!(failed(MAX_FAILED + 1), Verdict::Not(Obstacle::TooMany(MAX_FAILED + 1)));
    }

    #[rstest]
    #[case(b"\xff\xfe")]
    #[case(b"begin s\nfailed s a b\nend s 1 0\n")]
    #[case(b"failed\n")]
    #[case(b"begin s\nfailed s a\nend s -1 zebra\n")]
    #[case(b"begin s\nfailed s a\nend s 99999999999999999999 0\n")]
    fn what_the_plugin_does_not_write_is_not_believed(#[case] text: &[u8]) {
        assert!(matches!(verdict(text), Verdict::Not(Obstacle::Unreadable(_))));
    }

    fn rounds(folder: &Path) -> Rounds {
        let variable = |name: &str| (name == "REPORTS").then(|| folder.join("reports").into());
        Rounds::new(2, folder, variable).unwrap()
    }

    #[test]
    fn a_record_that_is_a_link_a_folder_or_endless_is_told_and_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let rounds = rounds(folder.path());
        rounds.begin(0).unwrap();
        assert_eq!(rounds.after(0), Verdict::Not(Obstacle::Silent), "no pytest ran");
        let record = folder.path().join("rounds/round-0");
        symlink("/dev/zero", &record).unwrap();
        assert!(matches!(rounds.after(0), Verdict::Not(Obstacle::Unreadable(_))));
        fs::remove_file(&record).unwrap();
        fs::File::create(&record).unwrap().set_len(MAX_RECORD_BYTES + 1).unwrap();
        assert!(matches!(rounds.after(0), Verdict::Not(Obstacle::Unreadable(_))));
        fs::remove_file(&record).unwrap();
        fs::create_dir(&record).unwrap();
        assert!(matches!(rounds.after(0), Verdict::Not(Obstacle::Unreadable(_))));
    }

    #[test]
    fn a_place_that_the_script_has_taken_is_no_place_for_a_round() {
        let folder = tempfile::tempdir().unwrap();
        let rounds = rounds(folder.path());
        fs::create_dir(folder.path().join("reports")).unwrap();
        fs::write(folder.path().join("reports/retry-1"), "").unwrap();
        assert!(matches!(rounds.begin(1), Err(Obstacle::Unprepared(_))));
    }

    proptest! {
        #[test]
        fn no_record_makes_the_reader_panic(text in prop::collection::vec(any::<u8>(), 0..200), words in "(begin|end|failed|passed| |s|1|\n){0,40}") {
            let _ = verdict(&text);
            let _ = verdict(words.as_bytes());
        }
    }
}
