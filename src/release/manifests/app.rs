//! The application: ServiceAccount, claim, Service, Ingress, Deployment.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction, LocalObjectReference, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, Service, ServiceAccount, ServicePort, ServiceSpec, Volume, VolumeMount,
    VolumeResourceRequirements,
};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    IngressTLS, ServiceBackendPort,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::{Site, environment, hashed, non_empty};
use crate::api::names::Digest;
use crate::api::values::{PersistenceValues, ServiceType, Values};
use crate::cluster::ManifestError;
use crate::release::names::{self, APP_COMPONENT, APP_CONTAINER, DIGEST_ANNOTATION};
use crate::release::observed::ObjectKind;
use crate::release::revision::Target;
use crate::workload::{restricted_container, restricted_pod};

const PORT: i32 = 8080;
/// The annotation of the pods with the hash of their template.
pub const TEMPLATE_ANNOTATION: &str = "timetracker.dev/template";

/// All objects of the application for `target`, in the order in which they are applied.
///
/// # Errors
/// When an object can't be written as JSON.
pub fn application(site: &Site<'_>, values: &Values, target: &Target) -> Result<Vec<Value>, ManifestError> {
    let mut objects = vec![hashed(&service_account(site))?];
    if persistence(values).is_some() {
        objects.push(hashed(&claim(site, values))?);
    }
    objects.push(hashed(&service(site, values))?);
    if let Some(ingress) = ingress(site, values) {
        objects.push(hashed(&ingress)?);
    }
    objects.push(hashed(&deployment(site, values, target)?)?);
    Ok(objects)
}

/// The hash of the pod template in a Deployment's JSON, or in a pod's.
#[must_use]
pub fn template_hash(body: &Value) -> Option<&str> {
    let metadata = body.pointer("/spec/template/metadata").or_else(|| body.get("metadata"))?;
    metadata.get("annotations")?.get(TEMPLATE_ANNOTATION)?.as_str()
}

