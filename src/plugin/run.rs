//! Makes runs, repeats them and stops them.

use std::io::{self, Write};

use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::error::{Access, PluginError};
use super::failures::failed_tests;
use super::line::paint;
use super::progress::follow;
use super::screen::ProgressStyle;
use super::text::shown;
use super::verdict::report;
use super::view::RunState;
use super::{Context, Ending, FIELD_MANAGER, PIPELINES, RUNS, checked};
use crate::api::marks::{EVENT_LABEL, EVENT_MANUAL};
use crate::api::names::CommitSha;
use crate::api::pipeline::Pipeline;
use crate::api::pod::LocalName;
use crate::api::run::{Param, PipelineRun, PipelineRunSpec, RevisionSpec};

/// The longest name of a run.
const MAX_NAME: usize = 40;
/// What the API server appends to a generated name.
const SUFFIX: usize = 5;

/// Arguments of `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArguments {
    /// The pipeline.
    pipeline: String,
    /// The full commit to run on.
    #[arg(long, value_name = "SHA", conflicts_with_all = ["branch", "tag"])]
    commit: Option<String>,
    /// The branch whose newest commit to run on.
    #[arg(long, conflicts_with = "tag")]
    branch: Option<String>,
    /// The tag whose commit to run on.
    #[arg(long)]
    tag: Option<String>,
    /// A parameter of the pipeline, again for each.
    #[arg(long = "param", short, value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<Param>,
    /// The run's name, at most 40 characters; default: the pipeline's with five random ones.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    watching: Watching,
}

/// Whether and how a run that was made is watched.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Watching {
    /// Watch the run until it ends, and end as it does; the default.
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Print the run's name and leave it alone.
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// How progress is shown.
    #[arg(long, value_enum, default_value_t = ProgressStyle::Auto)]
    progress: ProgressStyle,
}

/// Arguments of `rerun`.
#[derive(Debug, Clone, clap::Args)]
pub struct RerunArguments {
    /// The run to repeat.
    run: String,
    /// Only what failed, and what depends on it; what succeeded is taken over.
    #[arg(long)]
    failed: bool,
    /// The new run's name, at most 40 characters.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    watching: Watching,
}

/// Arguments of `watch`.
#[derive(Debug, Clone, clap::Args)]
pub struct WatchArguments {
    /// The run.
    run: String,
    /// How progress is shown.
    #[arg(long, value_enum, default_value_t = ProgressStyle::Auto)]
    progress: ProgressStyle,
}

/// Arguments of `cancel`.
#[derive(Debug, Clone, clap::Args)]
pub struct CancelArguments {
    /// The run.
    run: String,
}

fn param(text: &str) -> Result<Param, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Param { name: name.to_owned(), value: value.to_owned() }),
        Some(_) | None => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Makes a run, and watches it.
pub(super) async fn run(context: &Context, arguments: &RunArguments) -> Result<Ending, PluginError> {
    let access = Access::new("get", PIPELINES, &context.namespace);
    let pipeline = access.found(context.pipelines().get(checked(&arguments.pipeline)?).await)?;
    let Some(pipeline) = pipeline else { return Err(no_pipeline(context, &arguments.pipeline).await) };
    let spec = PipelineRunSpec {
        pipeline_ref: LocalName { name: arguments.pipeline.clone() },
        revision: revision(&pipeline, arguments)?,
        params: params(&pipeline, &arguments.params)?,
        ..PipelineRunSpec::default()
    };
    make(context, &arguments.pipeline, arguments.name.as_deref(), spec, arguments.watching).await
}

async fn no_pipeline(context: &Context, name: &str) -> PluginError {
    let list = context.pipelines().list(&ListParams::default()).await;
    let names: Vec<String> = list.map(|list| list.iter().map(ResourceExt::name_any).collect()).unwrap_or_default();
    let hint = if names.is_empty() { String::new() } else { format!("; it has: {}", names.join(", ")) };
    PluginError::NotFound { kind: "Pipeline", name: name.to_owned(), namespace: context.namespace.clone(), hint }
}

fn revision(pipeline: &Pipeline, arguments: &RunArguments) -> Result<Option<RevisionSpec>, PluginError> {
    let RunArguments { commit, branch, tag, .. } = arguments;
    // The API server says less about what is wrong with it.
    let commit = commit.as_ref().map(|commit| commit.parse::<CommitSha>()).transpose()?;
    let revision = RevisionSpec {
        commit: commit.map(|commit| commit.to_string()),
        branch: branch.clone(),
        tag: tag.clone(),
        pull_request: None,
    };
    if revision != RevisionSpec::default() {
        return Ok(Some(revision));
    }
    match &pipeline.spec.repository_ref {
        None => Ok(None),
        Some(repository) => Err(PluginError::Usage(format!(
            "pipeline {} checks out {}: say --commit, --branch or --tag",
            arguments.pipeline, repository.name
        ))),
    }
}

fn params(pipeline: &Pipeline, given: &[Param]) -> Result<Vec<Param>, PluginError> {
    let known: Vec<&str> = pipeline.spec.params.iter().map(|param| param.name.as_str()).collect();
    for (at, param) in given.iter().enumerate() {
        if !known.contains(&param.name.as_str()) {
            let has = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let text = format!("pipeline {} has no parameter {}; it has: {has}", pipeline.name_any(), param.name);
            return Err(PluginError::Usage(text));
        }
        if given.iter().skip(at + 1).any(|other| other.name == param.name) {
            return Err(PluginError::Usage(format!("parameter {} is given twice", param.name)));
        }
    }
    Ok(given.to_vec())
}

