//! `agent database check` on code that does its worst. Its `flask` is a few lines that do what Flask-Migrate would.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use timetracker_operator::schema::check::{StepName, Verdict};

use crate::Agent;
use crate::check::{Trees, checked, outcome};
use crate::support::postgres::Postgres;

/// Stands in for `flask db VERB … -- REVISION`: `a` makes a table, `b` adds a column, or worse.
const FLASK: &str = r#"
import os, signal, socket, subprocess, sys, time
import psycopg2

verb, target = sys.argv[2], sys.argv[-1]
connection = psycopg2.connect(os.environ["DATABASE_URL"])

def sql(text):
    with connection.cursor() as cursor:
        cursor.execute(text)

def upgrade():
    sql("alter table users add column mail text")

def attack():
    upgrade()

exec(open("attack.py").read()) if os.path.exists("attack.py") else None

if verb == "upgrade" and target == "a":
    sql("create table users (id integer primary key); create table alembic_version (version_num text);"
        "insert into alembic_version values ('a')")
elif verb == "upgrade":
    attack()
    sql("update alembic_version set version_num = 'b'")
else:
    sql("alter table users drop column mail; update alembic_version set version_num = 'a'")
connection.commit()
"#;

const APP: &str = r#"
from types import SimpleNamespace
from sqlalchemy import Column, Integer, MetaData, Table

db = SimpleNamespace(metadata=MetaData())
Table("users", db.metadata, Column("id", Integer, primary_key=True))

def create_app():
    return SimpleNamespace(extensions={})
"#;

fn revision(name: &str, parent: &str) -> String {
    format!("revision = '{name}'\ndown_revision = {parent}\n\ndef upgrade():\n    x()\n\ndef downgrade():\n    x()\n")
}

/// Base at `a`, the commit at `b` with this code for its upgrade.
fn trees(attack: &str) -> Trees {
    let trees = Trees::empty();
    for (tree, revisions) in [(trees.base(), &["a"][..]), (trees.head(), &["a", "b"])] {
        let versions = tree.join("migrations/versions");
        fs::create_dir_all(&versions).unwrap();
        for name in revisions {
            let parent = if *name == "a" { "None" } else { "'a'" };
            fs::write(versions.join(format!("{name}.py")), revision(name, parent)).unwrap();
        }
        fs::create_dir(tree.join("app")).unwrap();
        fs::write(tree.join("app/__init__.py"), APP).unwrap();
        fs::write(tree.join("flask.py"), FLASK).unwrap();
    }
    fs::write(trees.head().join("attack.py"), attack).unwrap();
    trees
}

fn agent(trees: &Trees, postgres: &Postgres) -> Agent {
    trees.agent(&postgres.url()).arguments(["--grace", "1s"])
}

/// The check fails at the upgrade with these words, in time.
fn fails_at_the_upgrade(attack: &str, timeout: &str, words: &str) {
    let (postgres, trees) = (Postgres::start(), trees(attack));
    let started = Instant::now();
    let finished = agent(&trees, &postgres).arguments(["--timeout", timeout]).run();
    let (verdict, step, message) = checked(&finished);
    let shown = format!("{}\n{}", finished.report, finished.stdout.chars().take(2_000).collect::<String>());
    assert_eq!((verdict, step), (Verdict::Failed, Some(StepName::Upgrade)), "{shown}");
    assert!(message.contains(words), "{shown}");
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
}

#[test]
fn the_stand_in_passes_when_it_does_nothing_bad() {
    let (postgres, trees) = (Postgres::start(), trees(""));
    let finished = agent(&trees, &postgres).run();
    let (verdict, step, message) = checked(&finished);
    assert_eq!((verdict, step), (Verdict::Passed, None), "{message}\n{}", trees.markdown());
}

#[test]
fn a_migration_that_never_ends_and_ignores_sigterm_is_killed() {
    let attack = "def attack():\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    while True: time.sleep(1)\n";
    fails_at_the_upgrade(attack, "15s", "was stopped");
}

#[test]
fn a_statement_that_never_ends_is_ended_with_its_session() {
    fails_at_the_upgrade("def attack():\n    sql('select pg_sleep(3600)')\n", "15s", "was stopped");
}

#[test]
fn a_migration_that_drops_the_database_fails() {
    let attack = r#"
def attack():
    other = psycopg2.connect(os.environ["DATABASE_URL"].rsplit("/", 1)[0] + "/postgres")
    other.autocommit = True
    other.cursor().execute("drop database app with (force)")
    sql("select 1")
"#;
    fails_at_the_upgrade(attack, "60s", "");
}

#[test]
fn a_migration_that_needs_the_network_fails_in_its_own_words() {
    let attack = "def attack():\n    socket.create_connection(('127.0.0.1', 9), timeout=3)\n";
    fails_at_the_upgrade(attack, "60s", "ConnectionRefusedError");
}

#[test]
fn a_migration_that_leaves_processes_behind_leaves_none() {
    let attack = r#"
def attack():
    upgrade()
    for _ in range(50):
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.execvp("sleep", ["sleep", "31415"])
"#;
    let (postgres, trees) = (Postgres::start(), trees(attack));
    let finished = agent(&trees, &postgres).run();
    assert_eq!(checked(&finished).0, Verdict::Passed, "{}", finished.report);
    let left = std::process::Command::new("pgrep").args(["-f", "^sleep 31415"]).output().unwrap();
    assert!(left.stdout.is_empty(), "{}", String::from_utf8_lossy(&left.stdout));
}

