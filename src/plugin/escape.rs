//! Logs on a terminal. A log is written by whoever wrote the code that was tested: nothing in it may act on the terminal
//! of the person who reads it. A stream of any length goes through in parts, and at most three bytes wait for the next.

use super::text::push_shown;

/// Makes a stream of bytes safe to be seen.
#[derive(Debug, Default)]
pub struct Escaper {
    /// The begin of a character whose end has not come.
    pending: Vec<u8>,
    /// Whether the last character was a carriage return: with a line feed it ends a line, alone it is shown.
    returned: bool,
}

impl Escaper {
    /// The next part of the stream as safe text.
    pub fn part(&mut self, bytes: &[u8]) -> String {
        let mut joined = std::mem::take(&mut self.pending);
        joined.extend_from_slice(bytes);
        let mut safe = String::with_capacity(joined.len());
        let mut rest = joined.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.text(text, &mut safe);
                    return safe;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.text(std::str::from_utf8(valid).unwrap_or_default(), &mut safe);
                    let Some(length) = error.error_len() else {
                        self.pending = after.to_vec();
                        return safe;
                    };
                    let (invalid, after) = after.split_at(length.min(after.len()));
                    self.bytes(invalid, &mut safe);
                    rest = after;
                }
            }
        }
    }

    /// What is left at the end of the stream.
    pub fn end(&mut self) -> String {
        let mut safe = String::new();
        let pending = std::mem::take(&mut self.pending);
        self.bytes(&pending, &mut safe);
        if std::mem::take(&mut self.returned) {
            push_shown(&mut safe, '\r');
        }
        safe
    }

    fn text(&mut self, text: &str, safe: &mut String) {
        for character in text.chars() {
            if std::mem::take(&mut self.returned) && character != '\n' {
                push_shown(safe, '\r');
            }
            match character {
                '\r' => self.returned = true,
                '\n' | '\t' => safe.push(character),
                other => push_shown(safe, other),
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8], safe: &mut String) {
        if !bytes.is_empty() && std::mem::take(&mut self.returned) {
            push_shown(safe, '\r');
        }
        for byte in bytes {
            safe.push_str(&format!("\\x{byte:02x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::plugin::text::is_hazard;

    fn whole(bytes: &[u8]) -> String {
        let mut escaper = Escaper::default();
        escaper.part(bytes) + &escaper.end()
    }

    #[rstest]
    #[case(b"ok\n\ttwo\r\n", "ok\n\ttwo\n")]
    #[case(b"10%\r20%\r\n", "10%\\r20%\n")]
    #[case(b"\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07")]
    #[case(b"\x1b[2J\x1b[H\x08\x7f", "\\x1b[2J\\x1b[H\\x08\\x7f")]
    #[case(b"\xc2\x9b31m", "\\x9b31m")]
    #[case(b"\x9b31m \xff", "\\x9b31m \\xff")]
    #[case("\u{202e}evil".as_bytes(), "\\u{202e}evil")]
    #[case("日本".as_bytes(), "日本")]
    #[case(b"end\r", "end\\r")]
    #[case(b"cut \xe6\x97", "cut \\xe6\\x97")]
    fn what_would_act_on_the_terminal_is_seen_instead(#[case] bytes: &[u8], #[case] expected: &str) {
        assert_eq!(whole(bytes), expected);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_a_stream_is_cut_and_nothing_ever_acts(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0x1b), Just(b'\r'), Just(0xe6)], 0..200),
            cut in 1_usize..8,
        ) {
            let mut escaper = Escaper::default();
            let mut parts: String = bytes.chunks(cut).map(|part| {
                let safe = escaper.part(part);
                assert!(escaper.pending.len() < 4);
                safe
            }).collect();
            parts.push_str(&escaper.end());
            prop_assert_eq!(&parts, &whole(&bytes));
            prop_assert!(!parts.chars().any(|character| is_hazard(character) && character != '\n' && character != '\t'));
        }
    }
}
