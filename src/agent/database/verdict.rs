//! What to do, given what the ledger says and what the database has. Pure: every row of the tables is a test.
//!
//! Called with the lock held and with no session of an earlier attempt left.

use super::ledger::LedgerRow;
use crate::agent::report::{DatabaseFailure, LedgerState};
use crate::api::names::{Digest, Revisions};

/// The schema at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) revisions: Revisions,
    /// Digest of the snapshot (which includes the revisions).
    pub(super) snapshot: Digest,
    /// Whether the contract of the image to be delivered holds.
    pub(super) contract_holds: bool,
}

/// What to do about a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: it is done, and the ledger's row (when it has an unfinished one) is to say so.
    FoundDone {
        /// Row to be marked as done.
        finish: Option<i64>,
        /// Revisions that the digest's migration started from, as far as known.
        from: Revisions,
    },
    /// Run the command.
    Start,
    /// The revisions are the image's, the schema is not, and no migration would change that.
    ContractBroken,
    /// An earlier attempt left neither what was before nor what should be.
    Ambiguous {
        /// That attempt's row.
        row: i64,
    },
}

/// Decides before anything is run.
///
/// | newest row of the digest | database | verdict |
/// |---|---|---|
/// | none, or Done | at the target, contract holds | found done |
/// | none, or Done | at the target, contract broken | contract broken |
/// | none, or Done | anything else | start |
/// | Started, Failed, Ambiguous | at the target, contract holds | found done, recorded |
/// | Started, Failed, Ambiguous | revisions and schema as before it | start |
/// | Started, Failed, Ambiguous | anything else | ambiguous |
///
/// `other` is the newest row of all when it belongs to another digest. Where that one was started and its end never
/// seen, the database must be as before it or at its target, else nothing is started on it: ambiguous.
pub(super) fn before_command(
    own: Option<&LedgerRow>,
    other: Option<&LedgerRow>,
    now: &State,
    target: &Revisions,
) -> Verdict {
    let at_target = now.revisions == *target;
    let untouched = |row: &LedgerRow| now.revisions == row.entry.from && now.snapshot == row.before;
    let in_doubt = own.filter(|row| match row.entry.state {
        LedgerState::Started | LedgerState::Failed | LedgerState::Ambiguous => true,
        LedgerState::Done => false,
    });
    if at_target && now.contract_holds {
        let from = own.map_or_else(|| now.revisions.clone(), |row| row.entry.from.clone());
        return Verdict::FoundDone { finish: in_doubt.map(|row| row.id), from };
    }
    let unseen_end = other.filter(|row| row.entry.state == LedgerState::Started);
    if let Some(row) = unseen_end.filter(|row| !untouched(row) && now.revisions != row.entry.to) {
        return Verdict::Ambiguous { row: row.id };
    }
    // A later migration of another digest has moved the database on: what this digest left is no longer what is there.
    let superseded = other.is_some_and(|other| other.entry.state == LedgerState::Done);
    match in_doubt.filter(|_| !superseded) {
        Some(row) if untouched(row) => Verdict::Start,
        Some(row) => Verdict::Ambiguous { row: row.id },
        None if at_target => Verdict::ContractBroken,
        None => Verdict::Start,
    }
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandEnd {
    /// By itself with 0.
    Succeeded,
    /// By itself with another code.
    Failed {
        /// It complained about `lock_timeout`.
        lock_timeout: bool,
        /// It complained about a revision that its files don't have.
        unknown_revision: bool,
    },
    /// Stopped at its timeout.
    TimedOut,
    /// Stopped because we were told to terminate.
    Interrupted,
}

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// `None`: done.
    pub(super) failure: Option<DatabaseFailure>,
    /// What the ledger is to say.
    pub(super) ledger: LedgerState,
    /// Revisions and schema are as they were.
    pub(super) untouched: bool,
}

