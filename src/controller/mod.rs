//! The workload `controller`: puts the parts together and runs them until it is told to stop.

mod changes;
mod endpoints;
mod stop;
mod version;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt as _;
use kube::core::{ObjectMeta, PartialObjectMeta, PartialObjectMetaExt as _};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::pipeline::Pipeline;
use crate::api::release::TimeTrackerRelease;
use crate::api::run::PipelineRun;
use crate::cluster::{Cluster, Keeper, WatchMonitor, connect};
use crate::config::{Configuration, ConfigurationError};
use crate::http::{Health, HttpError, serve_operator};
use crate::pipelines::outline::{LeanJob, LeanPod};
use crate::pipelines::{self, RunError, Runs, significance};
use crate::registry::{Registry, RegistryConfig, Scanner};
use crate::release::{self, ReleaseError, Releases};
use crate::telemetry::{Counted, Metrics};
use changes::{digest, significant, unless_passing};
pub use stop::stop_asked;
use stop::{Signals, all_of, led, until_told};
use version::OLDEST_KUBERNETES;
use watch::{ReconcileFailure, Reconciled, Shared, api_in, controller, drive, owner_by_label, watched};

/// The name of the Lease.
const LEASE: &str = "timetracker-operator";

/// Options of the workload `controller`.
#[derive(Debug, clap::Args)]
pub struct ControllerArguments {
    /// The configuration file; absent: all defaults.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Address of `/healthz` and `/readyz`.
    #[arg(long, default_value = "0.0.0.0:8081")]
    health_address: SocketAddr,
    /// Address of `/metrics`.
    #[arg(long, default_value = "0.0.0.0:8080")]
    metrics_address: SocketAddr,
    /// The operator's own namespace: where its Lease is.
    #[arg(long, env = "POD_NAMESPACE", default_value = "timetracker-system")]
    namespace: String,
    /// Who holds the Lease; the pod's name.
    #[arg(long, env = "POD_NAME", default_value = "timetracker-operator")]
    identity: String,
}

/// Why the operator can't start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The configuration can't be used.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The bundle of trusted authorities can't be read.
    #[error("trustedCaFile {path}: {source}")]
    TrustedCa {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no client for the API server.
    #[error(transparent)]
    Connect(#[from] crate::cluster::ConnectError),
    /// The API server does not answer.
    #[error("the API server does not say its version: {0}")]
    Version(Box<kube::Error>),
    /// The cluster is too old.
    #[error(
        "this cluster runs Kubernetes {found}; the operator needs 1.{OLDEST_KUBERNETES} or newer: upgrade the cluster or use an older operator"
    )]
    TooOld {
        /// What the API server says.
        found: String,
    },
    /// The registry client can't be set up.
    #[error("registry: {0}")]
    Registry(String),
    /// An address is taken.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Signals can't be received.
    #[error("signals: {0}")]
    Signals(std::io::Error),
    /// The controllers ended although nobody told them to: a bug, or a stream that broke for good.
    #[error("the controllers ended by themselves; please report it with the operator's log")]
    Ended,
}

impl Reconciled for TimeTrackerRelease {
    const KIND: &'static str = "TimeTrackerRelease";

    fn observed_generation(&self) -> Option<i64> {
        self.status.as_ref().map(|status| status.observed_generation)
    }
}

impl Reconciled for PipelineRun {
    const KIND: &'static str = "PipelineRun";

    fn observed_generation(&self) -> Option<i64> {
        self.status.as_ref().map(|status| status.observed_generation)
    }
}

impl ReconcileFailure for ReleaseError {
    fn reason(&self) -> &'static str {
        ReleaseError::reason(self)
    }
    fn is_conflict(&self) -> bool {
        ReleaseError::is_conflict(self)
    }
}

impl ReconcileFailure for RunError {
    fn reason(&self) -> &'static str {
        RunError::reason(self)
    }
    fn is_conflict(&self) -> bool {
        RunError::is_conflict(self)
    }
}

