//! How many tests passed and failed, read from what the test programs print.

/// Tests that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
}

impl Counts {
    /// Adds what one line of output says, if it is a summary of Rust's test harness or of pytest.
    pub fn add_line(&mut self, line: &str) {
        let line = line.trim().trim_matches('=').trim();
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.add_words(rest.split_once(". ").map_or(rest, |(_, counts)| counts), ';');
        } else if is_summary_of_pytest(line) {
            self.add_words(line.rsplit_once(" in ").map_or(line, |(counts, _)| counts), ',');
        }
    }

    /// Adds other counts.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    fn add_words(&mut self, text: &str, separator: char) {
        for part in text.split(separator) {
            let mut words = part.split_whitespace();
            let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                // An error in a fixture is a test that could not show anything.
                "failed" | "error" | "errors" => self.failed += number,
                _ => {}
            }
        }
    }
}

/// `137 passed, 2 warnings in 4.31s`, `1 failed, 136 passed in 0:01:04`.
fn is_summary_of_pytest(line: &str) -> bool {
    let Some((counts, time)) = line.rsplit_once(" in ") else {
        return false;
    };
    let words =
        ["passed", "failed", "error", "errors", "skipped", "deselected", "xfailed", "xpassed", "warning", "warnings"];
    time.starts_with(|first: char| first.is_ascii_digit())
        && counts.split(", ").all(|part| {
            part.split_once(' ').is_some_and(|(number, word)| number.parse::<u64>().is_ok() && words.contains(&word))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(output: &str) -> Counts {
        let mut counts = Counts::default();
        output.lines().for_each(|line| counts.add_line(line));
        counts
    }

    #[test]
    fn every_test_program_of_a_run_is_added() {
        let output = "running 3 tests\n...\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
                      test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        assert_eq!(counts(output), Counts { passed: 8, failed: 2 });
    }

    #[test]
    fn pytest_counts_with_and_without_decoration() {
        assert_eq!(counts("137 passed in 12.34s"), Counts { passed: 137, failed: 0 });
        assert_eq!(
            counts("==== 1 failed, 135 passed, 3 warnings, 1 error in 64.01s (0:01:04) ===="),
            Counts { passed: 135, failed: 2 }
        );
    }

    #[test]
    fn other_lines_say_nothing() {
        assert_eq!(counts("3 passed the gate in 2026\ntests in 3 files\n12 passed"), Counts::default());
    }
}
