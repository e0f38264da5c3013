//! The deliveries of a release.

use std::io::{self, Write};

use kube::ResourceExt;

use super::error::{Access, PluginError};
use super::text::{moment, shown, table};
use super::{Context, Ending, RELEASES, checked};
use crate::api::release::{Outcome, TimeTrackerRelease};

/// Arguments of `history`.
#[derive(Debug, Clone, clap::Args)]
pub struct HistoryArguments {
    /// The release.
    release: String,
}

/// Tells the last deliveries, and what is not picked again.
pub(super) async fn history(context: &Context, arguments: &HistoryArguments) -> Result<Ending, PluginError> {
    let access = Access::new("get", RELEASES, &context.namespace);
    let found = access.found(context.releases().get(checked(&arguments.release)?).await)?;
    let release = found.ok_or_else(|| PluginError::NotFound {
        kind: "TimeTrackerRelease",
        name: arguments.release.clone(),
        namespace: context.namespace.clone(),
        hint: format!("; {} lists them", context.invocation.command(&["status"])),
    })?;
    io::stdout().lock().write_all(told(&release).as_bytes())?;
    Ok(Ending::Success)
}

fn told(release: &TimeTrackerRelease) -> String {
    let status = release.status.clone().unwrap_or_default();
    if status.history.is_empty() && status.quarantined.is_empty() {
        return format!("nothing was delivered to {} yet\n", shown(&release.name_any()));
    }
    let mut text = String::new();
    if !status.history.is_empty() {
        let mut rows = vec![["WHEN", "VERSION", "DIGEST", "OUTCOME", "WHY"].map(str::to_owned).to_vec()];
        rows.extend(status.history.iter().map(|entry| {
            vec![
                moment(entry.time.0),
                shown(&entry.version),
                entry.digest.short().to_owned(),
                outcome(entry.outcome).to_owned(),
                shown(entry.message.as_deref().unwrap_or_default()),
            ]
        }));
        text.push_str(&table(&rows));
    }
    if !status.quarantined.is_empty() {
        if !text.is_empty() {
            text.push('\n');
        }
        let mut rows = vec![["QUARANTINED", "VERSION", "DIGEST", "WHY"].map(str::to_owned).to_vec()];
        rows.extend(status.quarantined.iter().map(|entry| {
            vec![
                moment(entry.quarantined_time.0),
                shown(&entry.version),
                entry.digest.short().to_owned(),
                shown(&entry.reason),
            ]
        }));
        text.push_str(&table(&rows));
        text.push_str("\nto try one again: kubectl annotate timetrackerrelease/");
        text.push_str(&shown(&release.name_any()));
        text.push_str(" timetracker.dev/retry=<digest>\n");
    }
    text
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "delivered",
        Outcome::TakenBack => "taken back",
        Outcome::Refused => "refused",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn release(status: serde_json::Value) -> TimeTrackerRelease {
        serde_json::from_value(json!({
            "apiVersion": "timetracker.dev/v1alpha1", "kind": "TimeTrackerRelease", "metadata": {"name": "site"},
            "spec": {"image": {"semver": ">=1"}}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn deliveries_stand_below_each_other_and_what_is_avoided_after_them() {
        let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
        let release = release(json!({
            "observedGeneration": 1, "conditions": [],
            "history": [
                {"version": "1.1.0", "digest": digest("b"), "outcome": "TakenBack", "message": "not ready\u{1b}[2J", "time": "2026-01-02T08:00:00Z"},
                {"version": "1.0.1", "digest": digest("a"), "outcome": "Delivered", "time": "2026-01-01T08:00:00Z"}],
            "quarantined": [
                {"version": "1.1.0", "digest": digest("b"), "reason": "not ready", "quarantinedTime": "2026-01-02T08:00:00Z"}],
        }));
        insta::assert_snapshot!(told(&release), @r"
        WHEN                  VERSION  DIGEST        OUTCOME     WHY
        2026-01-02 08:00 UTC  1.1.0    bbbbbbbbbbbb  taken back  not ready\x1b[2J
        2026-01-01 08:00 UTC  1.0.1    aaaaaaaaaaaa  delivered

        QUARANTINED           VERSION  DIGEST        WHY
        2026-01-02 08:00 UTC  1.1.0    bbbbbbbbbbbb  not ready

        to try one again: kubectl annotate timetrackerrelease/site timetracker.dev/retry=<digest>
        ");
    }

    #[test]
    fn a_release_that_nothing_was_delivered_to_says_so() {
        let release = release(json!({"observedGeneration": -1, "conditions": []}));
        assert_eq!(told(&release), "nothing was delivered to site yet\n");
    }
}
