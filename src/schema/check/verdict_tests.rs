#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rstest::rstest;

use super::super::checklist::CheckItem;
use super::super::evidence::{
    Changes, Executed, HeldLock, LintFinding, MigrationFile, MigrationFiles, Rows, Statements,
};
use super::*;
use crate::api::names::{Revision, Revisions};
use crate::schema::{NeededColumn, PresentColumn, SchemaSnapshot};

fn done<T>(value: T) -> Attempt<T> {
    Attempt::Done { milliseconds: 1, value }
}

fn failed<T>(cause: &str) -> Attempt<T> {
    Attempt::Failed { milliseconds: 1, cause: cause.into() }
}

fn revisions(text: &str) -> Revisions {
    text.split_whitespace().map(|revision| revision.parse::<Revision>().unwrap()).collect()
}

fn schema(at: &str, columns: &[&str]) -> Schema {
    let column = || PresentColumn { data_type: "text".into(), nullable: true, filled_by_server: false };
    let columns = columns.iter().map(|name| ((*name).to_owned(), column())).collect();
    let snapshot = SchemaSnapshot { revisions: revisions(at), tables: [("users".to_owned(), columns)].into() };
    Schema { snapshot, others: ["index users_pkey".to_owned()].into() }
}

fn code(columns: &[&str]) -> SchemaContract {
    let columns = columns
        .iter()
        .map(|name| ((*name).to_owned(), NeededColumn { nullable: true, filled_by_server: false }))
        .collect();
    SchemaContract { heads: revisions("b"), known: BTreeSet::new(), tables: [("users".to_owned(), columns)].into() }
}

fn files(heads: &str, has_downgrade: bool) -> MigrationFiles {
    let file = |name: &str, parents: &str| MigrationFile {
        file: format!("{name}.py"),
        parents: revisions(parents),
        has_downgrade,
    };
    let all = [("a", ""), ("b", "a"), ("c", "a")];
    let used = all.iter().filter(|(name, _)| *name == "a" || heads.contains(name));
    MigrationFiles {
        revisions: used.map(|(name, parents)| (name.parse().unwrap(), file(name, parents))).collect(),
        heads: revisions(heads),
    }
}

fn changed(models: &[&str], migrations: &[&str]) -> Attempt<Changes> {
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    done(Changes { models: paths(models), migrations: paths(migrations), requirements: paths(&["requirements.txt"]) })
}

/// An additive migration with nothing wrong: column `users.mail`.
fn additive() -> Evidence {
    Evidence {
        server_version: "16.14".into(),
        lock_limit_milliseconds: 5_000,
        own_packages: false,
        changes: changed(&["app/models/user.py"], &["migrations/versions/b.py"]),
        files: done(files("b", true)),
        start: done(schema("a", &["id"])),
        rows: done(Rows { tables: [("users".to_owned(), 3)].into(), unfilled: Vec::new() }),
        upgrade: done(schema("b", &["id", "mail"])),
        downgrade: done(schema("a", &["id"])),
        upgrade_again: done(schema("b", &["id", "mail"])),
        renamed: BTreeMap::new(),
        renamed_tables: BTreeMap::new(),
        statements: Statements::default(),
        lint: done(Vec::new()),
        old_code: done(code(&["id"])),
        new_code: done(code(&["id", "mail"])),
    }
}

fn outcome(judgement: &Judgement, name: StepName) -> StepOutcome {
    judgement.steps.iter().find(|step| step.name == name).unwrap().outcome
}

fn ticked(judgement: &Judgement, item: CheckItem) -> Option<bool> {
    judgement.checklist.iter().find(|tick| tick.item == item).unwrap().ticked
}

#[test]
fn an_additive_migration_passes_with_every_tick() {
    let judgement = judge(&additive());
    assert_eq!((judgement.verdict, judgement.warnings, judgement.expands), (Verdict::Passed, 0, Some(true)));
    assert!(judgement.checklist.iter().all(|tick| tick.ticked == Some(true)), "{:?}", judgement.checklist);
    assert_eq!(judgement.difference.lines(), ["+ column users.mail"]);
    assert_eq!(judgement.decisive(), None);
}

