//! Progress lines with elapsed time.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Steps that took less are not reported a second time.
const WORTH_TELLING: Duration = Duration::from_secs(2);

/// Prints what is going on and how long it has been going on since this was made.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Starts the clock.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// One line with the elapsed time in front.
    pub fn say(&self, text: impl AsRef<str>) {
        eprintln!("[{:>7}] {}", seconds(self.elapsed()), text.as_ref());
    }

    /// Announces a step, runs it, and reports its duration when that is worth a line.
    ///
    /// # Errors
    /// Those of the step.
    pub fn step<T>(&self, text: impl AsRef<str>, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let text = text.as_ref();
        self.say(text);
        let begun = Instant::now();
        let result = step()?;
        if begun.elapsed() >= WORTH_TELLING {
            self.say(format!("{text}: done in {}", seconds(begun.elapsed())));
        }
        Ok(result)
    }
}

/// A duration as a person reads it: `7.6 s`, `4 min 12 s`.
pub fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole < 100 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_naturally() {
        assert_eq!(seconds(Duration::from_millis(7620)), "7.6 s");
        assert_eq!(seconds(Duration::from_secs(252)), "4 min 12 s");
    }
}
