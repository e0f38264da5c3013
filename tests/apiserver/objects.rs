//! What is accepted and what is refused, with the words of the refusal.

use serde_json::json;

use crate::cluster::{client, try_create};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Kind, spec, and a part of the message when it is refused.
type Row = (&'static str, String, Option<&'static str>);

fn accepted(kind: &'static str, spec: impl Into<String>) -> Row {
    (kind, spec.into(), None)
}

fn refused(kind: &'static str, spec: impl Into<String>, message: &'static str) -> Row {
    (kind, spec.into(), Some(message))
}

async fn assert_rows(rows: Vec<Row>) {
    let client = client().await;
    let mut wrong = Vec::new();
    for (kind, spec, expected) in rows {
        match (try_create(&client, kind, "subject", &spec).await, expected) {
            (Ok(_), None) => {}
            (Err(message), Some(expected)) if message.contains(expected) => {}
            (Ok(_), Some(expected)) => wrong.push(format!("accepted {kind} {spec}, expected: {expected}")),
            (Err(message), Some(expected)) => wrong.push(format!("{kind} {spec}: {message}\n  expected: {expected}")),
            (Err(message), None) => wrong.push(format!("refused {kind} {spec}: {message}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn releases_are_accepted_or_refused_with_the_reason() {
    let kind = "TimeTrackerRelease";
    let one = "exactly one of version, semver, channel, tag, digest says which image is wanted";
    let image = "image: {semver: '>=5'}";
    assert_rows(vec![
        accepted(kind, "image: {semver: '>=5, <6'}"),
        accepted(kind, "image: {version: 5.10.0}"),
        accepted(kind, "image: {channel: Development}"),
        accepted(kind, "image: {tag: stable}"),
        accepted(kind, format!("image: {{digest: '{DIGEST}'}}")),
        refused(kind, "image: {}", one),
        refused(kind, "image: {version: 5.10.0, semver: '>=5'}", one),
        refused(kind, "image: {version: 1.0, allowDowngrade: true}", "must be of type string"),
        refused(kind, "image: {semver: null}", one),
        accepted(kind, "image: {semver: null, version: 5.10.0}"),
        refused(kind, "{}", "spec.image: Required value"),
        refused(kind, "image: {channel: Nightly}", "supported values: \"Development\""),
        refused(kind, "image: {tag: 'a b'}", "should match '^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$'"),
        refused(kind, "image: {digest: 'sha256:ABC'}", "spec.image.digest"),
        refused(kind, "image: {tag: x, repository: ghcr.io/DRYTRIX/TimeTracker}", "repository has upper-case letters"),
        accepted(kind, "image: {tag: x, interval: 10s}"),
        refused(kind, "image: {tag: x, interval: 9s}", "interval is between 10s and 24h"),
        refused(kind, "image: {tag: x, interval: 25h}", "interval is between 10s and 24h"),
        refused(kind, "image: {tag: x, interval: 3 weeks}", "spec.image.interval"),
        refused(kind, "image: {tag: x, interval: -5m}", "spec.image.interval"),
        accepted(kind, format!("{image}\ndatabase: {{}}")),
        accepted(kind, format!("{image}\ndatabase: {{embedded: {{storage: {{size: 20Gi}}}}}}")),
        accepted(kind, format!("{image}\ndatabase: {{urlFrom: {{secretKeyRef: {{name: a, key: b}}}}}}")),
        refused(
            kind,
            format!("{image}\ndatabase: {{embedded: {{}}, urlFrom: {{secretKeyRef: {{name: a, key: b}}}}}}"),
            "embedded and urlFrom exclude each other",
        ),
        refused(
            kind,
            format!("{image}\ndatabase: {{caFrom: {{secretKeyRef: {{name: a, key: b}}}}}}"),
            "migrationUrlFrom and caFrom need urlFrom",
        ),
        refused(kind, format!("{image}\ndatabase: {{embedded: {{storage: {{size: lots}}}}}}"), "storage.size"),
        refused(kind, format!("{image}\nmigration: {{timeout: 1s}}"), "timeout is between 10s and 24h"),
        refused(kind, format!("{image}\nmigration: {{lockTimeout: 1ms}}"), "lockTimeout is between 100ms and 10m"),
        refused(kind, format!("{image}\nrollout: {{soak: 2h}}"), "soak is at most 1h"),
        refused(kind, format!("{image}\nrollout: {{timeout: 48h}}"), "timeout is between 10s and 24h"),
        refused(kind, format!("{image}\nhold: {{}}"), "spec.hold.reason: Required value"),
        refused(kind, format!("{image}\nvalues: {{replicaCount: 21}}"), "less than or equal to 20"),
        refused(kind, format!("{image}\nvalues: {{url: 'ftp://x'}}"), "spec.values.url"),
        refused(
            kind,
            format!(
                "{image}\nvalues: {{env: [{{name: A, value: b, valueFrom: {{secretKeyRef: {{name: a, key: b}}}}}}]}}"
            ),
            "value and valueFrom exclude each other",
        ),
        refused(
            kind,
            format!("{image}\nvalues: {{env: [{{name: A, valueFrom: {{}}}}]}}"),
            "exactly one of secretKeyRef, configMapKeyRef",
        ),
        refused(
            kind,
            format!(
                "{image}\npod: {{volumes: [{{name: a, mountPath: /a, emptyDir: {{}}, secret: {{secretName: b}}}}]}}"
            ),
            "exactly one of emptyDir, configMap, secret, persistentVolumeClaim",
        ),
        refused(kind, format!("{image}\ndeletionPolicy: Keep"), "supported values: \"Retain\", \"Delete\""),
        refused(
            kind,
            format!("{image}\nvaluesFrom: [{{kind: Pod, name: a}}]"),
            "supported values: \"ConfigMap\", \"Secret\"",
        ),
    ])
    .await;
}

#[tokio::test]
async fn pipelines_are_accepted_or_refused_with_the_reason() {
    let kind = "Pipeline";
    let step = "exactly one of run, buildImage, scanImage";
    let many: Vec<String> = (0..129).map(|n| format!("{{name: j{n}, run: 'true'}}")).collect();
    let most: Vec<String> = (0..128)
        .map(|n| {
            let needs: Vec<String> = (n.max(32) - 32..n).map(|need| format!("j{need}")).collect();
            format!("{{name: j{n}, run: 'true', needs: [{}]}}", needs.join(", "))
        })
        .collect();
    let matrix = |cells: usize| {
        let values: Vec<String> = (0..cells).map(|cell| format!("'{cell}'")).collect();
        format!("{{name: unit, run: 'true', matrix: {{axes: [{{name: number, values: [{}]}}]}}}}", values.join(", "))
    };
    assert_rows(vec![
        accepted(kind, "jobs: [{name: a, run: 'true'}, {name: b, needs: [a], run: 'true'}]"),
        accepted(kind, format!("jobs: [{}]", most.join(", "))),
        refused(kind, format!("jobs: [{}]", many.join(", ")), "must have at most 128 items"),
        refused(kind, "jobs: []", "should have at least 1 items"),
        refused(kind, "jobs: [{name: a}]", step),
        refused(kind, "jobs: [{name: a, run: 'true', scanImage: {fromJob: b}}]", step),
        refused(kind, "jobs: [{name: A, run: 'true'}]", "jobs[0].name"),
        refused(kind, "jobs: [{name: a, run: 'true'}, {name: a, run: 'true'}]", "Duplicate value"),
        refused(
            kind,
            "jobs: [{name: a, run: 'true', needs: [b]}]",
            "needs names a job that the pipeline does not have",
        ),
        refused(kind, "jobs: [{name: a, run: 'true', needs: [a]}]", "a job can't need itself"),
        refused(
            kind,
            "{jobs: [{name: a, run: 'true'}], finally: [{name: a, run: 'true'}]}",
            "a job's name stands once, in jobs or in finally",
        ),
        refused(kind, "{timeout: 25h, jobs: [{name: a, run: 'true'}]}", "timeout is between 1s and 24h"),
        refused(kind, "jobs: [{name: a, run: 'true', timeout: 500ms}]", "timeout is between 1s and 24h"),
        refused(
            kind,
            "jobs: [{name: a, run: 'true', image: x, environment: {python: '3.11', requirements: [r.txt]}}]",
            "image and environment exclude each other",
        ),
        accepted(kind, "jobs: [{name: a, run: 'true', services: [{name: db, postgres: {version: '16'}}]}]"),
        refused(kind, "jobs: [{name: a, run: 'true', services: [{name: db}]}]", "exactly one of postgres, image"),
        refused(
            kind,
            "jobs: [{name: a, run: 'true', services: [{name: db, image: x, postgres: {version: '16'}}]}]",
            "exactly one of postgres, image",
        ),
        refused(kind, "{params: [{name: p, type: Choice}], jobs: [{name: a, run: 'true'}]}", "lists its choices"),
        refused(kind, "{params: [{name: p, default: true}], jobs: [{name: a, run: 'true'}]}", "must be of type string"),
        accepted(kind, "jobs: [{name: a, run: 'true', effects: Once, retries: {infrastructure: 0}}]"),
        refused(
            kind,
            "jobs: [{name: a, run: 'true', effects: Once, retries: {infrastructure: 1}}]",
            "a job with effects Once is never run again by itself",
        ),
        accepted(kind, "jobs: [{name: a, run: 'true', reports: [Coverage, JUnit], retries: {failedTests: 2}}]"),
        refused(
            kind,
            "jobs: [{name: a, run: 'true', reports: [Coverage], retries: {failedTests: 1}}]",
            "retries.failedTests needs run and reports: [JUnit]",
        ),
        refused(kind, "jobs: [{name: a, run: 'true', retries: {failure: 6}}]", "less than or equal to 5"),
        refused(kind, "jobs: [{name: a, run: 'true', matrix: {axes: [{name: 1x, values: [a]}]}}]", "axes[0].name"),
        accepted(kind, "jobs: [{name: a, migrationCheck: {lockLimit: 1ms}}]"),
        refused(kind, "jobs: [{name: a, migrationCheck: {lockLimit: 0s}}]", "lockLimit is between 1ms and 10m"),
        refused(kind, "jobs: [{name: a, migrationCheck: {lockLimit: 11m}}]", "lockLimit is between 1ms and 10m"),
        refused(kind, "jobs: [{name: a, migrationCheck: {lockLimit: soon}}]", "migrationCheck.lockLimit"),
        accepted(kind, format!("jobs: [{{name: smoke, run: 'true'}}, {}]", matrix(256))),
        refused(kind, format!("jobs: [{}]", matrix(257)), "must have at most 256 items"),
    ])
    .await;
}

#[tokio::test]
async fn runs_are_accepted_or_refused_with_the_reason() {
    let kind = "PipelineRun";
    let one = "exactly one of commit, branch, tag";
    let commit = "0123456789abcdef0123456789abcdef01234567";
    assert_rows(vec![
        accepted(kind, "pipelineRef: {name: ci}"),
        accepted(kind, format!("{{pipelineRef: {{name: ci}}, revision: {{commit: '{commit}'}}}}")),
        accepted(kind, "{pipelineRef: {name: ci}, revision: {branch: develop}, params: [{name: a, value: '1'}]}"),
        refused(kind, "{}", "spec.pipelineRef: Required value"),
        refused(kind, "{pipelineRef: {name: ci}, revision: {}}", one),
        refused(kind, "{pipelineRef: {name: ci}, revision: {branch: a, tag: b}}", one),
        refused(kind, "{pipelineRef: {name: ci}, revision: {commit: abc}}", "spec.revision.commit"),
        refused(
            kind,
            "{pipelineRef: {name: ci}, revision: {branch: a, pullRequest: {number: 1, base: main}}}",
            "a pull request's run names its commit",
        ),
        refused(
            kind,
            "{pipelineRef: {name: ci}, params: [{name: a, value: '1'}, {name: a, value: '2'}]}",
            "Duplicate value",
        ),
        refused(kind, "{pipelineRef: {name: ci}, params: [{name: a, value: true}]}", "must be of type string"),
        refused(
            kind,
            format!("{{pipelineRef: {{name: ci}}, params: [{{name: a, value: '{}'}}]}}", "x".repeat(1 << 20)),
            "spec.params[0].value: Too long",
        ),
        accepted(kind, format!("{{pipelineRef: {{name: ci}}, params: [{{name: a, value: '{}'}}]}}", "x".repeat(8_192))),
        refused(kind, "{pipelineRef: {name: ci}, ttl: forever}", "spec.ttl"),
    ])
    .await;
}

#[tokio::test]
async fn repositories_are_accepted_or_refused_with_the_reason() {
    let kind = "SourceRepository";
    assert_rows(vec![
        accepted(kind, "github: {owner: DRYTRIX, name: TimeTracker}"),
        accepted(kind, "cloneURL: 'http://git.example.org/timetracker.git'"),
        refused(kind, "{}", "github or cloneURL says where the repository is"),
        refused(kind, "cloneURL: 'https://user:password@git.example.org/a.git'", "spec.cloneURL"),
        refused(kind, "cloneURL: '--upload-pack=x'", "spec.cloneURL"),
        refused(kind, "{cloneURL: 'http://a/b', poll: {interval: 1s}}", "interval is between 10s and 24h"),
        refused(
            kind,
            "{cloneURL: 'http://a/b', image: {repository: ghcr.io/DRYTRIX/TimeTracker}}",
            "image repositories are lower case",
        ),
        refused(kind, "{cloneURL: 'http://a/b', forkPullRequests: Maybe}", "supported values"),
    ])
    .await;
}

#[tokio::test]
async fn names_that_could_not_become_names_of_children_are_refused() {
    let client = client().await;
    for (kind, spec) in [
        ("TimeTrackerRelease", "image: {tag: x}"),
        ("Pipeline", "jobs: [{name: a, run: 'true'}]"),
        ("PipelineRun", "pipelineRef: {name: ci}"),
        ("SourceRepository", "cloneURL: 'http://a/b'"),
    ] {
        for name in ["a".repeat(41), "1a".to_owned(), "a.b".to_owned()] {
            let message = try_create(&client, kind, &name, spec).await.unwrap_err();
            assert!(message.contains("at most 40 characters, a letter first"), "{kind} {name}: {message}");
        }
        try_create(&client, kind, &"a".repeat(40), spec).await.unwrap();
    }
}

#[tokio::test]
async fn a_minimal_release_is_complete_and_unobserved_at_once() {
    let client = client().await;
    let created = try_create(&client, "TimeTrackerRelease", "minimal", "image: {semver: '>=5, <6'}").await.unwrap();
    assert_eq!(created.data["status"], json!({ "observedGeneration": -1 }));
    assert_eq!(
        created.data["spec"],
        json!({ "image": { "semver": ">=5, <6" }, "deletionPolicy": "Retain", "suspend": false })
    );
}

#[tokio::test]
async fn unknown_fields_of_other_clients_are_pruned() {
    let client = client().await;
    let created = try_create(&client, "TimeTrackerRelease", "pruned", "{image: {tag: x, colour: red}}").await.unwrap();
    assert_eq!(created.data["spec"]["image"], json!({ "tag": "x" }));
}
