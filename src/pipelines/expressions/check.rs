//! From CEL's syntax tree to an expression in which every name and type is known.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};

use super::parse::parse;
use super::{Comparison, Expression, ExpressionError, Function, Kind, NeedScope, Scope, Term, Value, Variable};
use crate::api::conditions::printable;
use crate::api::pipeline::ParamType;

/// The functions and methods that exist, as a message lists them.
const FUNCTIONS: &str = "has, size, string, int, startsWith, endsWith, contains";

/// Reads an expression that must give a value of that kind.
///
/// # Errors
/// When it is too large, no CEL, uses an unknown name, or gives something else.
pub fn compile(text: &str, wanted: Kind, scope: &Scope<'_>) -> Result<Expression, ExpressionError> {
    let tree = parse(text)?;
    let (term, kind) = checked(&tree, scope)?;
    if kind != wanted {
        return Err(ExpressionError::Type(format!("gives {}, but {} is needed", kind.as_str(), wanted.as_str())));
    }
    Ok(Expression { text: text.to_owned(), term })
}

type Checked = Result<(Term, Kind), ExpressionError>;

fn checked(tree: &IdedExpr, scope: &Scope<'_>) -> Checked {
    match &tree.expr {
        Expr::Literal(literal) => constant(literal),
        Expr::Ident(name) if name == "event" => Ok((Term::Variable(Variable::Event), Kind::Text)),
        Expr::Ident(name) if ROOTS.contains(&name.as_str()) => {
            Err(ExpressionError::Type(format!("`{name}` alone is no value: name one of its fields")))
        }
        Expr::Ident(name) => Err(unknown_root(name)),
        Expr::Select(select) if select.test => present(select, scope),
        Expr::Select(select) => variable(&select.operand, &select.field, scope),
        Expr::Call(call) => called(call, scope),
        Expr::List(_) => Err(ExpressionError::NotAvailable("a list anywhere but behind `in`".to_owned())),
        Expr::Map(_) | Expr::Struct(_) => Err(ExpressionError::NotAvailable("a map".to_owned())),
        Expr::Comprehension(_) => {
            Err(ExpressionError::NotAvailable("a macro that loops (all, exists, map, filter)".to_owned()))
        }
        Expr::Unspecified => Err(ExpressionError::Syntax { column: 1, message: "no expression".to_owned() }),
    }
}

fn constant(literal: &LiteralValue) -> Checked {
    let value = match literal {
        LiteralValue::Boolean(value) => Value::Boolean(*value.inner()),
        LiteralValue::Int(value) => Value::Integer(*value.inner()),
        LiteralValue::String(value) => Value::Text(value.inner().to_owned()),
        LiteralValue::Null | LiteralValue::Bytes(_) | LiteralValue::Double(_) | LiteralValue::UInt(_) => {
            return Err(ExpressionError::NotAvailable("a literal other than a text, a number or a boolean".to_owned()));
        }
    };
    let kind = value.kind();
    Ok((Term::Literal(value), kind))
}

const ROOTS: [&str; 4] = ["params", "needs", "revision", "matrix"];

fn unknown_root(name: &str) -> ExpressionError {
    let known = "params, needs, revision, event, matrix";
    ExpressionError::Unknown(format!("`{}` is unknown; there are: {known}", printable(name, 40)))
}

fn one_of<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> ExpressionError {
    let known: Vec<&str> = known.take(20).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    ExpressionError::Unknown(format!("{what} `{}` is unknown; there are: {known}", printable(name, 40)))
}

/// `operand.field`, or `operand['field']`.
fn variable(operand: &IdedExpr, field: &str, scope: &Scope<'_>) -> Checked {
    let text = |variable| Ok((Term::Variable(variable), Kind::Text));
    match path(operand)?.as_slice() {
        ["params"] => {
            let known = scope.parameters.iter();
            let found = known.clone().find(|param| param.name == field);
            let kind = match found.map(|param| param.param_type) {
                Some(ParamType::Boolean) => Kind::Boolean,
                Some(ParamType::Integer) => Kind::Integer,
                Some(ParamType::String | ParamType::Choice) => Kind::Text,
                None => return Err(one_of("parameter", field, known.map(|param| param.name.as_str()))),
            };
            Ok((Term::Variable(Variable::Parameter(field.to_owned(), kind)), kind))
        }
        ["revision"] => match field {
            "commit" if !scope.commit => Err(ExpressionError::NotAvailable(
                "revision.commit, which is not known when runs are grouped,".to_owned(),
            )),
            "commit" => text(Variable::Commit),
            "branch" => text(Variable::Branch),
            "tag" => text(Variable::Tag),
            "base" => text(Variable::Base),
            "pullRequest" => Ok((Term::Variable(Variable::PullRequest), Kind::Integer)),
            other => {
                let known = ["commit", "branch", "tag", "pullRequest", "base"];
                Err(one_of("revision's field", other, known.into_iter()))
            }
        },
        ["matrix"] => match scope.axes.iter().any(|axis| axis.name == field) {
            true => text(Variable::Axis(field.to_owned())),
            false => Err(one_of("axis", field, scope.axes.iter().map(|axis| axis.name.as_str()))),
        },
        ["needs", name] => {
            let need = need(name, scope)?;
            match field {
                "result" => text(Variable::Result(need.name.to_owned())),
                "outputs" => Err(ExpressionError::Type("`outputs` alone is no value: name one of them".to_owned())),
                other => Err(one_of("field of a need", other, ["result", "outputs"].into_iter())),
            }
        }
        ["needs", name, "outputs"] => text(output(name, field, scope)?),
        ["needs"] => {
            need(field, scope)?;
            Err(ExpressionError::Type(format!("needs['{field}'] alone is no value: write .result or .outputs.<name>")))
        }
        [root, ..] if ROOTS.contains(root) => {
            Err(ExpressionError::Unknown(format!("`{}` has no field `{}`", root, printable(field, 40))))
        }
        [root, ..] => Err(unknown_root(root)),
        [] => Err(ExpressionError::Type("a value has no fields".to_owned())),
    }
}

