//! squawk's opinion on the SQL that was really executed.

use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::recorder::milliseconds;
use crate::agent::process::{Limits, Observer, PassOn, Shared, Specification, Terminate, start};
use crate::schema::check::{Attempt, LintFinding, Statements};

/// The longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// The most findings that are kept.
const MAX_FINDINGS: usize = 200;
/// The longest message and the longest statement in a finding, in characters.
const MAX_TEXT: usize = 400;
/// How long it may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Timeouts are set by who runs the migration, not by the migration itself.
const EXCLUDED: &str = "require-timeout-settings";

#[derive(Debug, Deserialize)]
struct Finding {
    line: usize,
    message: String,
    rule_name: String,
}

/// The linter's whole standard output, up to its bound.
struct Answer(Vec<u8>);

impl Observer for Answer {
    fn see(&mut self, bytes: &[u8]) {
        let room = (MAX_ANSWER_BYTES + 1).saturating_sub(self.0.len()).min(bytes.len());
        self.0.extend(bytes.iter().take(room));
    }
}

/// Runs the linter.
pub(super) async fn lint(
    program: &OsString,
    statements: &Statements,
    terminate: &mut Terminate,
) -> Attempt<Vec<LintFinding>> {
    let (text, first_lines) = script(statements);
    if text.is_empty() {
        return Attempt::not_run("the upgrade executed no SQL that changes anything");
    }
    let started = Instant::now();
    let ended = run(program, text, terminate).await;
    let elapsed = milliseconds(started.elapsed());
    match ended.map(|answer| parse(&answer, statements, &first_lines)) {
        Ok(Ok(value)) => Attempt::Done { milliseconds: elapsed, value },
        Ok(Err(cause)) => {
            Attempt::Failed { milliseconds: elapsed, cause: format!("the linter's answer can't be used: {cause}") }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Attempt::not_run(format!("`{}` is not in the image (pip install squawk-cli)", program.to_string_lossy()))
        }
        Err(error) => Attempt::Failed { milliseconds: elapsed, cause: format!("the linter can't be run: {error}") },
    }
}

async fn run(program: &OsString, text: String, terminate: &mut Terminate) -> io::Result<Vec<u8>> {
    let mut arguments = vec![program.clone()];
    let fixed = ["--reporter", "json", "--pg-version", "16", "--assume-in-transaction", "--exclude", EXCLUDED];
    arguments.extend(fixed.iter().map(OsString::from));
    // From standard input: there may be no writable folder, and no configuration of the repository is read.
    arguments.extend(["--stdin-filepath".into(), "upgrade.sql".into()]);
    let specification = Specification {
        arguments,
        environment: Vec::new(),
        directory: Some("/".into()),
        input: Some(text.into_bytes()),
        pass_on: PassOn::Nowhere,
    };
    let answer = Shared::new(Answer(Vec::new()));
    let limits = Limits { timeout: TIMEOUT, grace: Duration::from_secs(2) };
    let ended = start(specification, answer.clone())?.wait(limits, terminate, std::future::pending()).await?;
    if ended.stopped.is_some() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end in time"));
    }
    Ok(std::mem::take(&mut answer.lock().0))
}

/// The statements as one script, and the line (from 0) on which each begins.
fn script(statements: &Statements) -> (String, Vec<usize>) {
    let (mut text, mut first_lines, mut line) = (String::new(), Vec::new(), 0);
    for executed in &statements.executed {
        let sql = executed.sql.trim().trim_end_matches(';');
        first_lines.push(line);
        text.push_str(sql);
        text.push_str(";\n");
        line += sql.matches('\n').count() + 1;
    }
    (text, first_lines)
}

fn parse(answer: &[u8], statements: &Statements, first_lines: &[usize]) -> Result<Vec<LintFinding>, String> {
    if answer.len() > MAX_ANSWER_BYTES {
        return Err(format!("it is longer than {MAX_ANSWER_BYTES} bytes"));
    }
    // An empty answer is no clean bill.
    let findings: Vec<Finding> = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let mut found: Vec<LintFinding> = Vec::new();
    for finding in findings {
        let index = first_lines.partition_point(|first| *first <= finding.line).saturating_sub(1);
        let sql = statements.executed.get(index).map(|executed| executed.sql.as_str()).unwrap_or_default();
        let finding = LintFinding { rule: cut(&finding.rule_name), message: cut(&finding.message), sql: cut(sql) };
        if !found.contains(&finding) && found.len() < MAX_FINDINGS {
            found.push(finding);
        }
    }
    Ok(found)
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::schema::check::Executed;
    use proptest::prelude::*;

    fn statements(texts: &[&str]) -> Statements {
        let executed = texts.iter().map(|sql| Executed { sql: (*sql).to_owned(), ..Executed::default() }).collect();
        Statements { executed, ..Statements::default() }
    }

    #[test]
    fn a_finding_names_its_statement() {
        let statements = statements(&["create table a (\n  id int\n);", "alter table b drop column c"]);
        let (text, first_lines) = script(&statements);
        assert_eq!(text, "create table a (\n  id int\n);\nalter table b drop column c;\n");
        let answer = br#"[{"file":"x","line":3,"column":0,"level":"Warning","message":"m","help":null,"rule_name":"ban-drop-column"}]"#;
        let found = parse(answer, &statements, &first_lines).unwrap();
        assert_eq!(found.first().unwrap().sql, "alter table b drop column c");
    }

    #[test]
    fn no_answer_is_no_clean_bill() {
        assert!(parse(b"", &Statements::default(), &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_line_is_some_statement(lines in prop::collection::vec(any::<u32>(), 0..5), texts in prop::collection::vec("[a\n]{0,9}", 0..5)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let statements = statements(&texts);
            let (_, first_lines) = script(&statements);
            let told: Vec<String> = lines.iter().map(|line| format!(r#"{{"line":{line},"message":"m","rule_name":"r"}}"#)).collect();
            let found = parse(format!("[{}]", told.join(",")).as_bytes(), &statements, &first_lines);
            prop_assert!(found.is_ok());
        }
    }
}
