//! Expressions of a pipeline: `when` and `concurrency.group`, in a bounded part of CEL.
//!
//! A namespace's text must not harm the operator, so three things stand one behind the other: [`scan`] lets only short
//! texts of known tokens and little nesting through; [`parse`] has the crate `cel` parse these; [`check`] makes of the
//! parsed tree a typed [`Expression`] in which every name is known. Evaluating that is pure, total and bounded: it has no loop, and
//! no text grows longer than [`MAX_TEXT`]. See docs/adr/0008-bounded-cel.md.

mod check;
mod evaluate;
mod parse;
mod scan;

pub use check::compile;
pub use evaluate::{Facts, NeedFacts};

use crate::api::conditions::printable;
use crate::api::job::Axis;
use crate::api::pipeline::ParamSpec;

/// The most bytes of an expression.
pub const MAX_BYTES: usize = 512;
/// The most bytes of a text that an evaluation makes.
pub const MAX_TEXT: usize = 64 * 1024;

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// A text.
    Text,
}

impl Kind {
    /// The word that users read.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "a boolean",
            Self::Integer => "a whole number",
            Self::Text => "a text",
        }
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
}

impl Value {
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Boolean(_) => Kind::Boolean,
            Self::Integer(_) => Kind::Integer,
            Self::Text(_) => Kind::Text,
        }
    }
}

/// An expression whose every name and type is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// As it was written.
    text: String,
    term: Term,
}

impl Expression {
    /// As it was written, shortened for a message.
    #[must_use]
    pub fn shown(&self) -> String {
        printable(&self.text, 80)
    }
}

/// One node of an expression.
#[derive(Debug, Clone, PartialEq)]
enum Term {
    Literal(Value),
    Variable(Variable),
    /// `has(needs.x.outputs.y)`.
    Present(Variable),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Compare(Comparison, Box<Self>, Box<Self>),
    In(Box<Self>, Vec<Self>),
    /// Texts one behind the other, or the sum of numbers.
    Add(Box<Self>, Box<Self>),
    Choose(Box<Self>, Box<Self>, Box<Self>),
    Call(Function, Vec<Self>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    StartsWith,
    EndsWith,
    Contains,
    Size,
    ToText,
    ToInteger,
}

/// Something of the run that an expression reads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Variable {
    Parameter(String, Kind),
    Result(String),
    Output(String, String),
    Commit,
    Branch,
    Tag,
    PullRequest,
    Base,
    Event,
    Axis(String),
}

/// The names that an expression may use.
#[derive(Debug, Clone, Default)]
pub struct Scope<'a> {
    /// The pipeline's parameters.
    pub parameters: &'a [ParamSpec],
    /// The jobs whose results are known by then.
    pub needs: Vec<NeedScope<'a>>,
    /// The axes of the job's matrix.
    pub axes: &'a [Axis],
    /// Whether the run's commit is known by then though only a branch or tag was given.
    pub commit: bool,
}

/// A job whose result an expression may read.
#[derive(Debug, Clone)]
pub struct NeedScope<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its outputs; none for a matrix, whose cells would differ.
    pub outputs: &'a [String],
    /// Whether it has a matrix.
    pub is_matrix: bool,
}

/// Why an expression is refused before the first job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// More than [`MAX_BYTES`].
    #[error("has {0} bytes, at most {MAX_BYTES} are possible")]
    TooLong(usize),
    /// Brackets in brackets in brackets.
    #[error("is nested deeper than {} brackets; divide it among several jobs", scan::MAX_DEPTH)]
    TooDeep,
    /// Too many parts.
    #[error("has more than {} parts; divide it among several jobs", scan::MAX_TOKENS)]
    TooManyTokens,
    /// A character or token that has no place here.
    #[error("column {column}: {why}")]
    Token {
        /// Where, from 1.
        column: usize,
        /// What, and what to write instead.
        why: String,
    },
    /// No expression by CEL's grammar.
    #[error("column {column}: {message}")]
    Syntax {
        /// Where, from 1.
        column: usize,
        /// The parser's words, shortened.
        message: String,
    },
    /// A name that means nothing.
    #[error("{0}")]
    Unknown(String),
    /// A type that does not fit.
    #[error("{0}")]
    Type(String),
    /// A part of CEL that is not available.
    #[error("{0} is not available here; see the list of operators and functions in the documentation")]
    NotAvailable(String),
}

#[cfg(test)]
#[path = "expressions_tests.rs"]
mod tests;
