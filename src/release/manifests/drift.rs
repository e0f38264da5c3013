//! Whether an object in the cluster still is what was applied.

use serde_json::Value;

use crate::cluster::HASH_ANNOTATION;
use crate::release::quantity;

/// Whether `live` lacks anything that `desired` says, or says it otherwise. What others added is theirs.
#[must_use]
pub fn differs(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().any(|(key, wanted)| match live.get(key) {
            Some(present) => differs(present, wanted),
            None => !is_nothing(wanted),
        }),
        (Value::Array(live), Value::Array(desired)) => lists_differ(live, desired),
        (Value::String(live), Value::String(desired)) => live != desired && !quantity::same(live, desired),
        (live, desired) => live != desired,
    }
}

/// What the API server leaves out of an answer: empty mappings, lists and texts, zeros and falses.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
    }
}

/// Lists of objects with a key are compared by it, as server-side apply merges them; others position by position.
fn lists_differ(live: &[Value], desired: &[Value]) -> bool {
    let keys = ["mountPath", "name", "containerPort", "host"];
    let key = keys.into_iter().find(|key| !desired.is_empty() && desired.iter().all(|item| item.get(key).is_some()));
    match key {
        Some(key) => desired.iter().any(|wanted| {
            let same = live.iter().find(|item| item.get(key) == wanted.get(key));
            same.is_none_or(|present| differs(present, wanted))
        }),
        None => live.len() != desired.len() || live.iter().zip(desired).any(|(live, wanted)| differs(live, wanted)),
    }
}

/// The hash that a manifest or an object applied from it carries.
#[must_use]
pub fn hash_of(body: &Value) -> Option<&str> {
    body.get("metadata")?.get("annotations")?.get(HASH_ANNOTATION)?.as_str()
}

/// Whether `live` carries the hash of `desired`: the same manifest was applied last.
#[must_use]
pub fn is_at_hash(live: &Value, desired: &Value) -> bool {
    hash_of(live).is_some() && hash_of(live) == hash_of(desired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({"a": 1, "added": 2}), json!({"a": 1}), false)]
    #[case(json!({"a": 2}), json!({"a": 1}), true)]
    #[case(json!({}), json!({"a": 1}), true)]
    #[case(json!({}), json!({"a": {}, "minReadySeconds": 0, "optional": false}), false)]
    #[case(
        json!([{"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/b"}]),
        json!([{"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/b"}]),
        false
    )]
    #[case(json!({"cpu": "1"}), json!({"cpu": "1000m"}), false)]
    #[case(json!([{"name": "x", "v": 1}, {"name": "y"}]), json!([{"name": "y"}]), false)]
    #[case(json!([{"name": "x", "v": 1}]), json!([{"name": "x", "v": 2}]), true)]
    #[case(json!(["a", "b"]), json!(["b", "a"]), true)]
    fn only_what_was_applied_counts(#[case] live: Value, #[case] desired: Value, #[case] drifted: bool) {
        assert_eq!(differs(&live, &desired), drifted);
    }
}