fn with(change: impl FnOnce(&mut Evidence)) -> Evidence {
    let mut evidence = additive();
    change(&mut evidence);
    evidence
}

#[rstest]
#[case::broken_file(with(|e| e.files = failed("b.py: line 3")), StepName::Files)]
#[case::no_files(with(|e| e.files = done(MigrationFiles::default())), StepName::Files)]
#[case::two_heads(with(|e| e.files = done(files("b c", true))), StepName::Heads)]
#[case::upgrade(with(|e| e.upgrade = failed("exit code 1")), StepName::Upgrade)]
#[case::another_revision(with(|e| e.upgrade = done(schema("a", &["id", "mail"]))), StepName::Upgrade)]
#[case::a_swallowed_error(with(|e| e.upgrade = done(schema("b", &["id"]))), StepName::Upgrade)]
fn what_must_not_be_delivered_fails(#[case] evidence: Evidence, #[case] by: StepName) {
    let judgement = judge(&evidence);
    assert_eq!(judgement.verdict, Verdict::Failed);
    assert_eq!(judgement.decisive().map(|step| step.name), Some(by));
}

#[rstest]
#[case::no_migration(with(|e| e.changes = changed(&["app/models/user.py"], &[])), StepName::Changes)]
#[case::downgrade_fails(with(|e| e.downgrade = failed("exit code 1")), StepName::Downgrade)]
#[case::downgrade_leaves_a_column(with(|e| e.downgrade = done(schema("a", &["id", "mail"]))), StepName::Downgrade)]
#[case::downgrade_stays(with(|e| e.downgrade = done(schema("b", &["id"]))), StepName::Downgrade)]
#[case::not_up_again(with(|e| e.upgrade_again = failed("exit code 1")), StepName::UpgradeAgain)]
#[case::another_schema(with(|e| e.upgrade_again = done(schema("b", &["id"]))), StepName::UpgradeAgain)]
fn what_should_be_looked_at_is_a_warning(#[case] evidence: Evidence, #[case] by: StepName) {
    let judgement = judge(&evidence);
    assert_eq!((judgement.verdict, judgement.warnings), (Verdict::Warning, 1), "{:?}", judgement.steps);
    assert_eq!(judgement.decisive().map(|step| step.name), Some(by));
}

#[test]
fn a_model_without_a_migration_warns_and_names_what_is_missing() {
    let judgement = judge(&with(|e| {
        e.changes = changed(&["app/models/user.py"], &[]);
        e.upgrade = done(schema("b", &["id"]));
        e.upgrade_again = done(schema("b", &["id"]));
    }));
    assert_eq!((judgement.verdict, judgement.warnings), (Verdict::Warning, 2));
    assert!(judgement.steps.iter().any(|step| step.detail.contains("missing columns: users.mail")));
}

#[test]
fn requirements_alone_want_no_migration() {
    let judged = |own_packages| {
        let judgement = judge(&with(|e| (e.changes, e.own_packages) = (changed(&[], &[]), own_packages)));
        let said = judgement.steps.iter().find(|step| step.name == StepName::Changes).unwrap().detail.clone();
        (judgement.verdict, said)
    };
    let (verdict, said) = judged(true);
    assert_eq!(verdict, Verdict::Passed);
    assert!(said.ends_with("ran with the new ones"), "{said}");
    // What was not tried is not passed.
    let (verdict, said) = judged(false);
    assert_eq!(verdict, Verdict::Warning);
    assert!(said.contains("the job has no environment"), "{said}");
}

#[test]
fn what_the_base_commit_lacked_already_is_no_fault_of_this_one() {
    let judgement = judge(&with(|e| {
        e.old_code = done(code(&["id", "ghost"]));
        e.new_code = done(code(&["id", "mail", "ghost"]));
    }));
    assert_eq!(judgement.verdict, Verdict::Passed);
    assert_eq!(judgement.expands, Some(false));
}

