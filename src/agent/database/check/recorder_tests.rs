#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

/// A connection whose clock the test moves.
struct Play {
    connection: Connection,
    record: Record,
    tables: TablesBefore,
    now: Instant,
}

impl Play {
    fn new() -> Self {
        let table = |name: &str, rows| TableBefore { name: name.to_owned(), rows };
        let tables = [(1, table("users", 3)), (2, table("clients", 5))].into();
        Self { connection: Connection::default(), record: Record::default(), tables, now: Instant::now() }
    }

    fn sends(&mut self, kind: u8, text: &str) {
        self.connection.sent(&Message::of(kind, text.as_bytes()), self.now);
    }

    fn answers(&mut self, kind: u8, text: &str) -> bool {
        self.connection.received(&Message::of(kind, text.as_bytes()), &self.tables, self.now)
    }

    fn passes(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }

    fn is_ready(&mut self, in_transaction: bool, locks: &[(u32, &str)]) {
        self.connection.ready(self.now);
        let locks: Vec<(u32, String)> = locks.iter().map(|(oid, mode)| (*oid, (*mode).to_owned())).collect();
        self.connection.holds(&locks, &self.tables, self.now);
        self.connection.settle(in_transaction, &self.tables, &mut self.record, self.now);
    }

    fn told(self) -> Statements {
        self.record.statements(None)
    }
}

const EXCLUSIVE: &str = "AccessExclusiveLock";

#[test]
fn a_lock_belongs_to_the_statement_that_took_it_and_is_held_until_the_commit() {
    let mut play = Play::new();
    play.sends(b'Q', "ALTER TABLE users ADD mail text\0");
    play.passes(10);
    play.answers(b'C', "ALTER TABLE\0");
    play.is_ready(true, &[(1, EXCLUSIVE), (1, "AccessShareLock"), (99, EXCLUSIVE)]);
    play.sends(b'Q', "UPDATE clients SET a = 1\0");
    play.passes(100);
    play.answers(b'C', "UPDATE 5\0");
    play.is_ready(true, &[(1, EXCLUSIVE), (2, "RowExclusiveLock")]);
    play.sends(b'Q', "COMMIT\0");
    play.passes(1);
    play.answers(b'C', "COMMIT\0");
    play.is_ready(false, &[]);
    let told = play.told();
    let [altered, updated] = told.executed.as_slice() else { unreachable!("{told:?}") };
    assert_eq!((altered.milliseconds, altered.rows), (10, None));
    assert_eq!(altered.locks, ["users: AccessExclusiveLock".to_owned()].into());
    assert_eq!((updated.milliseconds, updated.rows, updated.locks.len()), (100, Some(5), 0));
    let held = HeldLock { table: "users".into(), mode: EXCLUSIVE.into(), milliseconds: 111 };
    assert_eq!(told.held, [held]);
}

#[test]
fn the_extended_protocol_is_followed_by_names() {
    let mut play = Play::new();
    play.sends(b'P', "s1\0DELETE FROM users\0\0\0");
    play.sends(b'B', "p1\0s1\0\0\0");
    play.sends(b'E', "p1\0\0\0\0\0");
    play.passes(7);
    play.answers(b'C', "DELETE 3\0");
    play.is_ready(false, &[]);
    let told = play.told();
    assert_eq!(told.executed.first().unwrap().sql, "DELETE FROM users");
    assert_eq!(told.executed.first().unwrap().rows, Some(3));
}

#[test]
fn a_refused_query_is_told_and_one_that_reads_is_not() {
    let mut play = Play::new();
    for (sql, kind, answer) in [
        ("SELECT 1\0", b'C', "SELECT 1\0"),
        ("SELECT nothing\0", b'E', "SERROR\0C42703\0Mcolumn \"nothing\" does not exist\0\0"),
        ("UPDATE alembic_version SET version_num = 'b'\0", b'C', "UPDATE 1\0"),
    ] {
        play.sends(b'Q', sql);
        play.answers(kind, answer);
        play.is_ready(false, &[]);
    }
    let told = play.told();
    let errors: Vec<_> = told.executed.iter().map(|executed| executed.error.as_deref().unwrap()).collect();
    assert_eq!(errors, ["column \"nothing\" does not exist (SQLSTATE 42703)"]);
}

#[test]
fn the_triggers_word_is_kept_from_the_client_and_any_other_notice_is_not() {
    let mut play = Play::new();
    play.sends(b'Q', "ALTER TABLE users ALTER id TYPE bigint\0");
    assert!(play.answers(b'N', "SINFO\0Mtimetracker-check rewritten 1\0\0"));
    assert!(!play.answers(b'N', "SNOTICE\0Mtimetracker-check rewritten all\0\0"));
    assert!(!play.answers(b'N', "SNOTICE\0Mrelation exists, skipping\0\0"));
    play.answers(b'C', "ALTER TABLE\0");
    play.is_ready(false, &[]);
    assert_eq!(play.told().executed.first().unwrap().rewritten, [("users".to_owned(), 3)].into());
}

#[test]
fn what_is_cut_off_is_told() {
    let mut play = Play::new();
    play.sends(b'Q', "SELECT pg_sleep(100)\0");
    play.passes(500);
    play.connection.closed(&play.tables, &mut play.record, play.now);
    let told = play.told();
    let executed = told.executed.first().unwrap();
    assert_eq!((executed.milliseconds, executed.error.is_some()), (500, true));
}

#[test]
fn what_is_kept_has_a_bound() {
    let mut play = Play::new();
    for _ in 0..MAX_STATEMENTS + 5 {
        play.sends(b'Q', &format!("INSERT INTO users VALUES ('{}')\0", "x".repeat(MAX_SQL_BYTES * 2)));
        play.answers(b'C', "INSERT 0 1\0");
        play.is_ready(false, &[]);
    }
    let told = play.told();
    assert_eq!((told.executed.len(), told.omitted), (MAX_STATEMENTS, 5));
    assert!(told.executed.iter().all(|executed| executed.sql.len() <= MAX_SQL_BYTES));
}

proptest! {
    #[test]
    fn no_order_of_messages_makes_it_panic(
        messages in prop::collection::vec((any::<bool>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 0..60)
    ) {
        let mut play = Play::new();
        for (sent, kind, kept) in messages {
            let message = Message::of(kind, &kept);
            if sent {
                play.connection.sent(&message, play.now);
            } else if kind == b'Z' {
                play.is_ready(kept.len() > 3, &[(1, EXCLUSIVE)]);
            } else {
                play.connection.received(&message, &play.tables, play.now);
            }
        }
        play.connection.closed(&play.tables, &mut play.record, play.now);
    }
}
