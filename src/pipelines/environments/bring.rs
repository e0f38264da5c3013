//! An environment in the pod of a job that uses it: unpacked by a container of ours, read-only for the command.

use k8s_openapi::api::core::v1::{EnvVar, PodSpec};

use super::super::environment::literal;
use super::super::failure::{ENVIRONMENT, MAIN, SOURCE};
use super::super::graph::{Graph, Node};
use super::super::inputs;
use super::super::jobs::RunContext;
use super::super::pods;
use super::super::progress::CellView;
use super::build::folder;
use super::{DIRECTORY, IMAGE_OUTPUT, Role, VOLUME, images, store, stored};

/// More than the agent ever unpacks, with the archive beside it.
const ROOM: &str = "3Gi";
/// The label of nodes that says which processor they have.
const PROCESSOR: &str = "kubernetes.io/arch";
/// The search path of Python's own images.
const PATH: &str = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment that was made for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// The Kubernetes Job of the attempt that made it.
    job: String,
    /// The processor that it is for.
    platform: Option<String>,
    /// The image that has it in it: then nothing is brought.
    image: Option<String>,
}

impl Brought {
    /// What the node uses, from how the cells before it stand; `None` when it uses none.
    #[must_use]
    pub fn of(graph: &Graph, node: &Node, before: &[CellView]) -> Option<Self> {
        let Role::Uses(place) = node.environment else { return None };
        let maker = graph.node(place)?;
        let view = before.iter().find(|view| view.name == maker.spec.name)?;
        let outputs = view.result.as_ref().map(|result| &result.outputs);
        let output = |name: &str| outputs.and_then(|outputs| outputs.get(name).cloned());
        let job = view.job.clone().unwrap_or_default();
        Some(Self { job, platform: output("platform"), image: output(IMAGE_OUTPUT) })
    }

    /// The image that has it in it.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// Adds to the pod what brings it: the container behind `source`, and its volumes; or what its image needs.
    pub fn attach(&self, pod: &mut PodSpec, run: &RunContext<'_>) {
        place_on(pod, self.platform.as_deref());
        if self.image.is_some() {
            let secrets = pod.image_pull_secrets.take().into_iter().flatten().chain(images::pull_secret(store(run)));
            pod.image_pull_secrets = Some(secrets.collect::<Vec<_>>()).filter(|secrets| !secrets.is_empty());
            return;
        }
        let mut command = vec![pods::AGENT.to_owned()];
        command.extend(pods::words(&["environment", "unpack", "--dest", DIRECTORY]));
        command.extend(stored(run, &self.job));
        let mounts = vec![pods::mount(VOLUME, DIRECTORY), inputs::token_mount()];
        let bring = pods::agent_container(ENVIRONMENT, run.settings, command, Vec::new(), mounts, "256Mi");
        let init = pod.init_containers.get_or_insert_default();
        let place = init.iter().position(|container| container.name == SOURCE).map_or(0, |place| place + 1);
        init.insert(place, bring);
        let volumes = pod.volumes.get_or_insert_default();
        volumes.push(folder(ROOM));
        inputs::add_token(volumes);
        for container in pod.containers.iter_mut().filter(|container| container.name == MAIN) {
            let mounts = container.volume_mounts.get_or_insert_default();
            mounts.push(pods::read_only(pods::mount(VOLUME, DIRECTORY)));
        }
    }
}

/// Keeps the pod on the processor that compiled packages were installed for.
fn place_on(pod: &mut PodSpec, platform: Option<&str>) {
    if let Some(platform) = platform {
        let selector = pod.node_selector.get_or_insert_default();
        selector.entry(PROCESSOR.to_owned()).or_insert_with(|| platform.to_owned());
    }
}

/// Puts the environment on the search paths of programs and Python, beside what is there.
///
/// A path that comes of a Secret or ConfigMap stays as it is: its value is not known here.
pub fn search_paths(env: &mut Vec<EnvVar>) {
    let programs = format!("{DIRECTORY}/bin");
    extend(env, "PATH", |path| format!("{programs}:{}", path.unwrap_or(PATH)));
    extend(env, "PYTHONPATH", |path| match path {
        Some(path) => format!("{path}:{DIRECTORY}"),
        None => DIRECTORY.to_owned(),
    });
}

fn extend(env: &mut Vec<EnvVar>, name: &str, with: impl Fn(Option<&str>) -> String) {
    match env.iter_mut().find(|variable| variable.name == name) {
        Some(EnvVar { value_from: Some(_), .. }) => {}
        // What stands there is escaped already, and ours has nothing to be escaped.
        Some(EnvVar { value, .. }) => *value = Some(with(value.as_deref().filter(|path| !path.is_empty()))),
        None => env.push(literal(name, &with(None))),
    }
}
