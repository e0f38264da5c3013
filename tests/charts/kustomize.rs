//! config/default and config/pipelines are generated from the charts and render the same objects.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{Objects, objects, tools};

const RELEASE: &str = "timetracker-operator";
const NAMESPACE: &str = "timetracker-system";
const PIPELINES: &str = "charts/timetracker-pipelines";

/// A chart's templates with default values as files below config/, without what only helm understands.
fn files(rendered: &str, chart: &str, folder: fn(&str) -> &'static str) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for document in rendered.split("---\n# Source: ").filter(|part| !part.trim().is_empty()) {
        let (source, body) = document.split_once('\n').unwrap();
        let name = source.rsplit('/').next().unwrap();
        let text = files.entry(format!("config/{}/{name}", folder(name))).or_default();
        let head = format!("# Generated from charts/{chart} by `cargo xtask generate`.\n");
        text.push_str(if text.is_empty() { &head } else { "---\n" });
        for line in body.lines().filter(|line| !line.trim_start().starts_with("helm.sh/chart:")) {
            text.push_str(&line.replace("managed-by: Helm", "managed-by: kustomize"));
            text.push('\n');
        }
    }
    files
}

/// Compares the files, or writes them when `TIMETRACKER_UPDATE` is set.
fn compare(files: BTreeMap<String, String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut drifted = Vec::new();
    for (path, text) in files {
        if fs::read_to_string(root.join(&path)).is_ok_and(|written| written == text) {
            continue;
        }
        if std::env::var_os("TIMETRACKER_UPDATE").is_some() {
            fs::write(root.join(&path), text).unwrap();
        } else {
            drifted.push(path);
        }
    }
    assert!(drifted.is_empty(), "run `cargo xtask generate`; drifted: {drifted:?}");
}

#[test]
fn the_files_of_config_default_have_not_drifted_from_the_chart() {
    let rendered = tools::helm_template(RELEASE, "charts/timetracker-operator", NAMESPACE, &["crds.install=false"]);
    let folder = |name: &str| if ["rbac.yaml", "serviceaccount.yaml"].contains(&name) { "rbac" } else { "default" };
    compare(files(&rendered, "timetracker-operator", folder));
}

#[test]
fn the_files_of_config_pipelines_have_not_drifted_from_the_chart() {
    let rendered = tools::helm_template("pipelines", PIPELINES, "ci", &[]);
    compare(files(&rendered, "timetracker-pipelines", |_| "pipelines"));
}

#[test]
fn kustomize_and_helm_install_the_same_pipelines() {
    let helm = without_tool(objects(&tools::helm_template("pipelines", PIPELINES, "ci", &[])));
    assert_eq!(helm.len(), 4);
    assert_eq!(helm, without_tool(objects(&tools::kustomize("config/pipelines"))));
}

/// Without the labels and annotations that say which tool installed an object.
fn without_tool(mut objects: Objects) -> Objects {
    for object in objects.values_mut() {
        for (pointer, key) in [
            ("/metadata/labels", "app.kubernetes.io/managed-by"),
            ("/metadata/labels", "helm.sh/chart"),
            ("/metadata/annotations", "helm.sh/resource-policy"),
        ] {
            if let Some(map) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
                map.remove(key);
            }
        }
        if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
        }
    }
    objects
}

#[test]
fn kustomize_and_helm_install_the_same_objects() {
    let helm = without_tool(objects(&tools::helm_template(RELEASE, "charts/timetracker-operator", NAMESPACE, &[])));
    let mut kustomize = without_tool(objects(&tools::kustomize("config/default")));
    assert!(kustomize.remove("Namespace /timetracker-system").is_some(), "the namespace is kustomize's own");
    assert_eq!(helm.keys().collect::<Vec<_>>(), kustomize.keys().collect::<Vec<_>>());
    for (name, object) in &helm {
        // Not assert_eq: two definitions of 200 KiB help nobody.
        assert!(object == &kustomize[name], "{name} differs");
    }
}

#[test]
fn the_patch_of_argo_cd_holds_the_scripts_as_they_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/gitops/argocd");
    let patch: Value = serde_saphyr::from_str(&fs::read_to_string(folder.join("argocd-cm.yaml")).unwrap()).unwrap();
    for kind in ["TimeTrackerRelease", "PipelineRun"] {
        let script = fs::read_to_string(folder.join(format!("{kind}.health.lua"))).unwrap();
        assert_eq!(patch["data"][format!("resource.customizations.health.timetracker.dev_{kind}")], script);
    }
}
