//! Test and coverage reports. They are written by the job, so they are data of unknown quality: everything is bounded
//! before it is parsed, and counts are counted, never taken from an attribute that claims them.

use std::path::Path;

use junit_parser::{TestStatus, TestSuite};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde::Serialize;

use super::files::Folder;
use crate::agent::report::TestCounts;

/// The longest report, in bytes.
const MAX_REPORT_BYTES: u64 = 32 * 1024 * 1024;
/// All reports together, in bytes.
const MAX_TOTAL_BYTES: u64 = 128 * 1024 * 1024;
/// Bounds within a report.
const MAX_DEPTH: usize = 32;
const MAX_ELEMENTS: usize = 100_000;
const MAX_ATTRIBUTES: usize = 64;
const MAX_TAG_BYTES: usize = 256 * 1024;
/// How many failed tests the summary names, and how much it says of each.
const MAX_FAILURES: usize = 200;
const MAX_TEXT_BYTES: usize = 2_000;

/// Why a report can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReportError {
    #[error("it declares a document type, which reports don't need")]
    DocumentType,
    #[error("it has more than {0} {1}")]
    TooMuch(usize, &'static str),
    #[error("it is no well-formed XML: {0}")]
    Malformed(String),
    #[error("its line rate is no number from 0 to 1")]
    LineRate,
}

/// All reports of a job together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) tests: Option<TestCounts>,
    /// Line coverage in hundredths of a percent.
    pub(super) coverage: Option<u32>,
    /// The first failed tests.
    pub(super) failures: Vec<FailedTest>,
    /// What could not be read.
    pub(super) problems: Vec<String>,
}

/// One failed test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FailedTest {
    pub(super) name: String,
    pub(super) message: String,
}

enum Kind {
    JUnit,
    Coverage(u32),
    Other,
}

/// Reads every `*.xml` below the folder.
pub(super) fn read(directory: &Path) -> Summary {
    let mut summary = Summary::default();
    let folder = match Folder::open(directory) {
        Ok(folder) => folder,
        Err(error) => {
            summary.problems.push(format!("the reports' folder can't be opened: {error}"));
            return summary;
        }
    };
    let files = match folder.files() {
        Ok(files) => files,
        Err(error) => {
            summary.problems.push(format!("the reports can't be listed: {error}"));
            return summary;
        }
    };
    let mut total = 0_u64;
    for found in files.iter().filter(|found| found.path.extension().is_some_and(|extension| extension == "xml")) {
        let shown = found.path.display();
        total = total.saturating_add(found.size);
        if total > MAX_TOTAL_BYTES {
            summary.problems.push(format!("all reports together are longer than {MAX_TOTAL_BYTES} bytes"));
            break;
        }
        let read = folder.read(&found.path, MAX_REPORT_BYTES).map_err(|error| error.to_string());
        if let Err(error) = read.and_then(|text| summary.add(&text).map_err(|error| error.to_string())) {
            summary.problems.push(format!("report `{shown}` is unreadable: {error}"));
        }
    }
    summary
}

impl Summary {
    fn add(&mut self, text: &[u8]) -> Result<(), ReportError> {
        match inspect(text)? {
            Kind::Coverage(rate) => self.coverage = Some(rate),
            Kind::Other => {}
            Kind::JUnit => {
                let suites =
                    junit_parser::from_reader(text).map_err(|error| ReportError::Malformed(error.to_string()))?;
                let mut counts = self.tests.unwrap_or_default();
                for suite in &suites.suites {
                    self.count(suite, &mut counts);
                }
                self.tests = Some(counts);
            }
        }
        Ok(())
    }

    fn count(&mut self, suite: &TestSuite, counts: &mut TestCounts) {
        for case in &suite.cases {
            let message = match &case.status {
                TestStatus::Success => {
                    counts.passed = counts.passed.saturating_add(1);
                    continue;
                }
                TestStatus::Skipped(_) => {
                    counts.skipped = counts.skipped.saturating_add(1);
                    continue;
                }
                TestStatus::Failure(failure) => format!("{}\n{}", failure.message, failure.text),
                TestStatus::Error(error) => format!("{}\n{}", error.message, error.text),
            };
            counts.failed = counts.failed.saturating_add(1);
            if self.failures.len() < MAX_FAILURES {
                self.failures.push(FailedTest { name: start_of(&case.name), message: start_of(message.trim()) });
            }
        }
        // The depth was bounded before this was parsed.
        for inner in &suite.suites {
            self.count(inner, counts);
        }
    }
}