/// `has(needs.x.outputs.y)`: the only thing that may be missing.
fn present(select: &SelectExpr, scope: &Scope<'_>) -> Checked {
    match path(&select.operand)?.as_slice() {
        ["needs", name, "outputs"] => Ok((Term::Present(output(name, &select.field, scope)?), Kind::Boolean)),
        _ => Err(ExpressionError::NotAvailable(
            "has(…) of anything but an output: all else is always there; it".to_owned(),
        )),
    }
}

fn need<'s>(name: &str, scope: &'s Scope<'_>) -> Result<&'s NeedScope<'s>, ExpressionError> {
    let found = scope.needs.iter().find(|need| need.name == name);
    found.ok_or_else(|| match scope.needs.is_empty() {
        true => ExpressionError::Unknown(format!(
            "`needs['{}']`: the job needs no other; add it to needs",
            printable(name, 40)
        )),
        false => one_of("need", name, scope.needs.iter().map(|need| need.name)),
    })
}

fn output(name: &str, output: &str, scope: &Scope<'_>) -> Result<Variable, ExpressionError> {
    let need = need(name, scope)?;
    if need.is_matrix {
        return Err(ExpressionError::Type(format!("`{name}` has a matrix: its outputs have no single value")));
    }
    if !need.outputs.iter().any(|known| known == output) {
        return Err(one_of(&format!("output of {name}"), output, need.outputs.iter().map(String::as_str)));
    }
    Ok(Variable::Output(name.to_owned(), output.to_owned()))
}

/// The names along `a.b['c']`, from the root.
fn path(tree: &IdedExpr) -> Result<Vec<&str>, ExpressionError> {
    let mut names = Vec::new();
    let mut here = tree;
    loop {
        match &here.expr {
            Expr::Ident(name) => {
                names.push(name.as_str());
                names.reverse();
                return Ok(names);
            }
            Expr::Select(select) if !select.test => {
                names.push(select.field.as_str());
                here = &select.operand;
            }
            Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
                [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] => {
                    names.push(name.inner());
                    here = operand;
                }
                _ => return Err(ExpressionError::NotAvailable("an index other than a text in quotes".to_owned())),
            },
            Expr::Call(_)
            | Expr::Select(_)
            | Expr::Literal(_)
            | Expr::List(_)
            | Expr::Map(_)
            | Expr::Struct(_)
            | Expr::Comprehension(_)
            | Expr::Unspecified => return Err(ExpressionError::Type("only variables have fields".to_owned())),
        }
    }
}

