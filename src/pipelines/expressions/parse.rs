//! From text to CEL's syntax tree, by the crate's parser on a stack of its own.

use std::thread;

use cel::common::ast::IdedExpr;
use cel::parser::Parser;

use super::ExpressionError;
use super::scan::{MAX_DEPTH, scan};
use crate::api::conditions::printable;

/// The parser's stack. It needs 16 KiB for each level of nesting, and 250 KiB in a build without optimisation.
const STACK: usize = 4 << 20;

/// Parses a text.
///
/// The thread is there for its stack, and so that the generated parser, should it ever panic, stops nothing else: the
/// same text gives the same tree at any time.
///
/// # Errors
/// When the text must not reach the parser, or is no CEL.
pub fn parse(text: &str) -> Result<IdedExpr, ExpressionError> {
    scan(text)?;
    thread::scope(|scope| {
        let worker = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || parsed(text));
        let failed = |_| Err(ExpressionError::Syntax { column: 1, message: "the parser failed".to_owned() });
        // Without a further thread the own stack must do: an optimised build needs a tenth of it.
        worker.map_or_else(|_| parsed(text), |worker| worker.join().unwrap_or_else(failed))
    })
}

fn parsed(text: &str) -> Result<IdedExpr, ExpressionError> {
    let depth = u16::try_from(MAX_DEPTH).unwrap_or(u16::MAX).saturating_mul(2);
    Parser::new().max_recursion_depth(depth).parse(text).map_err(|errors| {
        let first = errors.errors.first();
        let column = first.and_then(|error| usize::try_from(error.pos.1).ok()).unwrap_or(1);
        let message = first.map_or("no expression", |error| error.msg.as_str());
        ExpressionError::Syntax { column, message: printable(message, 120) }
    })
}
