//! Where progress is shown: redrawn in place on a terminal, line after line elsewhere.

use std::io::{self, IsTerminal, Write};

use terminal_size::{Height, Width, terminal_size};

use super::line::Line;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressStyle {
    /// A tree on a terminal, plain lines elsewhere.
    Auto,
    /// A tree, redrawn in place.
    Tree,
    /// One line for each change.
    Plain,
}

/// What is known of where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Standard output is a terminal.
    pub terminal: bool,
    /// Colours are wanted.
    pub colour: bool,
    /// What was drawn may be drawn again in place.
    pub redraws: bool,
}

/// Columns and rows when nobody tells: those of the first terminals.
const SIZE: (usize, usize) = (80, 24);
/// As wide as lines are useful.
const WIDEST: usize = 160;

impl Output {
    /// Of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::of(io::stdout().is_terminal(), |name| std::env::var(name).ok())
    }

    /// With these variables of the environment.
    fn of(terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let dumb = variable("TERM").is_none_or(|kind| kind.is_empty() || kind == "dumb");
        let unattended = is_set("CI") && variable("CI").is_some_and(|value| value != "false");
        Self { terminal, colour: terminal && !dumb && !is_set("NO_COLOR"), redraws: terminal && !dumb && !unattended }
    }
}

/// The size of the terminal, in columns and rows.
#[must_use]
pub fn size() -> (usize, usize) {
    let (width, height) = terminal_size().map_or(SIZE, |(Width(width), Height(height))| (width.into(), height.into()));
    // A terminal may say that it has no size.
    let (width, height) = (if width == 0 { SIZE.0 } else { width }, if height == 0 { SIZE.1 } else { height });
    (width.min(WIDEST), height)
}

/// A part of the terminal that is drawn again in place.
#[derive(Debug)]
pub struct Screen<W: Write> {
    writer: W,
    colour: bool,
    /// Columns of the lines that stand there.
    drawn: Vec<usize>,
}

impl<W: Write> Screen<W> {
    /// Nothing is drawn yet.
    pub fn new(writer: W, colour: bool) -> Self {
        Self { writer, colour, drawn: Vec::new() }
    }

    /// Draws the lines where the earlier ones stood. `width` is the terminal's now: it may have become narrower, and
    /// the earlier lines be wrapped.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn draw(&mut self, lines: &[Line], width: usize) -> io::Result<()> {
        let rows: usize = self.drawn.iter().map(|columns| columns.saturating_sub(1) / width.max(1) + 1).sum();
        let mut frame = String::new();
        if rows > 0 {
            frame.push_str(&format!("\u{1b}[{rows}A"));
        }
        // Without a visible cursor that jumps about.
        frame.push_str("\r\u{1b}[?25l");
        for line in lines {
            frame.push_str(&line.paint(self.colour));
            // What is left of a longer line.
            frame.push_str("\u{1b}[K\n");
        }
        frame.push_str("\u{1b}[J\u{1b}[?25h");
        self.drawn = lines.iter().map(Line::columns).collect();
        self.writer.write_all(frame.as_bytes())?;
        self.writer.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::plugin::line::Tone;

    #[rstest]
    #[case(true, &[("TERM", "xterm")], (true, true))]
    #[case(false, &[("TERM", "xterm")], (false, false))]
    #[case(true, &[("TERM", "xterm"), ("NO_COLOR", "1")], (false, true))]
    #[case(true, &[("TERM", "xterm"), ("NO_COLOR", "")], (true, true))]
    #[case(true, &[("TERM", "dumb")], (false, false))]
    #[case(true, &[], (false, false))]
    #[case(true, &[("TERM", "xterm"), ("CI", "true")], (true, false))]
    #[case(true, &[("TERM", "xterm"), ("CI", "false")], (true, true))]
    fn colours_and_redrawing_are_for_terminals_that_want_them(
        #[case] terminal: bool,
        #[case] environment: &[(&str, &str)],
        #[case] expected: (bool, bool),
    ) {
        let variable =
            |name: &str| environment.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        let output = Output::of(terminal, variable);
        assert_eq!((output.colour, output.redraws), expected);
    }

    #[test]
    fn a_frame_replaces_the_earlier_one_even_when_that_is_wrapped_now() {
        let mut written = Vec::new();
        let mut screen = Screen::new(&mut written, false);
        screen.draw(&[Line::of(Tone::Plain, "0123456789"), Line::of(Tone::Plain, "ab")], 20).unwrap();
        screen.draw(&[Line::of(Tone::Plain, "x")], 4).unwrap();
        let text = String::from_utf8(written).unwrap();
        let (_, second) = text.split_once("\u{1b}[?25h").unwrap();
        // Ten columns need three rows of four, and the second line one.
        assert!(second.starts_with("\u{1b}[4A\r"), "{second:?}");
        assert!(second.contains("x\u{1b}[K\n\u{1b}[J"), "{second:?}");
    }
}