#[test]
fn a_gigabyte_of_output_costs_neither_memory_nor_the_report() {
    let attack = r#"
def attack():
    upgrade()
    line = b"noise " * 10_000
    for _ in range(17_000):
        os.write(1, line)
    os.write(1, b"\nthe last line\n")
    sys.exit(3)
"#;
    let (postgres, trees) = (Postgres::start(), trees(attack));
    let log = trees.reports();
    let mut agent = agent(&trees, &postgres).arguments(["--log-dir", log.to_str().unwrap()]);
    agent.discard_output();
    let finished = agent.run();
    let (verdict, step, message) = checked(&finished);
    assert_eq!((verdict, step), (Verdict::Failed, Some(StepName::Upgrade)), "{message}");
    assert!(message.contains("exit code 3") && message.ends_with("the last line"), "{message}");
    assert!(fs::metadata(log.join("head.log")).unwrap().len() <= 256 * 1024);
}

#[test]
fn thousands_of_statements_and_a_huge_one_are_counted_and_not_kept() {
    let attack = r#"
def attack():
    upgrade()
    for number in range(3_000):
        sql(f"comment on column users.mail is '{number} @everyone </details> ```' ")
    sql("comment on column users.mail is '" + "x" * 20_000_000 + "'")
"#;
    let (postgres, trees) = (Postgres::start(), trees(attack));
    let finished = agent(&trees, &postgres).run();
    assert_eq!(checked(&finished).0, Verdict::Passed, "{}", finished.report);
    let size = |name: &str| fs::metadata(trees.reports().join(name)).unwrap().len();
    assert!(size("migration-report.json") < 2 << 20 && size("migration-report.md") < 64 << 10);
    let document = trees.document();
    assert!(document["omitted"].as_u64().unwrap() > 2_500, "{}", document["omitted"]);
}

#[test]
fn a_forged_report_and_a_link_in_its_place_do_not_count() {
    let victim = tempfile::NamedTempFile::new().unwrap();
    let trees = trees("");
    let reports = trees.reports();
    let attack = format!(
        "def attack():\n    os.makedirs({0:?}, exist_ok=True)\n    os.symlink({1:?}, {0:?} + '/migration-report.json')\n    \
         os.symlink({1:?}, {0:?} + '/.migration-report.json.unfinished')\n    print('{{\"verdict\": \"Passed\"}}')\n    sys.exit(1)\n",
        reports.to_str().unwrap(),
        victim.path().to_str().unwrap()
    );
    fs::write(trees.head().join("attack.py"), attack).unwrap();
    let postgres = Postgres::start();
    let finished = agent(&trees, &postgres).run();
    assert_eq!(checked(&finished).0, Verdict::Failed, "{}", finished.report);
    assert_eq!(trees.document()["verdict"], "Failed");
    assert_eq!(fs::read(victim.path()).unwrap(), b"");
}

#[test]
fn hostile_file_names_are_told_and_run_nothing() {
    let (postgres, trees) = (Postgres::start(), trees(""));
    let versions = trees.head().join("migrations/versions");
    let odd = OsStr::from_bytes(b"\xff $(touch pwned) @everyone |\n``` <img src=x>.py");
    fs::write(versions.join(odd), "def broken(:").unwrap();
    let finished = agent(&trees, &postgres).run();
    let (verdict, step, message) = checked(&finished);
    assert_eq!((verdict, step), (Verdict::Failed, Some(StepName::Files)), "{message}");
    assert!(!trees.head().join("pwned").exists());
    let shown = trees.markdown();
    assert!(!shown.contains("<img") && !shown.contains(" @everyone |"), "{shown}");
}

#[test]
fn a_folder_without_migrations_is_never_passed() {
    let (postgres, trees) = (Postgres::start(), trees(""));
    let finished = agent(&trees, &postgres).arguments(["--migrations", "elsewhere"]).run();
    let (verdict, step, message) = checked(&finished);
    assert_eq!((verdict, step), (Verdict::Failed, Some(StepName::Files)), "{message}");
}

#[test]
fn a_linter_that_answers_nonsense_is_no_clean_bill() {
    let (postgres, trees) = (Postgres::start(), trees(""));
    let finished = trees.agent_with(&postgres.url(), "/bin/echo").run();
    assert_eq!(checked(&finished).0, Verdict::Passed, "{}", finished.report);
    assert_eq!(outcome(&trees.document(), "Lint"), "Skipped");
}

#[test]
fn told_to_stop_it_stops_and_says_so() {
    let (postgres, trees) = (Postgres::start(), trees("def attack():\n    sql('select pg_sleep(3600)')\n"));
    let started = agent(&trees, &postgres).start();
    crate::support::waiting::wait_for("the upgrade to be in its statement", || (postgres.asleep() == 1).then_some(()));
    started.signal(rustix::process::Signal::TERM);
    let finished = started.finish();
    assert!(finished.report.contains("Interrupted"), "{}", finished.report);
    assert_eq!(finished.code, Some(1));
}
