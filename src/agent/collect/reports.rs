//! Test and coverage reports. They are written by the job, so they are data of unknown quality: everything is bounded
//! before it is parsed, and counts are counted, never taken from an attribute that claims them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde::Serialize;

use super::cobertura::{self, Lines};
use super::files::{Entry, Folder, Found};
use super::sarif::{Finding, Findings};
use super::tally::Tally;
use crate::agent::report::{FindingCounts, MarkerCounts, TestCounts, rerun_folder};

/// The longest report, in bytes.
const MAX_REPORT_BYTES: u64 = 32 * 1024 * 1024;
/// All reports together, in bytes.
const MAX_TOTAL_BYTES: u64 = 128 * 1024 * 1024;
/// Bounds within a report.
const MAX_DEPTH: usize = 32;
const MAX_ELEMENTS: usize = 100_000;
/// A coverage report has one per line of code.
const MAX_COVERAGE_ELEMENTS: usize = 1_000_000;
const MAX_ATTRIBUTES: usize = 64;
const MAX_TAG_BYTES: usize = 256 * 1024;
/// How many reports that can't be read are named.
const MAX_PROBLEMS: usize = 100;
/// How much the summary says of each test that it names.
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
    #[error("a line's hits are no number of hits")]
    Hits,
}

/// All reports of a job together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) tests: Option<TestCounts>,
    /// Test counts by marker.
    pub(super) markers: BTreeMap<String, MarkerCounts>,
    /// Line coverage in hundredths of a percent.
    pub(super) coverage: Option<u32>,
    /// The first failed tests.
    pub(super) failures: Vec<FailedTest>,
    /// The first that failed, and passed when only what failed was run again; with what they said when they failed.
    pub(super) flaky: Vec<FailedTest>,
    /// What scanners found, by level; absent without a SARIF report.
    pub(super) finding_counts: Option<FindingCounts>,
    /// The first findings, those of the level `error` before the others.
    pub(super) findings: Vec<Finding>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    JUnit,
    Coverage,
    Other,
}

/// What is counted over all reports.
#[derive(Debug, Default)]
struct Counted {
    tally: Tally,
    /// Lines, and the round that told of them: what is run again covers less than what was run first.
    lines: Option<(u32, Lines)>,
}

/// Reads every `*.xml` and every `*.sarif` below the folder. A script that may have been run again so often has further
/// rounds' reports in folders of their own.
pub(super) fn read(directory: &Path, reruns: u32) -> Summary {
    let mut summary = Summary::default();
    let folder = match Folder::open(directory) {
        Ok(folder) => folder,
        Err(error) => {
            summary.problems.push(format!("the reports' folder can't be opened: {error}"));
            return summary;
        }
    };
    let listing = match folder.list() {
        Ok(listing) => listing,
        Err(error) => {
            summary.problems.push(format!("the reports can't be listed: {error}"));
            return summary;
        }
    };
    let round_of = |path: &Path| {
        let folder = path.components().next().map(|part| part.as_os_str().to_owned());
        (1..=reruns)
            .find(|round| folder.as_ref().is_some_and(|folder| folder.as_os_str() == rerun_folder(*round).as_str()))
    };
    let mut all: Vec<(u32, Found)> =
        listing.files.into_iter().map(|found| (round_of(&found.path).unwrap_or(0), found)).collect();
    all.sort_by_key(|(round, _)| *round);
    summary.scan(&folder, &all);
    let mut counted = Counted { tally: Tally::new(reruns > 0), lines: None };
    let found = all.iter().filter(|(_, found)| is_xml(&found.path)).map(|(round, found)| (*round, found));
    let mut problems = Vec::new();
    each(&folder, found, &mut problems, |text, round| summary.add(text, round, &mut counted));
    summary.problems.extend(problems);
    let left_out = listing.others.iter().filter(|path| is_xml(path) || is_sarif(path));
    summary.problems.extend(
        left_out
            .take(MAX_PROBLEMS)
            .map(|path| format!("report `{}` is neither a file nor a folder, and was left out", path.display())),
    );
    let went_on = reruns > 0 && matches!(folder.entry(Path::new(&rerun_folder(1))), Ok(Entry::Folder(_)));
    if went_on && counted.tally.round() == 0 {
        summary.problems.push("the script ran again, but left no JUnit report of that in $REPORTS".to_owned());
    }
    summary.close(counted);
    summary
}

