//! A run as a tree of jobs and their steps, cut to the terminal: wide enough to be read, never higher than it.

use super::line::{Line, Tone};
use super::steps::{StepState, StepView};
use super::text::{columns, fit, length, shown};
use super::view::{JobView, RunState, RunView};
use crate::api::run::JobPhase;

/// The longest name of a job that its column makes room for.
const WIDEST_NAME: usize = 32;
/// How much further to the right a child begins.
const INSET: usize = 3;
/// Columns of a bar, without its brackets.
const BAR: usize = 16;
/// Terminals narrower than this get no bars.
const NARROW: usize = 56;

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Every job, and every step of those under way.
    Steps,
    /// Every job.
    Jobs,
    /// What failed and what is under way; the rest is counted.
    News,
}

/// A node of the tree.
struct Node {
    line: Line,
    children: Vec<Node>,
}

impl Node {
    fn leaf(line: Line) -> Self {
        Self { line, children: Vec::new() }
    }
}

/// The lines of a frame: at most `rows` of at most `width` columns.
#[must_use]
pub fn frame(view: &RunView, width: usize, rows: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for detail in [Detail::Steps, Detail::Jobs, Detail::News] {
        lines = whole(view, detail, width);
        if lines.len() <= rows {
            break;
        }
    }
    let hidden = lines.len().saturating_sub(rows);
    if hidden > 0 {
        lines.truncate(rows.saturating_sub(1));
        lines.push(Line::of(Tone::Faint, &format!("… {} more lines", hidden + 1)));
    }
    lines.into_iter().map(|line| line.fit(width)).collect()
}

fn whole(view: &RunView, detail: Detail, width: usize) -> Vec<Line> {
    let mut lines = vec![head(view, width)];
    if !view.state.is_final() && view.jobs.is_empty() && !view.message.is_empty() {
        lines.push(Line::of(Tone::Faint, "   ").with(Tone::Busy, &view.message));
    }
    let nodes = groups(view, detail, width);
    draw(&nodes, "", &mut lines);
    lines
}

fn draw(nodes: &[Node], before: &str, lines: &mut Vec<Line>) {
    for (at, node) in nodes.iter().enumerate() {
        let (branch, further) = if at + 1 == nodes.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push(Line::of(Tone::Faint, &format!("{before}{branch}")).join(&node.line));
        draw(&node.children, &format!("{before}{further}"), lines);
    }
}

/// The first line: what runs, on which commit, how long, how far.
fn head(view: &RunView, width: usize) -> Line {
    let (tone, sign) = match view.state {
        RunState::Unseen | RunState::Waiting => (Tone::Faint, "○"),
        RunState::Going => (Tone::Busy, "▶"),
        RunState::Succeeded => (Tone::Good, "✓"),
        RunState::Failed => (Tone::Bad, "✗"),
        RunState::Cancelled => (Tone::Bad, "■"),
    };
    let word = if view.cancelling && !view.state.is_final() { "being cancelled" } else { view.state.word() };
    let mut line = Line::of(tone, sign)
        .with(Tone::Strong, &format!(" {}", view.name))
        .with(tone, &format!("  {word}"))
        .with(Tone::Plain, &format!("  {}", length(view.seconds)));
    if !view.jobs.is_empty() {
        line = line.with(Tone::Plain, &format!("  {}/{}", view.finished(), view.jobs.len()));
        if width >= NARROW {
            line = line.with(tone, &format!("  {}", bar(view.finished(), view.jobs.len())));
        }
    }
    let at = view.revision.as_ref().map(|revision| format!(" at {revision}")).unwrap_or_default();
    line.with(Tone::Plain, &format!("  {}{at}", view.pipeline))
}

/// A bar that is full when `done` is `all`, and never looks full before.
fn bar(done: usize, all: usize) -> String {
    let full = (done * BAR).checked_div(all).unwrap_or_default().min(BAR);
    format!("[{}{}]", "█".repeat(full), "░".repeat(BAR - full))
}

