//! Helm values from several places as one typed [`Values`]: bounded, merged in order, unknown keys refused.

use serde::Deserialize;
use serde_json::Value;

use crate::api::values::Values;

/// The longest values document, in bytes.
const MAX_DOCUMENT: usize = 128 * 1024;

/// Variables that the operator sets itself: another value would migrate twice, drop tables or reach the wrong database.
const RESERVED_VARIABLES: [&str; 5] =
    ["DATABASE_URL", "SECRET_KEY", "TT_SKIP_DB_CLEANUP", "TT_BOOTSTRAP_MODE", "PGSSLROOTCERT"];

/// One document of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Where it comes from, for messages: for example `ConfigMap site, key values.yaml`.
    pub source: String,
    /// The YAML text.
    pub text: String,
}

/// Why the values can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValuesError {
    /// A source that is not optional does not exist.
    #[error("{0} does not exist: create it, or mark the reference `optional: true`")]
    Missing(String),
    /// A document that is too long.
    #[error("{0} is longer than {MAX_DOCUMENT} bytes")]
    TooLong(String),
    /// A document that is no YAML, or uses more aliases or depth than is allowed.
    #[error("{from}: {message}")]
    Yaml {
        /// Where it comes from.
        from: String,
        /// The parser's words.
        message: String,
    },
    /// A document that is not a mapping.
    #[error("{0}: expected a mapping of values")]
    NotAMapping(String),
    /// A key that no value has.
    #[error("values: unknown key `{0}`: check its spelling and indentation")]
    UnknownKey(String),
    /// A value of a wrong type or form.
    #[error("values: `{key}`: {message}")]
    Wrong {
        /// The key, as a path.
        key: String,
        /// What is wrong.
        message: String,
    },
}

impl ValuesError {
    /// The word for conditions.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) => "ValuesNotFound",
            Self::TooLong(_) | Self::Yaml { .. } | Self::NotAMapping(_) | Self::UnknownKey(_) | Self::Wrong { .. } => {
                "ValuesInvalid"
            }
        }
    }
}

/// `layers` merged in order, and `spec` on top: mappings are merged, everything else is replaced.
///
/// # Errors
/// When a document can't be read, a key is unknown or a value has the wrong type or form.
pub fn merge(layers: &[Layer], spec: Option<&Values>) -> Result<Values, ValuesError> {
    let mut merged = Value::Object(serde_json::Map::new());
    for layer in layers {
        let document = parse(layer)?;
        // Each alone first, so that the message can say where a wrong key stands.
        read(&document).map_err(|error| located(error, &layer.source))?;
        overlay(&mut merged, document);
    }
    if let Some(spec) = spec {
        let spec = serde_json::to_value(spec)
            .map_err(|error| ValuesError::Wrong { key: "spec.values".to_owned(), message: error.to_string() })?;
        overlay(&mut merged, spec);
    }
    let values = read(&merged)?;
    check(&values)?;
    Ok(values)
}

fn located(error: ValuesError, source: &str) -> ValuesError {
    match error {
        ValuesError::UnknownKey(key) => ValuesError::UnknownKey(format!("{key}` in `{source}")),
        ValuesError::Wrong { key, message } => ValuesError::Wrong { key: format!("{key}` in `{source}"), message },
        other @ (ValuesError::Missing(_)
        | ValuesError::TooLong(_)
        | ValuesError::Yaml { .. }
        | ValuesError::NotAMapping(_)) => other,
    }
}

fn parse(layer: &Layer) -> Result<Value, ValuesError> {
    if layer.text.len() > MAX_DOCUMENT {
        return Err(ValuesError::TooLong(layer.source.clone()));
    }
    if layer.text.trim().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let document: Value = serde_saphyr::from_str(&layer.text).map_err(|error| {
        let message: String = error.to_string().lines().next().unwrap_or_default().chars().take(300).collect();
        ValuesError::Yaml { from: layer.source.clone(), message }
    })?;
    match document {
        Value::Null => Ok(Value::Object(serde_json::Map::new())),
        Value::Object(_) => Ok(document),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(ValuesError::NotAMapping(layer.source.clone()))
        }
    }
}

fn overlay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                match below.get_mut(&key) {
                    Some(present) => overlay(present, value),
                    None => {
                        below.insert(key, value);
                    }
                }
            }
        }
        // An explicit null takes a key back to its default, as Helm does.
        (below, above) => *below = above,
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), without_nulls(value)))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.iter().map(without_nulls).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn read(document: &Value) -> Result<Values, ValuesError> {
    let document = without_nulls(document);
    let mut unknown = None;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&document, &mut track);
    let result = {
        let mut note = |path: serde_ignored::Path<'_>| {
            // The library writes `?` for the inside of an optional value.
            unknown.get_or_insert_with(|| path.to_string().replace(".?", ""));
        };
        Values::deserialize(serde_ignored::Deserializer::new(tracked, &mut note))
    };
    let values =
        result.map_err(|error| ValuesError::Wrong { key: track.path().to_string(), message: error.to_string() })?;
    match unknown {
        Some(key) => Err(ValuesError::UnknownKey(key)),
        None => Ok(values),
    }
}

