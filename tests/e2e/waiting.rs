//! Waiting for a status, with a bound.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::stage::Stage;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// The status of an object once it is as `holds` wants it; panics with the last one when the time is over.
pub async fn status(
    stage: &Stage,
    kind: &str,
    name: &str,
    what: &str,
    seconds: u64,
    holds: impl Fn(&Value) -> bool,
) -> Value {
    let api = stage.api(kind);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let object = api.get(name).await.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
        let status = object.data["status"].clone();
        if holds(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{kind} {name}: waited {seconds} s for {what}; it is\n{status:#}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until something outside the API holds.
pub async fn until(what: &str, seconds: u64, holds: impl FnMut() -> bool) {
    assert!(comes_true(seconds, holds).await, "waited {seconds} s for {what}");
}

/// Whether something outside the API comes to hold within that time.
pub async fn comes_true(seconds: u64, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
    true
}

/// The condition of that type, null when there is none.
pub fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let found = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == kind);
    found.unwrap_or(&Value::Null)
}

/// Whether the condition of that type is True.
pub fn is_true(status: &Value, kind: &str) -> bool {
    condition(status, kind)["status"] == "True"
}

/// Whether any condition's message contains this.
pub fn says(status: &Value, text: &str) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.filter_map(|condition| condition["message"].as_str()).any(|message| message.contains(text))
}