/// Runs the operator until TERM or INT.
///
/// # Errors
/// When it can't start: a bad configuration, no API server, a cluster that is too old, a taken port.
pub async fn run(arguments: ControllerArguments) -> Result<(), ControllerError> {
    let configuration = match &arguments.config {
        Some(path) => Configuration::read(path)?,
        None => Configuration::default(),
    };
    let trusted_ca = read_trusted_ca(&configuration)?;
    let mut signals = Signals::listen()?;
    let monitor = WatchMonitor::default();
    let client = connect(&monitor).await?;
    version::check(&client).await?;
    let registry = Registry::new(registry_config(&configuration, trusted_ca.as_deref()))
        .map_err(|error| ControllerError::Registry(error.to_string()))?;

    let stop = CancellationToken::new();
    let lease_stop = CancellationToken::new();
    let (keeper, mut leadership) = Keeper::new(client.clone(), &arguments.namespace, LEASE, &arguments.identity);
    let released = lease_stop.clone();
    let keeping = tokio::spawn(keeper.keep(async move { released.cancelled().await }));

    let cluster = Cluster::new(client.clone(), leadership.clone(), &arguments.identity);
    let metrics = Metrics::new(Counted {
        writes: cluster.writes(),
        undecodable: cluster.undecodable(),
        refused_watches: monitor.refused_count(),
    });
    let health = Health::new(monitor);
    let servers = serve_operator(arguments.health_address, arguments.metrics_address, health.clone(), metrics.clone());
    let shared = Shared {
        client,
        cluster,
        metrics,
        stop: stop.clone(),
        concurrency: configuration.limits.concurrent_reconciles,
    };
    health.set_ready(true);
    let work = async {
        if led(&mut leadership, &stop).await {
            info!(version = env!("CARGO_PKG_VERSION"), "reconciling");
            controllers(shared, configuration, trusted_ca, Scanner::new(registry)).await;
        }
    };
    let told = async {
        let ended = tokio::select! {
            () = signals.asked() => Ok(()),
            broken = servers => broken.map_err(ControllerError::from),
        };
        health.set_ready(false);
        stop.cancel();
        ended
    };
    let ended = until_told(work, told).await;
    lease_stop.cancel();
    if keeping.await.is_err() {
        warn!("the lease was not given back; it runs out by itself");
    }
    ended
}

fn read_trusted_ca(configuration: &Configuration) -> Result<Option<String>, ControllerError> {
    let Some(path) = &configuration.trusted_ca_file else { return Ok(None) };
    let text =
        std::fs::read_to_string(path).map_err(|source| ControllerError::TrustedCa { path: path.clone(), source })?;
    Ok(Some(text))
}

fn registry_config(configuration: &Configuration, trusted_ca: Option<&str>) -> RegistryConfig {
    let access = &configuration.registry;
    let hosts = access.token_hosts.iter();
    RegistryConfig {
        insecure: access.plain_http.iter().cloned().collect(),
        mirrors: access.mirrors.clone(),
        token_hosts: hosts.map(|(host, further)| (host.clone(), further.iter().cloned().collect())).collect(),
        extra_ca_bundle: trusted_ca.map(|text| text.as_bytes().to_vec()),
        https_proxy: configuration.proxy.https.clone(),
        no_proxy: configuration.proxy.no_proxy.clone(),
        ..RegistryConfig::default()
    }
}

