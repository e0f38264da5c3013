//! `agent database check` on the sample app's own versions: real Flask-Migrate, real Postgres 16, real squawk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use timetracker_operator::agent::report::{CheckReport, DatabaseFailure};
use timetracker_operator::schema::check::{StepName, Verdict};

use crate::support::cache;
use crate::support::postgres::Postgres;
use crate::{Agent, Finished};

/// Two trees and a place for the reports.
pub struct Trees {
    directory: TempDir,
}

impl Trees {
    /// These versions of the sample app.
    fn of(base: &str, head: &str) -> Self {
        let trees = Self { directory: tempfile::tempdir().unwrap() };
        export(base, &trees.base());
        export(head, &trees.head());
        trees
    }

    /// Trees that the test fills itself.
    pub fn empty() -> Self {
        let trees = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(trees.base()).unwrap();
        fs::create_dir_all(trees.head()).unwrap();
        trees
    }

    pub fn base(&self) -> PathBuf {
        self.directory.path().join("base")
    }

    pub fn head(&self) -> PathBuf {
        self.directory.path().join("head")
    }

    pub fn reports(&self) -> PathBuf {
        self.directory.path().join("reports")
    }

    /// Changes a file of the commit.
    fn edit(self, file: &str, change: impl FnOnce(String) -> String) -> Self {
        let path = self.head().join(file);
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, change(text)).unwrap();
        self
    }

    pub fn agent(&self, url: &str) -> Agent {
        self.agent_with(url, cache::sample_app_python().join("bin/squawk").to_str().unwrap())
    }

    /// With this linter.
    pub fn agent_with(&self, url: &str, squawk: &str) -> Agent {
        let python = cache::sample_app_python();
        let (base, head, reports) = (self.base(), self.head(), self.reports());
        Agent::new(["database", "check", "--own-packages", "--python", "python3", "--squawk", squawk])
            .arguments(["--base", base.to_str().unwrap(), "--workspace", head.to_str().unwrap()])
            .arguments(["--reports", reports.to_str().unwrap()])
            .env("PYTHONPATH", python.to_str().unwrap())
            .env("DATABASE_URL", url)
    }

    pub fn document(&self) -> Value {
        serde_json::from_slice(&fs::read(self.reports().join("migration-report.json")).unwrap()).unwrap()
    }

    pub fn markdown(&self) -> String {
        fs::read_to_string(self.reports().join("migration-report.md")).unwrap()
    }
}

fn export(version: &str, target: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/timetracker/versions.py");
    let output = Command::new("python3").arg(script).args(["export", version]).arg(target).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Verdict, decisive step, and message of a finished check.
pub fn checked(finished: &Finished) -> (Verdict, Option<StepName>, String) {
    assert!(finished.report.len() <= 1_024, "{} bytes: {}", finished.report.len(), finished.report);
    match finished.report() {
        CheckReport::Checked { verdict, step, message, .. } => {
            assert_eq!(finished.code, Some(i32::from(verdict == Verdict::Failed)), "{}", finished.report);
            (verdict, step, message)
        }
        CheckReport::Failed { .. } => panic!("{}\n{}\n{}", finished.report, finished.stdout, finished.stderr),
    }
}

fn refused(finished: &Finished) -> (DatabaseFailure, String) {
    assert_eq!(finished.code, Some(1));
    match finished.report() {
        CheckReport::Failed { failure, message } => (failure, message),
        CheckReport::Checked { .. } => panic!("{}", finished.report),
    }
}

/// A step's outcome.
pub fn outcome<'a>(document: &'a Value, step: &str) -> &'a str {
    let steps = document["steps"].as_array().unwrap();
    steps.iter().find(|candidate| candidate["name"] == step).unwrap()["outcome"].as_str().unwrap()
}

fn ticked(document: &Value, item: &str) -> Option<bool> {
    let ticks = document["checklist"].as_array().unwrap();
    ticks.iter().find(|candidate| candidate["item"] == item).unwrap()["ticked"].as_bool()
}

const ITEMS: [&str; 7] =
    ["HasDowngrade", "DowngradeRestores", "OldCodeRuns", "ShortLocks", "NoDataDropped", "RanOverRows", "OneHead"];

/// Items that are not ticked.
fn open(document: &Value) -> Vec<&'static str> {
    ITEMS.into_iter().filter(|item| ticked(document, item) != Some(true)).collect()
}

/// A scenario: what it is called, its trees, and what it must come to.
struct Scenario {
    name: &'static str,
    trees: Trees,
    verdict: Verdict,
    step: Option<StepName>,
    words: &'static str,
    open: &'static [&'static str],
}

