//! What the derived CRDs still need: a status default, bounds everywhere, no defaults around unions, no foreign prose.

use serde_json::{Map, Value, json};

/// Properties whose schema is an embedded Kubernetes type. Our own types use these names for nothing else (tested).
pub(super) const EMBEDDED: [&str; 8] = [
    "affinity",
    "configMap",
    "emptyDir",
    "imagePullSecrets",
    "persistentVolumeClaim",
    "resources",
    "secret",
    "tolerations",
];

/// Words in a rule's message by which an object is known to be a union.
const UNION_WORDS: [&str; 2] = ["exactly one of", "exclude each other"];

/// Bounds where a type gives none.
const MAX_ITEMS: u64 = 64;
const MAX_PROPERTIES: u64 = 64;
const MAX_LENGTH: u64 = 4096;
/// Quantities and ports are short.
const MAX_INT_OR_STRING: u64 = 64;

/// The definition as it is installed.
pub(super) fn finish(mut crd: Value) -> Value {
    let versions = crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        let Some(root) = version.pointer_mut("/schema/openAPIV3Schema").and_then(Value::as_object_mut) else {
            continue;
        };
        finish_schema(root, Place::default());
        // What `kubectl explain <kind>` shows first: the derived text says only which macro wrote it.
        if let Some(text) = property_mut(root, "spec").and_then(|spec| spec.get("description").cloned()) {
            root.insert("description".to_owned(), text);
        }
        if let Some(status) = property_mut(root, "status") {
            default_observed_generation(status);
        }
    }
    crd
}

/// A fresh object must never look done: kstatus and `kubectl wait` compare `observedGeneration` with the generation.
fn default_observed_generation(status: &mut Map<String, Value>) {
    status.insert("default".to_owned(), json!({ "observedGeneration": -1 }));
    if let Some(field) = property_mut(status, "observedGeneration") {
        field.insert("default".to_owned(), json!(-1));
    }
}

fn property_mut<'a>(schema: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    schema.get_mut("properties")?.get_mut(name)?.as_object_mut()
}

/// Where a schema stands.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Inside an embedded Kubernetes type.
    embedded: bool,
    /// Below an object of which exactly one member may be given.
    below_union: bool,
}

fn finish_schema(schema: &mut Map<String, Value>, place: Place) {
    // `null` would count as given in CEL's `has()`, so that a union with a null member refuses the other one.
    schema.remove("nullable");
    // A defaulted field below a union stays when its owner removes the member; a defaulted list or object would do the same.
    let scalar =
        schema.get("default").is_some_and(|value| value.is_boolean() || value.is_number() || value.is_string());
    if place.below_union || !scalar {
        schema.remove("default");
    }
    if place.embedded {
        schema.remove("description");
    }
    bound(schema);
    whole_numbers(schema);
    let below = Place { below_union: place.below_union || is_union(schema), ..place };
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties.iter_mut() {
            let Some(property) = property.as_object_mut() else { continue };
            // The property's own description is ours; what is below it is not.
            let description = property.get("description").cloned().filter(|_| !place.embedded);
            let embedded = place.embedded || EMBEDDED.contains(&name.as_str());
            finish_schema(property, Place { embedded, ..below });
            if let Some(description) = description {
                property.insert("description".to_owned(), description);
            }
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(inner).and_then(Value::as_object_mut) {
            finish_schema(inner, below);
        }
    }
}

/// Whether a rule on the object says that its members exclude each other.
pub(super) fn is_union(schema: &Map<String, Value>) -> bool {
    rules(schema).any(|(_, message)| UNION_WORDS.iter().any(|words| message.contains(words)))
}

/// The CEL rules of an object, each with its message.
pub(super) fn rules(schema: &Map<String, Value>) -> impl Iterator<Item = (&str, &str)> {
    schema
        .get("x-kubernetes-validations")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|rule| Some((rule.get("rule")?.as_str()?, rule.get("message")?.as_str()?)))
}

/// A maximum on every list, map and string: etcd's 1.5 MiB and the cost of CEL rules are finite.
fn bound(schema: &mut Map<String, Value>) {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        schema.entry("maxLength").or_insert(json!(MAX_INT_OR_STRING));
        return;
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => {
            schema.entry("maxItems").or_insert(json!(MAX_ITEMS));
        }
        Some("object") if schema.contains_key("additionalProperties") => {
            schema.entry("maxProperties").or_insert(json!(MAX_PROPERTIES));
        }
        // An enum bounds itself; a date-time has a fixed form.
        Some("string") if !schema.contains_key("enum") && !schema.contains_key("format") => {
            schema.entry("maxLength").or_insert(json!(MAX_LENGTH));
        }
        Some(_) | None => {}
    }
}

