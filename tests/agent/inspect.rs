//! `agent database inspect`.

use std::fs;

use timetracker_operator::agent::report::{DatabaseFailure, InspectReport};
use timetracker_operator::api::names::Digest;

use crate::Agent;
use crate::support::postgres::Postgres;

fn failure(url: &str) -> (DatabaseFailure, String) {
    let finished = Agent::new(["database", "inspect", "--connect-timeout", "1s"]).env("DATABASE_URL", url).run();
    assert_eq!(finished.code, Some(1));
    match finished.report() {
        InspectReport::Failed { failure, message } => (failure, message),
        InspectReport::Inspected { .. } => panic!("{}", finished.report),
    }
}

#[test]
fn an_empty_database_is_empty_and_stays_so() {
    let postgres = Postgres::start();
    let finished = Agent::new(["database", "inspect", "--digest", Digest::of(b"x").as_str()])
        .env("DATABASE_URL", &postgres.url().replace("postgresql://", "postgresql+psycopg2://"))
        .run();
    let InspectReport::Inspected { server_version, revisions, empty, ledger, .. } = finished.report() else {
        panic!("{}", finished.report)
    };
    assert_eq!(server_version, "16.14");
    assert!(empty && revisions.is_empty() && ledger.is_none());
    assert_eq!(postgres.sql("select count(*) from pg_namespace where nspname = 'timetracker_delivery'"), "0");
}

#[test]
fn contracts_are_held_against_the_schema() {
    let postgres = Postgres::start();
    postgres.sql(
        "create table users (id integer generated always as identity primary key, email text, \
           age integer not null, born date not null default now());
         create table parted (id integer, at date not null) partition by range (at);
         create table alembic_version (version_num varchar(255)); insert into alembic_version values ('b'), ('a')",
    );
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        format!("{}={}", Digest::of(name.as_bytes()), file.display())
    };
    let fits = write(
        "fits",
        r#"{"heads":["a"],"tables":{"users":{"id":{"nullable":false},"email":{"nullable":true},"age":{"nullable":false}}}}"#,
    );
    let lacks = write(
        "lacks",
        r#"{"heads":[],"tables":{"users":{"id":{"nullable":false},"city":{"nullable":true}},"tasks":{}}}"#,
    );
    let finished = Agent::new(["database", "inspect", "--contract", &fits, "--contract", &lacks])
        .env("DATABASE_URL", &postgres.url())
        .run();
    let InspectReport::Inspected { revisions, empty, contracts, .. } = finished.report() else {
        panic!("{}", finished.report)
    };
    assert_eq!((revisions.to_string().as_str(), empty), ("a,b", false));
    assert!(contracts[&Digest::of(b"fits")].holds, "{}", finished.report);
    let lacks = &contracts[&Digest::of(b"lacks")];
    assert!(!lacks.holds);
    assert_eq!(
        lacks.message,
        "missing tables: tasks; missing columns: users.city; required columns unknown to the code: users.age"
    );
}

#[test]
fn a_wrong_password_is_told_from_a_server_that_is_down_and_neither_message_has_the_password() {
    let mut postgres = Postgres::start();
    let (refused, message) = failure(&postgres.url_with_password("wr0ng%40word"));
    assert_eq!(refused, DatabaseFailure::AccessDenied, "{message}");
    assert!(message.contains("check user and password"), "{message}");
    postgres.crash();
    let (down, message) = failure(&postgres.url_with_password("wr0ng%40word"));
    assert_eq!(down, DatabaseFailure::Unreachable, "{message}");
    assert!(!message.contains("wr0ng") && message.contains("127.0.0.1"), "{message}");
}

#[test]
fn what_a_person_must_correct_is_a_configuration_failure() {
    let postgres = Postgres::start();
    let no_database = format!("{}where", postgres.url());
    for url in [
        "",
        "mysql://a:b@c/d",
        &no_database,
        &format!("{}?sslmode=require", postgres.url()),
        &format!("{}?sslmode=verify-full", postgres.url()),
    ] {
        let (failed, message) = failure(url);
        assert_eq!(failed, DatabaseFailure::Configuration, "{url}: {message}");
    }
}

#[test]
fn a_host_that_does_not_exist_is_unreachable() {
    assert_eq!(failure("postgresql://a:b@no-such-host.invalid/d").0, DatabaseFailure::Unreachable);
}
