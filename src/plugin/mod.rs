//! `kubectl timetracker`: what runs, what is coming, why it waits. Reads only.

use std::fmt::Write as _;

use kube::{Api, Client, ResourceExt};

use crate::api::conditions::{find, types};
use crate::api::release::TimeTrackerRelease;
use crate::api::run::PipelineRun;

/// `kubectl timetracker`.
#[derive(Debug, clap::Parser)]
#[command(name = "kubectl-timetracker", bin_name = "kubectl timetracker", version, about)]
pub struct PluginArguments {
    /// The namespace; default is that of the current context.
    #[arg(long, short, global = true)]
    namespace: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// What runs, what is coming and why it waits, for all releases and the newest runs, or for one of that name.
    Status {
        /// A release or a run.
        name: Option<String>,
    },
    /// The last deliveries of a release and its quarantined digests.
    History {
        /// The release.
        release: String,
    },
}

/// Why the plugin has no answer.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No usable kubeconfig.
    #[error("no API server: {0}")]
    Connect(Box<kube::Error>),
    /// The API server refused or could not be reached.
    #[error("reading {what} in namespace {namespace}: {source}")]
    Read {
        /// What.
        what: String,
        /// Where.
        namespace: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Nothing of that name.
    #[error(
        "namespace {namespace} has neither a TimeTrackerRelease nor a PipelineRun named {name}; kubectl timetracker status lists them"
    )]
    NotFound {
        /// The name.
        name: String,
        /// Where.
        namespace: String,
    },
}

/// Runs the plugin and returns what it prints.
///
/// # Errors
/// When the API server can't be reached or refuses, or nothing has that name.
pub async fn run(arguments: PluginArguments) -> Result<String, PluginError> {
    let client = Client::try_default().await.map_err(|source| PluginError::Connect(Box::new(source)))?;
    let namespace = arguments.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let releases: Api<TimeTrackerRelease> = Api::namespaced(client.clone(), &namespace);
    let runs: Api<PipelineRun> = Api::namespaced(client, &namespace);
    let failed = |what: &str| {
        let (what, namespace) = (what.to_owned(), namespace.clone());
        move |source| PluginError::Read { what, namespace, source: Box::new(source) }
    };
    match arguments.command {
        Command::Status { name: None } => {
            let releases = releases.list(&Default::default()).await.map_err(failed("releases"))?.items;
            let mut runs = runs.list(&Default::default()).await.map_err(failed("runs"))?.items;
            runs.sort_by_key(|run| std::cmp::Reverse(run.metadata.creation_timestamp.clone().map(|time| time.0)));
            let told: Vec<String> =
                releases.iter().map(release_status).chain(runs.iter().take(5).map(run_status)).collect();
            Ok(if told.is_empty() {
                format!("namespace {namespace} has no releases and no runs\n")
            } else {
                told.join("\n")
            })
        }
        Command::Status { name: Some(name) } => {
            let release = releases.get_opt(&name).await.map_err(failed(&name))?;
            let run = runs.get_opt(&name).await.map_err(failed(&name))?;
            let told: Vec<String> = release.iter().map(release_status).chain(run.iter().map(run_status)).collect();
            if told.is_empty() { Err(PluginError::NotFound { name, namespace }) } else { Ok(told.join("\n")) }
        }
        Command::History { release } => {
            let found = releases.get_opt(&release).await.map_err(failed(&release))?;
            found.as_ref().map(history).ok_or(PluginError::NotFound { name: release, namespace })
        }
    }
}

