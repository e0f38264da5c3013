#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn read(texts: &[&[u8]]) -> Result<(FindingCounts, Vec<Finding>, Vec<String>), SarifError> {
    let mut findings = Findings::default();
    for text in texts {
        findings.add(text)?;
    }
    Ok(findings.close())
}

fn of(report: &Value) -> (FindingCounts, Vec<Finding>, Vec<String>) {
    read(&[report.to_string().as_bytes()]).unwrap()
}

fn counts(errors: u32, warnings: u32, notes: u32) -> FindingCounts {
    FindingCounts { errors, warnings, notes, ..FindingCounts::default() }
}

fn log(runs: &Value) -> Value {
    json!({"version": "2.1.0", "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "runs": runs})
}

fn one_run(rules: &Value, results: &Value) -> Value {
    log(&json!([{"tool": {"driver": {"name": "scanner", "rules": rules}}, "results": results}]))
}

#[test]
fn what_bandit_writes_is_counted_and_named() {
    let (told, found, problems) = read(&[include_bytes!("fixtures/bandit.sarif")]).unwrap();
    assert_eq!((told, problems), (counts(1, 0, 2), Vec::new()));
    let first = found.first().unwrap();
    assert_eq!((first.tool.as_str(), first.rule.as_str(), first.line), ("Bandit", "B602", Some(6)));
    assert!(first.told().starts_with("B602 app/deploy.py:6: subprocess call with shell=True"), "{}", first.told());
    assert!(found.iter().skip(1).all(|finding| finding.level == Level::Note), "errors come first: {found:?}");
}

#[test]
fn a_result_without_a_level_has_its_rules_wherever_the_rules_stand() {
    // As Semgrep has it: results before the tool, levels with the rules alone.
    let text = r#"{"version":"2.1.0","runs":[{"results":[{"ruleId":"a.sql"},{"ruleId":"a.sql/part"},{"ruleId":"b"},
        {"ruleIndex":1},{"rule":{"id":"x"}},{"rule":{"index":0,"toolComponent":{"index":0}}},{"ruleId":"unknown"},{}],
        "tool":{"driver":{"name":"s","rules":[{"id":"a.sql","defaultConfiguration":{"level":"error"}},
        {"id":"b","defaultConfiguration":{"level":"note"}}]},
        "extensions":[{"name":"e","rules":[{"id":"x","defaultConfiguration":{"level":"error"}}]}]}}]}"#;
    let (told, found, _) = read(&[text.as_bytes()]).unwrap();
    assert_eq!(told, counts(3, 3, 2));
    let named: Vec<&str> = found.iter().map(|finding| finding.rule.as_str()).collect();
    assert_eq!(named, ["a.sql", "a.sql/part", "x", "b", "b", "", "unknown", ""]);
}

#[test]
fn what_is_no_finding_is_not_counted_and_what_is_suppressed_apart() {
    let error = |more: Value| {
        let mut result = json!({"ruleId": "r", "level": "error"});
        result.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        result
    };
    let results = json!([
        error(json!({"kind": "fail"})),
        error(json!({"kind": "pass"})),
        error(json!({"level": "none"})),
        error(json!({"baselineState": "absent"})),
        error(json!({"baselineState": "unchanged"})),
        error(json!({"suppressions": []})),
        error(json!({"suppressions": [{"kind": "inSource"}]})),
        error(json!({"suppressions": [{"kind": "inSource"}, {"kind": "external", "status": "rejected"}]})),
    ]);
    let (told, _, _) = of(&one_run(&json!([]), &results));
    assert_eq!(told, FindingCounts { suppressed: 1, ..counts(4, 0, 0) });
}

