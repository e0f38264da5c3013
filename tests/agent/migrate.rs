//! `agent database migrate`, with everything that can happen to it.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;
use timetracker_operator::agent::report::{DatabaseFailure, MigrationReport};
use timetracker_operator::api::names::Digest;

use crate::support::cache;
use crate::support::postgres::Postgres;
use crate::support::waiting::wait_for;
use crate::{Agent, Finished};

/// What the image's code needs after the migration from `a` to `b`.
const CONTRACT: &str = r#"{"heads":["b"],"tables":{"users":{"id":{"nullable":false},"email":{"nullable":true}}}}"#;

/// The whole migration from `a` to `b`. `runs` counts how often it was committed.
const MIGRATION: &str = "alter table users add email text; insert into runs values (1); \
                         update alembic_version set version_num = 'b';";

struct Site {
    postgres: Postgres,
    directory: TempDir,
}

impl Site {
    /// A database at revision `a`.
    fn new() -> Self {
        let postgres = Postgres::start();
        postgres.sql(
            "create table users (id integer primary key); create table runs (n integer);
             create table alembic_version (version_num varchar(255)); insert into alembic_version values ('a')",
        );
        Self { postgres, directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn agent_with(&self, attempt: u32, options: &[&str], script: &str) -> Agent {
        let contract = self.file("contract.json", CONTRACT);
        let (digest, attempt) = (Digest::of(b"image"), attempt.to_string());
        let mut arguments = vec!["database", "migrate", "--digest", digest.as_str(), "--attempt", &attempt];
        arguments.extend([
            "--contract",
            contract.to_str().unwrap(),
            "--lock-timeout",
            "500ms",
            "--connect-timeout",
            "2s",
        ]);
        arguments.extend(options);
        arguments.extend(["--", "/bin/sh", "-c", script]);
        Agent::new(arguments).env("DATABASE_URL", &self.postgres.url()).env("PSQL", Postgres::psql().to_str().unwrap())
    }

    fn agent(&self, attempt: u32, script: &str) -> Agent {
        self.agent_with(attempt, &[], script)
    }

    fn ledger(&self) -> String {
        self.postgres
            .sql("select string_agg(attempt || ' ' || state, ', ' order by id) from timetracker_delivery.ledger")
    }

    fn runs(&self) -> String {
        self.postgres.sql("select count(*) from runs")
    }

    fn wait_for_sleeper(&self) {
        wait_for("the migration to be in its statement", || {
            let sleeping = "select count(*) from pg_stat_activity \
                            where application_name like 'ttd/%' and wait_event = 'PgSleep'";
            (self.postgres.sql(sleeping) == "1").then_some(())
        });
    }
}

fn psql(statements: &str) -> String {
    format!("exec \"$PSQL\" -Xq -v ON_ERROR_STOP=1 -1 -c \"{statements}\" \"$DATABASE_URL\"")
}

fn migration() -> String {
    psql(MIGRATION)
}

/// The migration, with time to be disturbed before its commit.
fn slow_migration() -> String {
    psql(&format!("{MIGRATION} select pg_sleep(40);"))
}

#[track_caller]
fn completed(finished: &Finished) -> (String, String, bool) {
    match finished.report() {
        MigrationReport::Completed { from, to, found_done, .. } => (from.to_string(), to.to_string(), found_done),
        MigrationReport::Failed { .. } => panic!("{}\n{}{}", finished.report, finished.stdout, finished.stderr),
    }
}

#[track_caller]
fn failed(finished: &Finished) -> (DatabaseFailure, Option<bool>, String) {
    assert_eq!(finished.code, Some(1));
    match finished.report() {
        MigrationReport::Failed { failure, untouched, message, .. } => (failure, untouched, message),
        MigrationReport::Completed { .. } => panic!("{}", finished.report),
    }
}

#[test]
fn a_migration_runs_once_and_is_found_done_afterwards() {
    let site = Site::new();
    let finished = site.agent(1, &migration()).run();
    assert_eq!(completed(&finished), ("a".into(), "b".into(), false));
    assert_eq!(completed(&site.agent(1, &migration()).run()), ("a".into(), "b".into(), true));
    assert_eq!((site.runs().as_str(), site.ledger().as_str()), ("1", "1 Done"));
}

#[test]
fn a_database_that_is_already_there_is_recorded_as_done_and_the_command_is_not_run() {
    let site = Site::new();
    site.postgres.sql(MIGRATION);
    let finished = site.agent(1, "touch should-not-exist; exit 1").run();
    assert_eq!(completed(&finished), ("b".into(), "b".into(), true));
    assert_eq!(site.ledger(), "1 Done");
}

#[test]
fn the_command_gets_what_keeps_it_in_bounds() {
    let site = Site::new();
    let show = "echo \"$FLASK_APP $TT_BOOTSTRAP_MODE $TT_SKIP_DB_CLEANUP\"; \"$PSQL\" -XAtc 'show lock_timeout' \
                -c 'show client_connection_check_interval' -c 'show search_path' -c 'show application_name' \
                \"$DATABASE_URL\"; exit 1";
    let url = format!("{}?application_name=mine&options=-c%20search_path%3Dpublic", site.postgres.url());
    let finished = site.agent(3, show).env("DATABASE_URL", &url).run();
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!(lines[..4], ["app migrate true", "500ms", "2s", "public"]);
    assert!(lines[4].starts_with(&format!("ttd/{}-3-", Digest::of(b"image").short())), "{}", lines[4]);
}

#[test]
fn an_agent_killed_in_the_middle_leaves_one_migration_behind_after_the_next_attempt() {
    let site = Site::new();
    let mut first = site.agent(1, &slow_migration()).start();
    site.wait_for_sleeper();
    first.signal(Signal::KILL);
    first.child.wait().unwrap();
    // Its command and that command's backend are still at work: they would commit.
    site.wait_for_sleeper();
    let second = site.agent(2, &migration()).run();
    assert_eq!(completed(&second), ("a".into(), "b".into(), false));
    assert_eq!((site.runs().as_str(), site.ledger().as_str()), ("1", "1 Started, 2 Done"));
    let left = "select count(*) from pg_stat_activity where application_name like 'ttd/%'";
    assert_eq!(site.postgres.sql(left), "0");
}

#[test]
fn an_agent_killed_after_the_commit_is_found_done_by_the_next_attempt() {
    let site = Site::new();
    let script = format!("{}; exec sleep 40", migration().trim_start_matches("exec "));
    let mut first = site.agent(1, &script).start();
    wait_for("the commit", || (site.postgres.sql("select version_num from alembic_version") == "b").then_some(()));
    first.signal(Signal::KILL);
    first.child.wait().unwrap();
    assert_eq!(completed(&site.agent(2, &migration()).run()), ("a".into(), "b".into(), true));
    assert_eq!((site.runs().as_str(), site.ledger().as_str()), ("1", "1 Done"));
}

#[test]
fn an_agent_killed_half_way_makes_the_next_attempt_stop_and_touch_nothing() {
    let site = Site::new();
    let half = "\"$PSQL\" -Xqc 'alter table users add half text' \"$DATABASE_URL\"; exec sleep 40";
    let mut first = site.agent(1, half).start();
    let added = "select count(*) from pg_attribute where attname = 'half'";
    wait_for("the half", || (site.postgres.sql(added) == "1").then_some(()));
    first.signal(Signal::KILL);
    first.child.wait().unwrap();
    let (failure, untouched, message) = failed(&site.agent(2, &migration()).run());
    assert_eq!((failure, untouched), (DatabaseFailure::Ambiguous, Some(false)));
    assert!(message.contains("attempt 1 of") && message.contains("delete row 1"), "{message}");
    assert_eq!((site.runs().as_str(), site.ledger().as_str()), ("0", "1 Started"));
}

#[test]
fn of_two_agents_at_once_one_migrates_and_the_other_finds_it_done() {
    let site = Site::new();
    let script = psql(&format!("{MIGRATION} select pg_sleep(1);"));
    let (one, two) = (site.agent(1, &script).start(), site.agent(1, &script).start());
    let mut found: Vec<bool> = [one.finish(), two.finish()].iter().map(|finished| completed(finished).2).collect();
    found.sort_unstable();
    assert_eq!(found, [false, true]);
    assert_eq!(site.runs(), "1");
}

#[test]
fn who_waits_too_long_for_another_migration_says_who_holds_the_lock() {
    let site = Site::new();
    let first = site.agent(1, &slow_migration()).start();
    site.wait_for_sleeper();
    let (failure, _, message) = failed(&site.agent_with(2, &["--lock-wait", "300ms"], &migration()).run());
    assert_eq!(failure, DatabaseFailure::LockTimeout);
    assert!(message.contains("held by session `ttd-lock/"), "{message}");
    first.signal(Signal::TERM);
    assert_eq!(failed(&first.finish()).0, DatabaseFailure::Interrupted);
}

#[test]
fn term_stops_the_command_and_leaves_the_database_as_it_was() {
    let site = Site::new();
    let agent = site.agent(1, &slow_migration()).start();
    site.wait_for_sleeper();
    agent.signal(Signal::TERM);
    let (failure, untouched, _) = failed(&agent.finish());
    assert_eq!((failure, untouched), (DatabaseFailure::Interrupted, Some(true)));
    assert_eq!((site.runs().as_str(), site.ledger().as_str()), ("0", "1 Failed"));
    assert!(!completed(&site.agent(2, &migration()).run()).2);
    assert_eq!(site.runs(), "1");
}

#[test]
fn a_lost_lock_kills_the_command_at_once() {
    let site = Site::new();
    let agent = site.agent(1, &slow_migration()).start();
    site.wait_for_sleeper();
    site.postgres.sql("select pg_terminate_backend(l.pid) from pg_locks l where locktype = 'advisory' and granted");
    let (failure, untouched, _) = failed(&agent.finish());
    assert_eq!((failure, untouched), (DatabaseFailure::Interrupted, None));
    assert_eq!(completed(&site.agent(2, &migration()).run()), ("a".into(), "b".into(), false));
    assert_eq!(site.runs(), "1");
}

#[test]
fn a_database_that_crashes_in_the_middle_is_an_interruption_and_is_tried_again() {
    let mut site = Site::new();
    let agent = site.agent(1, &slow_migration()).start();
    site.wait_for_sleeper();
    site.postgres.crash();
    assert_eq!(failed(&agent.finish()).0, DatabaseFailure::Interrupted);
    let (down, _, _) = failed(&site.agent(2, &migration()).run());
    assert_eq!(down, DatabaseFailure::Unreachable);
    site.postgres.resume();
    assert!(!completed(&site.agent(2, &migration()).run()).2);
    assert_eq!(site.runs(), "1");
}

#[test]
fn a_command_at_its_timeout_is_stopped_and_blamed() {
    let site = Site::new();
    let (failure, untouched, _) = failed(&site.agent_with(1, &["--timeout", "1s"], &slow_migration()).run());
    assert_eq!((failure, untouched), (DatabaseFailure::TimedOut, Some(true)));
}

#[test]
fn a_failed_command_is_reported_with_its_last_words_and_without_the_password() {
    let site = Site::new();
    let (failure, untouched, message) = failed(&site.agent(1, "echo \"could not use $DATABASE_URL\"; exit 3").run());
    assert_eq!((failure, untouched), (DatabaseFailure::CommandFailed, Some(true)));
    assert!(message.starts_with("the migration command ended with exit code 3: could not use"), "{message}");
    assert!(!message.contains("s3cret"), "{message}");
    assert_eq!(site.ledger(), "1 Failed");
}

#[test]
fn a_command_that_fails_half_way_is_blamed_and_never_run_again() {
    let site = Site::new();
    let half = "\"$PSQL\" -Xqc 'alter table users add half text' \"$DATABASE_URL\"; exit 1";
    let (failure, untouched, _) = failed(&site.agent(1, half).run());
    assert_eq!((failure, untouched), (DatabaseFailure::CommandFailed, Some(false)));
    assert_eq!(failed(&site.agent(2, &migration()).run()).0, DatabaseFailure::Ambiguous);
    assert_eq!((site.runs().as_str(), site.ledger().as_str()), ("0", "1 Ambiguous"));
}

#[test]
fn exit_code_0_proves_nothing() {
    let site = Site::new();
    assert_eq!(failed(&site.agent(1, "exit 0").run()).0, DatabaseFailure::RevisionsDiffer);
    let swallowed = psql("update alembic_version set version_num = 'b'");
    let (failure, untouched, message) = failed(&site.agent(2, &swallowed).run());
    assert_eq!((failure, untouched), (DatabaseFailure::ContractBroken, Some(false)));
    assert!(message.contains("missing columns: users.email"), "{message}");
    assert_eq!(site.ledger(), "1 Failed, 2 Ambiguous");
}

#[test]
fn a_locked_table_is_a_lock_timeout_and_is_tried_again() {
    let site = Site::new();
    let mut blocker = std::process::Command::new(Postgres::psql())
        .args(["-Xqc", "begin; lock table users; select pg_sleep(60)", &site.postgres.url()])
        .spawn()
        .unwrap();
    let locked = "select count(*) from pg_locks where relation = 'users'::regclass and mode = 'AccessExclusiveLock'";
    wait_for("the lock", || (site.postgres.sql(locked) == "1").then_some(()));
    let (failure, untouched, _) = failed(&site.agent(1, &migration()).run());
    assert_eq!((failure, untouched), (DatabaseFailure::LockTimeout, Some(true)));
    site.postgres.sql("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'");
    blocker.wait().unwrap();
    assert!(!completed(&site.agent(2, &migration()).run()).2);
}

#[test]
fn an_image_that_does_not_know_the_databases_revision_is_told_apart() {
    let site = Site::new();
    let script = "echo \"ERROR [flask_migrate] Error: Can't locate revision identified by 'a'\" >&2; exit 1";
    assert_eq!(failed(&site.agent(1, script).run()).0, DatabaseFailure::UnknownRevision);
}

#[test]
fn a_command_that_is_not_in_the_image_leaves_everything_as_it_was() {
    let site = Site::new();
    let contract = site.file("contract.json", CONTRACT);
    let finished = Agent::new(["database", "migrate", "--digest", Digest::of(b"image").as_str(), "--attempt", "1"])
        .env("DATABASE_URL", &site.postgres.url())
        .arguments(["--contract", contract.to_str().unwrap(), "--", "/no/flask"])
        .run();
    let (failure, untouched, message) = failed(&finished);
    assert_eq!((failure, untouched), (DatabaseFailure::CommandFailed, Some(true)), "{message}");
    assert_eq!(site.ledger(), "1 Failed");
}

#[test]
fn a_user_without_the_right_to_keep_a_ledger_is_told_what_to_grant() {
    let site = Site::new();
    site.postgres.sql("create role weak login password 'weak'; grant select on alembic_version to weak");
    let url = site.postgres.url().replace("app:s3cret%2F%40%3A", "weak:weak");
    let (failure, _, message) = failed(&site.agent(1, &migration()).env("DATABASE_URL", &url).run());
    assert_eq!(failure, DatabaseFailure::AccessDenied);
    assert!(message.contains("permission denied") && message.contains("migrationUrlFrom"), "{message}");
}

/// An app whose models live in a file beside the site, with one settings row to add and one account to promote.
const APP: &str = r#"
from contextlib import nullcontext
from types import SimpleNamespace
from sqlalchemy import Column, Integer, String, create_engine
from sqlalchemy.orm import Session, declarative_base

Base = declarative_base()

class Settings(Base):
    __tablename__ = "settings"
    id = Column(Integer, primary_key=True)

class User(Base):
    __tablename__ = "users"
    id = Column(Integer, primary_key=True)
    username = Column(String)
    role = Column(String)

models = SimpleNamespace(Settings=Settings, User=User)
engine = create_engine("sqlite:///site.sqlite")
Base.metadata.create_all(engine)
db = SimpleNamespace(session=Session(engine))
if db.session.query(User).first() is None:
    db.session.add(User(username="ada", role="user"))
    db.session.commit()

def create_app():
    return SimpleNamespace(app_context=nullcontext)
"#;

/// Migrates with the bootstrap step of this app and returns what that step says.
fn bootstrapped(site: &Site, app: &str) -> (bool, String) {
    let directory = site.directory.path();
    fs::create_dir_all(directory.join("app")).unwrap();
    fs::write(directory.join("app/__init__.py"), app).unwrap();
    // The bootstrap step runs `python`, which is the image's own.
    let bin = directory.join("bin");
    fs::create_dir_all(&bin).unwrap();
    if !bin.join("python").exists() {
        std::os::unix::fs::symlink(cache::interpreter(), bin.join("python")).unwrap();
    }
    let finished = site
        .agent_with(1, &["--bootstrap"], &migration())
        .env("PATH", &format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        .env("PYTHONPATH", cache::python().to_str().unwrap())
        .env("ADMIN_USERNAMES", "Ada, nobody")
        .current_dir(directory)
        .run();
    match finished.report() {
        MigrationReport::Completed { bootstrap: Some(bootstrap), .. } => (bootstrap.succeeded, bootstrap.message),
        MigrationReport::Completed { .. } | MigrationReport::Failed { .. } => panic!("{}", finished.report),
    }
}

#[test]
fn the_bootstrap_step_adds_the_settings_row_and_promotes_accounts_once() {
    let site = Site::new();
    assert_eq!(bootstrapped(&site, APP), (true, "settings row added; administrators made: ada".into()));
    assert_eq!(bootstrapped(&site, APP), (true, "settings row present; no administrator to make".into()));
}

#[test]
fn a_bootstrap_step_that_fails_is_only_told() {
    let (succeeded, message) = bootstrapped(&Site::new(), "raise RuntimeError('no app here')");
    assert!(!succeeded && message.contains("no app here"), "{message}");
}