fn start_of(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Walks over the whole text once, checks its bounds and says what it is. No entity is expanded, nothing is kept.
fn inspect(text: &[u8]) -> Result<Kind, ReportError> {
    let mut reader = Reader::from_reader(text);
    reader.config_mut().check_end_names = true;
    let mut kind = None;
    let (mut depth, mut elements) = (0_usize, 0_usize);
    loop {
        match reader.read_event().map_err(|error| ReportError::Malformed(error.to_string()))? {
            Event::Eof => break,
            Event::DocType(_) => return Err(ReportError::DocumentType),
            Event::Start(tag) => {
                depth += 1;
                check(&tag, &mut elements)?;
                first(&mut kind, &tag)?;
            }
            Event::Empty(tag) => {
                check(&tag, &mut elements)?;
                first(&mut kind, &tag)?;
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::GeneralRef(_) => {}
        }
        if depth > MAX_DEPTH {
            return Err(ReportError::TooMuch(MAX_DEPTH, "levels"));
        }
    }
    if depth > 0 {
        return Err(ReportError::Malformed("it ends before its elements do".to_owned()));
    }
    Ok(kind.unwrap_or(Kind::Other))
}

fn check(tag: &BytesStart<'_>, elements: &mut usize) -> Result<(), ReportError> {
    *elements += 1;
    if *elements > MAX_ELEMENTS {
        return Err(ReportError::TooMuch(MAX_ELEMENTS, "elements"));
    }
    if tag.len() > MAX_TAG_BYTES {
        return Err(ReportError::TooMuch(MAX_TAG_BYTES, "bytes in a tag"));
    }
    // Without the check for duplicates, which takes the square of their number.
    let attributes = tag.attributes().with_checks(false).take(MAX_ATTRIBUTES + 1).count();
    if attributes > MAX_ATTRIBUTES {
        return Err(ReportError::TooMuch(MAX_ATTRIBUTES, "attributes in a tag"));
    }
    Ok(())
}

fn first(kind: &mut Option<Kind>, tag: &BytesStart<'_>) -> Result<(), ReportError> {
    if kind.is_some() {
        return Ok(());
    }
    *kind = Some(match tag.name().as_ref() {
        "testsuites" | "testsuite" => Kind::JUnit,
        "coverage" => Kind::Coverage(line_rate(tag)?),
        _ => Kind::Other,
    });
    Ok(())
}

/// Cobertura's `line-rate`, from 0 to 1, in hundredths of a percent.
fn line_rate(tag: &BytesStart<'_>) -> Result<u32, ReportError> {
    let attribute = tag.try_get_attribute("line-rate").ok().flatten().ok_or(ReportError::LineRate)?;
    let text: &str = &attribute.value;
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1") || digits.len() != whole.len() + fraction.len() || text.len() > 40 {
        return Err(ReportError::LineRate);
    }
    // Cut, not rounded: 79.999 % does not reach a threshold of 80 %.
    let hundredths: String = fraction.chars().chain(std::iter::repeat('0')).take(4).collect();
    let rate = whole.parse::<u32>().ok().zip(hundredths.parse::<u32>().ok());
    rate.map(|(whole, fraction)| whole * 10_000 + fraction).filter(|rate| *rate <= 10_000).ok_or(ReportError::LineRate)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn add(text: &str) -> Result<Summary, ReportError> {
        let mut summary = Summary::default();
        summary.add(text.as_bytes()).map(|()| summary)
    }

    #[test]
    fn cases_are_counted_and_claims_are_not_believed() {
        let text = r#"<?xml version="1.0"?><testsuites><testsuite name="s" tests="900" failures="0" errors="0" skipped="0">
            <testcase name="a" classname="t"/>
            <testcase name="b" classname="t"><failure message="boom">assert 1 == 2</failure></testcase>
            <testcase name="c" classname="t"><error message="bang"/></testcase>
            <testcase name="d" classname="t"><skipped message="later"/></testcase>
          </testsuite></testsuites>"#;
        let summary = add(text).unwrap();
        assert_eq!(summary.tests, Some(TestCounts { passed: 1, failed: 2, skipped: 1 }));
        assert!(summary.failures.first().unwrap().name.ends_with('b'));
        assert_eq!(summary.failures.first().unwrap().message, "boom\nassert 1 == 2");
    }

    #[rstest]
    #[case("0.8130", Some(8_130))]
    #[case("0.79999999", Some(7_999))]
    #[case("1", Some(10_000))]
    #[case("1.0", Some(10_000))]
    #[case("0", Some(0))]
    #[case("1.5", None)]
    #[case("NaN", None)]
    #[case("-0.5", None)]
    #[case("1e-1", None)]
    #[case("", None)]
    fn coverage_is_the_line_rate(#[case] rate: &str, #[case] expected: Option<u32>) {
        let found = add(&format!("<coverage line-rate=\"{rate}\" version=\"7\"><packages/></coverage>"));
        assert_eq!(found.ok().and_then(|summary| summary.coverage), expected);
    }

    #[test]
    fn hostile_reports_are_refused() {
        let nested = "<testsuite>".repeat(100_000);
        let attributes: String = (0..200).map(|number| format!(" a{number}=\"\"")).collect();
        let many = format!("<testsuite>{}</testsuite>", "<testcase/>".repeat(MAX_ELEMENTS));
        for text in [
            "<!DOCTYPE t [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><testsuite name=\"&b;\"/>",
            &nested,
            &format!("<testsuite{attributes}/>"),
            &many,
            "<testsuites><testsuite>",
            "<testsuites></testsuite>",
        ] {
            assert!(add(text).is_err(), "{}", text.get(..40).unwrap_or(text));
        }
    }

    #[test]
    fn other_files_are_passed_over() {
        assert_eq!(add("<html><body/></html>").unwrap(), Summary::default());
        assert_eq!(add("just text").unwrap(), Summary::default());
    }

    proptest! {
        #[test]
        fn no_report_makes_the_reader_panic(text in "(<|>|/|testsuites?|testcase|failure| |=|\"|&|;|a){0,60}") {
            let _ = add(&text);
            let _ = add(&format!("<testsuite name=\"x\">{text}</testsuite>"));
        }
    }
}
