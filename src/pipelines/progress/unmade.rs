//! What comes before an environment is installed that may have an image: it is named, and another run may be making it.

use std::time::Duration;

use super::super::attempt::Judgement;
use super::super::attempts::Attempts;
use super::super::effect::Effect;
use super::super::environments::{self, IDENTIFY_TIMEOUT, IMAGE_OUTPUT, flight};
use super::super::failure::Expectations;
use super::super::gate::Gate;
use super::super::graph::{Cell, Graph, Node};
use super::super::names;
use super::super::result::JobResult;
use super::{CellView, Walk, ended, unstarted};
use crate::api::job::Effects;
use crate::api::run::{FailureClass, JobPhase};
use crate::plan::Next;

/// How often it is tried to name one.
const ATTEMPTS: u32 = 3;

impl Walk<'_> {
    /// Where an environment stands of which nothing has been installed.
    #[allow(clippy::too_many_arguments)] // As `cell`, of which it is a part.
    pub(super) fn unmade(
        &mut self,
        graph: &Graph,
        node: &Node,
        cell: &Cell,
        gate: &Gate,
        stop: Option<&(FailureClass, String)>,
        slots: &mut usize,
        view: CellView,
    ) -> CellView {
        let naming = self.naming(cell);
        let attempt = (naming.number > 0).then_some(naming.number);
        let view = CellView { job: naming.name.clone(), attempt, ..view };
        match &naming.judgement {
            None => match unstarted(&view, gate, stop) {
                Some(view) => view,
                None => self.start_naming(node, 1, view),
            },
            Some(Judgement::Going(going)) => {
                self.go_on(naming.name.as_deref(), going, stop.cloned());
                CellView { phase: going.phase, message: going.message.clone(), ..view }
            }
            Some(Judgement::Over { result, recorded }) => {
                self.record(naming.name.as_deref(), result, *recorded);
                let failed_by_chance = result.failure.is_some_and(FailureClass::is_infrastructure);
                if stop.is_none() && failed_by_chance && naming.number < ATTEMPTS {
                    if self.pauses(result) {
                        return CellView { phase: JobPhase::Queued, message: result.message.clone(), ..view };
                    }
                    return self.start_naming(node, naming.number + 1, view);
                }
                if result.phase != JobPhase::Succeeded || result.outputs.contains_key(IMAGE_OUTPUT) {
                    return ended(view, result, stop);
                }
                match unstarted(&view, &Gate::Open, stop) {
                    Some(view) => view,
                    None => self.start(graph, node, cell, 1, slots, view),
                }
            }
        }
    }

    /// What the environment is called, once it is named.
    pub(super) fn key(&self, cell: &Cell) -> Option<String> {
        match self.naming(cell).judgement? {
            Judgement::Over { result, .. } => self.key_of(&result),
            Judgement::Going(_) => None,
        }
    }

    fn key_of(&self, named: &JobResult) -> Option<String> {
        Some(flight::key(environments::store(self.run)?, named.outputs.get("hash")?))
    }

    fn naming(&self, cell: &Cell) -> Attempts {
        let expected = Expectations { identifies: true, ..Expectations::within(IDENTIFY_TIMEOUT) };
        self.attempts(&names::identification(&cell.name), &expected, ATTEMPTS, Effects::Idempotent)
    }

    fn start_naming(&mut self, node: &Node, attempt: u32, view: CellView) -> CellView {
        if !self.has_room() {
            return CellView { phase: JobPhase::Queued, ..view };
        }
        if let Some(why) = self.held(&names::identification(&node.spec.name), attempt) {
            return CellView { phase: JobPhase::Queued, message: Some(why), ..view };
        }
        self.going = true;
        let job = environments::identify(self.run, node, attempt, self.now);
        let view =
            CellView { phase: JobPhase::Starting, job: job.metadata.name.clone(), attempt: Some(attempt), ..view };
        self.starts.push(Effect::Start(Box::new(job)));
        view
    }

    /// Which run makes it now, in words, as long as this one waits for that.
    pub(super) fn made_elsewhere(&mut self, cell: &Cell) -> Option<String> {
        let Judgement::Over { result: named, .. } = self.naming(cell).judgement? else { return None };
        let key = self.key_of(&named)?;
        let run = self.observed.flights.iter().flatten().find(|flight| flight.key == key)?.run.clone();
        let until = flight::until(named.finished, self.now);
        let left = Duration::try_from(until.duration_since(self.now)).unwrap_or_default();
        if left.is_zero() {
            return None;
        }
        self.next = self.next.sooner(Next::After(left.min(flight::LOOK)));
        let why = format!("waits until {until} at most for run {run}, which makes the same environment");
        self.follows = Some(run);
        Some(why)
    }
}
