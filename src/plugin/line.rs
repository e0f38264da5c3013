//! Lines of text in which parts have a tone, painted or not.

use super::text::{columns, fit, shown};

/// What a part of a line expresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    Plain,
    /// Success.
    Good,
    /// Failure.
    Bad,
    /// Under way.
    Busy,
    /// Beside the point.
    Faint,
    /// A heading.
    Strong,
}

impl Tone {
    /// The parameters of the terminal's sequence "select graphic rendition".
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Bad => Some("31"),
            Self::Busy => Some("36"),
            Self::Faint => Some("2"),
            Self::Strong => Some("1"),
        }
    }
}

/// One line. Whatever is put into it is shown, never obeyed: it can't hold a control character.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line(Vec<(Tone, String)>);

impl Line {
    /// A line with this in it.
    #[must_use]
    pub fn of(tone: Tone, text: &str) -> Self {
        Self::default().with(tone, text)
    }

    /// The line with this at its end.
    #[must_use]
    pub fn with(mut self, tone: Tone, text: &str) -> Self {
        if !text.is_empty() {
            self.0.push((tone, shown(text)));
        }
        self
    }

    /// The line with blanks up to that column, and one at least.
    #[must_use]
    pub fn up_to(self, column: usize) -> Self {
        let blanks = " ".repeat(column.saturating_sub(self.columns()).max(1));
        self.with(Tone::Plain, &blanks)
    }

    /// The line with another one at its end.
    #[must_use]
    pub fn join(mut self, other: &Self) -> Self {
        self.0.extend_from_slice(&other.0);
        self
    }

    /// How many columns it needs.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.0.iter().map(|(_, text)| columns(text)).sum()
    }

    /// The line cut to that many columns.
    #[must_use]
    pub fn fit(self, most: usize) -> Self {
        if self.columns() <= most {
            return self;
        }
        let mut left = most;
        let mut cut = Vec::new();
        for (tone, text) in self.0 {
            let needed = columns(&text);
            if needed < left {
                left -= needed;
                cut.push((tone, text));
                continue;
            }
            // Exactly filled, yet more follows: the ellipsis needs the last column.
            let shorter = if needed == left { fit(&format!("{text} "), left) } else { fit(&text, left) };
            cut.push((tone, shorter));
            break;
        }
        Self(cut)
    }

    /// The text, with colours when they are wanted.
    #[must_use]
    pub fn paint(&self, colour: bool) -> String {
        let mut painted = String::new();
        for (tone, text) in &self.0 {
            match tone.code().filter(|_| colour) {
                Some(code) => painted.push_str(&format!("\u{1b}[{code}m{text}\u{1b}[0m")),
                None => painted.push_str(text),
            }
        }
        painted.truncate(painted.trim_end_matches(' ').len());
        painted
    }
}

/// Lines as one text.
#[must_use]
pub fn paint(lines: &[Line], colour: bool) -> String {
    lines.iter().map(|line| line.paint(colour) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_no_control_character_whatever_is_put_into_it() {
        let line = Line::of(Tone::Bad, "a\u{1b}[2J").with(Tone::Plain, "\nb");
        assert_eq!(line.paint(false), "a\\x1b[2J\\nb");
        assert_eq!(line.paint(true), "\u{1b}[31ma\\x1b[2J\u{1b}[0m\\nb");
    }

    #[test]
    fn a_line_is_cut_where_its_columns_end_and_says_so() {
        let line = Line::of(Tone::Good, "✓ ").with(Tone::Plain, "日本語").with(Tone::Faint, " 3 s");
        for most in 0..14 {
            let cut = line.clone().fit(most);
            assert!(cut.columns() <= most, "{most}: {cut:?}");
            assert_eq!(cut.paint(false).ends_with('…'), (1..12).contains(&most), "{most}: {cut:?}");
        }
    }
}
