//! Which image a command ran in. A tag names another one tomorrow; the digest that kubelet tells names the same for ever.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};

use super::definition::Definition;
use super::environments;
use super::failure::{COLLECTOR, MAIN};
use super::graph::Node;
use crate::api::names::{Digest, ImageReference, ImageVersion, Repository};

/// Where images without a host are.
const DEFAULT_HOST: &str = "docker.io";
/// What stands before the path of those that have no organisation there.
const DEFAULT_LIBRARY: &str = "library/";

/// The reference of the image that the job names: its own, that of its environment, or the default.
#[must_use]
pub fn written(definition: &Definition, node: &Node) -> Option<String> {
    let default = || definition.pipeline.defaults.as_ref().and_then(|defaults| defaults.image.clone());
    match &node.spec.environment {
        // What makes it names its image itself.
        Some(environment) if node.spec.image.is_none() => Some(environments::image(environment)),
        Some(_) | None => node.spec.image.clone().or_else(default),
    }
}

/// The image that a reference with a digest names.
#[must_use]
pub fn pinned(reference: &str) -> Option<ImageReference> {
    let (_, digest) = reference.split_once('@')?;
    let version = ImageVersion::Digest(digest.parse().ok()?);
    Some(ImageReference { repository: repository(reference)?, version })
}

/// The reference with this digest instead of its tag.
#[must_use]
pub fn at(reference: &str, digest: &Digest) -> String {
    format!("{}@{digest}", without_version(reference))
}

/// The image in which the pod's command ran, by its digest. `None`: it is not known.
#[must_use]
pub fn ran(pod: &Pod) -> Option<ImageReference> {
    let container = pod.spec.as_ref()?.containers.iter().find(|container| container.name == MAIN)?;
    known(container, pod.status.as_ref()?.container_statuses.as_deref())
}

/// The images in which the services beside the pod's command ran, by the services' names: those that are known.
#[must_use]
pub fn services(pod: &Pod) -> BTreeMap<String, ImageReference> {
    let all = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let services =
        all.filter(|container| container.restart_policy.as_deref() == Some("Always") && container.name != COLLECTOR);
    let statuses = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_deref());
    services.filter_map(|container| Some((container.name.clone(), known(container, statuses)?))).collect()
}

/// The image in which the container runs.
///
/// Kubelet tells `repository@digest`. An image that was brought to the node without a registry has only the node's own id,
/// by which nobody else can get it; and one that the node has from two repositories is told by either's name: what is told
/// of another repository than the pod names counts for nothing.
fn known(container: &Container, statuses: Option<&[ContainerStatus]>) -> Option<ImageReference> {
    let reference = container.image.as_deref()?;
    if let Some(image) = pinned(reference) {
        return Some(image);
    }
    let told = statuses?.iter().find(|status| status.name == container.name)?.image_id.as_str();
    let told = told.split_once("://").map_or(told, |(_, told)| told);
    pinned(told).filter(|told| Some(&told.repository) == repository(reference).as_ref())
}

/// The repository with all that a reference may leave out.
#[must_use]
pub fn repository(reference: &str) -> Option<Repository> {
    let name = without_version(reference);
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let (host, path) = name.split_once('/').filter(|(host, _)| is_host(host)).unwrap_or((DEFAULT_HOST, name));
    let library = if host == DEFAULT_HOST && !path.contains('/') { DEFAULT_LIBRARY } else { "" };
    format!("{host}/{library}{path}").parse().ok()
}

