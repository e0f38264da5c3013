//! Durations as users write them: `90s`, `1h30m`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The pattern of a duration. Kubernetes' own `format: duration` also takes `3 weeks` and `-5m`, which we don't.
pub const DURATION_PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// A length of time such as `90s` or `1h30m`: one to four numbers, each with its unit `h`, `m`, `s` or `ms`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period {
    text: String,
    length: Duration,
}

/// A string that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write numbers with the units h, m, s or ms, for example 90s or 1h30m")]
pub struct PeriodError(String);

impl Period {
    /// The length.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// A period of whole seconds.
    #[must_use]
    pub fn seconds(seconds: u64) -> Self {
        Self { text: format!("{seconds}s"), length: Duration::from_secs(seconds) }
    }
}

impl FromStr for Period {
    type Err = PeriodError;
    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let refused = || PeriodError(text.chars().filter(|c| !c.is_control()).take(40).collect());
        let mut length = Duration::ZERO;
        let mut rest = text;
        let mut parts = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
            let (number, tail) = rest.split_at(digits);
            let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            parts += 1;
            if !(1..=5).contains(&number.len()) || parts > 4 {
                return Err(refused());
            }
            let number: u64 = number.parse().map_err(|_| refused())?;
            length += match unit {
                "h" => Duration::from_secs(number * 3600),
                "m" => Duration::from_secs(number * 60),
                "s" => Duration::from_secs(number),
                "ms" => Duration::from_millis(number),
                _ => return Err(refused()),
            };
            rest = tail;
        }
        if parts == 0 { Err(refused()) } else { Ok(Self { text: text.to_owned(), length }) }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Period {
    type Error = PeriodError;
    fn try_from(text: String) -> Result<Self, PeriodError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> String {
        period.text
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": DURATION_PATTERN, "maxLength": 32 })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("90s", 90_000)]
    #[case("1h30m", 5_400_000)]
    #[case("500ms", 500)]
    #[case("0s", 0)]
    fn a_duration_is_numbers_with_units(#[case] text: &str, #[case] milliseconds: u128) {
        assert_eq!(text.parse::<Period>().unwrap().length().as_millis(), milliseconds);
    }

    #[rstest]
    #[case("")]
    #[case("3 weeks")]
    #[case("-5m")]
    #[case("1d")]
    #[case("5")]
    #[case("999999s")]
    #[case("1s1s1s1s1s")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert!(text.parse::<Period>().is_err());
    }
}
