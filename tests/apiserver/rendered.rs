//! What the charts, kustomize and the samples say, as the API server judges it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::cluster::{command, in_namespace};

#[path = "../charts/tools.rs"]
mod tools;

#[path = "../support/examples.rs"]
mod examples;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Sends objects to the API server, which checks them as for a real apply and keeps nothing. Returns its warnings.
fn dry_run(namespace: &str, yaml: &str) -> Result<String, String> {
    let cache = tempfile::tempdir().unwrap();
    let mut child = command("kubectl")
        .arg("--cache-dir")
        .arg(cache.path())
        .args(["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"])
        .args(["--namespace", namespace, "--filename", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    if output.status.success() { Ok(said) } else { Err(said) }
}

fn assert_taken_without_warning(namespace: &str, what: &str, yaml: &str) {
    let said = dry_run(namespace, yaml).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(said, "", "{what}");
}

#[tokio::test]
async fn every_rendering_of_the_operator_chart_is_taken_without_a_warning_of_pod_security() {
    in_namespace("ttr-chart", |_, namespace| async move {
        let watched = format!("watchNamespaces={{{namespace}}}");
        for sets in [
            vec!["podDisruptionBudget.enabled=true"],
            vec![watched.as_str(), "trustedCA.configMap=ca", "artifacts.persistence.enabled=false"],
            vec![
                "artifacts.enabled=false",
                "networkPolicy.enabled=false",
                "metrics.enabled=false",
                "config.limits.jobs=3",
            ],
        ] {
            let rendered =
                tools::helm_template("timetracker-operator", "charts/timetracker-operator", &namespace, &sets);
            assert_taken_without_warning(&namespace, &sets.join(","), &rendered);
        }
    })
    .await;
}

#[tokio::test]
async fn the_release_chart_renders_a_release_that_is_taken() {
    in_namespace("ttr-site", |_, namespace| async move {
        for sets in [
            vec![],
            vec!["image.version=5.10.0", "values.url=https://time.example.org", "values.ingress.enabled=true"],
            vec![
                "image.channel=Development",
                "database.urlFrom.secretKeyRef.name=a",
                "database.urlFrom.secretKeyRef.key=b",
                "suspend=true",
            ],
        ] {
            let rendered = tools::helm_template("site", "charts/timetracker", &namespace, &sets);
            assert_taken_without_warning(&namespace, &sets.join(","), &rendered);
        }
    })
    .await;
}

#[tokio::test]
async fn kubectl_takes_every_sample() {
    in_namespace("ttr-samples", |_, namespace| async move {
        let mut count = 0;
        for entry in std::fs::read_dir(repository().join("config/samples")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() == "kustomization.yaml" {
                continue;
            }
            let yaml = std::fs::read_to_string(&path).unwrap();
            assert_taken_without_warning(&namespace, &path.display().to_string(), &yaml);
            count += 1;
        }
        assert!(count >= 5, "{count} samples");
    })
    .await;
}

#[tokio::test]
async fn kubectl_takes_every_example_of_the_documents() {
    in_namespace("ttr-documents", |_, namespace| async move {
        let mut count = 0;
        for example in examples::examples() {
            let Some(mut object) = example.object() else { continue };
            object["metadata"]["namespace"] = namespace.clone().into();
            assert_taken_without_warning(&namespace, &example.place, &object.to_string());
            count += 1;
        }
        assert!(count >= 20, "{count} examples");
    })
    .await;
}

#[tokio::test]
async fn every_rendering_of_the_pipelines_chart_is_taken() {
    in_namespace("ttr-pipelines", |_, namespace| async move {
        for sets in [vec![], vec!["codecov.enabled=true", "codecov.flags={unit}", "nodeSelector.disk=ssd"]] {
            let rendered = tools::helm_template("pipelines", "charts/timetracker-pipelines", &namespace, &sets);
            assert_taken_without_warning(&namespace, &sets.join(","), &rendered);
        }
        assert_taken_without_warning(&namespace, "config/pipelines", &tools::kustomize("config/pipelines"));
    })
    .await;
}

#[tokio::test]
async fn kustomize_renders_what_the_api_server_takes() {
    in_namespace("ttr-kustomize", |_, namespace| async move {
        let rendered = tools::kustomize("config/default").replace("timetracker-system", &namespace);
        // The namespace itself is there already and is another's.
        let objects: Vec<&str> =
            rendered.split("\n---\n").filter(|object| !object.contains("kind: Namespace\n")).collect();
        assert_taken_without_warning(&namespace, "config/default", &objects.join("\n---\n"));
    })
    .await;
}
