//! What job pods find in their namespace: trusted authorities and a NetworkPolicy.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::ObjectMeta;

use super::names::{CONTENT_ANNOTATION, NETWORK_POLICY, TRUST_CONFIG_MAP, short_hash};
use super::pods::{TRUST_KEY, pod_selector};
use super::settings::Settings;

/// The address at which clouds serve a machine's credentials.
const METADATA_V4: &str = "169.254.169.254/32";
/// The same by IPv6.
const METADATA_V6: &str = "fd00:ec2::254/128";

/// The ConfigMap with the authorities that job pods trust; `None` when only the public ones are.
#[must_use]
pub fn trust(namespace: &str, settings: &Settings) -> Option<ConfigMap> {
    let bundle = settings.trusted_ca.as_ref()?;
    Some(ConfigMap {
        metadata: metadata(namespace, TRUST_CONFIG_MAP, &short_hash(&[bundle])),
        data: Some(BTreeMap::from([(TRUST_KEY.to_owned(), bundle.clone())])),
        ..ConfigMap::default()
    })
}

/// The NetworkPolicy of job pods: nobody reaches them, and they don't reach the machine's credentials.
#[must_use]
pub fn network_policy(namespace: &str) -> NetworkPolicy {
    let everything_but = |cidr: &str, except: &str| NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: cidr.to_owned(), except: Some(vec![except.to_owned()]) }),
        ..NetworkPolicyPeer::default()
    };
    let spec = NetworkPolicySpec {
        pod_selector: Some(LabelSelector { match_labels: Some(pod_selector()), ..LabelSelector::default() }),
        policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        egress: Some(vec![NetworkPolicyEgressRule {
            to: Some(vec![everything_but("0.0.0.0/0", METADATA_V4), everything_but("::/0", METADATA_V6)]),
            ..NetworkPolicyEgressRule::default()
        }]),
        ..NetworkPolicySpec::default()
    };
    let hash = short_hash(&[&serde_json::to_value(&spec).map(|value| value.to_string()).unwrap_or_default()]);
    NetworkPolicy { metadata: metadata(namespace, NETWORK_POLICY, &hash), spec: Some(spec) }
}

/// The hash of what was applied, by which it is recognised.
#[must_use]
pub fn content(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(CONTENT_ANNOTATION).map(String::as_str)
}

fn metadata(namespace: &str, name: &str, hash: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(pod_selector()),
        annotations: Some(BTreeMap::from([(CONTENT_ANNOTATION.to_owned(), hash.to_owned())])),
        ..ObjectMeta::default()
    }
}
