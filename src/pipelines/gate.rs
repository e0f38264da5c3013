//! Whether a job may start, from how the jobs before it ended.

use super::environments::Role;
use super::expressions::{Expression, ExpressionError, Facts, Kind, NeedScope, Scope, compile};
use super::graph::{Graph, Node};
use crate::api::pipeline::ParamSpec;
use crate::api::run::JobPhase;

/// Whether a job may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Something that it needs is not final.
    Wait,
    /// It may.
    Open,
    /// It never will, and why.
    Skip(String),
    /// Its `when` has no value, and why: the job fails.
    Broken(String),
}

impl Gate {
    /// Without `when` every need must have Succeeded; with it the needs must only be final, and [`Gate::behind`] says
    /// the rest for each cell. Jobs of `finally` wait for all others, however these end.
    ///
    /// `finals` has the result of each job before this one in the graph, once it is final.
    #[must_use]
    pub fn of(graph: &Graph, node: &Node, finals: &[Option<JobPhase>]) -> Self {
        let ended = |place: usize| finals.get(place).copied().flatten();
        if node.is_finally {
            // An image for later runs holds nothing up.
            let counts = |other: &Node| !other.is_finally && !matches!(other.environment, Role::Publishes(_));
            let mut others = graph.nodes().iter().enumerate().filter(|(_, other)| counts(other));
            let graph_is_over = others.all(|(place, _)| ended(place).is_some());
            let needs_are_over = node.needs.iter().all(|place| ended(*place).is_some());
            let open = graph_is_over && needs_are_over;
            return if open { Self::behind_environment(graph, node, finals) } else { Self::Wait };
        }
        let mut skip = None;
        for place in &node.needs {
            let Some(need) = graph.node(*place) else { continue };
            match ended(*place) {
                None => return Self::Wait,
                Some(_) if node.spec.when.is_some() => {}
                Some(JobPhase::Succeeded) => {}
                Some(JobPhase::Failed) if need.spec.continue_on_error => {}
                Some(phase) => {
                    skip.get_or_insert_with(|| format!("needs {}, which is {phase:?}", need.spec.name));
                }
            }
        }
        skip.map_or_else(|| Self::behind_environment(graph, node, finals), Self::Skip)
    }

    /// The gate of a job whose gate is open but for its environment: without it the job never runs, whatever its `when`.
    fn behind_environment(graph: &Graph, node: &Node, finals: &[Option<JobPhase>]) -> Self {
        let Role::Uses(place) = node.environment else { return Self::Open };
        match (finals.get(place).copied().flatten(), graph.node(place)) {
            (None, _) => Self::Wait,
            (Some(JobPhase::Succeeded), _) | (_, None) => Self::Open,
            (Some(phase), Some(maker)) => {
                Self::Skip(format!("has no environment: job {} is {phase:?}", maker.spec.name))
            }
        }
    }

    /// The gate of one cell whose job's gate is open, behind its `when`.
    #[must_use]
    pub fn behind(condition: &Result<Expression, ExpressionError>, facts: &Facts<'_>) -> Self {
        let condition = match condition {
            Ok(condition) => condition,
            // It was sound when the run began: this operator is another one.
            Err(error) => return Self::Broken(format!("when: {error}")),
        };
        match condition.is_true(facts) {
            Ok(true) => Self::Open,
            Ok(false) => Self::Skip(format!("when is false: {}", condition.shown())),
            Err(error) => Self::Broken(format!("when: {error}: {}", condition.shown())),
        }
    }
}

/// The node's `when`, checked against what it may read; `None` when it has none.
#[must_use]
pub fn condition(parameters: &[ParamSpec], graph: &Graph, node: &Node) -> Option<Result<Expression, ExpressionError>> {
    let when = node.spec.when.as_deref()?;
    let needs = readable(graph, node).map(|(_, need)| NeedScope {
        name: &need.spec.name,
        outputs: &need.spec.outputs,
        is_matrix: need.spec.matrix.is_some(),
    });
    let axes = node.spec.matrix.as_ref().map(|matrix| matrix.axes.as_slice()).unwrap_or_default();
    let scope = Scope { parameters, needs: needs.collect(), axes, commit: true };
    Some(compile(when, Kind::Boolean, &scope))
}

/// The jobs whose results the node's `when` may read, with their places: those it needs; in `finally` also all of `jobs`.
pub fn readable<'a>(graph: &'a Graph, node: &'a Node) -> impl Iterator<Item = (usize, &'a Node)> {
    let all = graph.nodes().iter().enumerate().filter(|(_, other)| other.environment.is_written());
    all.filter(|(place, other)| node.needs.contains(place) || (node.is_finally && !other.is_finally))
}

/// A matrix' result is the worst of its cells.
#[must_use]
pub fn worst(phases: &[JobPhase]) -> JobPhase {
    let order = [JobPhase::Failed, JobPhase::Cancelled, JobPhase::Skipped];
    order.into_iter().find(|phase| phases.contains(phase)).unwrap_or(JobPhase::Succeeded)
}
