//! How pods are built: restricted, bounded, and without any text that kubelet would expand.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::pod::PodOptions;

/// `value` so that kubelet gives it to the process as it is: kubelet expands `$(VAR)` and `$$` in env, command and args.
#[must_use]
pub fn escape_env(value: &str) -> String {
    value.replace('$', "$$")
}

/// `container` with the security context that the `restricted` pod security level asks for.
#[must_use]
pub fn restricted_container(container: Container) -> Container {
    Container {
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..container.security_context.unwrap_or_default()
        }),
        ..container
    }
}

/// `pod` as uid 1000 under the `restricted` level: no token, no service links, no privilege.
///
/// Containers must have gone through [`restricted_container`].
#[must_use]
pub fn restricted_pod(pod: PodSpec, options: Option<&PodOptions>) -> PodSpec {
    let options = options.cloned().unwrap_or_default();
    let non_empty = |map: BTreeMap<String, String>| (!map.is_empty()).then_some(map);
    PodSpec {
        automount_service_account_token: Some(options.service_account_name.is_some()),
        enable_service_links: Some(false),
        restart_policy: Some("Never".to_owned()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(1000),
            run_as_group: Some(1000),
            fs_group: Some(1000),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        image_pull_secrets: (!options.image_pull_secrets.is_empty()).then_some(options.image_pull_secrets),
        node_selector: non_empty(options.node_selector),
        tolerations: (!options.tolerations.is_empty()).then_some(options.tolerations),
        affinity: options.affinity,
        priority_class_name: options.priority_class_name,
        runtime_class_name: options.runtime_class_name,
        service_account_name: options.service_account_name,
        ..pod
    }
}

/// What a Job is made of.
#[derive(Debug, Clone, Default)]
pub struct JobParts {
    /// Deterministic, at most 63 characters.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// Labels of the Job and its pod.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Job and its pod.
    pub annotations: BTreeMap<String, String>,
    /// The custom resource that it belongs to.
    pub owner: Option<OwnerReference>,
    /// The pod, restricted already.
    pub pod: PodSpec,
}

/// A Job of exactly one pod, which is never replaced: retries are the operator's decision.
#[must_use]
pub fn job(parts: JobParts) -> Job {
    let metadata = ObjectMeta {
        labels: Some(parts.labels),
        annotations: (!parts.annotations.is_empty()).then_some(parts.annotations),
        ..ObjectMeta::default()
    };
    Job {
        metadata: ObjectMeta {
            name: Some(parts.name),
            namespace: Some(parts.namespace),
            owner_references: parts.owner.map(|owner| vec![owner]),
            ..metadata.clone()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            parallelism: Some(1),
            completions: Some(1),
            pod_replacement_policy: Some("Failed".to_owned()),
            template: PodTemplateSpec { metadata: Some(metadata), spec: Some(parts.pod) },
            ..JobSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubelet_would_expand_is_doubled() {
        assert_eq!(escape_env("a$(BRANCH)$$b$c"), "a$$(BRANCH)$$$$b$$c");
    }
}
