//! Runs steps one after the other, counts, and remembers how each went.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::counts::Counts;
use crate::host::progress::{Progress, seconds};

/// What one step came to.
struct Row {
    name: String,
    counts: Counts,
    took: Duration,
}

/// The steps so far.
pub struct Runner {
    progress: Progress,
    filter: Option<String>,
    rows: Vec<Row>,
}

impl Runner {
    /// Starts the clock. With a filter only tests whose name contains it run.
    pub fn new(filter: Option<String>) -> Self {
        Self { progress: Progress::new(), filter, rows: Vec::new() }
    }

    /// Where to tell what goes on.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What the names of tests must contain.
    pub fn filter(&self) -> Option<&str> {
        self.filter.as_deref()
    }

    /// A check that passes or fails as a whole; says whether it passed.
    pub fn check(&mut self, name: &str, command: &mut Command) -> bool {
        self.progress.say(name);
        let begun = Instant::now();
        let outcome = command.stdin(Stdio::null()).status();
        let passed = outcome.as_ref().is_ok_and(std::process::ExitStatus::success);
        if !passed {
            self.progress.say(match outcome {
                Ok(status) => format!("{name}: {status}"),
                Err(error) => format!("{name}: can't be started: {error}"),
            });
        }
        self.record(name, one(passed), begun.elapsed());
        passed
    }

    /// Something that could not even be tried.
    pub fn fail(&mut self, name: &str, why: &str) {
        self.progress.say(format!("{name}: {why}"));
        self.record(name, one(false), Duration::ZERO);
    }

    /// Tests of Rust's harness.
    pub fn tests(&mut self, name: &str, command: &mut Command) {
        self.tests_with(name, command, &[]);
    }

    /// The same with arguments for the harness.
    pub fn tests_with(&mut self, name: &str, command: &mut Command, harness: &[&str]) {
        if let Some(filter) = &self.filter {
            command.arg(filter);
        }
        if !harness.is_empty() {
            command.arg("--").args(harness);
        }
        self.counted(name, command);
    }

    /// Tests of any program whose summary [`Counts`] can read.
    pub fn counted(&mut self, name: &str, command: &mut Command) {
        self.progress.say(name);
        let begun = Instant::now();
        let (mut counts, failure) = match stream(command) {
            Ok((counts, status)) if status.success() => (counts, None),
            Ok((counts, status)) => (counts, Some(status.to_string())),
            Err(error) => (Counts::default(), Some(format!("{error:#}"))),
        };
        if let Some(failure) = failure {
            self.progress.say(format!("{name}: {failure}"));
            // A program that ends before it could count, such as by a crash, has not passed.
            counts.failed = counts.failed.max(1);
        }
        self.record(name, counts, begun.elapsed());
    }

    /// The sum over all steps.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.rows.iter().for_each(|row| sum.add(row.counts));
        sum
    }

    /// Says once more what each step came to.
    pub fn print_table(&self) {
        eprintln!();
        for row in &self.rows {
            let Counts { passed, failed } = row.counts;
            eprintln!("  {:<42} {passed:>5} passed {failed:>4} failed  {:>12}", row.name, seconds(row.took));
        }
        eprintln!("  {:<42} {:>5}        {:>4}         {:>12}\n", "", "", "", seconds(self.progress.elapsed()));
    }

    fn record(&mut self, name: &str, counts: Counts, took: Duration) {
        self.progress.say(format!("{name}: {} passed, {} failed in {}", counts.passed, counts.failed, seconds(took)));
        self.rows.push(Row { name: name.to_owned(), counts, took });
    }
}

fn one(passed: bool) -> Counts {
    Counts { passed: u64::from(passed), failed: u64::from(!passed) }
}

/// Passes standard output on, line by line, and counts on the way.
fn stream(command: &mut Command) -> Result<(Counts, std::process::ExitStatus)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("can't be started")?;
    let mut counts = Counts::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            counts.add_line(&line);
        }
    }
    Ok((counts, child.wait()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_that_crashes_before_it_counts_has_failed() {
        let mut runner = Runner::new(None);
        runner.counted("crash", &mut shell("kill -9 $$"));
        runner.counted("missing", &mut Command::new("/nonexistent"));
        assert_eq!(runner.counts(), Counts { passed: 0, failed: 2 });
    }

    #[test]
    fn failures_are_not_counted_twice() {
        let mut runner = Runner::new(None);
        runner.counted("tests", &mut shell("echo 'test result: FAILED. 5 passed; 2 failed; 0 ignored'; exit 101"));
        assert!(runner.check("check", &mut shell("true")));
        assert!(!runner.check("check", &mut shell("false")));
        assert_eq!(runner.counts(), Counts { passed: 6, failed: 3 });
    }
}
