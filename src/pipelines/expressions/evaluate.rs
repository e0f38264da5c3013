//! The value of an expression: pure, total and bounded.

use std::collections::BTreeMap;

use super::{Comparison, Expression, Function, MAX_TEXT, Term, Value, Variable};
use crate::api::names::CommitSha;
use crate::api::pipeline::Parameters;
use crate::api::run::{JobPhase, RevisionSpec};

/// What is known of a run when an expression is evaluated.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// All parameters with their values.
    pub parameters: Option<&'a Parameters>,
    /// The needs by name.
    pub needs: BTreeMap<&'a str, NeedFacts<'a>>,
    /// What the run names.
    pub revision: Option<&'a RevisionSpec>,
    /// The commit.
    pub commit: Option<&'a CommitSha>,
    /// The kind of event.
    pub event: &'a str,
    /// Axis and value of the cell.
    pub cell: &'a [(String, String)],
}

/// How a need ended.
#[derive(Debug, Clone)]
pub struct NeedFacts<'a> {
    /// As it is reported.
    pub phase: JobPhase,
    /// What it wrote.
    pub outputs: Option<&'a BTreeMap<String, String>>,
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// The need did not write the output.
    #[error("needs['{need}'].outputs.{output} was not written; ask with has(…) first")]
    MissingOutput {
        /// The need.
        need: String,
        /// The output.
        output: String,
    },
    /// The text is no number.
    #[error("int(…): the text is no whole number")]
    NoNumber,
    /// The sum does not fit 64 bits.
    #[error("the sum is larger than 64 bits")]
    Overflow,
    /// The text would be longer than [`MAX_TEXT`].
    #[error("a text would be longer than {} KiB", MAX_TEXT / 1024)]
    TooLong,
    /// A value of another type than it was declared with.
    #[error("a value has another type than its declaration says")]
    Type,
}

impl Expression {
    /// Whether it is true.
    ///
    /// # Errors
    /// When it has no value.
    pub fn is_true(&self, facts: &Facts<'_>) -> Result<bool, EvaluationError> {
        boolean(&self.term, facts)
    }

    /// Its text.
    ///
    /// # Errors
    /// When it has no value.
    pub fn text(&self, facts: &Facts<'_>) -> Result<String, EvaluationError> {
        text(&self.term, facts)
    }
}

type Evaluated<T> = Result<T, EvaluationError>;

fn value(term: &Term, facts: &Facts<'_>) -> Evaluated<Value> {
    Ok(match term {
        Term::Literal(value) => value.clone(),
        Term::Variable(variable) => variable.value(facts)?,
        Term::Present(variable) => Value::Boolean(variable.value(facts).is_ok()),
        Term::Not(operand) => Value::Boolean(!boolean(operand, facts)?),
        Term::And(left, right) => Value::Boolean(absorbing(left, right, false, facts)?),
        Term::Or(left, right) => Value::Boolean(absorbing(left, right, true, facts)?),
        Term::Compare(comparison, left, right) => {
            Value::Boolean(comparison.holds(&value(left, facts)?, &value(right, facts)?))
        }
        Term::In(element, list) => {
            let element = value(element, facts)?;
            let mut found = false;
            for candidate in list {
                found |= value(candidate, facts)? == element;
            }
            Value::Boolean(found)
        }
        Term::Add(left, right) => match (value(left, facts)?, value(right, facts)?) {
            (Value::Integer(a), Value::Integer(b)) => {
                Value::Integer(a.checked_add(b).ok_or(EvaluationError::Overflow)?)
            }
            (Value::Text(a), Value::Text(b)) if a.len() + b.len() <= MAX_TEXT => Value::Text(a + &b),
            (Value::Text(_), Value::Text(_)) => return Err(EvaluationError::TooLong),
            (Value::Boolean(_) | Value::Integer(_) | Value::Text(_), _) => return Err(EvaluationError::Type),
        },
        Term::Choose(condition, yes, no) => value(if boolean(condition, facts)? { yes } else { no }, facts)?,
        Term::Call(function, arguments) => function.call(arguments, facts)?,
    })
}

fn boolean(term: &Term, facts: &Facts<'_>) -> Evaluated<bool> {
    match value(term, facts)? {
        Value::Boolean(value) => Ok(value),
        Value::Integer(_) | Value::Text(_) => Err(EvaluationError::Type),
    }
}

