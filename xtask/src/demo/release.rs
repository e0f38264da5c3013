//! A release while it is delivered: what its status says, in words.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{NAMESPACE, SITE, Stage};
use crate::host::progress::Progress;
use crate::host::wait;

const KIND: &str = "timetrackerreleases.timetracker.dev";

/// The demo's release.
pub struct Release<'a> {
    stage: &'a Stage<'a>,
    progress: &'a Progress,
    told: RefCell<String>,
}

impl<'a> Release<'a> {
    /// The one on this stage.
    pub fn new(stage: &'a Stage<'a>) -> Self {
        Self { stage, progress: stage.progress, told: RefCell::default() }
    }

    /// Waits until this version runs and nothing is left to do; says how long that took.
    pub fn delivered(&self, version: &str, bound: Duration) -> Result<Duration> {
        self.wait(bound, &format!("version {version} to be delivered"), |status| {
            status["current"]["version"] == version
                && condition(status, "Ready") == "True"
                && status["candidate"].is_null()
        })
    }

    /// Waits until `bad` is quarantined and `good` is what runs.
    pub fn taken_back(&self, bad: &str, good: &str, bound: Duration) -> Result<Duration> {
        self.wait(bound, &format!("version {bad} to be taken back"), |status| {
            let quarantined =
                status["quarantined"].as_array().into_iter().flatten().any(|entry| entry["version"] == bad);
            quarantined
                && status["current"]["version"] == good
                && condition(status, "Ready") == "True"
                && condition(status, "Available") == "True"
        })
    }

    /// The database's revisions as the status has them.
    pub fn revisions(&self) -> Result<String> {
        let status = self.status()?;
        let revisions = status["current"]["revisions"].as_array().context("status.current.revisions is missing")?;
        Ok(revisions.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
    }

    fn status(&self) -> Result<Value> {
        let object = self.stage.kubectl.get(KIND, NAMESPACE, SITE)?.context("the release is gone")?;
        Ok(object["status"].clone())
    }

    fn wait(&self, bound: Duration, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Duration> {
        let begun = Instant::now();
        let held = wait::until(bound, || {
            let status = self.status()?;
            self.tell(&status);
            Ok(holds(&status))
        })?;
        if held {
            return Ok(begun.elapsed());
        }
        let status = self.status()?;
        bail!("waited {} s for {what}; the status is now:\n{status:#}", bound.as_secs())
    }

    /// One line when the status says something new.
    fn tell(&self, status: &Value) {
        let mut line = String::new();
        if let Some(step) = status["candidate"]["step"].as_str() {
            line = format!("{} of {}: ", step, text(&status["candidate"]["version"]));
        }
        line.push_str(&message(status));
        let mut told = self.told.borrow_mut();
        if *told != line && !line.is_empty() {
            self.progress.say(format!("   {line}"));
            *told = line;
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn find<'v>(status: &'v Value, kind: &str) -> &'v Value {
    let found = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == kind);
    found.unwrap_or(&Value::Null)
}

fn condition<'v>(status: &'v Value, kind: &str) -> &'v str {
    text(&find(status, kind)["status"])
}

/// The most telling message: what is going on comes before what holds.
fn message(status: &Value) -> String {
    let kinds = ["Stalled", "Reconciling", "UpdatePending", "Quarantined", "Ready"];
    let telling = kinds
        .into_iter()
        .map(|kind| find(status, kind))
        .find(|found| found["status"] == "True" || found["type"] == "Ready");
    telling.map_or_else(String::new, |found| text(&found["message"]).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_going_on_comes_before_what_holds() {
        let status = json!({"conditions": [
            {"type": "Ready", "status": "Unknown", "message": "not yet"},
            {"type": "UpdatePending", "status": "False", "message": "nothing"},
            {"type": "Reconciling", "status": "True", "message": "migrating"},
        ]});
        assert_eq!(message(&status), "migrating");
        assert_eq!(condition(&status, "Ready"), "Unknown");
        assert_eq!(condition(&status, "Stalled"), "");
    }
}
