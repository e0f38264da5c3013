//! What `kubectl` shows of the definitions.

use std::path::Path;

use crate::cluster::{client, command};

/// kubectl caches what an API server serves for minutes: here with a cache of its own.
fn explain(cache: &Path, field: &str) -> String {
    let output = command("kubectl").arg("--cache-dir").arg(cache).args(["explain", field]).output().unwrap();
    assert!(output.status.success(), "{field}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn kubectl_explains_the_fields_in_our_words() {
    let _client = client().await;
    let cache = tempfile::tempdir().unwrap();
    for (field, words) in [
        ("ttr", "One TimeTracker site"),
        ("ttr.spec.image.semver", "the newest version in it is wanted"),
        ("ttr.spec.database.embedded", "One Postgres 16"),
        ("pl.spec.jobs.run", "Lines for `/bin/sh -e`"),
        ("plr.status.completionTime", "Wait for this field, then read Succeeded"),
        ("srcrepo.spec.cloneURL", "Where Git fetches from"),
        ("ttr.spec.pod.affinity", "Rules on which nodes"),
    ] {
        let shown = explain(cache.path(), field).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.contains(words), "{field}: {shown}");
    }
}

#[tokio::test]
async fn all_four_kinds_are_listed_by_their_category() {
    let _client = client().await;
    let cache = tempfile::tempdir().unwrap();
    let output = command("kubectl")
        .arg("--cache-dir")
        .arg(cache.path())
        .args(["api-resources", "--categories=timetracker", "--output=name"])
        .output()
        .unwrap();
    let mut names: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "pipelineruns.timetracker.dev",
            "pipelines.timetracker.dev",
            "sourcerepositories.timetracker.dev",
            "timetrackerreleases.timetracker.dev",
        ]
    );
}