fn called(call: &CallExpr, scope: &Scope<'_>) -> Checked {
    let name = call.func_name.as_str();
    let comparison = match name {
        operators::EQUALS => Some(Comparison::Equal),
        operators::NOT_EQUALS => Some(Comparison::NotEqual),
        operators::LESS => Some(Comparison::Less),
        operators::LESS_EQUALS => Some(Comparison::LessOrEqual),
        operators::GREATER => Some(Comparison::Greater),
        operators::GREATER_EQUALS => Some(Comparison::GreaterOrEqual),
        _ => None,
    };
    match (&call.target, call.args.as_slice()) {
        (None, [left, right]) if comparison.is_some() => {
            let ((left, a), (right, b)) = (checked(left, scope)?, checked(right, scope)?);
            same(a, b, "compared")?;
            let comparison = comparison.unwrap_or(Comparison::Equal);
            Ok((Term::Compare(comparison, Box::new(left), Box::new(right)), Kind::Boolean))
        }
        (None, [left, right]) if name == operators::LOGICAL_AND => {
            let (left, right) = (boolean(left, "&&", scope)?, boolean(right, "&&", scope)?);
            Ok((Term::And(Box::new(left), Box::new(right)), Kind::Boolean))
        }
        (None, [left, right]) if name == operators::LOGICAL_OR => {
            let (left, right) = (boolean(left, "||", scope)?, boolean(right, "||", scope)?);
            Ok((Term::Or(Box::new(left), Box::new(right)), Kind::Boolean))
        }
        (None, [operand]) if name == operators::LOGICAL_NOT => {
            Ok((Term::Not(Box::new(boolean(operand, "!", scope)?)), Kind::Boolean))
        }
        (None, [operand]) if name == operators::NEGATE => match constant_of(operand) {
            Some(number) => Ok((Term::Literal(Value::Integer(number)), Kind::Integer)),
            None => Err(ExpressionError::NotAvailable("`-` before anything but a number".to_owned())),
        },
        (None, [condition, yes, no]) if name == operators::CONDITIONAL => {
            let condition = boolean(condition, "?", scope)?;
            let ((yes, a), (no, b)) = (checked(yes, scope)?, checked(no, scope)?);
            same(a, b, "the two outcomes of `?`")?;
            Ok((Term::Choose(Box::new(condition), Box::new(yes), Box::new(no)), a))
        }
        (None, [left, right]) if name == operators::ADD => {
            let ((left, a), (right, b)) = (checked(left, scope)?, checked(right, scope)?);
            same(a, b, "added")?;
            match a {
                Kind::Boolean => Err(ExpressionError::Type("booleans can't be added".to_owned())),
                Kind::Integer | Kind::Text => Ok((Term::Add(Box::new(left), Box::new(right)), a)),
            }
        }
        (None, [left, right]) if name == operators::IN => contained(left, right, scope),
        (None, [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }])
            if name == operators::INDEX =>
        {
            variable(operand, field.inner(), scope)
        }
        (None, [_, _]) if name == operators::INDEX => {
            Err(ExpressionError::NotAvailable("an index other than a text in quotes".to_owned()))
        }
        (target, arguments) => function(name, target.as_deref(), arguments, scope),
    }
}

/// The negative of a number in the text.
fn constant_of(tree: &IdedExpr) -> Option<i64> {
    if let Expr::Literal(LiteralValue::Int(value)) = &tree.expr { value.inner().checked_neg() } else { None }
}

fn contained(left: &IdedExpr, right: &IdedExpr, scope: &Scope<'_>) -> Checked {
    let (left, kind) = checked(left, scope)?;
    let Expr::List(list) = &right.expr else {
        return Err(ExpressionError::NotAvailable("`in` with anything but a list in brackets".to_owned()));
    };
    let mut terms = Vec::with_capacity(list.elements.len());
    for element in &list.elements {
        let (term, other) = checked(element, scope)?;
        same(kind, other, "compared")?;
        terms.push(term);
    }
    Ok((Term::In(Box::new(left), terms), Kind::Boolean))
}

fn function(name: &str, target: Option<&IdedExpr>, arguments: &[IdedExpr], scope: &Scope<'_>) -> Checked {
    let method = match name {
        "startsWith" => Some(Function::StartsWith),
        "endsWith" => Some(Function::EndsWith),
        "contains" => Some(Function::Contains),
        _ => None,
    };
    match (target, arguments, method) {
        (Some(target), [argument], Some(function)) => {
            let ((text, a), (part, b)) = (checked(target, scope)?, checked(argument, scope)?);
            same(a, Kind::Text, name)?;
            same(b, Kind::Text, name)?;
            Ok((Term::Call(function, vec![text, part]), Kind::Boolean))
        }
        (None, [argument], None) | (Some(argument), [], None) if name == "size" => {
            let (text, kind) = checked(argument, scope)?;
            same(kind, Kind::Text, "size")?;
            Ok((Term::Call(Function::Size, vec![text]), Kind::Integer))
        }
        (None, [argument], None) if name == "string" => {
            let (term, _) = checked(argument, scope)?;
            Ok((Term::Call(Function::ToText, vec![term]), Kind::Text))
        }
        (None, [argument], None) if name == "int" => {
            let (term, kind) = checked(argument, scope)?;
            match kind {
                Kind::Integer => Ok((term, Kind::Integer)),
                Kind::Text => Ok((Term::Call(Function::ToInteger, vec![term]), Kind::Integer)),
                Kind::Boolean => Err(ExpressionError::Type("a boolean is no number".to_owned())),
            }
        }
        (Some(_) | None, _, Some(_) | None) => {
            let name = printable(name, 40);
            Err(ExpressionError::Unknown(format!(
                "the function `{name}` with these arguments is unknown; there are: {FUNCTIONS}"
            )))
        }
    }
}

fn boolean(tree: &IdedExpr, operator: &str, scope: &Scope<'_>) -> Result<Term, ExpressionError> {
    let (term, kind) = checked(tree, scope)?;
    match kind {
        Kind::Boolean => Ok(term),
        Kind::Integer | Kind::Text => {
            Err(ExpressionError::Type(format!("`{operator}` takes booleans, not {}", kind.as_str())))
        }
    }
}

fn same(a: Kind, b: Kind, what: &str) -> Result<(), ExpressionError> {
    if a == b {
        return Ok(());
    }
    let hint = if a == Kind::Integer || b == Kind::Integer { "; convert with int(…) or string(…)" } else { "" };
    Err(ExpressionError::Type(format!("{what}: {} and {} do not go together{hint}", a.as_str(), b.as_str())))
}
