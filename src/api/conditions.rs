//! Conditions: their types, and how one is set without losing its transition time.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The condition types of both controllers, in one place.
pub mod types {
    /// The desired state is reached (kstatus reads it).
    pub const READY: &str = "Ready";
    /// Present only while True: work is under way.
    pub const RECONCILING: &str = "Reconciling";
    /// Present only while True: a person must act. Never together with `Reconciling`.
    pub const STALLED: &str = "Stalled";
    /// The site answers.
    pub const AVAILABLE: &str = "Available";
    /// A newer version is on its way or waits.
    pub const UPDATE_PENDING: &str = "UpdatePending";
    /// The registry answers.
    pub const REGISTRY_REACHABLE: &str = "RegistryReachable";
    /// A version was taken back and is not picked again.
    pub const QUARANTINED: &str = "Quarantined";
    /// The run's verdict.
    pub const SUCCEEDED: &str = "Succeeded";
    /// Statuses and comments on GitHub say what the run's status says.
    pub const REPORTED: &str = "Reported";
}

/// What a condition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// `True`.
    True,
    /// `False`.
    False,
    /// `Unknown`.
    Unknown,
}

impl Verdict {
    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Verdict {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition as a decision states it: without times, which belong to the transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// One of [`types`].
    pub kind: &'static str,
    /// What it says.
    pub verdict: Verdict,
    /// A static CamelCase word.
    pub reason: &'static str,
    /// Names the object, the cause and the next step; at most [`MAX_MESSAGE`] bytes are kept.
    pub message: String,
}

/// The longest message that is kept, in bytes.
pub const MAX_MESSAGE: usize = 1024;

impl Statement {
    /// A statement.
    pub fn new(kind: &'static str, verdict: Verdict, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, verdict, reason, message: message.into() }
    }
}

/// The condition of that type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the condition of that type is True.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == "True")
}

/// The conditions that `statements` make of `previous`: exactly the stated types, transition times kept where the
/// verdict is the same, everything observed at `generation`.
#[must_use]
pub fn restate(previous: &[Condition], statements: Vec<Statement>, generation: i64, now: Timestamp) -> Vec<Condition> {
    statements
        .into_iter()
        .map(|statement| {
            let since = find(previous, statement.kind)
                .filter(|before| before.status == statement.verdict.as_str())
                .map_or(Time(now), |before| before.last_transition_time.clone());
            Condition {
                type_: statement.kind.to_owned(),
                status: statement.verdict.as_str().to_owned(),
                reason: statement.reason.to_owned(),
                message: printable(&statement.message, MAX_MESSAGE),
                observed_generation: Some(generation),
                last_transition_time: since,
            }
        })
        .collect()
}

/// `text` without control characters and with at most `max` bytes.
///
/// The API server counts bytes too, where it bounds a text.
#[must_use]
pub fn printable(text: &str, max: usize) -> String {
    const CUT: char = '…';
    let mut shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if shown.len() > max {
        shown.truncate(shown.floor_char_boundary(max.saturating_sub(CUT.len_utf8())));
        shown.push(CUT);
    }
    shown
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_verdict() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let say = |verdict, message: &str| vec![Statement::new(types::READY, verdict, "R", message)];
        let first = restate(&[], say(Verdict::False, "a"), 1, at(10));
        let same = restate(&first, say(Verdict::False, "b"), 2, at(20));
        let moved = restate(&same, say(Verdict::True, "c"), 2, at(30));
        assert_eq!(same.first().unwrap().last_transition_time, Time(at(10)));
        assert_eq!(same.first().unwrap().message, "b");
        assert_eq!(moved.first().unwrap().last_transition_time, Time(at(30)));
    }

    #[test]
    fn a_text_is_cut_by_its_bytes_and_between_characters() {
        assert_eq!(printable("a\u{7}b", 3), "a b");
        assert_eq!(printable("abcd", 3), "…");
        for text in ["x".repeat(5_000), "ü".repeat(5_000), "🦀".repeat(5_000), "a🦀".repeat(5_000)] {
            let shown = printable(&text, 1_000);
            assert!(shown.len() <= 1_000 && shown.len() > 993 && shown.ends_with('…'), "{} bytes", shown.len());
            assert_eq!(printable(&text, 100_000), text);
        }
    }

    #[test]
    fn what_is_not_stated_disappears() {
        let now = Timestamp::from_second(1).unwrap();
        let before = restate(&[], vec![Statement::new(types::STALLED, Verdict::True, "R", "m")], 1, now);
        assert!(restate(&before, vec![], 1, now).is_empty());
    }
}
