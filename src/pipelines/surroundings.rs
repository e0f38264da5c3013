//! What job pods find in their namespace: trusted authorities and a NetworkPolicy.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::ObjectMeta;

use super::names::{API_LABEL, API_NETWORK_POLICY, CONTENT_ANNOTATION, NETWORK_POLICY, TRUST_CONFIG_MAP, short_hash};
use super::pods::pod_selector;
use super::settings::{Endpoint, Settings, TrustedCa};
use crate::workload::trust_config_map;

/// The address at which clouds serve a machine's credentials.
const METADATA_V4: &str = "169.254.169.254/32";
/// The same by IPv6.
const METADATA_V6: &str = "fd00:ec2::254/128";

/// Whether the authorities that job pods trust stand in their namespace, in a ConfigMap with this hash.
#[must_use]
pub fn is_trusted(observed: Option<&str>, settings: &Settings) -> bool {
    settings.trusted_ca.as_ref().is_none_or(|trusted| observed == Some(trusted.hash.as_str()))
}

/// The ConfigMap with the authorities that job pods trust; `None` when only the public ones are.
#[must_use]
pub fn trust(namespace: &str, settings: &Settings) -> Option<ConfigMap> {
    let TrustedCa { bundle, hash } = settings.trusted_ca.as_ref()?;
    Some(trust_config_map(metadata(namespace, TRUST_CONFIG_MAP, hash), bundle))
}

/// The NetworkPolicies of job pods, the one whose hash stands for all of them last.
///
/// Nobody reaches job pods, and they reach neither the machine's credentials nor the API server; only those of jobs that
/// name a ServiceAccount reach the latter.
#[must_use]
pub fn network_policies(namespace: &str, settings: &Settings) -> Vec<NetworkPolicy> {
    let everything = vec![everything_but("0.0.0.0/0", METADATA_V4, &[]), everything_but("::/0", METADATA_V6, &[])];
    let api = &settings.api_server;
    if api.is_empty() {
        return vec![policy(namespace, NETWORK_POLICY, pod_selector(), vec![egress(everything, Vec::new())])];
    }
    let mut rules = vec![egress(
        vec![everything_but("0.0.0.0/0", METADATA_V4, api), everything_but("::/0", METADATA_V6, api)],
        Vec::new(),
    )];
    // What else listens on the API server's machines stays in reach.
    rules.extend(api.iter().map(|endpoint| egress(vec![block(&endpoint.cidr, Vec::new())], beside(endpoint.port))));
    let mut may_use_it = pod_selector();
    may_use_it.insert(API_LABEL.to_owned(), "true".to_owned());
    vec![
        policy(namespace, API_NETWORK_POLICY, may_use_it, vec![egress(everything, Vec::new())]),
        policy(namespace, NETWORK_POLICY, pod_selector(), rules),
    ]
}

fn block(cidr: &str, except: Vec<String>) -> NetworkPolicyPeer {
    let except = (!except.is_empty()).then_some(except);
    NetworkPolicyPeer { ip_block: Some(IPBlock { cidr: cidr.to_owned(), except }), ..NetworkPolicyPeer::default() }
}

/// All addresses of one family but the credentials' and these.
fn everything_but(family: &str, metadata: &str, endpoints: &[Endpoint]) -> NetworkPolicyPeer {
    let is_v6 = |cidr: &str| cidr.contains(':');
    let mut except = vec![metadata.to_owned()];
    except.extend(endpoints.iter().map(|one| one.cidr.clone()).filter(|cidr| is_v6(cidr) == is_v6(family)));
    except.dedup();
    block(family, except)
}

fn egress(to: Vec<NetworkPolicyPeer>, ports: Vec<NetworkPolicyPort>) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { to: Some(to), ports: (!ports.is_empty()).then_some(ports) }
}

/// Every port but that one of TCP.
fn beside(port: u16) -> Vec<NetworkPolicyPort> {
    let range = |protocol: &str, from: u16, to: u16| {
        (from <= to).then(|| NetworkPolicyPort {
            protocol: Some(protocol.to_owned()),
            port: Some(IntOrString::Int(i32::from(from))),
            end_port: Some(i32::from(to)),
        })
    };
    let below = range("TCP", 1, port.saturating_sub(1));
    let above = port.checked_add(1).and_then(|next| range("TCP", next, u16::MAX));
    below.into_iter().chain(above).chain(range("UDP", 1, u16::MAX)).collect()
}

fn policy(
    namespace: &str,
    name: &str,
    selector: BTreeMap<String, String>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicy {
    let spec = NetworkPolicySpec {
        pod_selector: Some(LabelSelector { match_labels: Some(selector), ..LabelSelector::default() }),
        policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        egress: Some(egress),
        ..NetworkPolicySpec::default()
    };
    let hash = short_hash(&[&serde_json::to_value(&spec).map(|value| value.to_string()).unwrap_or_default()]);
    NetworkPolicy { metadata: metadata(namespace, name, &hash), spec: Some(spec) }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn policies(api_server: Vec<Endpoint>) -> Vec<Value> {
        let settings = Settings { api_server, ..Settings::default() };
        network_policies("ns", &settings).iter().map(|policy| serde_json::to_value(policy).unwrap()).collect()
    }

    #[test]
    fn jobs_reach_everything_but_credentials_and_the_api_servers_port() {
        let endpoint = |cidr: &str, port| Endpoint { cidr: cidr.to_owned(), port };
        let made = policies(vec![endpoint("10.96.0.1/32", 443), endpoint("fd00::1/128", 6443)]);
        let all = &made[1];
        assert_eq!(all["metadata"]["name"], NETWORK_POLICY);
        assert!(all["spec"]["ingress"].is_null(), "nobody comes in");
        let rules = all["spec"]["egress"].as_array().unwrap();
        assert_eq!(rules[0]["to"][0]["ipBlock"]["except"], json!([METADATA_V4, "10.96.0.1/32"]));
        assert_eq!(rules[0]["to"][1]["ipBlock"]["except"], json!([METADATA_V6, "fd00::1/128"]));
        let ports = |rule: &Value| -> Vec<(i64, i64)> {
            let tcp = rule["ports"].as_array().unwrap().iter().filter(|port| port["protocol"] == "TCP");
            tcp.map(|port| (port["port"].as_i64().unwrap(), port["endPort"].as_i64().unwrap())).collect()
        };
        assert_eq!(rules[1]["to"], json!([{ "ipBlock": { "cidr": "10.96.0.1/32" } }]));
        assert_eq!(ports(&rules[1]), [(1, 442), (444, 65_535)]);
        assert_eq!(ports(&rules[2]), [(1, 6442), (6444, 65_535)]);
    }

    #[test]
    fn only_pods_of_jobs_with_an_account_are_excepted() {
        let made = policies(vec![Endpoint { cidr: "10.96.0.1/32".to_owned(), port: 443 }]);
        assert_eq!(made[0]["spec"]["podSelector"]["matchLabels"][API_LABEL], "true");
        assert_eq!(made[0]["spec"]["egress"][0]["to"][0]["ipBlock"]["except"], json!([METADATA_V4]));
        assert!(made[1]["spec"]["podSelector"]["matchLabels"][API_LABEL].is_null());
    }

    #[test]
    fn an_unknown_api_server_leaves_the_credentials_excepted() {
        let made = policies(Vec::new());
        assert_eq!(made.len(), 1);
        assert_eq!(made[0]["spec"]["egress"][0]["to"][0]["ipBlock"]["except"], json!([METADATA_V4]));
    }
}
