//! Waiting for a condition with a bound.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Looks again until the condition holds or the bound is over; says which.
///
/// # Errors
/// Those of the condition, at once.
pub fn until(bound: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    let deadline = Instant::now() + bound;
    let mut pause = Duration::from_millis(20);
    loop {
        if condition()? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(400));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_the_condition_holds_and_when_the_bound_is_over() {
        let mut looks = 0;
        let held = until(Duration::from_secs(5), || {
            looks += 1;
            Ok(looks == 3)
        });
        assert!(held.unwrap());
        assert!(!until(Duration::from_millis(1), || Ok(false)).unwrap());
    }
}
