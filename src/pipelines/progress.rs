//! Walks the graph: judges every attempt, and says which to stop, to write down and to start.

mod unmade;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::attempt::{Going, Judgement, remaining};
use super::attempts::{self, Attempts};
use super::effect::Effect;
use super::environments::{self, Brought, Role};
use super::expressions::{Facts, NeedFacts};
use super::failure::Expectations;
use super::gate::{Gate, condition, readable, worst};
use super::graph::{Cell, Graph, Node};
use super::inputs::Inputs;
use super::jobs::{self, Given, RunContext};
use super::names;
use super::observe::Observed;
use super::result::{JobResult, Stop};
use super::steps::Step;
use crate::api::job::Effects;
use crate::api::run::{FailureClass, JobPhase};
use crate::cluster::references;
use crate::plan::Next;

/// How soon a queued job asks for room again, should its run not be woken.
const QUEUE_INTERVAL: Duration = Duration::from_secs(5);

/// How soon a start that a quota refused is tried again.
const QUOTA_INTERVAL: Duration = Duration::from_secs(10);

/// How long after a failure of the infrastructure the next attempt starts.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// How soon a pod whose volumes name other objects is looked at, should it not have started by then.
const REFERENCE_INTERVAL: Duration = Duration::from_secs(6);

/// Why no further job of the graph is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// The run was cancelled.
    Cancelled,
    /// A newer run of its concurrency group takes its place.
    Superseded,
    /// The run took longer than its timeout.
    TimedOut,
    /// The run is being deleted: not even `finally` is started.
    Deleted,
}

impl Halt {
    fn stop(self) -> (FailureClass, String) {
        match self {
            Self::Cancelled => (FailureClass::Cancelled, "the run was cancelled".to_owned()),
            Self::Superseded => {
                (FailureClass::Cancelled, "a newer run of its concurrency group replaced it".to_owned())
            }
            Self::TimedOut => (FailureClass::DeadlineExceeded, "the run took longer than its timeout".to_owned()),
            Self::Deleted => (FailureClass::Cancelled, "the run is being deleted".to_owned()),
        }
    }
}

/// How one cell stands.
#[derive(Debug, Clone, PartialEq)]
pub struct CellView {
    /// Its full name.
    pub name: String,
    /// The job's place in the pipeline as written.
    pub position: usize,
    /// How far it is.
    pub phase: JobPhase,
    /// What to know about it.
    pub message: Option<String>,
    /// The newest attempt's Job.
    pub job: Option<String>,
    /// The newest attempt, from 1.
    pub attempt: Option<u32>,
    /// How the newest attempt ended.
    pub result: Option<JobResult>,
    /// Whether a failure fails nothing else.
    pub forgiven: bool,
    /// Whether its coverage is that of several jobs together.
    pub combines: bool,
}

/// Where the walk came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// All cells.
    pub cells: Vec<CellView>,
    /// What to do: first write down, then stop, then start.
    pub effects: Vec<Effect>,
    /// When to look again.
    pub next: Next,
    /// Whether an attempt is on its way.
    pub going: bool,
    /// The run that makes an environment which this one waits for.
    pub follows: Option<String>,
    /// How many attempts would start if there were room for all.
    pub wanted: u32,
    /// The Jobs that are over and of which that is written down only now: they take no room any more.
    pub freed: BTreeSet<String>,
}

/// Walks along the graph.
pub struct Walk<'a> {
    run: &'a RunContext<'a>,
    observed: &'a Observed,
    halt: Option<Halt>,
    now: Timestamp,
    records: Vec<Effect>,
    stops: Vec<Effect>,
    starts: Vec<Effect>,
    room: u32,
    wanted: u32,
    freed: BTreeSet<String>,
    next: Next,
    going: bool,
    follows: Option<String>,
    cells: Vec<CellView>,
    /// By place in the graph: the worst of the cells, once all are final.
    finals: Vec<Option<JobPhase>>,
}

