#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::schema::check::{CheckItem, LintFinding, Rows, SchemaDifference, Tick};

fn hostile(text: &str, count: usize) -> Document {
    let name = || text.to_owned();
    let step = |step_name| Step {
        name: step_name,
        outcome: StepOutcome::Warning,
        milliseconds: u64::MAX,
        detail: name(),
        notes: vec![name(); count],
    };
    let executed = Executed {
        sql: name(),
        locks: [name()].into(),
        rewritten: BTreeMap::from([(name(), 1)]),
        error: Some(name()),
        ..Executed::default()
    };
    Document {
        version: 1,
        verdict: Verdict::Failed,
        warnings: 3,
        server_version: name(),
        from: None,
        to: None,
        expands: Some(false),
        steps: [StepName::Changes, StepName::Upgrade, StepName::Lint].into_iter().cycle().take(13).map(step).collect(),
        checklist: vec![Tick { item: CheckItem::OneHead, ticked: Some(true), evidence: name() }; 7],
        difference: SchemaDifference {
            added_tables: (0..count).map(|n| format!("{n}{text}")).collect(),
            ..SchemaDifference::default()
        },
        rows: Rows::default(),
        statements: vec![executed; count],
        omitted: 0,
        held: Vec::new(),
        lint: vec![LintFinding { rule: name(), message: name(), sql: name() }],
    }
}

#[test]
fn hostile_names_stay_text() {
    let text = "</details>@everyone `rm` ```\n# x | [a](http://evil.example) <img src=x> \u{202e}\u{1b}[31m #1";
    let shown = markdown(&hostile(text, 2));
    let outside = outside_code(&shown);
    for bad in ["@everyone", "<img", "http://", "](", "\u{202e}", "\u{1b}", "</details>@", " #1"] {
        assert!(!outside.contains(bad), "{bad} in {outside}");
    }
    assert_eq!(outside.matches("</details>").count(), 1);
    assert!(shown.lines().filter(|line| line.starts_with("| ")).all(|line| unescaped_bars(line) == 5), "{shown}");
}

/// What GitHub would read as Markdown: code left out, by the rule that a run of backticks closes with an equal one.
fn outside_code(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let run = |from: usize| characters.iter().skip(from).take_while(|c| **c == '`').count();
    let (mut outside, mut at) = (String::new(), 0);
    while let Some(character) = characters.get(at) {
        let escaped = at > 0 && characters.get(at - 1) == Some(&'\\');
        if *character != '`' || escaped {
            outside.push(*character);
            at += 1;
            continue;
        }
        let length = run(at);
        let mut close = at + length;
        while close < characters.len() && run(close) != length {
            close += run(close).max(1);
        }
        at = close + length;
    }
    outside
}

fn unescaped_bars(line: &str) -> usize {
    line.matches('|').count() - line.matches("\\|").count()
}

#[test]
fn the_largest_report_fits_a_comment() {
    let shown = markdown(&hostile(&"@`|<".repeat(5_000), 2_000));
    assert!(shown.len() < 4 * MAX_COMMENT && shown.chars().count() <= MAX_COMMENT, "{}", shown.chars().count());
}

proptest! {
    #[test]
    fn no_text_opens_a_mention_or_html(text in "[@<>`|#a-z\\[\\]()!&\\\\\n.:/*_~-]{0,40}") {
        let outside = outside_code(&markdown(&hostile(&text, 1)));
        prop_assert!(!outside.contains("@a") && !outside.contains("://"), "{}", outside);
        let without = outside.replace("<details><summary>", "").replace("</summary>", "").replace("</details>", "");
        prop_assert!(!without.contains('<'), "{}", without);
    }
}
