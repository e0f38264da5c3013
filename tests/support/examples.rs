//! The YAML of the documents and samples. A whole object stands for itself; of a Pipeline, documents show only a part of
//! the `spec`, or some of its `jobs`; all else is values of the operator's chart. Beside GitHub's, ours stands on the right.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// What a fence of YAML, or a file, says.
#[derive(Debug, Clone)]
pub struct Example {
    /// File and line.
    pub place: String,
    pub value: Value,
}

/// Where documents have their YAML.
const FENCE: &str = "```yaml";
/// What stands over our half of two.
const OURS: &str = "# Pipeline";

/// All examples: of the README, the documents and the samples.
pub fn examples() -> Vec<Example> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = files(&root.join("docs"), "md").into_iter().chain([root.join("README.md")]);
    let mut found: Vec<Example> = documents.flat_map(|path| of_document(root, &path)).collect();
    for path in files(&root.join("config/samples"), "yaml") {
        let text = fs::read_to_string(&path).unwrap();
        found.extend(values(&shown(root, &path), &text));
    }
    assert!(found.len() >= 25, "{} examples", found.len());
    found
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|is| is == extension)).collect();
    files.sort();
    files
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap().display().to_string()
}

fn of_document(root: &Path, path: &Path) -> Vec<Example> {
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| line.trim() == FENCE);
    starts
        .flat_map(|(start, _)| {
            let place = format!("{}:{}", shown(root, path), start + 1);
            let block: Vec<&str> = lines[start + 1..].iter().take_while(|line| line.trim() != "```").copied().collect();
            let column = block.first().and_then(|first| first.find(OURS)).unwrap_or(0);
            let block: Vec<&str> = block.iter().map(|line| line.get(column..).unwrap_or_default()).collect();
            values(&place, &block.join("\n"))
        })
        .collect()
}

fn values(place: &str, text: &str) -> Vec<Example> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{place}: {error}"));
    values.into_iter().map(|value| Example { place: place.to_owned(), value }).collect()
}

impl Example {
    /// The object that it is, or the Pipeline that it is a part of.
    pub fn object(&self) -> Option<Value> {
        if let Some(version) = self.value["apiVersion"].as_str() {
            return (!version.starts_with("kustomize.")).then(|| self.value.clone());
        }
        let part = if self.value.is_array() { json!({ "jobs": self.value }) } else { self.value.clone() };
        let of_pipelines = ["jobs", "finally", "concurrency", "triggers", "params", "defaults"];
        of_pipelines.iter().any(|field| !part[*field].is_null()).then(|| pipeline(part))
    }

    /// The values of the operator's chart that it is.
    #[allow(dead_code)] // Not all that read examples ask for them.
    pub fn chart_values(&self) -> Option<Value> {
        (self.value["apiVersion"].is_null() && self.object().is_none()).then(|| self.value.clone())
    }
}

/// A Pipeline with this part of a `spec`, and with what the part leaves out: an image, and the jobs that others need.
fn pipeline(mut spec: Value) -> Value {
    let listed = |spec: &Value, list: &str| spec[list].as_array().cloned().unwrap_or_default();
    let all = [listed(&spec, "jobs"), listed(&spec, "finally")].concat();
    let names: BTreeSet<&str> = all.iter().filter_map(|job| job["name"].as_str()).collect();
    let needs: BTreeSet<&str> =
        all.iter().flat_map(|job| job["needs"].as_array()).flatten().filter_map(Value::as_str).collect();
    let mut jobs = listed(&spec, "jobs");
    jobs.extend(needs.difference(&names).map(|name| json!({ "name": name, "run": "true" })));
    if jobs.is_empty() {
        jobs.push(json!({ "name": "example", "run": "true" }));
    }
    spec["jobs"] = json!(jobs);
    if spec["defaults"].is_null() {
        spec["defaults"] = json!({ "image": "docker.io/library/python:3.11-slim" });
    }
    json!({ "apiVersion": "timetracker.dev/v1alpha1", "kind": "Pipeline", "metadata": { "name": "example" }, "spec": spec })
}