/// Jobs in the pipeline's order; the cells of a matrix below their job.
fn groups(view: &RunView, detail: Detail, width: usize) -> Vec<Node> {
    let inset = |job: &JobView| job.parts().1.map_or(0, |_| INSET);
    let own = view.jobs.iter().map(|job| columns(&short_name(job)) + inset(job));
    let above = view.jobs.iter().map(|job| columns(&fit(&shown(job.parts().0), WIDEST_NAME)));
    // Behind the sign and the name, with two blanks between.
    let column = own.chain(above).max().unwrap_or_default() + 4;
    let is_news = |job: &JobView| match job.phase {
        JobPhase::Starting | JobPhase::Running | JobPhase::Failed => true,
        JobPhase::Waiting | JobPhase::Queued | JobPhase::Succeeded | JobPhase::Skipped | JobPhase::Cancelled => false,
    };
    let mut nodes = Vec::new();
    let mut rest = view.jobs.as_slice();
    while let Some(first) = rest.first() {
        let (name, cell) = first.parts();
        let count = match cell {
            None => 1,
            Some(_) => rest.iter().take_while(|job| job.parts().0 == name && job.parts().1.is_some()).count().max(1),
        };
        let (group, after) = rest.split_at(count.min(rest.len()));
        rest = after;
        let shown = group.iter().filter(|job| detail != Detail::News || is_news(job));
        let children: Vec<Node> =
            shown.map(|job| job_node(job, detail, column.saturating_sub(inset(job)), width)).collect();
        match cell {
            None => nodes.extend(children),
            Some(_) if children.is_empty() => {}
            Some(_) => nodes.push(Node { line: matrix_line(name, group, column, width), children }),
        }
    }
    if detail == Detail::News {
        nodes.extend(rest_line(view, is_news).map(Node::leaf));
    }
    nodes
}

/// A job's name; of a cell of a matrix its values, as the job stands above it.
fn short_name(job: &JobView) -> String {
    fit(&shown(job.parts().1.unwrap_or(&job.name)), WIDEST_NAME)
}

/// What is not shown, counted.
fn rest_line(view: &RunView, is_news: impl Fn(&JobView) -> bool) -> Option<Line> {
    let mut counted = Vec::new();
    for phase in [JobPhase::Succeeded, JobPhase::Skipped, JobPhase::Cancelled, JobPhase::Queued, JobPhase::Waiting] {
        let count = view.jobs.iter().filter(|job| job.phase == phase && !is_news(job)).count();
        if count > 0 {
            counted.push(format!("{count} {}", word(phase)));
        }
    }
    (!counted.is_empty()).then(|| Line::of(Tone::Faint, &format!("… {}", counted.join(", "))))
}

fn matrix_line(name: &str, cells: &[JobView], column: usize, width: usize) -> Line {
    let finished = cells.iter().filter(|job| job.phase.is_final()).count();
    let worst = if cells.iter().any(|job| job.phase == JobPhase::Failed) {
        JobPhase::Failed
    } else if finished < cells.len() {
        let active = cells.iter().any(|job| job.phase != JobPhase::Waiting);
        if active { JobPhase::Running } else { JobPhase::Waiting }
    } else {
        cells.iter().map(|job| job.phase).max().unwrap_or(JobPhase::Succeeded)
    };
    let (tone, sign) = sign(worst);
    let mut line = Line::of(tone, &format!("{sign} ")).with(Tone::Plain, &fit(&shown(name), WIDEST_NAME)).up_to(column);
    if width >= NARROW {
        line = line.with(tone, &bar(finished, cells.len())).with(Tone::Plain, "  ");
    }
    line.with(Tone::Plain, &format!("{finished}/{}", cells.len()))
}

