//! The lines `name=value` that a job writes to `$OUTPUTS`.

use std::collections::BTreeMap;

/// Bounds: outputs travel in a termination message.
const MAX_VALUE_BYTES: usize = 256;
const MAX_TOTAL_BYTES: usize = 600;

/// The declared outputs (all of them when none is declared), and what could not be taken. A later line of a name
/// replaces an earlier one.
pub(super) fn parse(text: &[u8], declared: &[String]) -> (BTreeMap<String, String>, Vec<String>) {
    let mut outputs = BTreeMap::new();
    let mut problems = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let Some((name, value)) = line.trim_end_matches('\r').split_once('=') else { continue };
        let is_wanted = if declared.is_empty() { is_name(name) } else { declared.iter().any(|known| known == name) };
        if !is_wanted {
            continue;
        }
        if value.len() > MAX_VALUE_BYTES || value.chars().any(char::is_control) {
            problems.push(format!("output `{name}` is longer than {MAX_VALUE_BYTES} bytes or not plain text"));
            outputs.remove(name);
        } else {
            outputs.insert(name.to_owned(), value.to_owned());
        }
    }
    let mut total = 0;
    outputs.retain(|name: &String, value: &mut String| {
        total += name.len() + value.len();
        if total > MAX_TOTAL_BYTES {
            problems.push(format!("output `{name}` does not fit: all outputs have {MAX_TOTAL_BYTES} bytes"));
        }
        total <= MAX_TOTAL_BYTES
    });
    (outputs, problems)
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_outputs_are_taken_and_everything_else_is_not() {
        let declared = ["version".to_owned(), "notes".to_owned(), "long".to_owned()];
        let long = "x".repeat(300);
        let text = format!("version=1\nversion=5.10.0=rc\r\nother=1\nnotes=a\u{7}b\nlong={long}\nno line\n");
        let (outputs, problems) = parse(text.as_bytes(), &declared);
        assert_eq!(outputs, BTreeMap::from([("version".to_owned(), "5.10.0=rc".to_owned())]));
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn without_declarations_every_proper_name_is_taken_until_the_room_is_used_up() {
        let (outputs, _) = parse(b"image-tag=a\nno name=b\n=c\n", &[]);
        assert_eq!(outputs, BTreeMap::from([("image-tag".to_owned(), "a".to_owned())]));
        let many: String = (0..100).map(|number| format!("name{number}={}\n", "x".repeat(50))).collect();
        let (outputs, problems) = parse(many.as_bytes(), &[]);
        assert!(outputs.len() < 12 && !problems.is_empty());
    }
}
