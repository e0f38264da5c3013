//! A plan: what a decision wants done. The shape that all verticals share; it knows no domain words.

use std::time::Duration;

/// What a decision wants: effects in order, then the status, then events.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<E, S> {
    /// Changes to the world, in order. At most one of them is irreversible, and then it is the last.
    pub effects: Vec<E>,
    /// The status to be written when it differs from the one observed.
    pub status: Option<S>,
    /// What to tell, on transitions only.
    pub events: Vec<Notice>,
    /// When to look again.
    pub next: Next,
}

impl<E, S> Plan<E, S> {
    /// Nothing to do until something changes.
    #[must_use]
    pub fn rest() -> Self {
        Self { effects: Vec::new(), status: None, events: Vec::new(), next: Next::OnChange }
    }
}

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// When a watched object changes.
    OnChange,
    /// After this time at the latest.
    After(Duration),
}

impl Next {
    /// The earlier of both.
    #[must_use]
    pub fn sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::OnChange, next) | (next, Self::OnChange) => next,
            (Self::After(a), Self::After(b)) => Self::After(a.min(b)),
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Normal or Warning.
    pub severity: Severity,
    /// A static CamelCase word.
    pub reason: &'static str,
    /// What was done, a static word, for example `Migrate`.
    pub action: &'static str,
    /// A sentence.
    pub note: String,
}

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Someone should look.
    Warning,
}