/// The number of pods that a Deployment's JSON asks for.
#[must_use]
pub fn deployment_replicas(body: &Value) -> i64 {
    body.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

/// The environment of the application's container in a revision's manifests.
#[must_use]
pub fn environment_of(manifests: &[Value]) -> Vec<EnvVar> {
    let deployment = manifests.iter().find(|body| ObjectKind::of(body) == Some(ObjectKind::Deployment));
    let env = deployment.and_then(|body| body.pointer("/spec/template/spec/containers/0/env"));
    env.and_then(|env| serde_json::from_value(env.clone()).ok()).unwrap_or_default()
}

fn persistence(values: &Values) -> Option<PersistenceValues> {
    let persistence = values.persistence.clone().unwrap_or_default();
    persistence.enabled.unwrap_or(true).then_some(persistence)
}

fn service_account(site: &Site<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: site.metadata(site.name, APP_COMPONENT),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

fn claim(site: &Site<'_>, values: &Values) -> PersistentVolumeClaim {
    let persistence = persistence(values).unwrap_or_default();
    let size = Quantity(persistence.size.unwrap_or_else(|| "5Gi".to_owned()));
    PersistentVolumeClaim {
        metadata: site.data_metadata(&names::data_claim(site.name), APP_COMPONENT),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: persistence.storage_class_name,
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn service(site: &Site<'_>, values: &Values) -> Service {
    let wanted = values.service.clone().unwrap_or_default();
    let service_type = match wanted.service_type.unwrap_or_default() {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    Service {
        metadata: ObjectMeta { annotations: non_empty(wanted.annotations), ..site.metadata(site.name, APP_COMPONENT) },
        spec: Some(ServiceSpec {
            type_: Some(service_type.to_owned()),
            selector: Some(names::pod_labels(site.name, APP_COMPONENT)),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: wanted.port.unwrap_or(80),
                target_port: Some(IntOrString::String("http".to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn ingress(site: &Site<'_>, values: &Values) -> Option<Ingress> {
    let wanted = values.ingress.clone().filter(|ingress| ingress.enabled)?;
    let host = url::Url::parse(values.url.as_deref()?).ok()?.host_str()?.to_owned();
    let backend = IngressBackend {
        service: Some(IngressServiceBackend {
            name: site.name.to_owned(),
            port: Some(ServiceBackendPort { name: Some("http".to_owned()), number: None }),
        }),
        resource: None,
    };
    let path = HTTPIngressPath { path: Some("/".to_owned()), path_type: "Prefix".to_owned(), backend };
    let tls = wanted
        .tls_secret_name
        .map(|secret| vec![IngressTLS { hosts: Some(vec![host.clone()]), secret_name: Some(secret) }]);
    Some(Ingress {
        metadata: ObjectMeta { annotations: non_empty(wanted.annotations), ..site.metadata(site.name, APP_COMPONENT) },
        spec: Some(IngressSpec {
            ingress_class_name: wanted.class_name,
            rules: Some(vec![IngressRule { host: Some(host), http: Some(HTTPIngressRuleValue { paths: vec![path] }) }]),
            tls,
            ..IngressSpec::default()
        }),
        status: None,
    })
}

fn deployment(site: &Site<'_>, values: &Values, target: &Target) -> Result<Deployment, ManifestError> {
    let rollout = site.spec.rollout.clone().unwrap_or_default();
    let soak = rollout.soak.map_or(60, |soak| whole_seconds(soak.length()));
    let timeout = rollout.timeout.map_or(600, |timeout| whole_seconds(timeout.length())).max(10);
    let selector = names::pod_labels(site.name, APP_COMPONENT);
    let mut labels = names::labels(site.name, APP_COMPONENT);
    labels.extend(selector.clone());
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
        spec: Some(pod(site, values, target, timeout)),
    };
    let written = serde_json::to_string(&template).map_err(|source| ManifestError::Json {
        kind: "Deployment".to_owned(),
        name: site.name.to_owned(),
        source,
    })?;
    let hash = Digest::of(written.as_bytes());
    let mut annotations = values.pod_annotations.clone();
    annotations.insert(DIGEST_ANNOTATION.to_owned(), target.digest.to_string());
    annotations.insert(TEMPLATE_ANNOTATION.to_owned(), hash.short().to_owned());
    if let Some(metadata) = template.metadata.as_mut() {
        metadata.annotations = Some(annotations);
    }
    Ok(Deployment {
        metadata: site.metadata(site.name, APP_COMPONENT),
        spec: Some(DeploymentSpec {
            replicas: Some(values.replica_count.unwrap_or(1)),
            selector: LabelSelector { match_labels: Some(selector), match_expressions: None },
            // Two versions at once would run the in-process scheduler twice and share one volume.
            strategy: Some(DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }),
            min_ready_seconds: Some(soak),
            progress_deadline_seconds: Some(timeout.saturating_add(soak)),
            revision_history_limit: Some(2),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    })
}

fn whole_seconds(length: std::time::Duration) -> i32 {
    i32::try_from(length.as_millis().div_ceil(1000)).unwrap_or(i32::MAX / 4)
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn default_resources() -> ResourceRequirements {
    let amounts = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(what, amount)| ((*what).to_owned(), Quantity((*amount).to_owned()))).collect())
    };
    ResourceRequirements {
        requests: amounts(&[("cpu", "100m"), ("memory", "256Mi")]),
        limits: amounts(&[("memory", "1Gi")]),
        claims: None,
    }
}

fn pod(site: &Site<'_>, values: &Values, target: &Target, timeout: i32) -> PodSpec {
    let mut env = environment::application(site, values, &target.version);
    env.push(environment::database_url(site));
    let mount = |path: &str, sub_path: Option<&str>| VolumeMount {
        name: "data".to_owned(),
        mount_path: path.to_owned(),
        sub_path: sub_path.map(ToOwned::to_owned),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount("/data", None), mount("/app/app/static/uploads", Some("static-uploads"))];
    let mut volumes = vec![match persistence(values) {
        Some(_) => Volume {
            name: "data".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: names::data_claim(site.name),
                read_only: None,
            }),
            ..Volume::default()
        },
        None => {
            Volume { name: "data".to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
        }
    }];
    if let Some((variable, volume, mount)) = environment::database_ca(site) {
        env.push(variable);
        volumes.push(volume);
        mounts.push(mount);
    }
    let container = restricted_container(Container {
        name: APP_CONTAINER.to_owned(),
        image: Some(target.repository.at(&target.digest)),
        // The image's own start script migrates and can drop tables: the web server is started directly. Worker class
        // and the like can be given in GUNICORN_CMD_ARGS.
        command: Some(vec!["gunicorn".to_owned()]),
        args: Some(
            ["--bind", "0.0.0.0:8080", "--workers", "1", "--timeout", "120", "app:create_app()"]
                .map(ToOwned::to_owned)
                .to_vec(),
        ),
        env: Some(env),
        ports: Some(vec![ContainerPort {
            name: Some("http".to_owned()),
            container_port: PORT,
            ..ContainerPort::default()
        }]),
        resources: Some(values.resources.clone().unwrap_or_else(default_resources)),
        readiness_probe: Some(probe("/_ready", 5, 3)),
        startup_probe: Some(probe("/_health", 2, (timeout / 2).clamp(5, 150))),
        liveness_probe: Some(probe("/_health", 10, 3)),
        volume_mounts: Some(mounts),
        ..Container::default()
    });
    let pull_secret = site.spec.image.pull_secret_ref.as_ref().map(|secret| vec![LocalObjectReference::from(secret)]);
    let restricted = restricted_pod(
        PodSpec {
            containers: vec![container],
            volumes: Some(volumes),
            termination_grace_period_seconds: Some(30),
            ..PodSpec::default()
        },
        None,
    );
    PodSpec {
        restart_policy: Some("Always".to_owned()),
        service_account_name: Some(site.name.to_owned()),
        image_pull_secrets: pull_secret,
        node_selector: non_empty(values.node_selector.clone()),
        tolerations: (!values.tolerations.is_empty()).then(|| values.tolerations.clone()),
        affinity: values.affinity.clone(),
        ..restricted
    }
}