fn job_node(job: &JobView, detail: Detail, column: usize, width: usize) -> Node {
    let (tone, sign) = sign(job.phase);
    let active = matches!(job.phase, JobPhase::Starting | JobPhase::Running);
    let mut line = Line::of(tone, &format!("{sign} "))
        .with(if active { Tone::Strong } else { Tone::Plain }, &short_name(job))
        .up_to(column);
    if let Some(seconds) = job.seconds {
        line = line.with(Tone::Plain, &format!("{}  ", length(seconds)));
    }
    if job.attempt > 1 {
        line = line.with(Tone::Faint, &format!("attempt {}  ", job.attempt));
    }
    let current = job.steps.iter().rfind(|step| matches!(step.state, StepState::Going | StepState::Failed));
    line = match (job.phase, current) {
        (JobPhase::Failed, _) => line.with(Tone::Bad, &why(job)),
        (JobPhase::Starting | JobPhase::Running, Some(step)) if detail != Detail::Steps => {
            line.with(Tone::Busy, &step.name)
        }
        (JobPhase::Succeeded | JobPhase::Waiting | JobPhase::Running, _) => line,
        (JobPhase::Queued | JobPhase::Skipped | JobPhase::Cancelled | JobPhase::Starting, _) => {
            let said = job.message.as_deref().unwrap_or(if active { "" } else { word(job.phase) });
            line.with(Tone::Faint, said)
        }
    };
    let steps = if active && detail == Detail::Steps { job.steps.as_slice() } else { &[] };
    Node { line, children: steps.iter().map(|step| Node::leaf(step_line(step, job.limit, width))).collect() }
}

/// The class of a failure with its evidence.
#[must_use]
pub fn why(job: &JobView) -> String {
    match (job.failure, job.message.as_deref()) {
        (Some(class), Some(message)) => format!("{}: {message}", class.as_str()),
        (Some(class), None) => class.as_str().to_owned(),
        (None, message) => message.unwrap_or("failed").to_owned(),
    }
}

fn step_line(step: &StepView, limit: Option<i64>, width: usize) -> Line {
    let (tone, sign) = match step.state {
        StepState::Waiting => (Tone::Faint, "○"),
        StepState::Going => (Tone::Busy, "▶"),
        StepState::Done => (Tone::Good, "✓"),
        StepState::Failed => (Tone::Bad, "✗"),
    };
    let mut line =
        Line::of(tone, &format!("{sign} ")).with(Tone::Plain, &fit(&shown(&step.name), WIDEST_NAME)).up_to(12);
    let Some(seconds) = step.seconds else { return line };
    line = line.with(Tone::Plain, &length(seconds));
    // How much of its time a command has used: how long it will take is known to nobody.
    if let Some(limit) = limit.filter(|_| step.command && step.state == StepState::Going) {
        line = line.with(Tone::Faint, &format!(" of at most {}", length(limit)));
        if width >= NARROW {
            let used = usize::try_from(seconds.clamp(0, limit)).unwrap_or_default();
            line = line.with(Tone::Faint, &format!("  {}", bar(used, usize::try_from(limit).unwrap_or(1))));
        }
    }
    line
}

fn sign(phase: JobPhase) -> (Tone, &'static str) {
    match phase {
        JobPhase::Waiting | JobPhase::Queued => (Tone::Faint, "○"),
        JobPhase::Starting | JobPhase::Running => (Tone::Busy, "▶"),
        JobPhase::Succeeded => (Tone::Good, "✓"),
        JobPhase::Failed => (Tone::Bad, "✗"),
        JobPhase::Skipped => (Tone::Faint, "–"),
        JobPhase::Cancelled => (Tone::Bad, "■"),
    }
}

/// A word for a phase.
#[must_use]
pub fn word(phase: JobPhase) -> &'static str {
    match phase {
        JobPhase::Waiting => "waiting",
        JobPhase::Queued => "queued",
        JobPhase::Starting => "starting",
        JobPhase::Running => "running",
        JobPhase::Succeeded => "succeeded",
        JobPhase::Failed => "failed",
        JobPhase::Skipped => "skipped",
        JobPhase::Cancelled => "cancelled",
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
