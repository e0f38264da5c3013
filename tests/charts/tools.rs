//! helm and kubectl as the tests call them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest Kubernetes that the charts accept.
pub const OLDEST: &str = "1.33.0";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `TIMETRACKER_HELM`, else the one that `cargo xtask cluster up` built, else that of the PATH.
#[allow(dead_code)]
pub fn helm() -> PathBuf {
    if let Some(path) = std::env::var_os("TIMETRACKER_HELM") {
        return path.into();
    }
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    let cache =
        std::env::var_os("TIMETRACKER_CACHE").map_or_else(|| home.join(".cache/timetracker-operator"), PathBuf::from);
    let built = std::fs::read_dir(cache.join("programs"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("helm")))
        .find(|path| path.is_file());
    built.unwrap_or_else(|| PathBuf::from("helm"))
}

/// What a command prints; on failure, its error.
#[allow(dead_code)]
pub fn run(mut command: Command) -> Result<String, String> {
    let output = command.current_dir(repository()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// `helm template` with `--set` values; on failure, helm's error.
#[allow(dead_code)]
pub fn try_helm_template(release: &str, chart: &str, namespace: &str, sets: &[&str]) -> Result<String, String> {
    let mut command = Command::new(helm());
    command.args(["template", release, chart, "--namespace", namespace, "--kube-version", OLDEST]);
    for set in sets {
        command.args(["--set", set]);
    }
    run(command)
}

/// `helm template` with a file of values; on failure, helm's error.
#[allow(dead_code)]
pub fn try_helm_template_with(release: &str, chart: &str, namespace: &str, values: &str) -> Result<String, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), values).unwrap();
    let mut command = Command::new(helm());
    command.args(["template", release, chart, "--namespace", namespace, "--kube-version", OLDEST, "--values"]);
    command.arg(file.path());
    run(command)
}

/// `helm template` with `--set` values.
#[allow(dead_code)]
pub fn helm_template(release: &str, chart: &str, namespace: &str, sets: &[&str]) -> String {
    try_helm_template(release, chart, namespace, sets).unwrap_or_else(|error| panic!("{chart} {sets:?}: {error}"))
}

/// `kubectl kustomize`.
#[allow(dead_code)]
pub fn kustomize(folder: &str) -> String {
    let mut command = Command::new("kubectl");
    command.args(["kustomize", folder]);
    run(command).unwrap_or_else(|error| panic!("{folder}: {error}"))
}