/// A release in a few lines.
fn release_status(release: &TimeTrackerRelease) -> String {
    let mut text = format!("release {}\n", release.name_any());
    let Some(status) = &release.status else {
        text.push_str("  the operator has not seen it yet\n");
        return text;
    };
    match &status.current {
        Some(current) => {
            let _ = writeln!(
                text,
                "  runs    {} ({}) since {}",
                current.version,
                current.digest.short(),
                current.deployed_time.0
            );
        }
        None => text.push_str("  runs    nothing yet\n"),
    }
    if let Some(candidate) = &status.candidate {
        let _ =
            writeln!(text, "  coming  {} ({}), step {:?}", candidate.version, candidate.digest.short(), candidate.step);
        if let Some(verdict) = &candidate.verdict {
            let _ = writeln!(text, "          {verdict}");
        }
    }
    for kind in [types::READY, types::STALLED, types::QUARANTINED, types::REGISTRY_REACHABLE] {
        let Some(condition) = find(&status.conditions, kind) else { continue };
        let is_news = kind == types::READY || (condition.status == "True") != (kind == types::REGISTRY_REACHABLE);
        if is_news {
            let _ = writeln!(text, "  {kind}={} {}: {}", condition.status, condition.reason, condition.message);
        }
    }
    text
}

/// A run in a few lines.
fn run_status(run: &PipelineRun) -> String {
    let mut text = format!("run {} of {}\n", run.name_any(), run.spec.pipeline_ref.name);
    let Some(status) = &run.status else {
        text.push_str("  the operator has not seen it yet\n");
        return text;
    };
    if let Some(condition) = find(&status.conditions, types::SUCCEEDED) {
        let _ = writeln!(text, "  Succeeded={} {}: {}", condition.status, condition.reason, condition.message);
    }
    for job in &status.jobs {
        let seconds = job.seconds.map(|seconds| format!(" {seconds} s")).unwrap_or_default();
        let failure = job.failure.map(|class| format!(" {}", class.as_str())).unwrap_or_default();
        let message = job.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
        let _ = writeln!(text, "  {:<10} {}{seconds}{failure}{message}", format!("{:?}", job.phase), job.name);
    }
    text
}

/// The last deliveries, newest first.
fn history(release: &TimeTrackerRelease) -> String {
    let status = release.status.clone().unwrap_or_default();
    let mut text = String::new();
    for entry in &status.history {
        let message = entry.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "{}  {} ({}) {:?}{message}",
            entry.time.0,
            entry.version,
            entry.digest.short(),
            entry.outcome
        );
    }
    for quarantined in &status.quarantined {
        let _ = writeln!(
            text,
            "quarantined since {}  {} ({}): {}",
            quarantined.quarantined_time.0,
            quarantined.version,
            quarantined.digest.short(),
            quarantined.reason
        );
    }
    if text.is_empty() {
        text.push_str("nothing was delivered yet\n");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_release_under_way_says_what_runs_and_what_is_coming() {
        let release: TimeTrackerRelease = serde_json::from_value(json!({
            "apiVersion": "timetracker.dev/v1alpha1", "kind": "TimeTrackerRelease", "metadata": {"name": "site"},
            "spec": {"image": {"semver": ">=1"}},
            "status": {"observedGeneration": 1, "conditions": [],
                "current": {"version": "1.0.1", "digest": format!("sha256:{}", "a".repeat(64)), "deployedTime": "2026-01-01T00:00:00Z"},
                "candidate": {"version": "1.1.0", "digest": format!("sha256:{}", "b".repeat(64)), "step": "Migrate"}}
        }))
        .unwrap();
        let text = release_status(&release);
        assert!(text.contains("runs    1.0.1 (aaaaaaaaaaaa)"), "{text}");
        assert!(text.contains("coming  1.1.0 (bbbbbbbbbbbb), step Migrate"), "{text}");
    }

    #[test]
    fn an_unseen_run_says_so() {
        let run: PipelineRun = serde_json::from_value(json!({
            "apiVersion": "timetracker.dev/v1alpha1", "kind": "PipelineRun", "metadata": {"name": "r"},
            "spec": {"pipelineRef": {"name": "p"}}
        }))
        .unwrap();
        assert_eq!(run_status(&run), "run r of p\n  the operator has not seen it yet\n");
    }
}