/// Judges after the command has ended and the last of its sessions is gone. The database decides, not the exit code.
pub(super) fn after_command(end: CommandEnd, before: &State, after: &State, target: &Revisions) -> Outcome {
    let at_target = after.revisions == *target;
    let reached = at_target && after.contract_holds;
    let untouched = before.revisions == after.revisions && before.snapshot == after.snapshot;
    let failure = match end {
        CommandEnd::Succeeded | CommandEnd::TimedOut | CommandEnd::Interrupted if reached => None,
        CommandEnd::Succeeded if !at_target => Some(DatabaseFailure::RevisionsDiffer),
        CommandEnd::Succeeded => Some(DatabaseFailure::ContractBroken),
        CommandEnd::TimedOut => Some(DatabaseFailure::TimedOut),
        // Tried again only from where it started; half a migration is for a person.
        CommandEnd::Interrupted if untouched => Some(DatabaseFailure::Interrupted),
        CommandEnd::Failed { lock_timeout: true, .. } if untouched => Some(DatabaseFailure::LockTimeout),
        CommandEnd::Interrupted | CommandEnd::Failed { lock_timeout: true, .. } => Some(DatabaseFailure::Ambiguous),
        CommandEnd::Failed { unknown_revision: true, .. } => Some(DatabaseFailure::UnknownRevision),
        CommandEnd::Failed { .. } => Some(DatabaseFailure::CommandFailed),
    };
    let ledger = match failure {
        None => LedgerState::Done,
        Some(_) if untouched => LedgerState::Failed,
        Some(_) => LedgerState::Ambiguous,
    };
    Outcome { failure, ledger, untouched }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::agent::report::LedgerEntry;
    use proptest::prelude::*;
    use rstest::rstest;

    fn revisions(text: &str) -> Revisions {
        text.split_whitespace().map(|revision| revision.parse().unwrap()).collect()
    }

    fn state(at: &str, schema: &str, contract_holds: bool) -> State {
        State { revisions: revisions(at), snapshot: Digest::of(format!("{at}/{schema}").as_bytes()), contract_holds }
    }

    fn row(id: i64, from: &str, to: &str, state: LedgerState) -> LedgerRow {
        LedgerRow {
            id,
            entry: LedgerEntry {
                digest: Digest::of(b"image"),
                from: revisions(from),
                to: revisions(to),
                attempt: 1,
                state,
            },
            before: Digest::of(format!("{from}/old").as_bytes()),
        }
    }

    fn found(finish: Option<i64>, from: &str) -> Verdict {
        Verdict::FoundDone { finish, from: revisions(from) }
    }

    use LedgerState::{Ambiguous, Done, Failed, Started};

    #[rstest]
    #[case::first_run(None, state("a", "old", false), Verdict::Start)]
    #[case::first_run_on_an_empty_database(None, state("", "old", false), Verdict::Start)]
    #[case::first_run_and_all_is_there(None, state("b c", "new", true), found(None, "b c"))]
    #[case::at_the_target_without_its_schema(None, state("b c", "half", false), Verdict::ContractBroken)]
    #[case::one_of_two_heads_is_not_the_target(None, state("b", "new", true), Verdict::Start)]
    #[case::started_and_all_is_there(Some(Started), state("b c", "new", true), found(Some(7), "a"))]
    #[case::started_and_nothing_happened(Some(Started), state("a", "old", false), Verdict::Start)]
    #[case::started_and_half_way(Some(Started), state("b", "half", false), Verdict::Ambiguous { row: 7 })]
    #[case::started_and_schema_moved_only(Some(Started), state("a", "half", true), Verdict::Ambiguous { row: 7 })]
    #[case::started_and_errors_swallowed(Some(Started), state("b c", "half", false), Verdict::Ambiguous { row: 7 })]
    #[case::failed_untouched(Some(Failed), state("a", "old", false), Verdict::Start)]
    #[case::failed_and_somebody_moved_it(Some(Failed), state("x", "old", false), Verdict::Ambiguous { row: 7 })]
    #[case::ambiguous_stays_so(Some(Ambiguous), state("b", "half", false), Verdict::Ambiguous { row: 7 })]
    #[case::ambiguous_and_a_person_restored(Some(Ambiguous), state("a", "old", false), Verdict::Start)]
    #[case::ambiguous_and_a_person_finished(Some(Ambiguous), state("b c", "new", true), found(Some(7), "a"))]
    #[case::done_and_still_there(Some(Done), state("b c", "new", true), found(None, "a"))]
    #[case::done_and_restored_since(Some(Done), state("a", "old", false), Verdict::Start)]
    #[case::done_and_broken_since(Some(Done), state("b c", "half", false), Verdict::ContractBroken)]
    fn the_table_before_the_command(#[case] own: Option<LedgerState>, #[case] now: State, #[case] expected: Verdict) {
        let own = own.map(|state| row(7, "a", "b c", state));
        assert_eq!(before_command(own.as_ref(), None, &now, &revisions("c b")), expected);
    }

    #[rstest]
    #[case::its_end_was_never_seen_and_it_is_half_way(Started, state("m", "half", false), Verdict::Ambiguous { row: 9 })]
    #[case::nothing_of_it_happened(Started, state("a", "old", false), Verdict::Start)]
    #[case::it_came_to_its_end(Started, state("o", "whatever", false), Verdict::Start)]
    #[case::ours_is_there_all_the_same(Started, state("b c", "new", true), found(None, "b c"))]
    #[case::its_failure_was_seen(Ambiguous, state("m", "half", false), Verdict::Start)]
    #[case::it_was_done(Done, state("o", "new", false), Verdict::Start)]
    fn the_table_after_an_attempt_of_another_digest(
        #[case] other: LedgerState,
        #[case] now: State,
        #[case] expected: Verdict,
    ) {
        let other = row(9, "a", "o", other);
        assert_eq!(before_command(None, Some(&other), &now, &revisions("b c")), expected);
    }

    #[test]
    fn a_failure_that_another_digest_has_moved_on_from_is_no_doubt_any_more() {
        let (own, other) = (row(7, "a", "b c", Failed), row(9, "a", "o", Done));
        assert_eq!(
            before_command(Some(&own), Some(&other), &state("o", "new", false), &revisions("b c")),
            Verdict::Start
        );
    }

    const FAILED: CommandEnd = CommandEnd::Failed { lock_timeout: false, unknown_revision: false };
    const LOCKED: CommandEnd = CommandEnd::Failed { lock_timeout: true, unknown_revision: false };
    const UNKNOWN: CommandEnd = CommandEnd::Failed { lock_timeout: false, unknown_revision: true };

    #[rstest]
    #[case::done(CommandEnd::Succeeded, state("b c", "new", true), None, Done)]
    #[case::one_head_missing(
        CommandEnd::Succeeded,
        state("b", "new", true),
        Some(DatabaseFailure::RevisionsDiffer),
        Ambiguous
    )]
    #[case::nothing_done(
        CommandEnd::Succeeded,
        state("a", "old", false),
        Some(DatabaseFailure::RevisionsDiffer),
        Failed
    )]
    #[case::errors_swallowed(
        CommandEnd::Succeeded,
        state("b c", "half", false),
        Some(DatabaseFailure::ContractBroken),
        Ambiguous
    )]
    #[case::failed_whole(FAILED, state("a", "old", false), Some(DatabaseFailure::CommandFailed), Failed)]
    #[case::failed_half_way(FAILED, state("b", "half", false), Some(DatabaseFailure::CommandFailed), Ambiguous)]
    #[case::failed_at_the_target(FAILED, state("b c", "new", true), Some(DatabaseFailure::CommandFailed), Ambiguous)]
    #[case::locked_out(LOCKED, state("a", "old", false), Some(DatabaseFailure::LockTimeout), Failed)]
    #[case::locked_out_half_way(LOCKED, state("b", "half", false), Some(DatabaseFailure::Ambiguous), Ambiguous)]
    #[case::unknown_revision(UNKNOWN, state("a", "old", false), Some(DatabaseFailure::UnknownRevision), Failed)]
    #[case::timed_out(CommandEnd::TimedOut, state("a", "old", false), Some(DatabaseFailure::TimedOut), Failed)]
    #[case::timed_out_after_its_commit(CommandEnd::TimedOut, state("b c", "new", true), None, Done)]
    #[case::interrupted(CommandEnd::Interrupted, state("a", "old", false), Some(DatabaseFailure::Interrupted), Failed)]
    #[case::interrupted_half_way(
        CommandEnd::Interrupted,
        state("b", "half", false),
        Some(DatabaseFailure::Ambiguous),
        Ambiguous
    )]
    #[case::interrupted_after_its_commit(CommandEnd::Interrupted, state("b c", "new", true), None, Done)]
    fn the_table_after_the_command(
        #[case] end: CommandEnd,
        #[case] after: State,
        #[case] failure: Option<DatabaseFailure>,
        #[case] ledger: LedgerState,
    ) {
        let outcome = after_command(end, &state("a", "old", false), &after, &revisions("b c"));
        assert_eq!((outcome.failure, outcome.ledger), (failure, ledger));
    }

    fn any_state() -> impl Strategy<Value = State> {
        (
            prop::sample::select(vec!["", "a", "b", "b c", "x"]),
            prop::sample::select(vec!["old", "half", "new"]),
            any::<bool>(),
        )
            .prop_map(|(at, schema, holds)| state(at, schema, holds))
    }

    fn any_row(id: i64) -> impl Strategy<Value = Option<LedgerRow>> {
        let states = prop::sample::select(vec![Started, Done, Failed, Ambiguous]);
        prop::option::of(
            (prop::sample::select(vec!["", "a", "b"]), prop::sample::select(vec!["b c", "x"]), states)
                .prop_map(move |(from, to, state)| row(id, from, to, state)),
        )
    }

    fn any_end() -> impl Strategy<Value = CommandEnd> {
        prop_oneof![
            Just(CommandEnd::Succeeded),
            Just(CommandEnd::TimedOut),
            Just(CommandEnd::Interrupted),
            (any::<bool>(), any::<bool>())
                .prop_map(|(lock_timeout, unknown_revision)| CommandEnd::Failed { lock_timeout, unknown_revision }),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_started_at_the_target_or_on_an_unsettled_attempt(own in any_row(7), now in any_state()) {
            let target = revisions("b c");
            let verdict = before_command(own.as_ref(), None, &now, &target);
            let reached = now.revisions == target && now.contract_holds;
            prop_assert_eq!(matches!(verdict, Verdict::FoundDone { .. }), reached);
            if let Some(row) = own.filter(|row| verdict == Verdict::Start && row.entry.state != Done) {
                prop_assert_eq!((&now.revisions, &now.snapshot), (&row.entry.from, &row.before));
            }
        }

        #[test]
        fn done_means_that_the_database_says_so(end in any_end(), before in any_state(), after in any_state()) {
            let target = revisions("b c");
            let outcome = after_command(end, &before, &after, &target);
            if outcome.failure.is_none() {
                prop_assert!(after.revisions == target && after.contract_holds);
                prop_assert_eq!(outcome.ledger, Done);
            } else {
                prop_assert_eq!(outcome.ledger == Failed, outcome.untouched);
            }
            // Nothing is tried again by itself on a database that the attempt has changed.
            if outcome.failure.is_some_and(DatabaseFailure::is_transient) {
                prop_assert!(outcome.untouched);
            }
        }

        #[test]
        fn the_next_attempt_agrees_with_how_the_last_one_was_recorded(end in any_end(), after in any_state()) {
            let (before, target) = (state("a", "old", false), revisions("b c"));
            let outcome = after_command(end, &before, &after, &target);
            let recorded = row(7, "a", "b c", outcome.ledger);
            match (before_command(Some(&recorded), None, &after, &target), outcome.ledger) {
                (Verdict::Start, state) => prop_assert_eq!(state, Failed),
                (Verdict::Ambiguous { .. }, state) => prop_assert_eq!(state, Ambiguous),
                (Verdict::FoundDone { .. }, _) => prop_assert!(after.revisions == target && after.contract_holds),
                (Verdict::ContractBroken, _) => prop_assert!(false, "an attempt was forgotten"),
            }
        }
    }
}
