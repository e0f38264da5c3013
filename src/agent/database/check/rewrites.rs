//! Which tables a statement writes anew: an event trigger of the server says so, and the proxy takes its word out of the
//! stream again.

use super::super::connection::Session;
use super::recorder::REWRITTEN;

/// `INFO` reaches the client whatever `client_min_messages` says.
fn installation() -> String {
    format!(
        "create schema timetracker_check;
         create function timetracker_check.rewritten() returns event_trigger language plpgsql as $$
         begin raise info '{REWRITTEN}%', pg_event_trigger_table_rewrite_oid(); end $$;
         create event trigger timetracker_check_rewritten on table_rewrite
             execute function timetracker_check.rewritten()"
    )
}

const REMOVAL: &str = "drop event trigger if exists timetracker_check_rewritten; \
                       drop schema if exists timetracker_check cascade";

/// Puts the trigger in place, or says why rewritten tables won't be known.
pub(super) async fn watch(session: &Session) -> Result<(), String> {
    session
        .client
        .batch_execute(&installation())
        .await
        .map_err(|error| error.as_db_error().map_or_else(|| error.to_string(), |told| told.message().to_owned()))
}

/// Takes it away again. A migration may have done so already.
pub(super) async fn end_watch(session: &Session) {
    let _ = session.client.batch_execute(REMOVAL).await;
}