fn text(term: &Term, facts: &Facts<'_>) -> Evaluated<String> {
    match value(term, facts)? {
        Value::Text(value) => Ok(value),
        Value::Integer(_) | Value::Boolean(_) => Err(EvaluationError::Type),
    }
}

/// `&&` and `||`: one side that decides wins over an error of the other, as CEL has it.
fn absorbing(left: &Term, right: &Term, deciding: bool, facts: &Facts<'_>) -> Evaluated<bool> {
    let left = boolean(left, facts);
    if left == Ok(deciding) {
        return left;
    }
    match (left, boolean(right, facts)) {
        (_, Ok(right)) if right == deciding => Ok(deciding),
        (Ok(_), right) => right,
        (Err(error), _) => Err(error),
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

impl Function {
    fn call(self, arguments: &[Term], facts: &Facts<'_>) -> Evaluated<Value> {
        let first = || arguments.first().ok_or(EvaluationError::Type);
        let both = || match arguments {
            [whole, part] => Ok((text(whole, facts)?, text(part, facts)?)),
            _ => Err(EvaluationError::Type),
        };
        Ok(match self {
            Self::StartsWith => Value::Boolean(both().map(|(whole, part)| whole.starts_with(&part))?),
            Self::EndsWith => Value::Boolean(both().map(|(whole, part)| whole.ends_with(&part))?),
            Self::Contains => Value::Boolean(both().map(|(whole, part)| whole.contains(&part))?),
            Self::Size => {
                let size = text(first()?, facts)?.chars().count();
                Value::Integer(i64::try_from(size).map_err(|_| EvaluationError::Overflow)?)
            }
            Self::ToText => Value::Text(match value(first()?, facts)? {
                Value::Boolean(value) => value.to_string(),
                Value::Integer(value) => value.to_string(),
                Value::Text(value) => value,
            }),
            Self::ToInteger => Value::Integer(text(first()?, facts)?.parse().map_err(|_| EvaluationError::NoNumber)?),
        })
    }
}

impl Variable {
    fn value(&self, facts: &Facts<'_>) -> Evaluated<Value> {
        use super::Kind;
        let words = |text: Option<&str>| Ok(Value::Text(text.unwrap_or_default().to_owned()));
        let pull_request = facts.revision.and_then(|revision| revision.pull_request.as_ref());
        match self {
            Self::Parameter(name, kind) => {
                let given = facts.parameters.and_then(|all| all.get(name)).ok_or(EvaluationError::Type)?;
                match kind {
                    Kind::Boolean => given.parse().map(Value::Boolean).map_err(|_| EvaluationError::Type),
                    Kind::Integer => given.parse().map(Value::Integer).map_err(|_| EvaluationError::Type),
                    Kind::Text => Ok(Value::Text(given.clone())),
                }
            }
            Self::Result(need) => {
                let need = facts.needs.get(need.as_str()).ok_or(EvaluationError::Type)?;
                words(Some(result_word(need.phase)))
            }
            Self::Output(need, output) => {
                let outputs = facts.needs.get(need.as_str()).and_then(|need| need.outputs);
                let written = outputs.and_then(|outputs| outputs.get(output));
                let missing = || EvaluationError::MissingOutput { need: need.clone(), output: output.clone() };
                written.cloned().map(Value::Text).ok_or_else(missing)
            }
            Self::Commit => words(facts.commit.map(CommitSha::as_str)),
            Self::Branch => words(facts.revision.and_then(|revision| revision.branch.as_deref())),
            Self::Tag => words(facts.revision.and_then(|revision| revision.tag.as_deref())),
            Self::Base => words(pull_request.map(|request| request.base.as_str())),
            Self::PullRequest => Ok(Value::Integer(pull_request.map_or(0, |request| request.number))),
            Self::Event => words(Some(facts.event)),
            Self::Axis(axis) => {
                let cell = facts.cell.iter().find(|(name, _)| name == axis);
                words(cell.map(|(_, value)| value.as_str()))
            }
        }
    }
}

/// A job's result as the status says it.
fn result_word(phase: JobPhase) -> &'static str {
    match phase {
        JobPhase::Succeeded => "Succeeded",
        JobPhase::Failed => "Failed",
        JobPhase::Skipped => "Skipped",
        JobPhase::Cancelled => "Cancelled",
        JobPhase::Waiting | JobPhase::Queued | JobPhase::Starting | JobPhase::Running => "",
    }
}
