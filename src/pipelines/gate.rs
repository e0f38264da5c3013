//! Whether a job may start, from how the jobs before it ended.

use super::graph::{Graph, Node};
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
}

impl Gate {
    /// Every need Succeeded. Jobs of `finally` wait for all others, however these end.
    ///
    /// `finals` has the result of each job before this one in the graph, once it is final.
    #[must_use]
    pub fn of(graph: &Graph, node: &Node, finals: &[Option<JobPhase>]) -> Self {
        let ended = |place: usize| finals.get(place).copied().flatten();
        if node.is_finally {
            let graph_is_over =
                graph.nodes().iter().enumerate().all(|(place, other)| other.is_finally || ended(place).is_some());
            let needs_are_over = node.needs.iter().all(|place| ended(*place).is_some());
            return if graph_is_over && needs_are_over { Self::Open } else { Self::Wait };
        }
        let mut skip = None;
        for place in &node.needs {
            let Some(need) = graph.node(*place) else { continue };
            match ended(*place) {
                None => return Self::Wait,
                Some(JobPhase::Succeeded) => {}
                Some(JobPhase::Failed) if need.spec.continue_on_error => {}
                Some(phase) => {
                    skip.get_or_insert_with(|| format!("needs {}, which is {phase:?}", need.spec.name));
                }
            }
        }
        skip.map_or(Self::Open, Self::Skip)
    }
}

/// A matrix' result is the worst of its cells.
#[must_use]
pub fn worst(phases: &[JobPhase]) -> JobPhase {
    let order = [JobPhase::Failed, JobPhase::Cancelled, JobPhase::Skipped];
    order.into_iter().find(|phase| phases.contains(phase)).unwrap_or(JobPhase::Succeeded)
}