#[test]
fn several_runs_and_reports_are_one() {
    let run =
        |level: &str| json!({"tool": {"driver": {"name": level}}, "results": [{"level": level}, {"level": level}]});
    let first = log(&json!([run("note"), run("warning"), run("error")])).to_string();
    let second = log(&json!([run("error")])).to_string();
    let (told, found, _) = read(&[first.as_bytes(), second.as_bytes()]).unwrap();
    assert_eq!(told, counts(4, 2, 2));
    let tools: Vec<&str> = found.iter().map(|finding| finding.tool.as_str()).collect();
    assert_eq!(tools, ["error", "error", "error", "error", "note", "note", "warning", "warning"]);
}

#[test]
fn a_tool_that_scanned_nothing_or_failed_has_proved_nothing() {
    let driver = json!({"driver": {"name": "scanner"}});
    for results in [json!({"tool": driver}), json!({"tool": driver, "results": null})] {
        let (told, _, problems) = of(&log(&json!([results])));
        assert_eq!(told.unread, 1);
        assert_eq!(problems, ["scanner scanned nothing: its run has no results"]);
    }
    let failed =
        json!([{"tool": driver, "invocations": [{"executionSuccessful": false}], "results": [{"level": "error"}]}]);
    let (told, _, problems) = of(&log(&failed));
    assert_eq!((told.errors, told.unread), (1, 1));
    assert_eq!(problems, ["scanner says that it did not succeed"]);
    let (told, found, problems) = of(&one_run(&json!([]), &json!([])));
    assert_eq!((told, found.len(), problems.len()), (FindingCounts::default(), 0, 0), "a scan that found nothing");
}

#[test]
fn texts_are_cut_and_hold_no_control_characters() {
    let long = format!("a\u{1b}[31m\r\n\t b\u{202e}{}", "ä".repeat(10_000_000));
    let result = json!({"ruleId": long, "message": {"text": long}, "locations": [{"physicalLocation":
        {"artifactLocation": {"uri": format!("file://{long}")}, "region": {"startLine": 7}}}, 7, {}]});
    let (_, found, _) = of(&one_run(&json!([]), &json!([result])));
    let finding = found.first().unwrap();
    assert!(finding.rule.starts_with("a\u{fffd}[31m b\u{fffd}ä") && finding.rule.len() <= 300, "{}", finding.rule);
    assert!(finding.message.len() <= 500 && finding.file.len() <= 300);
    assert!(!finding.told().chars().any(char::is_control));
    assert!(finding.file.starts_with("a\u{fffd}"), "{}", finding.file);
}

#[test]
fn more_findings_than_are_named_are_counted_and_errors_are_not_crowded_out() {
    let mut results = vec![json!({"level": "note"}); 5_000];
    results.push(json!({"level": "error", "ruleId": "the-error"}));
    let (told, found, _) = of(&one_run(&json!([]), &json!(results)));
    assert_eq!((told, found.len()), (counts(1, 0, 5_000), MAX_NAMED));
    assert_eq!(found.first().unwrap().rule, "the-error");
}

