//! What a job reads of other jobs of its run: artifacts, fetched by an init container of ours.
//!
//! Only that container has a token that opens the store for reading, and only this run's part of it; the command, which
//! may run the repository's code, finds files.

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, PodSpec, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::failure::{FETCH, MAIN, SOURCE};
use super::graph::{Graph, Node};
use super::jobs::RunContext;
use super::pods;
use super::progress::CellView;
use super::status::shown_name;
use super::steps::{self, Reads, Step};
use crate::workload::escape_env;

/// Where the command finds them: `INPUTS`.
pub const DIRECTORY: &str = "/timetracker/inputs";
const VOLUME: &str = "timetracker-inputs";
/// More than the agent ever unpacks.
const VOLUME_SIZE: &str = "1Gi";
const TOKEN_VOLUME: &str = "timetracker-read-token";
const TOKEN_DIRECTORY: &str = "/timetracker/read-token";
/// Whom the token is for: the store's reading side.
const AUDIENCE: &str = "timetracker-artifacts-read";

/// What a job reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    reads: Reads,
    cells: Vec<Input>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Input {
    /// As the status shows it.
    cell: String,
    artifact: String,
    /// The Kubernetes Job of its newest attempt; absent when it was never started.
    job: Option<String>,
}

impl Inputs {
    /// What the job reads, from how the cells before it stand; `None` when it reads nothing.
    #[must_use]
    pub fn of(graph: &Graph, node: &Node, before: &[CellView]) -> Option<Self> {
        let reads = Step::of(&node.spec)?.reads()?;
        let cells = steps::read_by(graph, node)
            .into_iter()
            .flat_map(|other| {
                let artifact = reads.artifact(&other.spec.name);
                other.cells.iter().map(move |cell| Input {
                    cell: shown_name(&cell.name),
                    artifact: artifact.clone(),
                    job: before.iter().find(|view| view.name == cell.name).and_then(|view| view.job.clone()),
                })
            })
            .collect();
        Some(Self { reads, cells })
    }

    /// Adds to the pod what brings them: the container behind `source`, and its volumes.
    pub fn attach(&self, pod: &mut PodSpec, run: &RunContext<'_>) {
        let Some(store) = &run.settings.artifacts else { return };
        let mut command = vec![pods::AGENT.to_owned()];
        let place = ["fetch", "--store", &store.url, "--namespace", run.namespace, "--run", run.name];
        command.extend(pods::words(&place));
        command.extend(pods::words(&[
            "--token-file",
            &token_file(),
            "--dest",
            DIRECTORY,
            "--reads",
            self.reads.as_str(),
        ]));
        for Input { cell, artifact, job } in &self.cells {
            command.push(escape_env(&match job {
                Some(job) => format!("--input={cell}={job}/{artifact}"),
                None => format!("--missing={cell}"),
            }));
        }
        let mounts = vec![pods::mount(VOLUME, DIRECTORY), token_mount()];
        let fetch = pods::agent_container(FETCH, run.settings, command, Vec::new(), mounts, "256Mi");
        let init = pod.init_containers.get_or_insert_default();
        let place = init.iter().position(|container| container.name == SOURCE).map_or(0, |place| place + 1);
        init.insert(place, fetch);
        let volumes = pod.volumes.get_or_insert_default();
        volumes.push(folder());
        add_token(volumes);
        for container in pod.containers.iter_mut().filter(|container| container.name == MAIN) {
            let mounts = container.volume_mounts.get_or_insert_default();
            mounts.push(pods::read_only(pods::mount(VOLUME, DIRECTORY)));
        }
    }
}

fn folder() -> Volume {
    let bounded = EmptyDirVolumeSource { size_limit: Some(Quantity(VOLUME_SIZE.to_owned())), medium: None };
    Volume { name: VOLUME.to_owned(), empty_dir: Some(bounded), ..Volume::default() }
}

/// The file with the token that opens the store for reading.
#[must_use]
pub fn token_file() -> String {
    format!("{TOKEN_DIRECTORY}/token")
}

/// For containers of ours alone.
#[must_use]
pub fn token_mount() -> VolumeMount {
    pods::read_only(pods::mount(TOKEN_VOLUME, TOKEN_DIRECTORY))
}

/// Adds the volume with the token, unless it is there.
pub fn add_token(volumes: &mut Vec<Volume>) {
    if !volumes.iter().any(|volume| volume.name == TOKEN_VOLUME) {
        volumes.push(token_volume());
    }
}

fn token_volume() -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some(AUDIENCE.to_owned()),
        // The least that kubelet takes; it is used within seconds.
        expiration_seconds: Some(600),
        path: "token".to_owned(),
    };
    let source = VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() };
    let projected = ProjectedVolumeSource { sources: Some(vec![source]), ..ProjectedVolumeSource::default() };
    Volume { name: TOKEN_VOLUME.to_owned(), projected: Some(projected), ..Volume::default() }
}