#[test]
fn a_contracting_migration_passes_without_its_ticks() {
    let judgement = judge(&with(|e| {
        e.start = done(schema("a", &["id", "legacy"]));
        e.downgrade = done(schema("a", &["id", "legacy"]));
        e.old_code = done(code(&["id", "legacy"]));
    }));
    assert_eq!((judgement.verdict, judgement.expands), (Verdict::Passed, Some(false)));
    assert_eq!(ticked(&judgement, CheckItem::OldCodeRuns), Some(false));
    assert_eq!(ticked(&judgement, CheckItem::NoDataDropped), Some(false));
    assert_eq!(ticked(&judgement, CheckItem::DowngradeRestores), Some(true));
}

#[test]
fn a_long_lock_and_a_missing_downgrade_lose_their_ticks() {
    let judgement = judge(&with(|e| {
        e.files = done(files("b", false));
        let held = HeldLock { table: "users".into(), mode: "AccessExclusiveLock".into(), milliseconds: 5_001 };
        e.statements = Statements { held: vec![held], executed: vec![Executed::default()], ..Statements::default() };
    }));
    assert_eq!(ticked(&judgement, CheckItem::ShortLocks), Some(false));
    assert_eq!(ticked(&judgement, CheckItem::HasDowngrade), Some(false));
    assert_eq!(judgement.verdict, Verdict::Passed);
}

#[test]
fn nothing_is_ticked_without_evidence() {
    let why = || "not tried";
    let judgement = judge(&Evidence {
        changes: Attempt::not_run(why()),
        files: failed("b.py: line 3"),
        start: Attempt::not_run(why()),
        rows: Attempt::not_run(why()),
        upgrade: Attempt::not_run(why()),
        downgrade: Attempt::not_run(why()),
        upgrade_again: Attempt::not_run(why()),
        lint: Attempt::not_run(why()),
        old_code: Attempt::not_run(why()),
        new_code: Attempt::not_run(why()),
        ..additive()
    });
    assert!(judgement.checklist.iter().all(|tick| tick.ticked.is_none()), "{:?}", judgement.checklist);
    assert_eq!(judgement.steps.iter().filter(|step| step.outcome == StepOutcome::Skipped).count(), 12);
}

#[test]
fn lint_is_told_and_moves_nothing() {
    let finding = LintFinding { rule: "adding-not-nullable-field".into(), message: "m".into(), sql: "alter".into() };
    let judgement = judge(&with(|e| e.lint = done(vec![finding])));
    assert_eq!(judgement.verdict, Verdict::Passed);
    assert!(judgement.steps.iter().any(|step| step.notes == ["adding-not-nullable-field: m"]));
}

fn any_attempt(end: u8, schema: Schema) -> Attempt<Schema> {
    match end {
        0 => done(schema),
        1 => failed("x"),
        _ => Attempt::not_run("x"),
    }
}

proptest! {
    #[test]
    fn the_verdict_is_the_worst_step_and_counts_agree(ends in prop::array::uniform4(0_u8..3), column in any::<bool>()) {
        let [start, upgrade, downgrade, again] = ends;
        let columns: &[&str] = if column { &["id", "mail"] } else { &["id"] };
        let judgement = judge(&with(|e| {
            e.start = any_attempt(start, schema("a", &["id"]));
            e.upgrade = any_attempt(upgrade, schema("b", columns));
            e.downgrade = any_attempt(downgrade, schema("a", &["id"]));
            e.upgrade_again = any_attempt(again, schema("b", columns));
        }));
        let count = |wanted| judgement.steps.iter().filter(|step| step.outcome == wanted).count();
        prop_assert_eq!(judgement.verdict == Verdict::Failed, count(StepOutcome::Failed) > 0);
        prop_assert_eq!(usize::try_from(judgement.warnings).unwrap(), count(StepOutcome::Warning));
        prop_assert_eq!(judgement.steps.len(), 13);
        prop_assert_eq!(outcome(&judgement, StepName::Upgrade) == StepOutcome::Failed, upgrade == 1 || (upgrade == 0 && !column));
    }
}