impl<'a> Walk<'a> {
    /// At the start of the graph, with room for so many further attempts.
    #[must_use]
    pub fn new(run: &'a RunContext<'a>, observed: &'a Observed, halt: Option<Halt>, room: u32, now: Timestamp) -> Self {
        Self {
            run,
            observed,
            halt,
            now,
            records: Vec::new(),
            stops: Vec::new(),
            starts: Vec::new(),
            room,
            wanted: 0,
            freed: BTreeSet::new(),
            next: Next::OnChange,
            going: false,
            follows: None,
            cells: Vec::new(),
            finals: Vec::new(),
        }
    }

    /// Through the whole graph.
    #[must_use]
    pub fn through(mut self, graph: &Graph) -> Progress {
        for node in graph.nodes() {
            self.node(graph, node);
        }
        self.done()
    }

    /// The pseudo job that reads a ref's commit. Returns how it ended, once it has.
    pub fn resolve(&mut self) -> Option<JobResult> {
        let expected = Expectations { resolves: true, ..Expectations::within(jobs::RESOLVE_TIMEOUT) };
        let attempts = self.attempts(names::RESOLVE, &expected, RESOLVE_ATTEMPTS, Effects::Idempotent);
        match attempts.judgement {
            Some(Judgement::Over { result, recorded }) => {
                self.record(attempts.name.as_deref(), &result, recorded);
                let retry = self.halt.is_none()
                    && result.failure.is_some_and(FailureClass::is_infrastructure)
                    && attempts.number < RESOLVE_ATTEMPTS;
                if !retry {
                    return Some(result);
                }
                if !self.pauses(&result) {
                    self.start_resolve(attempts.number + 1);
                }
            }
            Some(Judgement::Going(going)) => {
                self.go_on(attempts.name.as_deref(), &going, self.halt.map(Halt::stop));
            }
            None => match self.halt {
                Some(halt) => {
                    let (class, message) = halt.stop();
                    return Some(JobResult::failed(class, &message));
                }
                None => self.start_resolve(1),
            },
        }
        None
    }

    /// What has been found so far.
    #[must_use]
    pub fn done(self) -> Progress {
        let effects = self.records.into_iter().chain(self.stops).chain(self.starts).collect();
        let Self { cells, next, going, follows, wanted, freed, .. } = self;
        Progress { cells, effects, next, going, follows, wanted, freed }
    }

    fn start_resolve(&mut self, attempt: u32) {
        if !self.has_room() || self.held(names::RESOLVE, attempt).is_some() {
            return;
        }
        self.going = true;
        self.starts.push(Effect::Start(Box::new(jobs::resolve_job(self.run, attempt))));
    }

