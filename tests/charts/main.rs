//! The charts and config/default as helm and kustomize render them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kustomize;
mod rendering;
mod tools;

#[path = "../support/examples.rs"]
mod examples;

use std::collections::BTreeMap;

use serde_json::Value;

/// Rendered objects by kind, namespace and name.
pub type Objects = BTreeMap<String, Value>;

/// The objects of a YAML stream.
pub fn objects(yaml: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|object| {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            (format!("{} {}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name")), object)
        })
        .collect()
}