impl Summary {
    /// Reads the SARIF reports. A scanner whose script ran again has scanned the same again: of one name, the last counts.
    fn scan(&mut self, folder: &Folder, found: &[(u32, Found)]) {
        let mut reports: BTreeMap<PathBuf, &Found> = BTreeMap::new();
        for (round, found) in found.iter().filter(|(_, found)| is_sarif(&found.path)) {
            let within = if *round == 0 { None } else { found.path.strip_prefix(rerun_folder(*round)).ok() };
            reports.insert(within.unwrap_or(&found.path).to_owned(), found);
        }
        if reports.is_empty() {
            return;
        }
        let mut findings = Findings::default();
        let found = reports.into_values().map(|found| (0, found));
        let unread = each(folder, found, &mut self.problems, |text, _| findings.add(text));
        findings.unread(unread);
        let (counts, named, problems) = findings.close();
        self.finding_counts = Some(counts);
        self.findings = named;
        self.problems.extend(problems);
    }

    fn add(&mut self, text: &[u8], round: u32, counted: &mut Counted) -> Result<(), ReportError> {
        match inspect(text)? {
            Kind::Coverage => {
                let (lines, problem) = cobertura::read(text)?;
                counted.lines = match counted.lines {
                    Some((first, before)) if first < round => Some((first, before)),
                    Some((first, before)) => Some((first, before.with(lines))),
                    None => Some((round, Lines::default().with(lines))),
                };
                self.problems.extend(problem.map(|problem| format!("coverage report: {problem}")));
            }
            Kind::Other => {}
            Kind::JUnit => {
                let suites =
                    junit_parser::from_reader(text).map_err(|error| ReportError::Malformed(error.to_string()))?;
                counted.tally.add(&suites.suites, round);
            }
        }
        Ok(())
    }

    fn close(&mut self, counted: Counted) {
        counted.tally.close(self);
        self.coverage = counted.lines.and_then(|(_, lines)| lines.rate());
    }
}

fn is_xml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "xml")
}

fn is_sarif(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(".sarif") || path.ends_with(".sarif.json"))
}

/// Gives every report, with its round, to `add`, until all together are too long. Says why one can't be read, and returns
/// how many can't.
fn each<'f, E: std::fmt::Display>(
    folder: &Folder,
    reports: impl Iterator<Item = (u32, &'f Found)>,
    problems: &mut Vec<String>,
    mut add: impl FnMut(&[u8], u32) -> Result<(), E>,
) -> u32 {
    let (mut total, mut unread) = (0_u64, 0_u32);
    for (round, found) in reports {
        // A file is as long as it says it is, or it is not read to its end.
        total = total.saturating_add(found.size.min(MAX_REPORT_BYTES));
        let read = if total > MAX_TOTAL_BYTES {
            Err(format!("all together are longer than {MAX_TOTAL_BYTES} bytes"))
        } else {
            let text = folder.read(&found.path, MAX_REPORT_BYTES).map_err(|error| error.to_string());
            text.and_then(|text| add(&text, round).map_err(|error| error.to_string()))
        };
        if let Err(error) = read {
            unread = unread.saturating_add(1);
            if problems.len() < MAX_PROBLEMS {
                problems.push(format!("report `{}` is unreadable: {error}", found.path.display()));
            }
        }
    }
    unread
}

/// As much of a text as is told.
pub(super) fn start_of(text: &str) -> String {
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
                check(&tag, &mut elements, first(&mut kind, &tag))?;
            }
            Event::Empty(tag) => check(&tag, &mut elements, first(&mut kind, &tag))?,
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

