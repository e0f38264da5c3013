//! `agent contract`.

use std::fs;
use std::path::Path;

use timetracker_operator::agent::frame;
use timetracker_operator::agent::report::ContractReport;
use timetracker_operator::schema::SchemaContract;

use crate::{Agent, Finished, support::cache};

const APP: &str = r#"
import os
from types import SimpleNamespace
from sqlalchemy import Column, Computed, Identity, Integer, MetaData, String, Table

db = SimpleNamespace(metadata=MetaData())
Table("users", db.metadata, Column("id", Integer, primary_key=True), Column("email", String),
      Column("name", String, nullable=False), Column("role", String, nullable=False, server_default="user"),
      Column("number", Integer, Identity(), nullable=False), Column("twice", Integer, Computed("number * 2")),
      Column("spoken", String, nullable=False, default="en"))
Table("elsewhere", db.metadata, Column("id", Integer), schema="other")

def create_app():
    print("[alembic] offline_mode=False")
    print("timetracker-frame v1 schema-contract 00 AAAA")
    assert os.environ["TT_BOOTSTRAP_MODE"] == "migrate"
    assert len(os.environ["SECRET_KEY"]) >= 32 and os.environ["DATABASE_URL"].startswith("postgresql://")
    return SimpleNamespace(extensions={})
"#;

fn image(app: &str, revisions: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("app")).unwrap();
    fs::write(directory.path().join("app/__init__.py"), app).unwrap();
    let versions = directory.path().join("migrations/versions");
    fs::create_dir_all(&versions).unwrap();
    for (revision, parent) in revisions {
        let text = format!("revision = '{revision}'\ndown_revision = {parent}\n");
        fs::write(versions.join(format!("{revision}.py")), text).unwrap();
    }
    directory
}

fn dump(image: &Path) -> Finished {
    let path = cache::python().to_str().unwrap();
    Agent::new(["contract", "--", "python3", "-"]).env("PYTHONPATH", path).current_dir(image).run()
}

#[test]
fn the_contract_is_one_frame_and_what_the_app_prints_goes_elsewhere() {
    let image = image(APP, &[("001_a", "None"), ("002_b", "'001_a'"), ("002_c", "'001_a'")]);
    let finished = dump(image.path());
    let ContractReport::Dumped { contract, heads, tables } = finished.report() else { panic!("{}", finished.report) };
    assert_eq!((heads.to_string().as_str(), tables), ("002_b,002_c", 1));
    assert_eq!(finished.stdout.lines().count(), 1);
    assert!(finished.stderr.contains("offline_mode"), "{}", finished.stderr);
    let (digest, document) = frame::last_in(finished.stdout.as_bytes(), frame::SCHEMA_CONTRACT).unwrap();
    assert_eq!(digest, contract);
    let parsed: SchemaContract = serde_json::from_slice(&document).unwrap();
    assert_eq!(parsed.digest(), contract);
    let known: Vec<&str> = parsed.known.iter().map(|revision| revision.as_str()).collect();
    assert_eq!(known, ["001_a", "002_b", "002_c"]);
    let nullable = |column: &str| parsed.tables["users"][column].nullable;
    assert_eq!((nullable("id"), nullable("email"), nullable("name")), (false, true, false));
    let filled = |column: &str| parsed.tables["users"][column].filled_by_server;
    assert_eq!((filled("role"), filled("number"), filled("twice")), (true, true, true));
    assert_eq!((filled("name"), filled("email")), (false, false));
    assert!(!filled("spoken"), "the code itself fills it: other code knows nothing of that");
}

#[test]
fn an_image_without_migrations_has_no_heads() {
    let image = image(APP, &[]);
    fs::remove_dir_all(image.path().join("migrations")).unwrap();
    let ContractReport::Dumped { heads, .. } = dump(image.path()).report() else { panic!("refused") };
    assert!(heads.is_empty());
}

#[test]
fn an_app_that_cannot_start_is_reported_with_its_last_words() {
    let image = image("raise RuntimeError('SECRET_KEY is too \\x1b[31mshort')", &[]);
    let finished = dump(image.path());
    assert_eq!(finished.code, Some(1));
    let ContractReport::Failed { message } = finished.report() else { panic!("{}", finished.report) };
    assert!(message.contains("exit code 1") && message.contains("RuntimeError: SECRET_KEY is too \\u{1b}[31mshort"));
    assert_eq!(finished.stdout, "");
}

#[test]
fn an_app_that_hangs_is_stopped_at_the_timeout() {
    let image = image("import time\ntime.sleep(60)", &[]);
    let finished = Agent::new(["contract", "--timeout", "500ms", "--", "python3", "-"]).current_dir(image.path()).run();
    let ContractReport::Failed { message } = finished.report() else { panic!("{}", finished.report) };
    assert!(message.contains("did not answer"), "{message}");
}

#[test]
fn an_image_without_python_is_told() {
    let finished = Agent::new(["contract", "--", "/no/python"]).run();
    let ContractReport::Failed { message } = finished.report() else { panic!("{}", finished.report) };
    assert!(message.contains("`/no/python` can't be started"), "{message}");
}
