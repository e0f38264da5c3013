//! What one connection sends and what becomes of it: statement by statement, with rows, locks and rewritten tables.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::wire::Message;
use crate::schema::check::{Executed, HeldLock, Statements};

/// The most statements that are kept.
const MAX_STATEMENTS: usize = 1_000;
/// The most bytes of one statement that are kept.
pub(super) const MAX_SQL_BYTES: usize = 16 * 1024;
/// The most statements that a connection has under way or prepared before it is not followed any more.
const MAX_UNDER_WAY: usize = 1_000;
/// What the event trigger's message begins with; the table's oid follows.
pub(super) const REWRITTEN: &str = "timetracker-check rewritten ";

/// Locks that stop others from reading or writing.
const BLOCKING: [&str; 4] = ["ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"];

/// Commands that change nothing.
const READING: [&str; 13] = [
    "SELECT",
    "SHOW",
    "BEGIN",
    "START",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "SET",
    "RESET",
    "DEALLOCATE",
    "FETCH",
    "DISCARD",
];

/// The tables before the upgrade, by oid.
pub(super) type TablesBefore = BTreeMap<u32, TableBefore>;

/// A table before the upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableBefore {
    pub(super) name: String,
    pub(super) rows: u64,
}

/// What all connections of the upgrade did together.
#[derive(Debug, Default)]
pub(super) struct Record {
    executed: Vec<Executed>,
    omitted: u64,
    held: BTreeMap<(String, String), Duration>,
}

impl Record {
    /// The statements in their order.
    pub(super) fn statements(&self, rewrites_unknown: Option<String>) -> Statements {
        let held = self.held.iter().map(|((table, mode), held)| HeldLock {
            table: table.clone(),
            mode: mode.clone(),
            milliseconds: milliseconds(*held),
        });
        Statements { executed: self.executed.clone(), omitted: self.omitted, held: held.collect(), rewrites_unknown }
    }

    fn keep(&mut self, executed: Executed) {
        if self.executed.len() < MAX_STATEMENTS {
            self.executed.push(executed);
        } else {
            self.omitted = self.omitted.saturating_add(1);
        }
    }
}

/// A duration in whole milliseconds.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A statement under way.
#[derive(Debug)]
struct Pending {
    executed: Executed,
    /// Sent by the simple protocol: it ends when the server is ready again.
    simple: bool,
    started: Instant,
    changes: bool,
}

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// The process that serves it.
    pub(super) pid: Option<i32>,
    prepared: BTreeMap<Vec<u8>, String>,
    portals: BTreeMap<Vec<u8>, String>,
    pending: VecDeque<Pending>,
    /// Ended since the server was last ready: their locks are still to be read.
    ended: Vec<Pending>,
    /// Blocking locks with the start of the statement that took them.
    locks: BTreeMap<(u32, String), Instant>,
}

impl Connection {
    /// The client sends a message.
    pub(super) fn sent(&mut self, message: &Message, now: Instant) {
        let mut texts = message.texts();
        match message.kind {
            b'Q' => self.begin(text(texts.next()), true, now),
            b'P' => {
                let (name, sql) = (texts.next().unwrap_or_default().to_vec(), text(texts.next()));
                if self.prepared.len() < MAX_UNDER_WAY {
                    self.prepared.insert(name, sql);
                }
            }
            b'B' => {
                let (portal, name) = (texts.next().unwrap_or_default().to_vec(), texts.next().unwrap_or_default());
                let sql = self.prepared.get(name).cloned().unwrap_or_default();
                if self.portals.len() < MAX_UNDER_WAY {
                    self.portals.insert(portal, sql);
                }
            }
            b'E' => {
                let sql = self.portals.get(texts.next().unwrap_or_default()).cloned().unwrap_or_default();
                self.begin(sql, false, now);
            }
            _ => {}
        }
    }

    fn begin(&mut self, sql: String, simple: bool, now: Instant) {
        if self.pending.len() < MAX_UNDER_WAY {
            let executed = Executed { sql, ..Executed::default() };
            self.pending.push_back(Pending { executed, simple, started: now, changes: false });
        }
    }

    /// Since when a statement has been under way.
    pub(super) fn under_way_since(&self) -> Option<Instant> {
        self.pending.front().map(|pending| pending.started)
    }

