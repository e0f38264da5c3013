//! Cobertura XML: the covered lines are counted; what the report claims of itself is only held against that.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::reports::ReportError;

/// What a report claims may differ from the count by rounding, in hundredths of a percent.
const TOLERANCE: u32 = 1;

/// Lines that can be covered, and those that are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) covered: u64,
    pub(super) valid: u64,
}

impl Lines {
    /// In hundredths of a percent, cut and not rounded: 79.999 % does not reach a threshold of 80 %.
    pub(super) fn rate(self) -> Option<u32> {
        let rate = self.covered.checked_mul(10_000)?.checked_div(self.valid)?;
        u32::try_from(rate).ok()
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self { covered: self.covered.saturating_add(other.covered), valid: self.valid.saturating_add(other.valid) }
    }
}

/// Counts the lines of a report whose bounds were checked, and says what it claims wrongly.
///
/// # Errors
/// When a count in it is no number, or its rate none from 0 to 1.
pub(super) fn read(text: &[u8]) -> Result<(Lines, Option<String>), ReportError> {
    let mut reader = Reader::from_reader(text);
    let mut lines = Lines::default();
    let mut claimed = None;
    // Methods list lines of their class once more.
    let (mut classes, mut methods) = (0_usize, 0_usize);
    loop {
        match reader.read_event().map_err(|error| ReportError::Malformed(error.to_string()))? {
            Event::Eof => break,
            Event::Start(tag) => match tag.name().as_ref() {
                "coverage" => claimed = Some(line_rate(&tag)?),
                "class" => classes += 1,
                "methods" => methods += 1,
                "line" if classes > 0 && methods == 0 => count(&tag, &mut lines)?,
                _ => {}
            },
            Event::Empty(tag) => match tag.name().as_ref() {
                "coverage" => claimed = Some(line_rate(&tag)?),
                "line" if classes > 0 && methods == 0 => count(&tag, &mut lines)?,
                _ => {}
            },
            Event::End(tag) => match tag.name().as_ref() {
                "class" => classes = classes.saturating_sub(1),
                "methods" => methods = methods.saturating_sub(1),
                _ => {}
            },
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
    }
    let problem = match (lines.rate(), claimed) {
        (None, _) => Some("it measures no line".to_owned()),
        (Some(counted), Some(claimed)) if counted.abs_diff(claimed) > TOLERANCE => {
            let shown = |rate: u32| format!("{}.{:02} %", rate / 100, rate % 100);
            Some(format!("it claims {}, its lines say {}", shown(claimed), shown(counted)))
        }
        (Some(_), Some(_) | None) => None,
    };
    Ok((lines, problem))
}

fn count(tag: &BytesStart<'_>, lines: &mut Lines) -> Result<(), ReportError> {
    let attribute = tag.try_get_attribute("hits").ok().flatten().ok_or(ReportError::Hits)?;
    let text: &str = &attribute.value;
    // A number that no run of tests reaches is no number of hits.
    let hits = text.parse::<u64>().ok().filter(|hits| text.len() <= 19 && *hits <= 1 << 53).ok_or(ReportError::Hits)?;
    lines.valid = lines.valid.saturating_add(1);
    if hits > 0 {
        lines.covered = lines.covered.saturating_add(1);
    }
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
    let hundredths: String = fraction.chars().chain(std::iter::repeat('0')).take(4).collect();
    let rate = whole.parse::<u32>().ok().zip(hundredths.parse::<u32>().ok());
    rate.map(|(whole, fraction)| whole * 10_000 + fraction).filter(|rate| *rate <= 10_000).ok_or(ReportError::LineRate)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn report(rate: &str, hits: &[&str]) -> String {
        let lines: String = hits
            .iter()
            .enumerate()
            .map(|(number, hits)| format!("<line number=\"{number}\" hits=\"{hits}\"/>"))
            .collect();
        format!(
            "<coverage line-rate=\"{rate}\" version=\"7\"><packages><package><classes><class><methods><method><lines>\
             <line number=\"1\" hits=\"9\"/></lines></method></methods><lines>{lines}</lines></class></classes></package>\
             </packages></coverage>"
        )
    }

    #[test]
    fn lines_are_counted_and_those_of_methods_not_twice() {
        let (lines, problem) = read(report("0.6667", &["1", "0", "7"]).as_bytes()).unwrap();
        assert_eq!((lines, problem), (Lines { covered: 2, valid: 3 }, None));
        assert_eq!(lines.rate(), Some(6_666));
    }

    #[test]
    fn a_claim_that_its_lines_do_not_bear_out_is_said_and_not_believed() {
        let (lines, problem) = read(report("0.99", &["1", "0"]).as_bytes()).unwrap();
        assert_eq!(lines.rate(), Some(5_000));
        assert_eq!(problem.unwrap(), "it claims 99.00 %, its lines say 50.00 %");
    }

    #[test]
    fn a_report_without_lines_measures_nothing() {
        let (lines, problem) = read(report("1", &[]).as_bytes()).unwrap();
        assert_eq!(lines.rate(), None);
        assert!(problem.unwrap().contains("no line"));
    }

    #[rstest]
    #[case("-1")]
    #[case("1e9")]
    #[case("99999999999999999999999")]
    #[case("9007199254740993")]
    #[case("")]
    #[case("NaN")]
    fn hits_that_are_no_number_of_hits_make_the_report_unreadable(#[case] hits: &str) {
        assert_eq!(read(report("1", &[hits]).as_bytes()).unwrap_err(), ReportError::Hits);
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
    fn a_rate_is_a_number_from_0_to_1(#[case] rate: &str, #[case] expected: Option<u32>) {
        let mut tag = BytesStart::new("coverage");
        tag.push_attribute(("line-rate", rate));
        assert_eq!(line_rate(&tag).ok(), expected);
    }
}