#[test]
fn a_million_results_are_refused_in_one_run_in_many_and_in_many_reports() {
    let results = vec!["{}"; 1_000_000].join(",");
    let run = |results: &str| format!(r#"{{"tool":{{"driver":{{}}}},"results":[{results}]}}"#);
    let report = |runs: &str| format!(r#"{{"version":"2.1.0","runs":[{runs}]}}"#);
    let told = read(&[report(&run(&results)).as_bytes()]).unwrap_err().to_string();
    assert!(told.contains("more than 100000 entries"), "{told}");
    let few = run(&vec!["{}"; 2_000].join(","));
    let told = read(&[report(&vec![few.as_str(); 100].join(",")).as_bytes()]).unwrap_err().to_string();
    assert!(told.contains("more than 100000 results"), "{told}");
    let half = report(&run(&vec!["{}"; 60_000].join(",")));
    let told = read(&[half.as_bytes(), half.as_bytes()]).unwrap_err().to_string();
    assert!(told.contains("more than 100000 results"), "{told}");
}

#[rstest]
#[case::nothing("")]
#[case::no_object("7")]
#[case::xml("<testsuites/>")]
#[case::cut(r#"{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"s"}},"results":["#)]
#[case::old(r#"{"version":"2.0.0","runs":[{"tool":{"driver":{}},"results":[]}]}"#)]
#[case::no_version(r#"{"runs":[{"tool":{"driver":{}},"results":[]}]}"#)]
#[case::no_runs(r#"{"version":"2.1.0"}"#)]
#[case::null_runs(r#"{"version":"2.1.0","runs":null}"#)]
#[case::empty_runs(r#"{"version":"2.1.0","runs":[]}"#)]
#[case::runs_twice(r#"{"version":"2.1.0","runs":[{"tool":{"driver":{}},"results":[{"level":"error"}]}],"runs":[]}"#)]
#[case::runs_of_another_type(r#"{"version":"2.1.0","runs":{"0":{}}}"#)]
#[case::no_tool(r#"{"version":"2.1.0","runs":[{"results":[]}]}"#)]
#[case::results_of_another_type(r#"{"version":"2.1.0","runs":[{"tool":{"driver":{}},"results":{}}]}"#)]
#[case::a_result_of_another_type(r#"{"version":"2.1.0","runs":[{"tool":{"driver":{}},"results":[7]}]}"#)]
#[case::an_unknown_level(r#"{"version":"2.1.0","runs":[{"tool":{"driver":{}},"results":[{"level":"fine"}]}]}"#)]
#[case::a_line_that_is_none(
    r#"{"version":"2.1.0","runs":[{"tool":{"driver":{}},"results":[{"locations":[{"physicalLocation":{"region":{"startLine":-1}}}]}]}]}"#
)]
#[case::trailing(r#"{"version":"2.1.0","runs":[{"tool":{"driver":{}},"results":[]}]} {}"#)]
fn what_is_no_such_report_is_refused_and_counts_nothing(#[case] text: &str) {
    let mut findings = Findings::default();
    let told = findings.add(text.as_bytes()).unwrap_err().to_string();
    assert!(told.len() < 400, "{told}");
    assert_eq!(findings.close().0, FindingCounts::default());
}

#[test]
fn a_nested_bomb_is_refused_wherever_it_stands() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let bomb = format!("{}1{}", open.repeat(1_000_000), close.repeat(1_000_000));
        let ignored = format!(r#"{{"version":"2.1.0","properties":{bomb},"runs":[]}}"#);
        assert_eq!(read(&[ignored.as_bytes()]).unwrap_err(), SarifError::TooDeep);
        assert_eq!(read(&[bomb.as_bytes()]).unwrap_err(), SarifError::TooDeep);
    }
    // Brackets in texts are no levels.
    let text = one_run(&json!([]), &json!([{"message": {"text": "\"\\[".repeat(1_000)}}]));
    assert_eq!(of(&text).0, counts(0, 1, 0));
}

#[test]
fn an_error_that_quotes_the_report_is_cut() {
    let text = json!({"version": "2.1.0", "runs": "\u{1b}x".repeat(1_000_000)}).to_string();
    let told = read(&[text.as_bytes()]).unwrap_err().to_string();
    assert!(told.len() < 400 && !told.chars().any(char::is_control), "{told}");
}

#[test]
fn a_mark_of_the_byte_order_is_passed_over() {
    let mut text = b"\xef\xbb\xbf".to_vec();
    text.extend(one_run(&json!([]), &json!([{}])).to_string().bytes());
    assert_eq!(read(&[&text]).unwrap().0, counts(0, 1, 0));
}

proptest! {
    #[test]
    fn no_report_makes_the_reader_panic(text in "(\\{|\\}|\\[|\\]|,|:|\"|\\\\|\"runs\":|\"results\":|\"version\":\"2.1.0\"|\"tool\":|null|1){0,60}") {
        let _ = read(&[text.as_bytes()]);
        let _ = read(&[format!("{{\"version\":\"2.1.0\",\"runs\":[{{\"tool\":{{\"driver\":{{}}}},\"results\":[{text}]}}]}}").as_bytes()]);
    }
}
