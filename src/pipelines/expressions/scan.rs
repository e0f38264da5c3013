//! What may reach the parser at all: short texts of known tokens, little nested.

use super::{ExpressionError, MAX_BYTES};

/// The most brackets around a token.
pub const MAX_DEPTH: usize = 12;
/// The most tokens.
pub const MAX_TOKENS: usize = 128;

/// Checks a text before it is parsed.
///
/// `!!` and `--` are refused: the parser visits what stands behind them twice, so that each level of nesting doubles
/// its time and memory (tried: 20 levels in 100 bytes take a second and 80 MiB).
///
/// # Errors
/// The first thing that must not reach the parser.
pub fn scan(text: &str) -> Result<(), ExpressionError> {
    if text.len() > MAX_BYTES {
        return Err(ExpressionError::TooLong(text.len()));
    }
    let mut scanner = Scanner { rest: text.char_indices().peekable(), depth: 0, tokens: 0, before: Before::Nothing };
    while let Some((at, c)) = scanner.rest.next() {
        scanner.token(text, at, c)?;
    }
    Ok(())
}

/// What the last token was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Not,
    Operand,
    Other,
}

struct Scanner<'a> {
    rest: std::iter::Peekable<std::str::CharIndices<'a>>,
    depth: usize,
    tokens: usize,
    before: Before,
}

impl Scanner<'_> {
    fn token(&mut self, text: &str, at: usize, c: char) -> Result<(), ExpressionError> {
        let refuse = |why: &str| {
            let column = text.get(..at).map_or(0, |before| before.chars().count()) + 1;
            Err(ExpressionError::Token { column, why: why.to_owned() })
        };
        if c == ' ' || c == '\n' || c == '\t' {
            return Ok(());
        }
        self.tokens += 1;
        if self.tokens > MAX_TOKENS {
            return Err(ExpressionError::TooManyTokens);
        }
        let before = self.before;
        self.before = Before::Other;
        let follows = |scanner: &mut Self, wanted: char| scanner.rest.next_if(|(_, next)| *next == wanted).is_some();
        match c {
            '\'' | '"' => {
                self.before = Before::Operand;
                if !self.literal(c) {
                    return refuse("this text has no end, or an escape other than \\\\ \\' \\\" \\n \\t");
                }
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                while self.rest.next_if(|(_, next)| next.is_ascii_alphanumeric() || *next == '_').is_some() {}
                if matches!(self.rest.peek(), Some((_, '\'' | '"'))) {
                    return refuse("a letter directly before a text is not available");
                }
                self.before = Before::Operand;
            }
            '0'..='9' => {
                while self.rest.next_if(|(_, next)| next.is_ascii_digit()).is_some() {}
                if matches!(self.rest.peek(), Some((_, '.' | '_' | 'a'..='z' | 'A'..='Z'))) {
                    return refuse("only whole decimal numbers are available");
                }
                self.before = Before::Operand;
            }
            '-' if before == Before::Operand => {
                return refuse(
                    "`-` is not available; a job whose name has a hyphen is written needs['the-name'], an output needs['a'].outputs['the-name']",
                );
            }
            '-' if matches!(self.rest.peek(), Some((_, '0'..='9'))) => {}
            '!' if follows(self, '=') => {}
            '!' if before == Before::Not => return refuse("`!!` is not available; leave both out"),
            '!' => self.before = Before::Not,
            '&' if follows(self, '&') => {}
            '|' if follows(self, '|') => {}
            '=' if follows(self, '=') => {}
            '=' => return refuse("write `==`"),
            '<' | '>' => {
                follows(self, '=');
            }
            '(' | '[' => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(ExpressionError::TooDeep);
                }
            }
            ')' | ']' => {
                if self.depth == 0 {
                    return refuse("this bracket was never opened");
                }
                self.depth -= 1;
                self.before = Before::Operand;
            }
            // Each opens an expression within: it counts as nesting and never closes.
            '?' => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(ExpressionError::TooDeep);
                }
                if matches!(self.rest.peek(), Some((_, '.' | '['))) {
                    return refuse("optional access is not available; ask with has(…)");
                }
            }
            '.' | ',' | ':' | '+' => {}
            '/' | '*' | '%' | '-' => return refuse("of the arithmetic operators only `+` is available"),
            '{' | '}' => return refuse("maps are not available"),
            other => return refuse(&format!("the character {:?} has no meaning here", other)),
        }
        Ok(())
    }

    /// Reads to the end of a text that begins with `quote`; whether it has one.
    fn literal(&mut self, quote: char) -> bool {
        while let Some((_, c)) = self.rest.next() {
            match c {
                _ if c == quote => {
                    // Three of them would begin a text of another grammar.
                    return self.rest.peek().is_none_or(|(_, next)| *next != quote);
                }
                '\\' if self.rest.next_if(|(_, next)| matches!(next, '\\' | '\'' | '"' | 'n' | 't')).is_none() => {
                    return false;
                }
                '\\' => {}
                _ if c.is_control() => return false,
                _ => {}
            }
        }
        false
    }
}
