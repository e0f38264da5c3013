//! The walk through a run's graph: from the commit that its ref names, within the room that it gets.

use jiff::Timestamp;
use kube::ResourceExt;

use super::begin;
use super::decide::{Started, context};
use super::definition::Definition;
use super::names;
use super::observe::Observed;
use super::parameters::{Accepted, accept};
use super::progress::{CellView, Halt, Progress, Walk};
use super::queue::{Grant, Mark, Waiting};
use super::result::{JobResult, Outcome, annotation};
use super::settings::Settings;
use crate::api::names::CommitSha;
use crate::api::run::JobPhase;

/// Where the graph stands, and the commit it stands on.
pub struct Walked {
    /// Where the graph stands.
    pub progress: Progress,
    /// The commit, once it is known.
    pub commit: Option<CommitSha>,
    /// How the ref failed to name a commit.
    pub refused: Option<JobResult>,
    /// What the run gets now, and the mark of what it waits for.
    pub waits: Option<(Grant, Mark)>,
}

/// Walks the graph, starting what there is room for. As long as the queue was not read, there is room for all: such a
/// plan is not carried out, it only shows that the run wants its turn.
#[must_use]
pub fn walk(
    observed: &Observed,
    definition: &Definition,
    accepted: &Accepted,
    settings: &Settings,
    halt: Option<Halt>,
    now: Timestamp,
) -> Walked {
    let within = |room| walk_within(room, observed, definition, accepted, settings, halt, now);
    let free = within(u32::MAX);
    let wanted = free.progress.wanted;
    let Some(queue) = observed.queue.as_ref().filter(|_| wanted > 0) else {
        return free;
    };
    let mark = Mark::renewed(Mark::of(&observed.run).as_ref(), wanted, now);
    let own = Waiting {
        namespace: observed.run.namespace().unwrap_or_default(),
        name: observed.run.name_any(),
        mark: mark.clone(),
    };
    let grant = queue.grant(&own, &free.progress.freed, &settings.limits, now);
    if grant.jobs >= wanted {
        return free;
    }
    let jobs = wanted - grant.jobs;
    Walked { waits: Some((grant.clone(), Mark { jobs, ..mark })), ..within(grant.jobs) }
}

fn walk_within(
    room: u32,
    observed: &Observed,
    definition: &Definition,
    accepted: &Accepted,
    settings: &Settings,
    halt: Option<Halt>,
    now: Timestamp,
) -> Walked {
    let revision = observed.run.spec.revision.as_ref();
    let taken_over = observed.reused.as_ref().and_then(|reused| reused.commit.clone());
    let given = revision.and_then(|revision| revision.commit.as_deref()).and_then(|commit| commit.parse().ok());
    let given = given.or(taken_over);
    let needs_resolving = given.is_none() && revision.is_some() && definition.source.is_some();
    if !needs_resolving {
        let run = context(observed, definition, accepted, given.as_ref(), settings);
        let progress = Walk::new(&run, observed, halt, room, now).through(&accepted.graph);
        return Walked { progress, commit: given.clone(), refused: None, waits: None };
    }
    let run = context(observed, definition, accepted, None, settings);
    let mut resolving = Walk::new(&run, observed, halt, room, now);
    let resolved = resolving.resolve();
    let first = resolving.done();
    match resolved {
        Some(JobResult { commit: Some(commit), .. }) => {
            let run = context(observed, definition, accepted, Some(&commit), settings);
            let mut progress = Walk::new(&run, observed, halt, room, now).through(&accepted.graph);
            progress.freed.extend(first.freed);
            progress.effects.splice(0..0, first.effects);
            progress.next = progress.next.sooner(first.next);
            Walked { progress, commit: Some(commit.clone()), refused: None, waits: None }
        }
        result => {
            let phase = if result.is_some() { JobPhase::Skipped } else { JobPhase::Waiting };
            let cells = untouched(accepted, phase);
            Walked { progress: Progress { cells, ..first }, commit: None, refused: result, waits: None }
        }
    }
}

/// All cells before anything was started.
fn untouched(accepted: &Accepted, phase: JobPhase) -> Vec<CellView> {
    let nodes = accepted.graph.nodes().iter();
    nodes
        .flat_map(|node| {
            node.cells.iter().map(move |cell| CellView {
                name: cell.name.clone(),
                position: node.position,
                phase,
                message: None,
                job: None,
                attempt: None,
                result: None,
                forgiven: node.spec.continue_on_error,
                combines: node.spec.coverage_report.is_some(),
            })
        })
        .collect()
}

/// An earlier run that is over.
pub struct Ended {
    /// What it executed.
    pub definition: Definition,
    /// The same, checked.
    pub accepted: Accepted,
    /// How its cells ended.
    pub cells: Vec<CellView>,
    /// On which commit.
    pub commit: Option<CommitSha>,
}

/// What an earlier run comes to, for a run that takes over what succeeded in it.
///
/// # Errors
/// When it is not over, or can't be read any more.
pub fn ended(earlier: &Observed, settings: &Settings, now: Timestamp) -> Result<Ended, &'static str> {
    let outcome = annotation::<Outcome>(&earlier.run.metadata, names::OUTCOME_ANNOTATION);
    let outcome = outcome.ok_or("is still going; wait for its end or cancel it, then make a new run")?;
    let started = Started::of(earlier).ok_or("never began; make a run without rerunOf")?;
    let unreadable = "can't be read any more: its pipeline's revision is gone; make a run without rerunOf";
    let definition = begin::definition_of(earlier, &started.revision).ok_or(unreadable)?;
    let accepted = accept(&definition, &earlier.run.spec, settings).map_err(|_| unreadable)?;
    let halt = (outcome.phase == JobPhase::Cancelled).then_some(Halt::Cancelled);
    let walked = walk(earlier, &definition, &accepted, settings, halt, now);
    Ok(Ended { cells: walked.progress.cells, commit: walked.commit, definition, accepted })
}