/// What the CRD's schema checks for `spec.values`, and types alone don't say.
fn check(values: &Values) -> Result<(), ValuesError> {
    let wrong = |key: &str, message: String| Err(ValuesError::Wrong { key: key.to_owned(), message });
    if values.replica_count.is_some_and(|count| !(0..=20).contains(&count)) {
        return wrong("replicaCount", "expected 0 to 20".to_owned());
    }
    if let Some(url) = &values.url {
        let parsed = url::Url::parse(url).ok().filter(|parsed| matches!(parsed.scheme(), "http" | "https"));
        if parsed.as_ref().and_then(url::Url::host_str).is_none() {
            return wrong("url", format!("`{}` is not an http or https address", shown(url)));
        }
    }
    if values.ingress.as_ref().is_some_and(|ingress| ingress.enabled) && values.url.is_none() {
        return wrong("ingress.enabled", "needs `url`: its host becomes the Ingress' host".to_owned());
    }
    if let Some(port) = values.service.as_ref().and_then(|service| service.port)
        && !(1..=65535).contains(&port)
    {
        return wrong("service.port", "expected 1 to 65535".to_owned());
    }
    for variable in &values.env {
        let name_fits = variable.name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && variable.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && variable.name.len() <= 128;
        if !name_fits {
            return wrong("env", format!("`{}` is not a variable's name", shown(&variable.name)));
        }
        if RESERVED_VARIABLES.contains(&variable.name.as_str()) {
            return wrong("env", format!("{} is set by the operator and can't be given", variable.name));
        }
        if variable.value.is_some() == variable.value_from.is_some() {
            return wrong("env", format!("{} needs exactly one of value, valueFrom", variable.name));
        }
    }
    let size = values.persistence.as_ref().and_then(|persistence| persistence.size.as_deref());
    if let Some(size) = size
        && super::quantity::bytes(size).is_none()
    {
        return wrong("persistence.size", format!("`{}` is not a size such as 5Gi", shown(size)));
    }
    Ok(())
}

fn shown(text: &str) -> String {
    crate::api::conditions::printable(text, 80)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn layer(text: &str) -> Layer {
        Layer { source: "ConfigMap site, key values.yaml".into(), text: text.into() }
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let spec = Values { currency: Some("CHF".into()), ..Values::default() };
        let layers = [layer("service: {port: 81}\ntimezone: UTC"), layer("service: {type: NodePort}\ncurrency: USD")];
        let values = merge(&layers, Some(&spec)).unwrap();
        let service = values.service.unwrap();
        assert_eq!((service.port, service.service_type.is_some()), (Some(81), true));
        assert_eq!((values.currency.as_deref(), values.timezone.as_deref()), (Some("CHF"), Some("UTC")));
    }

    #[test]
    fn an_unknown_key_is_refused_and_named_with_its_place() {
        let error = merge(&[layer("ingress: {enabledd: true}")], None).unwrap_err().to_string();
        assert!(error.contains("ingress.enabledd") && error.contains("ConfigMap site"), "{error}");
    }

    #[test]
    fn a_wrong_type_is_refused_and_named() {
        let error = merge(&[layer("service: {port: eighty}")], None).unwrap_err().to_string();
        assert!(error.contains("service.port"), "{error}");
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", below.trim_end_matches(", ")));
        }
        assert!(matches!(merge(&[layer(&text)], None), Err(ValuesError::Yaml { .. })));
    }

    #[test]
    fn an_overlong_document_is_refused_before_it_is_parsed() {
        let text = format!("# {}", "x".repeat(MAX_DOCUMENT));
        assert!(matches!(merge(&[layer(&text)], None), Err(ValuesError::TooLong(_))));
    }

    #[test]
    fn a_list_is_no_mapping_of_values() {
        assert!(matches!(merge(&[layer("- a")], None), Err(ValuesError::NotAMapping(_))));
    }

    #[test]
    fn duplicate_keys_are_refused() {
        assert!(merge(&[layer("currency: EUR\ncurrency: USD")], None).is_err());
    }

    #[test]
    fn variables_of_the_operator_are_refused() {
        for name in RESERVED_VARIABLES {
            let error = merge(&[layer(&format!("env: [{{name: {name}, value: x}}]"))], None).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_null_takes_a_key_back_to_its_default() {
        let layers = [layer("currency: USD"), layer("currency: null")];
        assert_eq!(merge(&layers, None).unwrap().currency, None);
    }

    #[test]
    fn an_ingress_needs_an_address() {
        assert!(merge(&[layer("ingress: {enabled: true}")], None).is_err());
        assert!(merge(&[layer("ingress: {enabled: true}\nurl: https://time.example.org")], None).is_ok());
    }
}
