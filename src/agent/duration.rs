//! Durations as the custom resources spell them.

use std::time::Duration;

/// Parses one to four parts such as `1h30m` or `500ms`: `^([0-9]{1,5}(h|m|s|ms)){1,4}$`.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let refused = || format!("`{text}` is not a duration: expected for example 90s, 10m or 1h30m");
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut parts = 0_u8;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let number: u32 = if digits <= 5 { number.parse().map_err(|_| refused())? } else { return Err(refused()) };
        let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, tail) = tail.split_at(letters);
        let unit = match unit {
            "h" => Duration::from_secs(3_600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return Err(refused()),
        };
        total = total.saturating_add(unit.saturating_mul(number));
        parts += 1;
        if parts > 4 {
            return Err(refused());
        }
        rest = tail;
    }
    if parts == 0 { Err(refused()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("90s", Some(90_000))]
    #[case("1h30m", Some(5_400_000))]
    #[case("250ms", Some(250))]
    #[case("0s", Some(0))]
    #[case("", None)]
    #[case("3 weeks", None)]
    #[case("-5m", None)]
    #[case("5", None)]
    #[case("123456s", None)]
    #[case("1s1s1s1s1s", None)]
    fn a_duration_is_numbers_with_units(#[case] text: &str, #[case] milliseconds: Option<u64>) {
        assert_eq!(parse(text).ok(), milliseconds.map(Duration::from_millis));
    }
}
