//! Registries that are down, wrong or hostile: what is said of them, and that what runs goes on.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::faulty::{ACCOUNT, Fault, Faulty};
use crate::releases::{DELIVERY, SITE, delivered, release};
use crate::stage::{Stage, on_stage};
use crate::waiting::{condition, is_true, says, status};

/// A registry that is up and misbehaves.
const FAULTY: &str = "faulty.test";
/// A registry that comes and goes.
const MOODY: &str = "moody.test";

fn pull_secret(name: &str, password: &str) -> Value {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{}:{password}", ACCOUNT.0));
    let config = json!({ "auths": { FAULTY: { "auth": auth } } }).to_string();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson", "metadata": { "name": name },
        "stringData": { ".dockerconfigjson": config },
    })
}

/// A release that makes nothing but questions: no version of its repository is wanted.
fn question(stage: &Stage, name: &str, secret: Option<&str>) -> Value {
    let mut spec = json!({
        "image": {
            "repository": format!("{FAULTY}/{}/{name}", stage.namespace), "semver": ">=99, <100", "interval": "10s",
        },
        "database": { "urlFrom": { "secretKeyRef": { "name": "none", "key": "url" } } },
    });
    if let Some(secret) = secret {
        spec["image"]["pullSecretRef"] = json!({ "name": secret });
    }
    spec
}

/// Waits for what is said of the registry.
async fn told(stage: &Stage, name: &str, verdict: &str, reason: &str) -> Value {
    let what = format!("RegistryReachable={verdict}/{reason}");
    status(stage, "TimeTrackerRelease", name, &what, 120, |status| {
        let condition = condition(status, "RegistryReachable");
        condition["status"] == verdict && condition["reason"] == reason
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_a_registry_is_told_with_its_remedy() {
    on_stage("refusals", |stage| async move {
        let registry = Faulty::start(FAULTY);
        stage.apply(&pull_secret("right", ACCOUNT.1));
        stage.apply(&pull_secret("wrong", "guessed"));
        let repository = |name: &str| format!("{}/{name}", stage.namespace);
        let rows = [
            ("gone", Fault::Status(404), None, "ImageNotFound", "does not exist"),
            ("closed", Fault::Status(401), None, "RegistryUnauthorized", "spec.image.pullSecretRef"),
            ("denied", Fault::Status(403), None, "RegistryForbidden", "spec.image.pullSecretRef"),
            ("broken", Fault::Status(503), None, "RegistryUnreachable", "could not be reached"),
            ("page", Fault::Page, None, "RegistryInvalidResponse", "a web page (HTML)"),
            ("private", Fault::Private, None, "RegistryUnauthorized", "spec.image.pullSecretRef"),
            ("guessed", Fault::Private, Some("wrong"), "RegistryUnauthorized", "Secret wrong"),
            ("unmade", Fault::Private, Some("unmade"), "PullSecretMissing", "Secret unmade does not exist"),
        ];
        for (name, fault, secret, _, _) in &rows {
            registry.set(&repository(name), fault.clone());
            stage.create("TimeTrackerRelease", name, question(&stage, name, *secret)).await;
        }
        for (name, _, _, reason, words) in &rows {
            let status = told(&stage, name, "False", reason).await;
            assert!(says(&status, words), "{name}: {words:?} is not in {status:#}");
            assert!(!is_true(&status, "Ready"), "{name}: {status:#}");
            assert!(!status.to_string().contains(ACCOUNT.1), "{name}: {status:#}");
        }

        // A list without an end is not a list: nothing is picked from a part of it.
        registry.set(&repository("endless"), Fault::EndlessPages);
        stage.create("TimeTrackerRelease", "endless", question(&stage, "endless", None)).await;
        let endless = status(&stage, "TimeTrackerRelease", "endless", "the gap", 120, |status| {
            says(status, "the list of tags is not complete")
        })
        .await;
        assert!(!is_true(&endless, "Ready") && endless["candidate"].is_null(), "{endless:#}");

        // A list without a tag is one: there is nothing to pick yet.
        registry.set(&repository("untagged"), Fault::NoTags);
        stage.create("TimeTrackerRelease", "untagged", question(&stage, "untagged", None)).await;
        let untagged = told(&stage, "untagged", "True", "Answered").await;
        assert_eq!(condition(&untagged, "Ready")["reason"], "NoMatchingTag", "{untagged:#}");
        assert!(says(&untagged, "none of the 0 tags of"), "{untagged:#}");

        // With the Bearer dance, for everybody and with a token; and once the Secret is named.
        for (name, fault, secret) in [
            ("anonymous", Fault::Anonymous, None),
            ("token", Fault::Private, Some("right")),
            ("private", Fault::Private, None),
        ] {
            crate::registry::copy("samples/timetracker", "1.0.0", &repository(name), "1.0.0").await;
            registry.set(&repository(name), fault);
            if name == "private" {
                let patch = json!({ "spec": { "image": { "pullSecretRef": { "name": "right" } } } }).to_string();
                stage.kubectl(&["patch", "timetrackerrelease", name, "--type=merge", "--patch", &patch]);
            } else {
                stage.create("TimeTrackerRelease", name, question(&stage, name, secret)).await;
            }
            told(&stage, name, "True", "Answered").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_outlives_its_registry_and_an_image_that_nodes_cant_pull() {
    on_stage("outage", |stage| async move {
        let registry = Faulty::start(MOODY);
        stage.publish("1.0.0").await;
        let mut spec = release(&stage);
        spec["image"]["repository"] = json!(format!("{MOODY}/{}", stage.image));
        spec["image"]["semver"] = json!(">=1, <1.2");
        spec["image"]["interval"] = json!("10s");
        stage.create("TimeTrackerRelease", SITE, spec).await;
        delivered(&stage, "1.0.0").await;

        drop(registry);
        let down = told(&stage, SITE, "False", "RegistryUnreachable").await;
        assert!(is_true(&down, "Ready") && is_true(&down, "Available"), "{down:#}");
        assert_eq!(down["current"]["version"], "1.0.0");
        stage.ask(SITE, "/_ready").expect("the site answers while its registry is down");

        // Back, and with a new version that the operator sees and nodes don't.
        let registry = Faulty::start(MOODY);
        registry.set(&stage.image, Fault::As("samples/timetracker".to_owned()));
        told(&stage, SITE, "True", "Answered").await;
        let waits = status(&stage, "TimeTrackerRelease", SITE, "the pull to fail", DELIVERY, |status| {
            condition(status, "UpdatePending")["reason"] == "ImageMissing"
        })
        .await;
        assert!(is_true(&waits, "Ready") && is_true(&waits, "Available"), "{waits:#}");
        assert!(waits["quarantined"].is_null(), "a pull that fails is not the digest's fault: {waits:#}");
        stage.publish("1.1.0").await;
        delivered(&stage, "1.1.0").await;
    })
    .await;
}
