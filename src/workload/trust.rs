//! The way out for pods of Jobs: a proxy, and certificate authorities besides the public ones.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, EnvVar, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::escape_env;
use crate::config::Proxy;

/// The trusted authorities as a file in the pod.
pub const TRUST_FILE: &str = "/timetracker/trust/ca.crt";
const TRUST_DIRECTORY: &str = "/timetracker/trust";
/// The key of the bundle in its ConfigMap.
const TRUST_KEY: &str = "ca.crt";
const VOLUME: &str = "timetracker-trust";

/// Proxy and trusted authorities, in the spellings of the tools that run in Jobs.
#[must_use]
pub fn network_variables(proxy: &Proxy, has_trust: bool) -> Vec<EnvVar> {
    let literal =
        |name: &str, value: &str| EnvVar { name: name.to_owned(), value: Some(escape_env(value)), value_from: None };
    let mut env = Vec::new();
    for (name, value) in [("HTTP_PROXY", &proxy.http), ("HTTPS_PROXY", &proxy.https), ("NO_PROXY", &proxy.no_proxy)] {
        if let Some(value) = value {
            env.push(literal(name, value));
            env.push(literal(&name.to_ascii_lowercase(), value));
        }
    }
    if has_trust {
        let names = ["SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"];
        env.extend(names.iter().map(|name| literal(name, TRUST_FILE)));
    }
    env
}

/// The ConfigMap with the bundle.
#[must_use]
pub fn trust_config_map(metadata: ObjectMeta, bundle: &str) -> ConfigMap {
    let data = BTreeMap::from([(TRUST_KEY.to_owned(), bundle.to_owned())]);
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}

/// The volume with the bundle of that ConfigMap.
#[must_use]
pub fn trust_volume(config_map: &str) -> Volume {
    let source = ConfigMapVolumeSource { name: config_map.to_owned(), ..ConfigMapVolumeSource::default() };
    Volume { name: VOLUME.to_owned(), config_map: Some(source), ..Volume::default() }
}

/// Where [`trust_volume`] is mounted.
#[must_use]
pub fn trust_mount() -> VolumeMount {
    VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: TRUST_DIRECTORY.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_told_in_both_spellings_and_never_expanded() {
        let proxy = Proxy { http: Some("http://a:$(B)@proxy:3128".to_owned()), ..Proxy::default() };
        let told: Vec<_> = network_variables(&proxy, false).into_iter().map(|var| (var.name, var.value)).collect();
        let value = Some("http://a:$$(B)@proxy:3128".to_owned());
        assert_eq!(told, [("HTTP_PROXY".to_owned(), value.clone()), ("http_proxy".to_owned(), value)]);
    }
}