/// The reference's part before tag and digest.
fn without_version(reference: &str) -> &str {
    let named = reference.split_once('@').map_or(reference, |(named, _)| named);
    match named.rsplit_once(':') {
        // Else it is the port of the host.
        Some((name, tag)) if !tag.contains('/') => name,
        Some(_) | None => named,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn of(reference: &str, told: &str) -> Option<String> {
        let state = json!({"terminated": {"exitCode": 0}});
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": [{"name": "beside", "image": "x:1"}, {"name": MAIN, "image": reference}]},
            "status": {"containerStatuses": [
                {"name": "beside", "image": "", "imageID": format!("x@{}", Digest::of(b"x")), "ready": false,
                    "restartCount": 0},
                {"name": MAIN, "image": "", "imageID": told, "ready": false, "restartCount": 0, "state": state},
            ]},
        }))
        .unwrap();
        ran(&pod).map(String::from)
    }

    #[rstest]
    #[case("r.test/tools:1", "r.test/tools@DIGEST", "r.test/tools")]
    #[case("r.test/tools", "docker-pullable://r.test/tools@DIGEST", "r.test/tools")]
    #[case("localhost:5000/tools", "localhost:5000/tools@DIGEST", "localhost:5000/tools")]
    #[case("busybox:1.36", "docker.io/library/busybox@DIGEST", "docker.io/library/busybox")]
    #[case("o/tools:1", "docker.io/o/tools@DIGEST", "docker.io/o/tools")]
    #[case("r.test/tools:1@DIGEST", "", "r.test/tools")]
    #[case("r.test/tools@DIGEST", "r.test/tools@sha256:1", "r.test/tools")]
    fn what_kubelet_tells_of_the_named_repository_is_known(
        #[case] reference: &str,
        #[case] told: &str,
        #[case] repository: &str,
    ) {
        let with = |text: &str| text.replace("DIGEST", DIGEST);
        assert_eq!(of(&with(reference), &with(told)), Some(format!("{repository}@{DIGEST}")));
    }

    #[rstest]
    #[case::not_told("")]
    #[case::the_nodes_own_id(DIGEST)]
    #[case::of_another_repository("r.test/other@DIGEST")]
    #[case::of_another_host("r.test:5000/tools@DIGEST")]
    #[case::no_digest("r.test/tools:1")]
    #[case::too_short("r.test/tools@sha256:0123")]
    #[case::capitals("r.test/tools@sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef")]
    #[case::more_behind_it("r.test/tools@DIGEST\n, r.test/evil")]
    #[case::two("r.test/tools@DIGEST@DIGEST")]
    #[case::only_signs("://@:/@")]
    fn garbage_proves_nothing(#[case] told: &str) {
        assert_eq!(of("r.test/tools:1", &told.replace("DIGEST", DIGEST)), None);
    }

    #[test]
    fn of_services_the_images_are_known_that_kubelet_tells_of_the_named_repository() {
        let sidecar = |name: &str, image: &str| json!({"name": name, "image": image, "restartPolicy": "Always"});
        let told = |name: &str, id: String| json!({"name": name, "image": "", "imageID": id, "ready": true, "restartCount": 0, "state": {"running": {}}});
        let of = |name: &str| format!("{name}@{DIGEST}");
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": [{"name": MAIN, "image": "x:1"}], "initContainers": [
                {"name": "source", "image": "agent:1"}, sidecar("redis", "redis:7"), sidecar("postgres", "r.test/pg:16"),
                sidecar("pinned", &of("r.test/pinned")), sidecar("foreign", "r.test/foreign:1"),
                sidecar("untold", "r.test/untold:1"), sidecar(COLLECTOR, "agent:1"),
            ]},
            "status": {"initContainerStatuses": [
                told("source", of("docker.io/library/agent")), told("redis", of("docker.io/library/redis")),
                told("postgres", of("r.test/pg")), told("pinned", String::new()), told("foreign", of("r.test/other")),
                told(COLLECTOR, of("docker.io/library/agent")),
            ], "containerStatuses": [told("untold", of("r.test/untold"))]},
        }))
        .unwrap();
        let found: Vec<(String, String)> =
            services(&pod).into_iter().map(|(name, image)| (name, String::from(image))).collect();
        let expected = [("pinned", "r.test/pinned"), ("postgres", "r.test/pg"), ("redis", "docker.io/library/redis")];
        assert_eq!(found, expected.map(|(name, image)| (name.to_owned(), of(image))));
        assert!(services(&Pod::default()).is_empty());
    }

    #[rstest]
    #[case("busybox", "busybox@DIGEST")]
    #[case("busybox:1.36", "busybox@DIGEST")]
    #[case("localhost:5000/tools", "localhost:5000/tools@DIGEST")]
    #[case("localhost:5000/tools:1", "localhost:5000/tools@DIGEST")]
    fn a_tag_gives_way_to_the_digest(#[case] reference: &str, #[case] expected: &str) {
        assert_eq!(at(reference, &DIGEST.parse().unwrap()), expected.replace("DIGEST", DIGEST));
    }
}
