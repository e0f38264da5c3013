//! What runs, what is coming, and why it waits.

use std::io::{self, Write};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;

use super::error::{Access, PluginError};
use super::line::{Line, Tone, paint};
use super::progress::once;
use super::text::{length, moment, seconds_between, shown, table};
use super::verdict::report;
use super::view::{RunState, RunView};
use super::{Context, Ending, RELEASES, RUNS, checked};
use crate::api::conditions::{find, types};
use crate::api::marks::RUN_LABEL;
use crate::api::release::{CandidateStatus, ReleaseStatus, ReleaseStep, TimeTrackerRelease};
use crate::api::run::PipelineRun;

/// How many runs the overview shows.
const RUNS_SHOWN: usize = 10;

/// Arguments of `status`.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArguments {
    /// A release or a run; default: all releases and the newest runs.
    name: Option<String>,
}

/// Tells how things stand.
pub(super) async fn status(context: &Context, arguments: &StatusArguments) -> Result<Ending, PluginError> {
    let now = Timestamp::now();
    let text = match &arguments.name {
        Some(name) => of_one(context, name, now).await?,
        None => overview(context, now).await?,
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Ending::Success)
}

async fn of_one(context: &Context, name: &str, now: Timestamp) -> Result<String, PluginError> {
    let name = checked(name)?;
    let release = Access::new("get", RELEASES, &context.namespace).found(context.releases().get(name).await)?;
    let run = Access::new("get", RUNS, &context.namespace).found(context.runs().get(name).await)?;
    if release.is_none() && run.is_none() {
        return Err(PluginError::NotFound {
            kind: "TimeTrackerRelease and no PipelineRun",
            name: name.to_owned(),
            namespace: context.namespace.clone(),
            hint: format!("; {} lists them", context.invocation.command(&["status"])),
        });
    }
    let mut text = release.map(|release| paint(&of_release(&release, now), context.output.colour)).unwrap_or_default();
    if let Some(run) = run {
        if !text.is_empty() {
            text.push('\n');
        }
        let pods = pods_of(context, name).await;
        let view = RunView::of(&run, &pods, now);
        text.push_str(&once(context, &view));
        text.push_str(&paint(&report(&view, &[], &context.invocation), context.output.colour));
    }
    Ok(text)
}

/// Without the right to list pods there are no steps, and the rest is still true.
async fn pods_of(context: &Context, run: &str) -> Vec<Pod> {
    let selected = ListParams::default().labels(&format!("{RUN_LABEL}={run}"));
    context.pods().list(&selected).await.map(|list| list.items).unwrap_or_default()
}

async fn overview(context: &Context, now: Timestamp) -> Result<String, PluginError> {
    let namespace = &context.namespace;
    let every = ListParams::default();
    let list = context.releases().list(&every).await;
    let releases = list.map_err(|error| Access::new("list", RELEASES, namespace).error(error))?.items;
    let list = context.runs().list(&every).await;
    let mut runs = list.map_err(|error| Access::new("list", RUNS, namespace).error(error))?.items;
    if releases.is_empty() && runs.is_empty() {
        return Ok(format!("namespace {} has no releases and no runs\n", shown(namespace)));
    }
    runs.sort_by_key(|run| std::cmp::Reverse(run.creation_timestamp().map(|time| time.0)));
    let mut parts: Vec<String> =
        releases.iter().map(|release| paint(&of_release(release, now), context.output.colour)).collect();
    if !runs.is_empty() {
        parts.push(table_of_runs(runs.iter().take(RUNS_SHOWN), now));
    }
    Ok(parts.join("\n"))
}

fn table_of_runs<'a>(runs: impl Iterator<Item = &'a PipelineRun>, now: Timestamp) -> String {
    let mut rows = vec![["RUN", "PIPELINE", "REVISION", "STATE", "JOBS", "TOOK", "AGO"].map(str::to_owned).to_vec()];
    for run in runs {
        let view = RunView::of(run, [], now);
        let jobs =
            if view.jobs.is_empty() { String::new() } else { format!("{}/{}", view.finished(), view.jobs.len()) };
        let state = match view.state {
            RunState::Failed => view.reason.clone(),
            RunState::Unseen | RunState::Waiting | RunState::Going | RunState::Succeeded | RunState::Cancelled => {
                view.state.word().to_owned()
            }
        };
        let made = run.creation_timestamp().map_or(now, |time| time.0);
        rows.push(vec![
            shown(&view.name),
            shown(&view.pipeline),
            shown(view.revision.as_deref().unwrap_or_default()),
            shown(&state),
            jobs,
            length(view.seconds),
            length(seconds_between(made, now)),
        ]);
    }
    table(&rows)
}