    fn node(&mut self, graph: &Graph, node: &Node) {
        let spec = &node.spec;
        let effects = jobs::effects(spec);
        let retries = attempts::Retries::of(spec);
        let expected = self.run.expectations(node);
        let own = self.run.execution(graph);
        let reused = |cell: &Cell| self.observed.reused.as_ref()?.result(&own, node, cell).cloned();
        let states: Vec<(&Cell, Attempts)> = node
            .cells
            .iter()
            .map(|cell| match reused(cell) {
                Some(result) => (cell, Attempts::taken_over(result)),
                None => (cell, self.attempts(&cell.name, &expected, retries.most(), effects)),
            })
            .collect();
        let retried =
            |attempts: &Attempts, result: &JobResult| effects != Effects::Once && retries.allow(attempts, result);
        let absent = Step::of(spec).and_then(|step| step.absent_from(self.run));
        let absent = absent.or_else(|| environments::unpublished(graph, node, self.run, &self.cells));
        let gate = match (Gate::of(graph, node, &self.finals), absent) {
            (Gate::Open, Some(why)) => Gate::Skip(why),
            (gate, Some(_) | None) => gate,
        };
        let fails_fast = node.spec.matrix.as_ref().is_some_and(|matrix| matrix.fail_fast.unwrap_or(true));
        let failed = fails_fast
            && !spec.continue_on_error
            && states.iter().any(|(_, attempts)| {
                matches!(&attempts.judgement, Some(Judgement::Over { result, .. })
                if result.phase == JobPhase::Failed && !retried(attempts, result))
            });
        let stop = self.stop_of(node, failed);
        let on_their_way =
            states.iter().filter(|(_, attempts)| matches!(attempts.judgement, Some(Judgement::Going(_)))).count();
        let parallel = node.spec.matrix.as_ref().and_then(|matrix| matrix.max_parallel);
        let mut slots =
            parallel.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX).saturating_sub(on_their_way);
        // Asked only when it decides: an attempt that was made is not taken back.
        let asked = gate == Gate::Open && states.iter().any(|(_, attempts)| attempts.judgement.is_none());
        let parameters = &self.run.definition.pipeline.params;
        let condition = asked.then(|| condition(parameters, graph, node)).flatten();
        let mut phases = Vec::new();
        for (cell, attempts) in states {
            let gate = match &condition {
                Some(condition) if attempts.judgement.is_none() => {
                    Gate::behind(condition, &self.facts(graph, node, cell))
                }
                Some(_) | None => gate.clone(),
            };
            let view = self.cell(graph, node, cell, &attempts, &gate, stop.as_ref(), &mut slots, &retried);
            phases.push(view.phase);
            self.cells.push(view);
        }
        let all_final = phases.iter().all(|phase| phase.is_final());
        self.finals.push(all_final.then(|| worst(&phases)));
    }

    #[allow(clippy::too_many_arguments)] // One cell's decision takes all that its job knows.
    fn cell(
        &mut self,
        graph: &Graph,
        node: &Node,
        cell: &Cell,
        attempts: &Attempts,
        gate: &Gate,
        stop: Option<&(FailureClass, String)>,
        slots: &mut usize,
        retried: &dyn Fn(&Attempts, &JobResult) -> bool,
    ) -> CellView {
        let view = CellView {
            name: cell.name.clone(),
            position: node.position,
            phase: JobPhase::Waiting,
            message: None,
            job: attempts.name.clone(),
            attempt: (attempts.number > 0).then_some(attempts.number),
            result: None,
            forgiven: node.spec.continue_on_error,
            combines: node.spec.coverage_report.is_some(),
        };
        match &attempts.judgement {
            Some(Judgement::Going(going)) => {
                self.go_on(attempts.name.as_deref(), going, stop.cloned());
                CellView { phase: going.phase, message: going.message.clone(), ..view }
            }
            Some(Judgement::Over { result, recorded }) => {
                self.record(attempts.name.as_deref(), result, *recorded);
                if stop.is_none() && retried(attempts, result) {
                    let view = CellView { message: result.message.clone(), ..view };
                    if self.pauses(result) {
                        return CellView { phase: JobPhase::Queued, ..view };
                    }
                    return self.start(graph, node, cell, attempts.number + 1, slots, view);
                }
                ended(view, result, stop)
            }
            None if environments::is_named_first(self.run, node) => {
                self.unmade(graph, node, cell, gate, stop, slots, view)
            }
            None => match unstarted(&view, gate, stop) {
                Some(view) => view,
                None => self.start(graph, node, cell, 1, slots, view),
            },
        }
    }

    /// Whether it is too soon after a failure of the infrastructure: what refused one pod refuses the next one a second later.
    fn pauses(&mut self, result: &JobResult) -> bool {
        // Of a Job that was deleted nobody knows when it ended.
        let ended = result.finished.filter(|_| result.failure.is_some_and(FailureClass::is_infrastructure));
        let left = ended.map(|ended| remaining(Some(ended), RETRY_PAUSE, self.now)).unwrap_or_default();
        if !left.is_zero() {
            self.next = self.next.sooner(Next::After(left));
        }
        !left.is_zero()
    }

    /// Takes room for one attempt, if there is any.
    fn has_room(&mut self) -> bool {
        self.wanted = self.wanted.saturating_add(1);
        let has_room = self.room > 0;
        self.room = self.room.saturating_sub(1);
        if !has_room {
            self.next = self.next.sooner(Next::After(QUEUE_INTERVAL));
        }
        has_room
    }

    /// What a quota said just now of an attempt that was to start. It still has its room: no other may be told as started.
    fn held(&mut self, cell: &str, attempt: u32) -> Option<String> {
        let why = self.observed.held.get(&names::attempt_name(self.run.name, self.run.uid, cell, attempt))?;
        self.next = self.next.sooner(Next::After(QUOTA_INTERVAL));
        Some(format!("waits: {why}"))
    }

    /// Starts an attempt if there is room, else queues it.
    fn start(
        &mut self,
        graph: &Graph,
        node: &Node,
        cell: &Cell,
        attempt: u32,
        slots: &mut usize,
        view: CellView,
    ) -> CellView {
        // Before every attempt: while one that failed waits for its next, another run may have begun.
        if let Some(why) = (node.environment == Role::Makes).then(|| self.made_elsewhere(cell)).flatten() {
            return CellView { message: Some(why), ..view };
        }
        if *slots == 0 || !self.has_room() {
            return CellView { phase: JobPhase::Queued, ..view };
        }
        *slots -= 1;
        if let Some(why) = self.held(&cell.name, attempt) {
            return CellView { phase: JobPhase::Queued, message: Some(why), ..view };
        }
        self.going = true;
        if jobs::effects(&node.spec) == Effects::Once {
            let observation = format!("{} {}", self.observed.run.resource_version().unwrap_or_default(), self.now);
            let claim = jobs::claim(self.run, &node.spec.name, &cell.name, &observation);
            self.starts.push(Effect::Claim(Box::new(claim)));
        }
        let job = match node.environment {
            Role::Makes => environments::job(self.run, node, attempt, self.key(cell).as_deref(), self.now),
            Role::Publishes(_) => environments::publish(self.run, graph, node, attempt, &self.cells, self.now),
            Role::None | Role::Uses(_) => {
                let inputs = Inputs::of(graph, node, &self.cells);
                let environment = Brought::of(graph, node, &self.cells);
                let given = Given { outputs: self.outputs(graph, node), inputs, environment };
                jobs::job(self.run, node, cell, attempt, &given)
            }
        };
        let view = CellView { phase: JobPhase::Starting, job: Some(job.name_any()), attempt: Some(attempt), ..view };
        let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        if pod.is_some_and(|pod| !references(pod).is_empty()) {
            // Nothing tells when such a pod can't start.
            self.next = self.next.sooner(Next::After(REFERENCE_INTERVAL));
        }
        self.starts.push(Effect::Start(Box::new(job)));
        view
    }

    /// What a `when` of this cell may read: all of it is final.
    fn facts<'f>(&'f self, graph: &'f Graph, node: &'f Node, cell: &'f Cell) -> Facts<'f> {
        let known = readable(graph, node).filter_map(|(place, need)| {
            let phase = self.finals.get(place).copied().flatten()?;
            let view = self.cells.iter().find(|view| need.spec.matrix.is_none() && view.name == need.spec.name);
            let outputs = view.and_then(|view| view.result.as_ref()).map(|result| &result.outputs);
            Some((need.spec.name.as_str(), NeedFacts { phase, outputs }))
        });
        Facts {
            parameters: Some(self.run.parameters),
            needs: known.collect(),
            revision: self.run.spec.revision.as_ref(),
            commit: self.run.commit,
            event: self.run.event,
            cell: &cell.values,
        }
    }

    /// The outputs of the jobs that this one needs, as variables. Those of a matrix have no single value.
    fn outputs(&self, graph: &Graph, node: &Node) -> BTreeMap<String, String> {
        let needed = node.needs.iter().filter_map(|place| graph.node(*place)).filter(|need| need.spec.matrix.is_none());
        let mut variables = BTreeMap::new();
        for need in needed {
            let view = self.cells.iter().find(|view| view.name == need.spec.name);
            for (name, value) in view.and_then(|view| view.result.as_ref()).iter().flat_map(|result| &result.outputs) {
                let variable = format!("NEEDS_{}_{}", names::variable(&need.spec.name), names::variable(name));
                variables.insert(variable, value.clone());
            }
        }
        variables
    }

    fn record(&mut self, name: Option<&str>, result: &JobResult, recorded: bool) {
        let Some(name) = name.filter(|_| !recorded) else {
            return;
        };
        let exists = self.observed.jobs.iter().any(|job| job.name_any() == name);
        self.records.push(if exists {
            self.freed.insert(name.to_owned());
            Effect::Record { job: name.to_owned(), result: result.clone() }
        } else {
            Effect::RecordClaim { claim: name.to_owned(), result: result.clone() }
        });
    }

    /// Lets an attempt go on, or stops it: by its own rules, or because the run or its matrix wants it.
    fn go_on(&mut self, name: Option<&str>, going: &Going, wanted: Option<(FailureClass, String)>) {
        self.going = true;
        self.next = self.next.sooner(going.look);
        if let (Some(job), Some(loss)) = (name, &going.loss) {
            self.records.push(Effect::Lose { job: job.to_owned(), loss: loss.clone() });
        }
        let Some((class, message)) = wanted.or_else(|| going.stop.clone()).filter(|_| !going.stopping) else {
            return;
        };
        let stop = Stop { class, message, at: self.now };
        let Some(job) = name else {
            return;
        };
        // Kubelet reads a pod's deadline between two attempts to mount its volumes, which are minutes apart: one that waits
        // for a missing object has run nothing, and goes with its Job's suspension.
        let has_begun = |pod: &&Pod| {
            let on_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            on_node && !self.observed.lacking.contains_key(&pod.name_any())
        };
        let on_node = self.pod_of(job).filter(has_begun);
        self.stops.push(match on_node {
            Some(pod) => Effect::EndPod { pod: pod.name_any(), stop: Some(stop) },
            None => Effect::Suspend { job: job.to_owned(), stop },
        });
    }

    fn stop_of(&self, node: &Node, cell_failed: bool) -> Option<(FailureClass, String)> {
        match self.halt {
            Some(Halt::Deleted) => Some(Halt::Deleted.stop()),
            Some(halt) if !node.is_finally => Some(halt.stop()),
            Some(_) | None if cell_failed => {
                Some((FailureClass::Cancelled, "another cell of the matrix failed".to_owned()))
            }
            Some(_) | None => None,
        }
    }

    fn attempts(&self, cell: &str, expected: &Expectations, most: u32, effects: Effects) -> Attempts {
        Attempts::at(self.run, self.observed, cell, expected, most, effects, self.now)
    }

    fn pod_of(&self, job: &str) -> Option<&'a Pod> {
        let job = self.observed.jobs.iter().find(|candidate| candidate.name_any() == job)?;
        attempts::pod_of(job, &self.observed.pods)
    }
}

