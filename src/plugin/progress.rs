//! Watches a run until it ends. A connection that is lost is made again: nothing of the run depends on being watched.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use futures::{Stream, StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, ResourceExt};
use tokio::time::{MissedTickBehavior, interval};

use super::changes::changes;
use super::error::{Access, PluginError};
use super::line::{Line, Tone, paint};
use super::screen::{ProgressStyle, Screen, size};
use super::text::shown;
use super::tree::frame;
use super::view::RunView;
use super::{Context, RUNS};
use crate::api::marks::RUN_LABEL;
use crate::api::run::PipelineRun;

/// How often times on the screen move on.
const TICK: Duration = Duration::from_secs(1);
/// Seconds after which a watch is begun anew; a connection that says nothing any more is noticed little later.
const WATCH_SECONDS: u32 = 30;

/// What the watches have told so far.
#[derive(Debug, Default)]
struct World {
    run: Option<PipelineRun>,
    pods: BTreeMap<String, Pod>,
    /// Pods that a watch that begins anew has listed so far.
    listed: BTreeMap<String, Pod>,
    /// Whether the run was in the list of a watch that begins anew.
    run_listed: bool,
    /// What is wrong with the connection.
    trouble: Option<String>,
    /// Whether pods can't be read: the steps are then missing.
    without_pods: bool,
    deleted: bool,
}

type Told<K> = Result<Event<K>, watcher::Error>;

impl World {
    fn run_told(&mut self, told: Told<PipelineRun>, access: &Access) -> Result<(), PluginError> {
        match told {
            Ok(event) => {
                self.trouble = None;
                match event {
                    Event::Init => self.run_listed = false,
                    Event::Apply(run) => self.run = Some(run),
                    Event::InitApply(run) => {
                        self.run_listed = true;
                        self.run = Some(run);
                    }
                    Event::InitDone => self.deleted = !self.run_listed,
                    Event::Delete(_) => self.deleted = true,
                }
                Ok(())
            }
            Err(error) => match lasting(error, access) {
                Ok(lasting) => Err(lasting),
                Err(passing) => {
                    self.trouble = Some(passing);
                    Ok(())
                }
            },
        }
    }

    fn pod_told(&mut self, told: Told<Pod>, access: &Access) {
        match told {
            Ok(Event::Init) => self.listed.clear(),
            Ok(Event::Apply(pod)) => {
                self.pods.insert(pod.name_any(), pod);
            }
            Ok(Event::InitApply(pod)) => {
                self.listed.insert(pod.name_any(), pod);
            }
            Ok(Event::InitDone) => self.pods = std::mem::take(&mut self.listed),
            Ok(Event::Delete(pod)) => {
                self.pods.remove(&pod.name_any());
            }
            // Trouble with the connection is told by the other watch.
            Err(error) => self.without_pods = self.without_pods || lasting(error, access).is_ok(),
        }
    }
}

/// An error that trying again does not heal, or else the words of one that may pass.
fn lasting(error: watcher::Error, access: &Access) -> Result<PluginError, String> {
    let told = match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => access.error(source),
        watcher::Error::WatchError(status) => access.error(kube::Error::Api(status)),
        watcher::Error::NoResourceVersion => return Err("the API server's list has no version".to_owned()),
    };
    if told.is_lasting() { Ok(told) } else { Err(told.to_string()) }
}

/// Where progress goes.
enum Display {
    Tree(Screen<io::Stdout>),
    Plain,
}

/// Watches the run until it is over, and returns it with its last view.
///
/// # Errors
/// When the run may not be read or is deleted, or the output can't be written.
pub(super) async fn follow(
    context: &Context,
    name: &str,
    style: ProgressStyle,
) -> Result<(PipelineRun, RunView), PluginError> {
    let redraws = match style {
        ProgressStyle::Auto => context.output.redraws,
        ProgressStyle::Tree => true,
        ProgressStyle::Plain => false,
    };
    let mut display =
        if redraws { Display::Tree(Screen::new(io::stdout(), context.output.colour)) } else { Display::Plain };
    let runs = events(context.runs(), watcher::Config::default().fields(&format!("metadata.name={name}")));
    let pods = events(context.pods(), watcher::Config::default().labels(&format!("{RUN_LABEL}={name}")));
    pin_mut!(runs, pods);
    let run_access = Access::new("watch", RUNS, &context.namespace);
    let pod_access = Access::new("watch", "pods", &context.namespace);
    let mut world = World::default();
    let mut before: Option<RunView> = None;
    let mut troubled = None;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            Some(told) = runs.next() => world.run_told(told, &run_access)?,
            Some(told) = pods.next(), if !world.without_pods => world.pod_told(told, &pod_access),
            _ = ticks.tick() => {}
        }
        if world.deleted {
            return Err(gone(context, name));
        }
        let view = world.run.as_ref().map(|run| RunView::of(run, world.pods.values(), Timestamp::now()));
        let told = troubled != world.trouble;
        troubled.clone_from(&world.trouble);
        match &mut display {
            Display::Tree(screen) => {
                let mut lines = Vec::new();
                let (width, height) = size();
                if let Some(view) = &view {
                    // The last column is left free, where some terminals wrap, and the last row for the cursor.
                    lines = frame(view, width.saturating_sub(1), height.saturating_sub(3).max(1));
                }
                lines.extend(trouble_line(&world).map(|line| line.fit(width.saturating_sub(1))));
                screen.draw(&lines, width)?;
            }
            Display::Plain => {
                let mut out = io::stdout().lock();
                if let Some(trouble) = world.trouble.as_ref().filter(|_| told) {
                    writeln!(out, "connection lost, trying again: {}", shown(trouble))?;
                }
                for change in view.iter().flat_map(|view| changes(before.as_ref(), view)) {
                    writeln!(out, "{}", shown(&change))?;
                }
                out.flush()?;
            }
        }
        if let (Some(view), Some(run)) = (&view, &world.run)
            && view.state.is_final()
        {
            return Ok((run.clone(), view.clone()));
        }
        before = view.or(before);
    }
}

fn events<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = Told<K>> + Send
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watch(api, config.timeout(WATCH_SECONDS)).default_backoff()
}

fn trouble_line(world: &World) -> Option<Line> {
    let lost = world.trouble.as_ref().map(|trouble| format!("connection lost, trying again: {trouble}"));
    let without = || world.without_pods.then(|| "no steps: pods may not be watched".to_owned());
    lost.or_else(without).map(|text| Line::of(Tone::Faint, &text))
}

fn gone(context: &Context, name: &str) -> PluginError {
    PluginError::NotFound {
        kind: "PipelineRun",
        name: name.to_owned(),
        namespace: context.namespace.clone(),
        hint: ": it was deleted, or never made".to_owned(),
    }
}

/// The tree once, as it is now.
pub(super) fn once(context: &Context, view: &RunView) -> String {
    let width = if context.output.terminal { size().0 } else { size().0.max(120) };
    paint(&frame(view, width, usize::MAX), context.output.colour)
}
