//! Text for people. What others wrote is shown, never obeyed, and columns are counted as terminals count them.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Whether a character does something to a terminal, or to the eye, instead of being seen.
pub(super) fn is_hazard(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Appends the character, or how it is written when it is a hazard.
pub(super) fn push_shown(text: &mut String, character: char) {
    if !is_hazard(character) {
        text.push(character);
        return;
    }
    // Writing to a string can't fail.
    let _ = match character {
        '\n' => write!(text, "\\n"),
        '\r' => write!(text, "\\r"),
        '\t' => write!(text, "\\t"),
        other if u32::from(other) < 0x100 => write!(text, "\\x{:02x}", u32::from(other)),
        other => write!(text, "\\u{{{:x}}}", u32::from(other)),
    };
}

/// `text` as one line on which nothing acts.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    text.chars().for_each(|character| push_shown(&mut safe, character));
    safe
}

/// How many columns a terminal needs for it.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.width()
}

/// `text` cut to that many columns, with an ellipsis in the last one when something is missing.
#[must_use]
pub fn fit(text: &str, most: usize) -> String {
    if columns(text) <= most {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.width().unwrap_or_default();
        if used >= most {
            break;
        }
        cut.push(character);
    }
    if most > 0 {
        cut.push('…');
    }
    cut
}

/// `text` filled up with blanks to that many columns.
#[must_use]
pub fn padded(text: &str, least: usize) -> String {
    let blanks = least.saturating_sub(columns(text));
    format!("{text}{}", " ".repeat(blanks))
}

/// Seconds from `since` to `until`, never less than none.
#[must_use]
pub fn seconds_between(since: Timestamp, until: Timestamp) -> i64 {
    SignedDuration::as_secs(&until.duration_since(since)).max(0)
}

/// A length of time in its two largest units, the smaller one only where there is some of it.
#[must_use]
pub fn length(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (large, small) = if days > 0 {
        ((days, "d"), (hours % 24, "h"))
    } else if hours > 0 {
        ((hours, "h"), (minutes % 60, "min"))
    } else if minutes > 0 {
        ((minutes, "min"), (seconds % 60, "s"))
    } else {
        ((seconds, "s"), (0, ""))
    };
    if small.0 > 0 {
        format!("{} {} {} {}", large.0, large.1, small.0, small.1)
    } else {
        format!("{} {}", large.0, large.1)
    }
}

/// A number of bytes in the largest unit that fits.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in units {
        let whole = bytes >> shift;
        if whole > 0 {
            let tenths = ((bytes >> (shift - 10)) & 1023) * 10 / 1024;
            return format!("{whole}.{tenths} {unit}");
        }
    }
    format!("{bytes} B")
}

/// A time of day with its date, in UTC.
#[must_use]
pub fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// `word` as one word for a POSIX shell. `None`: it has characters that can't be pasted safely.
#[must_use]
pub fn shell_word(word: &str) -> Option<String> {
    if word.chars().any(is_hazard) {
        return None;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@=,+%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return Some(word.to_owned());
    }
    Some(format!("'{}'", word.replace('\'', "'\\''")))
}

/// Rows below each other in columns, two blanks between them; the last column is not filled up.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..count)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| columns(cell)).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("plain ä 日本 🦀", "plain ä 日本 🦀")]
    #[case("\u{1b}]0;owned\u{7}", "\\x1b]0;owned\\x07")]
    #[case("a\r\nb\tc", "a\\r\\nb\\tc")]
    #[case("\u{9b}31m", "\\x9b31m")]
    #[case("evil\u{202e}txt.exe\u{200b}", "evil\\u{202e}txt.exe\\u{200b}")]
    fn what_would_act_on_a_terminal_is_written_out(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(shown(text), expected);
    }

    #[rstest]
    #[case("abcdef", 6, "abcdef")]
    #[case("abcdef", 4, "abc…")]
    #[case("日本語", 6, "日本語")]
    #[case("日本語", 5, "日本…")]
    #[case("日本語", 4, "日…")]
    #[case("日本語", 1, "…")]
    #[case("abc", 0, "")]
    fn a_cut_text_never_needs_more_columns_than_there_are(
        #[case] text: &str,
        #[case] most: usize,
        #[case] expected: &str,
    ) {
        assert_eq!(fit(text, most), expected);
        assert!(columns(&fit(text, most)) <= most);
    }

    #[rstest]
    #[case(-3, "0 s")]
    #[case(59, "59 s")]
    #[case(72, "1 min 12 s")]
    #[case(600, "10 min")]
    #[case(7_300, "2 h 1 min")]
    #[case(190_000, "2 d 4 h")]
    fn a_length_of_time_has_two_units(#[case] seconds: i64, #[case] expected: &str) {
        assert_eq!(length(seconds), expected);
    }

    #[rstest]
    #[case(0, "0 B")]
    #[case(1023, "1023 B")]
    #[case(1536, "1.5 KiB")]
    #[case(512 << 20, "512.0 MiB")]
    #[case(u64::MAX, "17179869183.9 GiB")]
    fn a_size_has_one_unit(#[case] bytes: u64, #[case] expected: &str) {
        assert_eq!(size(bytes), expected);
    }

    #[rstest]
    #[case("tests/test_a.py::TestA::test_b", Some("tests/test_a.py::TestA::test_b"))]
    #[case("a b", Some("'a b'"))]
    #[case("$(reboot)", Some("'$(reboot)'"))]
    #[case("it's", Some("'it'\\''s'"))]
    #[case("", Some("''"))]
    #[case("a\nb", None)]
    fn a_word_for_the_shell_stays_one_word(#[case] word: &str, #[case] expected: Option<&str>) {
        assert_eq!(shell_word(word).as_deref(), expected);
    }

    #[test]
    fn columns_of_a_table_start_below_each_other_whatever_stands_in_them() {
        let rows = [vec!["日本".to_owned(), "b".to_owned()], vec!["a".to_owned(), "c".to_owned()]];
        assert_eq!(table(&rows), "日本  b\na     c\n");
    }
}