fn prove(scenarios: Vec<Scenario>) {
    let postgres = Postgres::start();
    for Scenario { name, trees, verdict, step, words, open: expected } in scenarios {
        let url = postgres.database(name);
        let finished = trees.agent(&url).run();
        let (found, by, message) = checked(&finished);
        let shown = format!("{name}: {}\n{}\n{}", finished.report, trees.markdown(), finished.stdout);
        assert_eq!((found, by), (verdict, step), "{shown}");
        assert!(message.contains(words), "{shown}");
        assert_eq!(open(&trees.document()), expected, "{shown}");
        assert!(!finished.report.contains("s3cret") && !trees.markdown().contains("s3cret"), "{shown}");
    }
}

fn scenario(
    name: &'static str,
    trees: Trees,
    verdict: Verdict,
    step: Option<StepName>,
    words: &'static str,
    open: &'static [&'static str],
) -> Scenario {
    Scenario { name, trees, verdict, step, words, open }
}

const NEW_REVISION: &str = "migrations/versions/010_vat_numbers_and_holidays.py";

#[test]
fn migrations_with_nothing_wrong_pass() {
    use Verdict::Passed;
    prove(vec![
        scenario("plain_step", Trees::of("base", "plain-step"), Passed, None, "", &[]),
        scenario("additive", Trees::of("plain-step", "additive"), Passed, None, "", &[]),
        scenario(
            "requirements_only",
            Trees::of("additive", "additive").edit("requirements.txt", |text| text + "# newer\n"),
            Passed,
            None,
            "",
            &[],
        ),
        scenario("image_only", Trees::of("additive", "no-migrations"), Passed, None, "", &[]),
        scenario(
            "contracting",
            Trees::of("additive", "contracting"),
            Passed,
            None,
            "",
            &["OldCodeRuns", "NoDataDropped"],
        ),
        scenario("required_column", Trees::of("contracting", "required-column"), Passed, None, "", &["OldCodeRuns"]),
    ]);
}

#[test]
fn what_should_be_looked_at_is_a_warning() {
    use Verdict::Warning;
    let without_downgrade = |text: String| {
        let (upgrade, _) = text.split_once("def downgrade").unwrap();
        format!("{upgrade}def downgrade():\n    pass\n")
    };
    let failing_downgrade = |text: String| {
        let (upgrade, _) = text.split_once("def downgrade").unwrap();
        format!("{upgrade}def downgrade():\n    op.drop_table(\"nowhere\")\n")
    };
    let another_column = |text: String| text + "\n    nickname: Mapped[str | None] = mapped_column(String(40))\n";
    prove(vec![
        scenario(
            "downgrade_missing",
            Trees::of("plain-step", "additive").edit(NEW_REVISION, without_downgrade),
            Warning,
            Some(StepName::Downgrade),
            "leaves another schema",
            &["HasDowngrade", "DowngradeRestores"],
        ),
        scenario(
            "downgrade_fails",
            Trees::of("plain-step", "additive").edit(NEW_REVISION, failing_downgrade),
            Warning,
            Some(StepName::Downgrade),
            "nowhere",
            &["DowngradeRestores"],
        ),
        scenario(
            "model_changed",
            Trees::of("additive", "additive").edit("app/models/holiday.py", another_column),
            Warning,
            Some(StepName::Changes),
            "without a migration",
            &[],
        ),
    ]);
}

#[test]
fn what_must_not_be_delivered_fails() {
    use Verdict::Failed;
    let nothing_run =
        &["HasDowngrade", "DowngradeRestores", "OldCodeRuns", "ShortLocks", "NoDataDropped", "RanOverRows"];
    let unread =
        &["HasDowngrade", "DowngradeRestores", "OldCodeRuns", "ShortLocks", "NoDataDropped", "RanOverRows", "OneHead"];
    let not_null = |text: String| {
        let column = "    op.add_column(\"clients\", sa.Column(\"rank\", sa.Integer(), nullable=False))\n";
        text.replacen("def upgrade():\n", &format!("def upgrade():\n{column}"), 1)
    };
    prove(vec![
        scenario(
            "broken_halfway",
            Trees::of("additive", "broken-halfway"),
            Failed,
            Some(StepName::Upgrade),
            "profile_language",
            &["DowngradeRestores", "OldCodeRuns", "ShortLocks", "NoDataDropped", "RanOverRows"],
        ),
        scenario(
            "swallowed_error",
            Trees::of("additive", "swallowed"),
            Failed,
            Some(StepName::Upgrade),
            "missing tables: reminders",
            &[],
        ),
        scenario("two_heads", Trees::of("additive", "two-heads"), Failed, Some(StepName::Heads), "2 heads", unread),
        scenario(
            "not_null_without_default",
            Trees::of("plain-step", "additive").edit(NEW_REVISION, not_null),
            Failed,
            Some(StepName::Upgrade),
            "contains null values",
            &["DowngradeRestores", "OldCodeRuns", "ShortLocks", "NoDataDropped", "RanOverRows"],
        ),
        scenario(
            "no_python",
            Trees::of("plain-step", "additive").edit(NEW_REVISION, |text| text + "def broken(:\n"),
            Failed,
            Some(StepName::Files),
            "010_vat_numbers_and_holidays.py, line",
            unread,
        ),
        scenario(
            "vanished_revision",
            Trees::of("additive", "plain-step"),
            Failed,
            Some(StepName::Upgrade),
            "Can't locate revision",
            nothing_run.get(1..).unwrap(),
        ),
    ]);
}