fn check(tag: &BytesStart<'_>, elements: &mut usize, kind: Kind) -> Result<(), ReportError> {
    *elements += 1;
    let most = match kind {
        Kind::Coverage => MAX_COVERAGE_ELEMENTS,
        Kind::JUnit | Kind::Other => MAX_ELEMENTS,
    };
    if *elements > most {
        return Err(ReportError::TooMuch(most, "elements"));
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

/// What a report is: its first element says it.
fn first(kind: &mut Option<Kind>, tag: &BytesStart<'_>) -> Kind {
    *kind.get_or_insert_with(|| match tag.name().as_ref() {
        "testsuites" | "testsuite" => Kind::JUnit,
        "coverage" => Kind::Coverage,
        _ => Kind::Other,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn add(text: &str) -> Result<Summary, ReportError> {
        let (mut summary, mut counted) = (Summary::default(), Counted::default());
        summary.add(text.as_bytes(), 0, &mut counted)?;
        summary.close(counted);
        Ok(summary)
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
        assert_eq!(summary.tests, Some(TestCounts { passed: 1, failed: 2, skipped: 1, flaky: 0 }));
        assert!(summary.failures.first().unwrap().name.ends_with('b'));
        assert_eq!(summary.failures.first().unwrap().message, "boom\nassert 1 == 2");
    }

    #[test]
    fn coverage_of_several_reports_is_that_of_all_their_lines() {
        let report = |hits: &[u8]| {
            let lines: String = hits.iter().map(|hits| format!("<line hits=\"{hits}\"/>")).collect();
            format!("<coverage line-rate=\"1\"><class><lines>{lines}</lines></class></coverage>")
        };
        let (mut summary, mut counted) = (Summary::default(), Counted::default());
        for text in [report(&[1, 1, 1]), report(&[0])] {
            summary.add(text.as_bytes(), 0, &mut counted).unwrap();
        }
        summary.close(counted);
        assert_eq!(summary.coverage, Some(7_500));
        assert!(summary.problems.iter().any(|problem| problem.contains("its lines say 0.00 %")), "{summary:?}");
    }

    #[test]
    fn tests_are_counted_by_the_markers_that_each_says_of_itself() {
        let case = |markers: &str, inner: &str| {
            let property = format!("<property name=\"timetracker-markers\" value=\"{markers}\"/>");
            format!("<testcase name=\"t\"><properties>{property}</properties>{inner}</testcase>")
        };
        let cases = [case("smoke routes", ""), case("smoke", "<failure message=\"m\"/>"), case("", "")].concat();
        let summary = add(&format!("<testsuites><testsuite name=\"pytest\">{cases}</testsuite></testsuites>")).unwrap();
        let told: Vec<(&str, u32, u32)> =
            summary.markers.iter().map(|(name, counts)| (name.as_str(), counts.passed(), counts.all())).collect();
        assert_eq!(told, [("routes", 1, 1), ("smoke", 1, 2)]);
        assert!(summary.problems.is_empty(), "{summary:?}");
    }

    #[test]
    fn tests_of_pytest_that_say_no_markers_are_a_problem_and_those_of_others_are_not() {
        let told = |suite: &str| {
            add(&format!("<testsuites><testsuite name=\"{suite}\"><testcase name=\"t\"/></testsuite></testsuites>"))
        };
        let summary = told("pytest").unwrap();
        assert!(summary.problems.iter().any(|problem| problem.contains("1 tests say nothing")), "{summary:?}");
        assert!(told("jest").unwrap().problems.is_empty());
    }

    #[test]
    fn hostile_markers_are_dropped_and_bounded() {
        let cases: String = (0..2_000)
            .map(|number| {
                let names = format!("m{number} {} a-b 1st &lt;b&gt; $(id)", "x".repeat(41));
                format!(
                    "<testcase name=\"t\"><properties><property name=\"timetracker-markers\" value=\"{names}\"/>\
                     </properties></testcase>"
                )
            })
            .collect();
        let summary = add(&format!("<testsuite name=\"pytest\">{cases}</testsuite>")).unwrap();
        assert_eq!(summary.markers.len(), 40);
        assert!(summary.markers.keys().all(|name| name.starts_with('m')), "{:?}", summary.markers);
        assert_eq!(summary.problems.len(), 1);
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
            "<!DOCTYPE coverage [<!ENTITY a \"aaaa\">]><coverage line-rate=\"1\"/>",
            "<coverage line-rate=\"7\"/>",
            &format!("<coverage line-rate=\"1\">{}", "<class>".repeat(100)),
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