/// The typed definition holds limits as floating point; `65535.0` reads badly and tools rewrite it.
fn whole_numbers(schema: &mut Map<String, Value>) {
    for key in ["minimum", "maximum"] {
        let Some(limit) = schema.get_mut(key) else { continue };
        let whole = limit
            .as_f64()
            .and_then(|number| format!("{number:.0}").parse::<i64>().ok().filter(|_| number.fract() == 0.0));
        if let Some(whole) = whole {
            *limit = json!(whole);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::generate::{crd_files, crd_values, crds};

    /// Every schema below a definition's root with its path.
    fn all_schemas() -> Vec<(String, Map<String, Value>)> {
        let mut found = Vec::new();
        for (name, crd) in crd_values().unwrap() {
            let root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].as_object().unwrap().clone();
            let mut open = vec![(name, root)];
            while let Some((path, schema)) = open.pop() {
                for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    open.push((format!("{path}.{key}"), property.as_object().unwrap().clone()));
                }
                for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
                    if let Some(inner) = schema.get(key).and_then(Value::as_object) {
                        open.push((format!("{path}{mark}"), inner.clone()));
                    }
                }
                found.push((path, schema));
            }
        }
        found
    }

    #[test]
    fn every_list_map_and_string_has_a_maximum() {
        for (path, schema) in all_schemas() {
            let bounded = match schema.get("type").and_then(Value::as_str) {
                Some("array") => schema.contains_key("maxItems"),
                Some("object") => {
                    schema.contains_key("properties")
                        || schema.contains_key("maxProperties")
                        || path.ends_with(".metadata")
                }
                Some("string") => ["maxLength", "enum", "format"].iter().any(|key| schema.contains_key(*key)),
                Some("integer" | "boolean" | "number") => true,
                Some(other) => panic!("{path}: type {other}"),
                None => schema.contains_key("maxLength"),
            };
            assert!(bounded, "{path} has no maximum: {schema:?}");
        }
    }

    #[test]
    fn no_key_or_enum_value_is_a_boolean_of_yaml_1_1() {
        let is_boolean = |word: &str| {
            ["on", "off", "yes", "no", "y", "n", "true", "false"].contains(&word.to_ascii_lowercase().as_str())
        };
        for (path, schema) in all_schemas() {
            let key = path.rsplit('.').next().unwrap().trim_end_matches(['[', ']', '{', '}']);
            assert!(!is_boolean(key), "{path}");
            for value in schema.get("enum").and_then(Value::as_array).into_iter().flatten() {
                assert!(!is_boolean(value.as_str().unwrap()), "{path}: {value}");
            }
        }
    }

    #[test]
    fn a_fresh_object_of_every_kind_with_a_status_is_unobserved() {
        for (name, crd) in crd_values().unwrap() {
            let version = &crd["spec"]["versions"][0];
            if version["subresources"].get("status").is_none() {
                continue;
            }
            let status = &version["schema"]["openAPIV3Schema"]["properties"]["status"];
            assert_eq!(status["default"], json!({ "observedGeneration": -1 }), "{name}");
        }
    }

    #[test]
    fn the_unions_are_known_as_such_and_have_no_default_in_or_above_them() {
        let all = all_schemas();
        let unions: Vec<&String> = all.iter().filter(|(_, schema)| is_union(schema)).map(|(path, _)| path).collect();
        for expected in [
            "timetrackerreleases.timetracker.dev.spec.image",
            "timetrackerreleases.timetracker.dev.spec.database",
            "timetrackerreleases.timetracker.dev.spec.pod.volumes[]",
            "timetrackerreleases.timetracker.dev.spec.values.env[]",
            "timetrackerreleases.timetracker.dev.spec.values.env[].valueFrom",
            "pipelines.timetracker.dev.spec.jobs[]",
            "pipelines.timetracker.dev.spec.finally[]",
            "pipelines.timetracker.dev.spec.defaults",
            "pipelines.timetracker.dev.spec.jobs[].services[]",
            "pipelineruns.timetracker.dev.spec.revision",
        ] {
            assert!(unions.iter().any(|path| *path == expected), "{expected} is no union in {unions:?}");
        }
        for (path, schema) in all.iter().filter(|(_, schema)| schema.contains_key("default")) {
            let default = &schema["default"];
            for union in &unions {
                assert!(!path.starts_with(*union), "{path}: default {default} in the union {union}");
                assert!(!union.starts_with(path), "{path}: default {default} above the union {union}");
            }
        }
    }

    #[test]
    fn embedded_kubernetes_types_carry_no_prose_and_ours_always_do() {
        for (path, schema) in all_schemas() {
            let parts: Vec<&str> = path.split('.').collect();
            let inside = parts.iter().position(|part| EMBEDDED.contains(&part.trim_end_matches("[]")));
            match inside {
                Some(at) if at + 1 < parts.len() => assert!(!schema.contains_key("description"), "{path}"),
                Some(_) => assert!(schema.contains_key("description") || path.ends_with("[]"), "{path}"),
                None if path.ends_with("[]") || path.ends_with("{}") || path.ends_with(".metadata") => {}
                None => assert!(schema.contains_key("description"), "{path} has no description"),
            }
        }
    }

    #[test]
    fn other_clients_get_unknown_fields_pruned_not_refused() {
        for (path, schema) in all_schemas() {
            assert_ne!(schema.get("additionalProperties"), Some(&Value::Bool(false)), "{path}");
            assert!(!schema.contains_key("nullable"), "{path}");
        }
    }

    #[test]
    fn each_definition_is_under_200_kib_as_json() {
        for crd in crds().unwrap() {
            let size = serde_json::to_string(&crd).unwrap().len();
            assert!(size < 200 * 1024, "{:?}: {size} bytes", crd.metadata.name);
        }
    }

    #[test]
    fn the_yaml_says_what_the_types_say_and_nothing_that_helm_would_expand() {
        for (file, (name, value)) in crd_files().unwrap().iter().zip(crd_values().unwrap()) {
            let back: Value = serde_saphyr::from_str(&file.text).unwrap();
            assert_eq!(back, value, "{name}");
            assert!(!file.text.contains("{{"), "{name}");
        }
    }
}