#[test]
fn the_report_has_what_was_executed_locked_and_rewritten() {
    let postgres = Postgres::start();
    let rewriting = |text: String| {
        let more = "    op.alter_column(\"clients\", \"name\", type_=sa.Text())\n    \
                    op.execute(\"ALTER TABLE time_entries ALTER COLUMN id TYPE bigint\")\n    \
                    op.execute(\"UPDATE clients SET vat_number = 'x'\")\n";
        text.replacen("\n\ndef downgrade", &format!("\n{more}\n\ndef downgrade"), 1)
    };
    let trees = Trees::of("plain-step", "additive").edit(NEW_REVISION, rewriting);
    let finished = trees.agent(&postgres.url()).run();
    let document = trees.document();
    let statements = document["statements"].as_array().unwrap();
    let find = |words: &str| {
        statements.iter().find(|executed| executed["sql"].as_str().unwrap().contains(words)).unwrap_or_else(|| {
            panic!("{words} in {statements:#?}\n{}", finished.stdout);
        })
    };
    let added = find("ADD COLUMN vat_number");
    assert_eq!(added["locks"], serde_json::json!(["clients: AccessExclusiveLock"]));
    assert_eq!(added["rewritten"], serde_json::json!({}));
    let widened = find("TYPE bigint");
    assert_eq!(widened["rewritten"], serde_json::json!({"time_entries": 3}));
    assert_eq!(find("UPDATE clients")["rows"], 3);
    let held = document["held"].as_array().unwrap();
    assert!(held.iter().any(|held| held["table"] == "clients" && held["mode"] == "AccessExclusiveLock"), "{held:?}");
    assert!(!statements.iter().any(|executed| executed["sql"].as_str().unwrap().contains("alembic_version")));
    let rules: Vec<&str> =
        document["lint"].as_array().unwrap().iter().map(|finding| finding["rule"].as_str().unwrap()).collect();
    assert!(rules.contains(&"changing-column-type"), "{rules:?}");
    assert_eq!(outcome(&document, "Downgrade"), "Warning", "the widened column stays");
    assert_eq!(postgres.sql("select count(*) from pg_event_trigger"), "0");
}

#[test]
fn without_a_base_the_chain_starts_one_step_below() {
    let postgres = Postgres::start();
    let trees = Trees::of("plain-step", "additive");
    fs::remove_dir_all(trees.base()).unwrap();
    let finished = trees.agent_with(&postgres.url(), "no-such-linter").run();
    let (verdict, step, _) = checked(&finished);
    assert_eq!((verdict, step), (Verdict::Passed, None), "{}", trees.markdown());
    let document = trees.document();
    assert_eq!(document["from"], serde_json::json!(["009_settings_invoice_numbering_tax_and_logo"]));
    assert_eq!((outcome(&document, "Changes"), outcome(&document, "OldCode")), ("Skipped", "Skipped"));
    assert_eq!(outcome(&document, "Lint"), "Skipped");
    assert_eq!(ticked(&document, "OldCodeRuns"), None);
}

#[test]
fn a_database_with_anything_in_it_is_refused_untouched() {
    let postgres = Postgres::start();
    postgres.sql("create table precious (id integer)");
    let trees = Trees::empty();
    let (failure, message) = refused(&trees.agent(&postgres.url()).run());
    assert_eq!(failure, DatabaseFailure::Configuration);
    assert!(message.contains("is not empty") && message.contains("throw-away"), "{message}");
    assert_eq!(postgres.sql("select count(*) from pg_class where relname = 'precious'"), "1");
    assert!(!trees.reports().exists());
}

#[test]
fn odd_paths_and_a_missing_database_are_refused() {
    let trees = Trees::empty();
    let url = "postgresql://app:s3cret@127.0.0.1:9/app";
    let odd = trees.agent(url).arguments(["--migrations", "../elsewhere"]).run();
    assert_eq!(refused(&odd).0, DatabaseFailure::Configuration);
    let gone = trees.agent(url).arguments(["--connect-timeout", "1s"]).run();
    let (failure, message) = refused(&gone);
    assert_eq!(failure, DatabaseFailure::Unreachable);
    assert!(!message.contains("s3cret"), "{message}");
}