const RESOLVE_ATTEMPTS: u32 = 3;

/// The view of a cell of which nothing was started, with why not; `None` if it may start now.
fn unstarted(view: &CellView, gate: &Gate, stop: Option<&(FailureClass, String)>) -> Option<CellView> {
    let view = view.clone();
    match (gate, stop) {
        (Gate::Open, None) => None,
        (Gate::Wait, None) => Some(view),
        (_, Some((_, message))) => {
            Some(CellView { phase: JobPhase::Cancelled, message: Some(format!("not started: {message}")), ..view })
        }
        (Gate::Skip(why), None) => Some(CellView { phase: JobPhase::Skipped, message: Some(why.clone()), ..view }),
        (Gate::Broken(why), None) => {
            let result = JobResult::failed(FailureClass::Configuration, why);
            Some(CellView { phase: JobPhase::Failed, message: result.message.clone(), result: Some(result), ..view })
        }
    }
}

/// The view of a cell that has ended so.
fn ended(view: CellView, result: &JobResult, stop: Option<&(FailureClass, String)>) -> CellView {
    // What vanished while it was being stopped was stopped.
    let vanished = result.failure.is_some_and(FailureClass::is_infrastructure);
    let cancelled = vanished && matches!(stop, Some((FailureClass::Cancelled, _)));
    let phase = if cancelled { JobPhase::Cancelled } else { result.phase };
    CellView { phase, message: result.message.clone(), result: Some(result.clone()), ..view }
}