/// A release in a few lines.
fn of_release(release: &TimeTrackerRelease, now: Timestamp) -> Vec<Line> {
    let Some(status) = release.status.as_ref().filter(|status| !status.conditions.is_empty()) else {
        return vec![
            heading(release, "unseen", Tone::Faint),
            said(
                "",
                Tone::Faint,
                "the operator has not looked at it yet: is it running, and does it watch this namespace?",
            ),
        ];
    };
    let ready = find(&status.conditions, types::READY);
    let (word, tone) = match ready.map(|condition| condition.status.as_str()) {
        Some("True") => ("ready", Tone::Good),
        Some("False") => ("not ready", Tone::Bad),
        Some(_) | None => ("under way", Tone::Busy),
    };
    let mut lines = vec![heading(release, word, tone)];
    lines.push(match &status.current {
        Some(current) => {
            let since = current.deployed_time.0;
            let text = format!(
                "{} ({}) since {}, for {}",
                current.version,
                current.digest.short(),
                moment(since),
                length(seconds_between(since, now))
            );
            said("runs", Tone::Plain, &text)
        }
        None => said("runs", Tone::Faint, "nothing yet"),
    });
    lines.extend(status.candidate.iter().flat_map(coming));
    lines.extend(waits(status));
    lines.extend(troubles(status));
    lines
}

fn heading(release: &TimeTrackerRelease, word: &str, tone: Tone) -> Line {
    Line::of(Tone::Strong, &release.name_any()).with(Tone::Plain, "  ").with(tone, word)
}

fn said(label: &str, tone: Tone, text: &str) -> Line {
    Line::of(Tone::Plain, &format!("  {label:<10}")).with(tone, text)
}

fn coming(candidate: &CandidateStatus) -> Vec<Line> {
    let text = format!("{} ({}), {}", candidate.version, candidate.digest.short(), step(candidate.step));
    let verdict = candidate.verdict.as_ref().map(|verdict| said("", Tone::Plain, verdict));
    [said("coming", Tone::Busy, &text)].into_iter().chain(verdict).collect()
}

fn step(step: ReleaseStep) -> &'static str {
    match step {
        ReleaseStep::Pick => "is picked",
        ReleaseStep::Database => "waits for the database server",
        ReleaseStep::Inspect => "image and database are inspected",
        ReleaseStep::Rehearse => "its migration is rehearsed",
        ReleaseStep::BackUp => "the database is backed up",
        ReleaseStep::Drain => "old pods are stopped",
        ReleaseStep::Migrate => "the database is migrated",
        ReleaseStep::RollOut => "is rolled out",
        ReleaseStep::GoBack => "is taken back",
    }
}

/// Why it is not where it shall be.
fn waits(status: &ReleaseStatus) -> Vec<Line> {
    let of = |kind, is_news: fn(&str) -> bool| find(&status.conditions, kind).filter(|found| is_news(&found.status));
    let pending = of(types::UPDATE_PENDING, |status| status == "True");
    let unready = of(types::READY, |status| status != "True");
    let mut lines = Vec::new();
    if let Some(condition) = unready.or(pending) {
        lines.push(said("because", Tone::Plain, &format!("{}: {}", condition.reason, condition.message)));
    }
    // Both can have a story of their own.
    if let (Some(unready), Some(pending)) = (unready, pending)
        && unready.message != pending.message
    {
        lines.push(said("", Tone::Plain, &format!("{}: {}", pending.reason, pending.message)));
    }
    lines
}

fn troubles(status: &ReleaseStatus) -> Vec<Line> {
    let bad = [
        (types::STALLED, "True", "stalled"),
        (types::AVAILABLE, "False", "down"),
        (types::REGISTRY_REACHABLE, "False", "registry"),
        (types::QUARANTINED, "True", "avoids"),
    ];
    let told = find(&status.conditions, types::READY).map(|condition| condition.message.as_str());
    bad.into_iter()
        .filter_map(|(kind, when, label)| {
            let condition = find(&status.conditions, kind).filter(|condition| condition.status == when)?;
            let text = format!("{}: {}", condition.reason, condition.message);
            (Some(condition.message.as_str()) != told).then(|| said(label, Tone::Bad, &text))
        })
        .collect()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