/// Runs the controllers of all resources in all watched namespaces until told to stop.
async fn controllers(shared: Shared, configuration: Configuration, trusted_ca: Option<String>, scanner: Scanner) {
    let releases = Arc::new(Releases::new(scanner, &configuration, trusted_ca.as_deref()));
    let api_server = endpoints::api_server(&shared.client).await;
    let runs = Runs::new(pipelines::Settings::of(&configuration, trusted_ca, api_server));
    let runs = Arc::new(runs.keeping_logs(&shared.cluster));
    let namespaces: Vec<Option<String>> = match configuration.watch_namespaces.as_slice() {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let all = namespaces.iter().flat_map(|namespace| {
        let namespace = namespace.as_deref();
        [
            release_controller(shared.clone(), Arc::clone(&releases), namespace).boxed_local(),
            run_controller(shared.clone(), Arc::clone(&runs), namespace).boxed_local(),
        ]
    });
    all_of(all.collect(), &shared.stop).await;
}

async fn release_controller(shared: Shared, releases: Arc<Releases>, namespace: Option<&str>) {
    let client = shared.client.clone();
    let mut controller = controller::<TimeTrackerRelease>(&shared, namespace);
    macro_rules! watch_children {
        ($($kind:ty),*) => {$(
            controller = controller.watches(
                api_in::<$kind>(&client, namespace),
                watched(Some(release::CHILD_SELECTOR)),
                |child| owner_by_label::<TimeTrackerRelease, _>(&child, release::INSTANCE_LABEL),
            );
        )*};
    }
    watch_children!(
        ControllerRevision,
        Job,
        Pod,
        Deployment,
        StatefulSet,
        Service,
        ServiceAccount,
        PersistentVolumeClaim,
        ConfigMap,
        Ingress
    );
    drive(shared, controller, move |cluster, namespace, name| {
        let releases = Arc::clone(&releases);
        async move { release::reconcile(&cluster, &releases, &namespace, &name, jiff::Timestamp::now).await }
    })
    .await;
}

fn pipelines_in(client: &Client, namespace: Option<&str>) -> Api<PartialObjectMeta<Pipeline>> {
    api_in(client, namespace)
}

async fn run_controller(shared: Shared, shared_by_runs: Arc<Runs>, namespace: Option<&str>) {
    let client = shared.client.clone();
    let mut controller = controller::<PipelineRun>(&shared, namespace);
    let runs = controller.store();
    let waiting = controller.store();
    macro_rules! watch_children {
        ($($lean:ty: $significance:path, $passing:expr);*) => {$(
            let events = watcher(api_in::<$lean>(&client, namespace), watched(Some(pipelines::CHILD_SELECTOR)));
            let changes = significant(events, |child: &$lean| $significance(&child.0).map(|text| digest(&text)));
            let changes = unless_passing(changes, |child: &$lean| $passing(&child.0));
            controller = controller.watches_stream(changes, |child| {
                owner_by_label::<PipelineRun, _>(&child, pipelines::names::RUN_LABEL)
            });
        )*};
    }
    watch_children!(
        LeanJob: significance::of_job, |_: &Job| false;
        LeanPod: significance::of_pod, significance::is_passing
    );
    // A run may be applied before its pipeline: the pipeline's arrival wakes the runs that name it. Only metadata is
    // watched: a pipeline that can't be decoded must not end the watch of all others.
    let controller = controller.watches(pipelines_in(&client, namespace), watched(None), move |pipeline| {
        let waiting = runs.state().into_iter().filter(move |run| {
            run.0.as_ref().is_ok_and(|run| {
                run.metadata.namespace == pipeline.metadata.namespace
                    && Some(run.spec.pipeline_ref.name.as_str()) == pipeline.metadata.name.as_deref()
                    && run.status.as_ref().is_none_or(|status| status.completion_time.is_none())
            })
        });
        waiting.map(|run| ObjectRef::from_obj(run.as_ref())).collect::<Vec<_>>()
    });
    // Room for Jobs that became free, or a turn in a concurrency group, wakes those who wait for it.
    let controller = controller.watches_stream(shared_by_runs.freed().map(Ok), move |freed| {
        let state = waiting.state();
        let all = state.iter().filter_map(|run| run.0.as_ref().ok());
        let woken = pipelines::woken(&freed, all);
        woken.into_iter().map(|(namespace, name)| ObjectRef::new(&name).within(&namespace)).collect::<Vec<_>>()
    });
    // A run that waits for nothing but its logs goes on when they are kept.
    let kept = shared_by_runs.logs_ended().map(|(namespace, name)| {
        let metadata = ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() };
        Ok(metadata.into_response_partial::<PipelineRun>())
    });
    let controller = controller
        .watches_stream(kept, |run| Some(ObjectRef::new(&run.name_any()).within(&run.namespace().unwrap_or_default())));
    drive(shared, controller, move |cluster, namespace, name| {
        let runs = Arc::clone(&shared_by_runs);
        async move { pipelines::reconcile(&cluster, &runs, &namespace, &name, jiff::Timestamp::now).await }
    })
    .await;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kube::runtime::WatchStreamExt as _;
    use serde_json::json;

    use super::*;
    use crate::cluster::fake::FakeApi;

    #[tokio::test]
    async fn a_pipeline_that_can_t_be_decoded_does_not_end_the_watch_of_the_others() {
        let (client, mut api) = FakeApi::client();
        let mut arrivals = Box::pin(watcher(pipelines_in(&client, None), watched(None)).touched_objects());
        let server = async {
            let item = |name, spec| {
                json!({
                    "apiVersion": "timetracker.dev/v1alpha1", "kind": "Pipeline", "spec": spec,
                    "metadata": {"name": name, "namespace": "ci", "uid": name},
                })
            };
            let items = [item("newer", json!("of another form")), item("good", json!({"jobs": []}))];
            let list = json!({
                "apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items,
            });
            api.next().await.answer(200, &list);
        };
        let seen = async {
            let mut names = Vec::new();
            for _ in 0..2 {
                names.push(arrivals.next().await.unwrap().unwrap().name_any());
            }
            names
        };
        let (names, ()) = tokio::join!(seen, server);
        assert_eq!(names, ["newer", "good"]);
    }
}