    /// The server answers. Returns whether the message is for us and not for the client.
    pub(super) fn received(&mut self, message: &Message, tables: &TablesBefore, now: Instant) -> bool {
        match message.kind {
            b'K' => {
                let bytes = message.kept.get(..4).and_then(|bytes| bytes.try_into().ok());
                self.pid = bytes.map(i32::from_be_bytes);
            }
            b'C' => self.completed(&text(message.texts().next()), now),
            b'E' => {
                let told = message.field(b'M').unwrap_or_default();
                let code = message.field(b'C').unwrap_or_default();
                if let Some(pending) = self.pending.front_mut() {
                    pending.executed.error = Some(format!("{told} (SQLSTATE {code})"));
                    pending.changes = true;
                }
                self.end_extended(now);
            }
            b'I' | b's' => self.end_extended(now),
            b'N' => return self.rewritten(message, tables),
            _ => {}
        }
        false
    }

    fn completed(&mut self, tag: &str, now: Instant) {
        let command = tag.split(' ').next().unwrap_or_default();
        if let Some(pending) = self.pending.front_mut() {
            pending.changes |= !READING.contains(&command);
            if ["INSERT", "UPDATE", "DELETE", "MERGE", "COPY"].contains(&command)
                && let Some(rows) = tag.rsplit(' ').next().and_then(|rows| rows.parse::<u64>().ok())
            {
                pending.executed.rows = Some(pending.executed.rows.unwrap_or_default().saturating_add(rows));
            }
        }
        self.end_extended(now);
    }

    fn end_extended(&mut self, now: Instant) {
        if self.pending.front().is_some_and(|pending| !pending.simple) {
            self.end_first(now);
        }
    }

    fn end_first(&mut self, now: Instant) {
        if let Some(mut pending) = self.pending.pop_front() {
            pending.executed.milliseconds = milliseconds(now.saturating_duration_since(pending.started));
            self.ended.push(pending);
        }
    }

    fn rewritten(&mut self, message: &Message, tables: &TablesBefore) -> bool {
        let told = message.field(b'M').unwrap_or_default();
        let Some(oid) = told.strip_prefix(REWRITTEN).and_then(|oid| oid.parse::<u32>().ok()) else {
            return false;
        };
        if let (Some(pending), Some(table)) = (self.pending.front_mut(), tables.get(&oid)) {
            pending.executed.rewritten.insert(table.name.clone(), table.rows);
        }
        true
    }

    /// The server is ready for the next statement: what was under way has ended.
    pub(super) fn ready(&mut self, now: Instant) {
        // Only one simple statement is under way before the server is ready.
        if self.pending.front().is_some_and(|pending| pending.simple) {
            self.end_first(now);
        }
    }

    /// The locks that the connection holds, as just read: those that are new belong to the last statement.
    pub(super) fn holds(&mut self, locks: &[(u32, String)], tables: &TablesBefore, now: Instant) {
        for (oid, mode) in locks.iter().filter(|(_, mode)| BLOCKING.contains(&mode.as_str())) {
            let Some(table) = tables.get(oid) else { continue };
            let by = self.ended.last_mut().or(self.pending.front_mut());
            let since = by.as_ref().map_or(now, |pending| pending.started);
            let mut is_new = false;
            self.locks.entry((*oid, mode.clone())).or_insert_with(|| {
                is_new = true;
                since
            });
            if let (true, Some(pending)) = (is_new, by) {
                pending.executed.locks.insert(format!("{}: {mode}", table.name));
            }
        }
    }

    /// Hands what has ended to the record; at a transaction's end, the locks too.
    pub(super) fn settle(&mut self, in_transaction: bool, tables: &TablesBefore, record: &mut Record, now: Instant) {
        for pending in self.ended.drain(..) {
            let of_alembic = pending.executed.sql.contains("alembic_version") && pending.executed.error.is_none();
            if !pending.executed.locks.is_empty() || (pending.changes && !of_alembic) {
                record.keep(pending.executed);
            }
        }
        if in_transaction {
            return;
        }
        for ((oid, mode), since) in std::mem::take(&mut self.locks) {
            let Some(table) = tables.get(&oid) else { continue };
            let held = now.saturating_duration_since(since);
            let longest = record.held.entry((table.name.clone(), mode)).or_default();
            *longest = held.max(*longest);
        }
    }

    /// The connection is gone: what was under way has ended with it.
    pub(super) fn closed(&mut self, tables: &TablesBefore, record: &mut Record, now: Instant) {
        while !self.pending.is_empty() {
            if let Some(pending) = self.pending.front_mut() {
                pending.executed.error.get_or_insert_with(|| "the connection was closed before its end".into());
                pending.changes = true;
            }
            self.end_first(now);
        }
        self.settle(false, tables, record, now);
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    let bytes = bytes.unwrap_or_default();
    let kept = bytes.get(..MAX_SQL_BYTES).unwrap_or(bytes);
    String::from_utf8_lossy(kept).into_owned()
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