/// Repeats a run: the whole of it, or only what failed.
pub(super) async fn rerun(context: &Context, arguments: &RerunArguments) -> Result<Ending, PluginError> {
    let earlier = context.run(&arguments.run).await?;
    let spec = repeated(&earlier, arguments.failed)?;
    let pipeline = earlier.spec.pipeline_ref.name.clone();
    make(context, &pipeline, arguments.name.as_deref(), spec, arguments.watching).await
}

/// What the repetition of a run asks for: the same commit, even when its branch has moved on. An approval is for a
/// person to give again.
fn repeated(earlier: &PipelineRun, failed_only: bool) -> Result<PipelineRunSpec, PluginError> {
    let name = earlier.name_any();
    let status = earlier.status.clone().unwrap_or_default();
    if failed_only {
        let state = super::view::RunView::of(earlier, [], jiff::Timestamp::UNIX_EPOCH).state;
        if !state.is_final() {
            return Err(PluginError::Usage(format!("run {name} is not over: watch or cancel it first")));
        }
        if state == RunState::Succeeded {
            return Err(PluginError::Usage(format!("nothing of run {name} failed: leave out --failed to repeat all")));
        }
        if status.jobs.is_empty() {
            return Err(PluginError::Usage(format!(
                "run {name} ended before its first job: leave out --failed to repeat it"
            )));
        }
    }
    let commit = status.commit.as_ref().map(ToString::to_string);
    let revision = earlier.spec.revision.clone().map(|revision| match commit {
        // `rerunOf` itself means the commit that the branch or tag named then; what succeeded is taken over only if all
        // that the jobs see is the same, the branch's name too.
        Some(_) if failed_only => revision,
        Some(commit) => {
            RevisionSpec { commit: Some(commit), pull_request: revision.pull_request, ..RevisionSpec::default() }
        }
        None => revision,
    });
    Ok(PipelineRunSpec {
        pipeline_ref: earlier.spec.pipeline_ref.clone(),
        revision,
        params: earlier.spec.params.clone(),
        rerun_of: failed_only.then_some(LocalName { name }),
        ttl: earlier.spec.ttl.clone(),
        ..PipelineRunSpec::default()
    })
}

async fn make(
    context: &Context,
    pipeline: &str,
    name: Option<&str>,
    spec: PipelineRunSpec,
    watching: Watching,
) -> Result<Ending, PluginError> {
    let mut run = PipelineRun::new(name.unwrap_or_default(), spec);
    if name.is_none() {
        run.metadata.name = None;
        run.metadata.generate_name = Some(name_stem(pipeline));
    }
    run.metadata.labels = Some([(EVENT_LABEL.to_owned(), EVENT_MANUAL.to_owned())].into());
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let access = Access::new("create", RUNS, &context.namespace);
    let made = context.runs().create(&parameters, &run).await.map_err(|error| access.error(error))?.name_any();
    if watching.no_wait {
        writeln!(io::stdout().lock(), "{}", shown(&made))?;
        return Ok(Ending::Success);
    }
    watch_until_end(context, &made, watching.progress).await
}

/// The begin of a generated name: what the API server appends still fits.
fn name_stem(pipeline: &str) -> String {
    let stem: String = pipeline.chars().take(MAX_NAME - SUFFIX - 1).collect();
    format!("{}-", stem.trim_end_matches('-'))
}

/// Watches a run that was made before.
pub(super) async fn watch(context: &Context, arguments: &WatchArguments) -> Result<Ending, PluginError> {
    context.run(&arguments.run).await?;
    watch_until_end(context, &arguments.run, arguments.progress).await
}

async fn watch_until_end(context: &Context, name: &str, style: ProgressStyle) -> Result<Ending, PluginError> {
    context.watched(Some(name));
    let (run, view) = follow(context, name, style).await?;
    context.watched(None);
    let failed = failed_tests(context, &run).await;
    let lines = report(&view, &failed, &context.invocation);
    io::stdout().lock().write_all(paint(&lines, context.output.colour).as_bytes())?;
    Ok(if view.state == RunState::Succeeded { Ending::Success } else { Ending::Failure })
}

/// Asks a run to stop.
pub(super) async fn cancel(context: &Context, arguments: &CancelArguments) -> Result<Ending, PluginError> {
    let run = context.run(&arguments.run).await?;
    let ended = run.status.as_ref().is_some_and(|status| status.completion_time.is_some());
    if ended {
        return Err(PluginError::Usage(format!("run {} has ended already: there is nothing to stop", arguments.run)));
    }
    let told = if run.spec.cancel {
        format!("run {} was told to stop before; its jobs get TERM and 20 s", arguments.run)
    } else {
        let access = Access::new("patch", RUNS, &context.namespace);
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "spec": { "cancel": true } }));
        context.runs().patch(&arguments.run, &parameters, &patch).await.map_err(|error| access.error(error))?;
        let watch = context.invocation.command(&["watch", &arguments.run]);
        format!("run {} is told to stop: its jobs get TERM and 20 s; {watch} shows the end", arguments.run)
    };
    writeln!(io::stdout().lock(), "{}", shown(&told))?;
    Ok(Ending::Success)
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
