#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::*;
use crate::api::release::TimeTrackerReleaseSpec;
use crate::config::Proxy;
use crate::release::manifests::trust;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn settings() -> Settings {
    Settings {
        agent_image: "agent:1".to_owned(),
        trusted_ca: Some("PEM".into()),
        proxy: Proxy { https: Some("http://proxy:3128".to_owned()), ..Proxy::default() },
        ..Settings::default()
    }
}

fn pod(purpose: Purpose, settings: &Settings, environment: Vec<EnvVar>) -> Value {
    let spec: TimeTrackerReleaseSpec = serde_json::from_value(json!({ "image": { "version": "1.0.0" } })).unwrap();
    let site = Site { name: "site", namespace: "ns", owner: None, spec: &spec };
    let digest: Digest = DIGEST.parse().unwrap();
    let target = serde_json::from_value(json!({
        "repository": "ghcr.io/drytrix/timetracker", "version": "1.0.0", "digest": DIGEST,
    }));
    let order = JobOrder { purpose, attempt: 1, target: target.unwrap(), contracts: vec![digest], environment };
    serde_json::to_value(job(&site, "uid", settings, &order)).unwrap()["spec"]["template"]["spec"].clone()
}

fn variable<'a>(pod: &'a Value, name: &str) -> Vec<&'a Value> {
    let env = pod["containers"][0]["env"].as_array().unwrap().iter();
    env.filter(|variable| variable["name"] == name).map(|variable| &variable["value"]).collect()
}

fn purposes() -> [Purpose; 4] {
    [
        Purpose::Contract(DIGEST.parse().unwrap()),
        Purpose::Inspect { revision: 1 },
        Purpose::Migrate { revision: 1 },
        Purpose::InspectBack { revision: 1 },
    ]
}

#[test]
fn every_job_of_a_delivery_trusts_the_bundle_and_goes_through_the_proxy() {
    for purpose in purposes() {
        let pod = pod(purpose.clone(), &settings(), Vec::new());
        assert_eq!(variable(&pod, "SSL_CERT_FILE"), [&json!("/timetracker/trust/ca.crt")], "{purpose:?}");
        assert_eq!(variable(&pod, "HTTPS_PROXY"), [&json!("http://proxy:3128")], "{purpose:?}");
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().any(|mount| mount["mountPath"] == "/timetracker/trust" && mount["readOnly"] == true));
        let volumes = pod["volumes"].as_array().unwrap();
        assert!(volumes.iter().any(|volume| volume["configMap"]["name"] == "site-trusted-ca"), "{purpose:?}");
    }
}

#[test]
fn without_a_bundle_and_a_proxy_jobs_have_neither() {
    for purpose in purposes() {
        let pod = pod(purpose, &Settings { agent_image: "agent:1".to_owned(), ..Settings::default() }, Vec::new());
        assert!(!pod.to_string().contains("trust") && !pod.to_string().to_lowercase().contains("proxy"), "{pod}");
    }
}

#[test]
fn a_proxy_in_the_sites_own_values_wins() {
    let own = vec![environment::literal("HTTPS_PROXY", "http://own:1")];
    let pod = pod(Purpose::Migrate { revision: 1 }, &settings(), own);
    assert_eq!(variable(&pod, "HTTPS_PROXY"), [&json!("http://own:1")]);
    assert_eq!(variable(&pod, "https_proxy"), [&json!("http://proxy:3128")]);
}

#[test]
fn the_bundle_goes_with_the_release() {
    let spec: TimeTrackerReleaseSpec = serde_json::from_value(json!({ "image": {} })).unwrap();
    let owner =
        k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference { uid: "uid".to_owned(), ..Default::default() };
    let site = Site { name: "site", namespace: "ns", owner: Some(&owner), spec: &spec };
    let made = trust(&site, &settings()).unwrap();
    assert_eq!(made.metadata.owner_references.unwrap()[0].uid, "uid");
    assert_eq!(made.data.unwrap()["ca.crt"], "PEM");
}
