//! Is there a transaction pooler between us and the server? Session locks would not hold there.

use super::DatabaseError;
use super::connection::Session;
use crate::agent::report::DatabaseFailure;

/// What a person does about it.
pub(super) const REMEDY: &str = "give a direct connection to the server as migrationUrlFrom";

/// What one statement saw of its server session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    backend: String,
    marker: String,
}

/// Compares what two client sessions see of the server.
///
/// # Errors
/// [`DatabaseFailure::TransactionPooler`] when they don't have server sessions of their own.
pub(super) async fn refuse_transaction_pooler(
    first: &Session,
    second: &Session,
    marker: &str,
) -> Result<(), DatabaseError> {
    first.client.batch_execute(&format!("set timetracker.session = '{marker}'")).await?;
    let before = seen(first).await?;
    // In a transaction the second session keeps its server session; a pooler then has to give the first one another,
    // or has given the second one the first one's.
    second.client.batch_execute("begin").await?;
    let other = seen(second).await?;
    let again = seen(first).await?;
    second.client.batch_execute("rollback").await?;
    if shares_sessions(marker, &before, &other, &again) {
        return Err(refusal());
    }
    Ok(())
}

pub(super) fn refusal() -> DatabaseError {
    DatabaseError::new(
        DatabaseFailure::TransactionPooler,
        format!("a transaction pooler stands between: locks of a session do not hold through it ({REMEDY})"),
    )
}

async fn seen(session: &Session) -> Result<Seen, DatabaseError> {
    let row =
        session.one_row("select pg_backend_pid(), coalesce(current_setting('timetracker.session', true), '')").await?;
    let field = |index| row.get(index).unwrap_or_default().to_owned();
    Ok(Seen { backend: field(0), marker: field(1) })
}

fn shares_sessions(marker: &str, before: &Seen, other: &Seen, again: &Seen) -> bool {
    before.backend != again.backend
        || before.marker != marker
        || again.marker != marker
        || other.backend == before.backend
        || other.marker == marker
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::direct((1, "m"), (2, ""), (1, "m"), false)]
    #[case::same_backend_lent_to_both((1, "m"), (1, "m"), (2, ""), true)]
    #[case::one_backend_in_turn((1, "m"), (1, "m"), (1, "m"), true)]
    #[case::moved_between_statements((2, ""), (1, "m"), (3, ""), true)]
    #[case::moved_only_later((1, "m"), (2, ""), (3, ""), true)]
    #[case::settings_reset_between_statements((1, ""), (2, ""), (1, ""), true)]
    fn sessions_of_their_own_are_told_from_pooled_ones(
        #[case] before: (u32, &str),
        #[case] other: (u32, &str),
        #[case] again: (u32, &str),
        #[case] pooled: bool,
    ) {
        let seen = |(backend, marker): (u32, &str)| Seen { backend: backend.to_string(), marker: marker.to_owned() };
        assert_eq!(shares_sessions("m", &seen(before), &seen(other), &seen(again)), pooled);
    }
}
