//! `cargo xtask demo`: one real release and one real run, from nothing, told in plain words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use crate::Told;
use crate::cluster::Cluster;
use crate::cluster::choice::{ChoiceArguments, ClusterChoice, OWN_LABEL};
use crate::host::progress::{Progress, seconds};
use crate::kubectl::Kubectl;
use crate::operator::{self, Images};

mod git;
mod narration;
mod pipeline;
mod release;
mod site;

use narration::Narration;
use release::Release;
use site::Watcher;

/// Everything of the demo is in this namespace, which is made anew every time.
const NAMESPACE: &str = "timetracker-demo";
/// The release, and so the site.
const SITE: &str = "timetracker";

/// How long a delivery may take here.
const DELIVERY: Duration = Duration::from_secs(300);

/// Arguments of `cargo xtask demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    cluster: ChoiceArguments,
}

/// Runs the command.
///
/// # Errors
/// [`Told`] when something did not go as it should; what it was has been printed.
pub fn main(arguments: &Arguments) -> Result<()> {
    let progress = Progress::new();
    let mut narration = Narration::new(&progress);
    let outcome = acts(arguments, &progress, &mut narration);
    narration.print_table();
    match outcome {
        Ok(()) => {
            println!("Everything above was shown in {}. To look further:\n", seconds(progress.elapsed()));
            // Another cluster is that of the current context already.
            if arguments.cluster.cluster == ClusterChoice::Embedded {
                println!("  export KUBECONFIG=$(cargo xtask cluster kubeconfig)");
            }
            println!("  kubectl describe timetrackerrelease {SITE} --namespace {NAMESPACE}");
            println!("  kubectl get timetracker,jobs,pods --namespace {NAMESPACE}");
            println!("  kubectl logs deployment/{} --namespace {}", operator::RELEASE, operator::NAMESPACE);
            Ok(())
        }
        Err(error) => {
            eprintln!("\nThe demo did not go as it should: {error:#}");
            Err(Told.into())
        }
    }
}

fn acts(arguments: &Arguments, progress: &Progress, narration: &mut Narration<'_>) -> Result<()> {
    narration.act("A cluster", "A real Kubernetes comes up on this machine, built from source the first time.");
    let cluster = arguments.cluster.cluster(progress)?;
    narration.shown("a real Kubernetes cluster is up", "API server, etcd, kubelet, containerd, registry");

    narration
        .act("Images", "The operator, the agent, Postgres 16 and Python are made from packages, nothing is pulled.");
    let images = Images::push(&cluster, progress)?;
    narration.shown("images are made and pushed", "to the cluster's registry, under their real names");

    narration.act("The operator", "Helm installs charts/timetracker-operator.");
    operator::install(&cluster, &images)?;
    narration.shown("the operator is installed by its Helm chart", "and ready");

    let stage = Stage::set(&cluster, &images, progress)?;
    let told = deliveries(&stage, narration).and_then(|()| {
        if cluster.gateway().is_none() {
            narration.left_out(
                "a pipeline of tests",
                "the git server of the demo is reachable from the embedded cluster only",
            );
            return Ok(());
        }
        pipeline::act(&stage, narration)
    });
    told.map_err(|error| error.context(operator::diagnosis(&cluster)))
}

/// What the acts after the installation play with.
struct Stage<'a> {
    cluster: &'a Cluster,
    images: &'a Images,
    kubectl: Kubectl<'a>,
    progress: &'a Progress,
    /// Repository of this performance alone, so that it decides which tags exist.
    repository: String,
}

impl<'a> Stage<'a> {
    fn set(cluster: &'a Cluster, images: &'a Images, progress: &'a Progress) -> Result<Self> {
        let kubectl = Kubectl::new(cluster);
        kubectl.fresh_namespace(NAMESPACE)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(Self { cluster, images, kubectl, progress, repository: format!("demo-{now:x}/timetracker") })
    }

    /// Makes a version of the sample app appear in the registry.
    fn publish(&self, version: &str, tag: &str) -> Result<()> {
        self.images.push_sample(version, &self.repository, tag, self.progress).map(drop)
    }
}

fn deliveries(stage: &Stage<'_>, narration: &mut Narration<'_>) -> Result<()> {
    narration.act("A first release", "Version 1.0.0 is in the registry. One object of ten lines asks for a site.");
    stage.publish("base", "1.0.0")?;
    let object = json!({
        "apiVersion": "timetracker.dev/v1alpha1",
        "kind": "TimeTrackerRelease",
        "metadata": {"name": SITE, "namespace": NAMESPACE, "labels": {OWN_LABEL: "true"}},
        "spec": {
            "image": {
                "repository": stage.images.public_name(stage.cluster, &stage.repository),
                "semver": ">=1, <2",
                "interval": "10s",
            },
            "database": {"embedded": {"storage": {"size": "1Gi"}}},
            "rollout": {"timeout": "45s", "soak": "5s"},
            "deletionPolicy": "Delete",
        },
    });
    stage.kubectl.apply(&object)?;
    let release = Release::new(stage);
    let first = release.delivered("1.0.0", DELIVERY)?;
    let page = site::ask(&stage.kubectl, "/_ready")?;
    narration.say(format!("the site answers /_ready: {}", page.trim()));
    narration.shown(
        "an app is released, migrated on Postgres 16 and rolled out",
        format!("1.0.0 with revision {} in {}", release.revisions()?, seconds(first)),
    );

    narration.act("A new tag", "Version 1.1.0 is pushed. It adds a table and a column. Nobody tells the operator.");
    let watcher = Watcher::start(stage.cluster);
    stage.publish("additive", "1.1.0")?;
    let second = release.delivered("1.1.0", DELIVERY)?;
    let seen = watcher.stop();
    let revisions = release.revisions()?;
    if !revisions.contains("010") {
        bail!("1.1.0 runs, but the database is at {revisions}");
    }
    narration.shown(
        "a new tag is noticed and delivered",
        format!("1.1.0 with revision {revisions} in {}; {seen}", seconds(second)),
    );

    narration.act("A broken one", "Version 1.7.0 is pushed. It starts, but never becomes ready.");
    let watcher = Watcher::start(stage.cluster);
    stage.publish("never-ready", "1.7.0")?;
    let third = release.taken_back("1.7.0", "1.1.0", DELIVERY)?;
    let seen = watcher.stop();
    site::ask(&stage.kubectl, "/_ready").context("after 1.7.0 was taken back the site does not answer")?;
    narration.shown(
        "a broken version is taken back",
        format!("1.7.0 quarantined, 1.1.0 answers again after {}; {seen}", seconds(third)),
    );
    Ok(())
}
