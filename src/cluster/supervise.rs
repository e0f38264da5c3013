//! What stands around every reconcile: a panic harms one object only, and failures wait longer each time.

use std::any::Any;
use std::collections::HashMap;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::Instant;

/// A reconcile panicked.
#[derive(Debug, thiserror::Error)]
#[error("the operator has a bug: {0}; please report it with the operator's log")]
pub struct Panicked(String);

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}

/// Runs `reconcile`; a panic in it becomes an error. kube's `Controller` would end at the first panic, for all objects.
///
/// # Errors
/// When it panicked.
pub async fn supervised<T>(reconcile: impl Future<Output = T>) -> Result<T, Panicked> {
    AssertUnwindSafe(reconcile).catch_unwind().await.map_err(|payload| Panicked(words(payload.as_ref())))
}

/// After this long without another failure an object was deleted, or is fine: twice the longest wait, and the rest.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// So many objects may fail before those are looked for that can be forgotten.
const MANY: usize = 256;

/// Waiting times after failures, by object: 1 s, doubled up to 2 min, forgotten after a success.
#[derive(Debug, Default)]
pub struct Backoff<K> {
    /// How often each failed in a row, and when last.
    failures: Mutex<HashMap<K, (u32, Instant)>>,
}

impl<K: Eq + Hash> Backoff<K> {
    /// Forgets the failures of `key`.
    pub fn succeeded(&self, key: &K) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// How long to wait after one more failure of `key`.
    pub fn failed(&self, key: K) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if failures.len() >= MANY {
            failures.retain(|_, (_, last)| now.saturating_duration_since(*last) < FORGOTTEN);
        }
        let (count, last) = failures.entry(key).or_insert((0, now));
        let wait = Duration::from_secs(1 << (*count).min(7)).min(Duration::from_secs(120));
        (*count, *last) = (count.saturating_add(1), now);
        wait
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error_with_its_words() {
        let error = supervised::<()>(async { panic!("index 3") }).await.unwrap_err();
        assert!(error.to_string().contains("index 3"), "{error}");
    }

    #[test]
    fn waiting_doubles_up_to_two_minutes_and_starts_again_after_a_success() {
        let backoff = Backoff::default();
        let waits: Vec<u64> = (0..9).map(|_| backoff.failed("a").as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        backoff.succeeded(&"a");
        assert_eq!(backoff.failed("a").as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn objects_that_failed_and_were_deleted_are_forgotten_in_the_end() {
        let backoff = Backoff::default();
        for round in 0..10 {
            for object in 0..2 * MANY {
                backoff.failed((round, object));
            }
            tokio::time::advance(FORGOTTEN).await;
        }
        let known = backoff.failures.lock().unwrap().len();
        assert_eq!(known, 2 * MANY);
    }
}
