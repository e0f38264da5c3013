//! What a run with `rerunOf` takes over from the earlier one: all that succeeded there and would be done again exactly
//! so. The rest runs: what failed, what depends on it, and what the pipeline now defines otherwise.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::environments::{IMAGE_OUTPUT, Role};
use super::graph::{Cell, Graph, Node};
use super::images;
use super::jobs::services_of;
use super::names;
use super::progress::CellView;
use super::result::JobResult;
use super::services::reference;
use super::steps::{Step, read_by};
use crate::api::names::{CommitSha, Digest, ImageReference, ImageVersion};
use crate::api::pipeline::Parameters;
use crate::api::run::{JobPhase, PipelineRun, PipelineRunSpec};

/// The key in the ConfigMap.
const KEY: &str = "reused.json";

/// What a run took over, written down before it begins: the earlier run may be deleted meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reused {
    /// The earlier run.
    pub run: String,
    /// The commit of both.
    pub commit: Option<CommitSha>,
    /// The earlier run's event: a repetition by hand is one of the same event.
    pub event: String,
    /// What was taken over, by the cell's full name.
    pub cells: BTreeMap<String, ReusedCell>,
    /// Which image each tag meant there of which something was taken over: it means the same in this run.
    #[serde(default)]
    pub images: BTreeMap<String, Digest>,
    /// What runs again only because it is not proved that it would run in the same image.
    #[serde(default)]
    pub unproved: Vec<String>,
}

/// One cell that was taken over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReusedCell {
    /// The digest of all that determines what the cell does.
    pub evidence: Digest,
    /// The images in which it ran.
    #[serde(flatten)]
    pub images: Images,
    /// How it ended.
    pub result: JobResult,
}

/// The images in which a cell ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Images {
    /// That of its command.
    pub image: ImageReference,
    /// Those of its services, by the services' names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, ImageReference>,
}

/// Which image each tag means.
type Meanings = BTreeMap<String, Digest>;

/// What a run executes, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Execution<'a> {
    /// The pipeline and where its code is.
    pub definition: &'a Definition,
    /// Its graph.
    pub graph: &'a Graph,
    /// All parameters with their values.
    pub parameters: &'a Parameters,
    /// The run's own part.
    pub spec: &'a PipelineRunSpec,
    /// The kind of event.
    pub event: &'a str,
    /// The commit.
    pub commit: Option<&'a CommitSha>,
    /// The images of Postgres that the configuration names, by version.
    pub postgres: &'a BTreeMap<String, String>,
}

/// The digest of all that determines what a cell does but for its needs: the job as written, the images that this means,
/// the pipeline's defaults, the repository, the commit and how it was named, the parameters, the event and the cell's values.
#[must_use]
pub fn evidence(of: &Execution<'_>, node: &Node, cell: &Cell, images: Option<&Images>) -> Digest {
    let image = images.map(|images| &images.image);
    // Written through JSON values, whose maps are ordered: what is equal is the same text.
    let mut parts = serde_json::json!({
        "job": node.spec,
        "image": image,
        "defaults": of.definition.pipeline.defaults,
        "source": of.definition.source,
        "parameters": of.parameters,
        "commit": of.commit,
        "revision": of.spec.revision,
        "event": of.event,
        "cell": cell.values,
    });
    // Without services the text is that of operators that knew nothing of their images.
    let services = images.map(|images| &images.services).filter(|services| !services.is_empty());
    if let (Some(services), Some(parts)) = (services, parts.as_object_mut()) {
        parts.insert("services".to_owned(), serde_json::json!(services));
    }
    Digest::of(parts.to_string().as_bytes())
}

/// What `own` takes over of the earlier run, whose cells ended so.
#[must_use]
pub fn reused(own: &Execution<'_>, earlier: &Execution<'_>, name: &str, ended: &[CellView]) -> Reused {
    let none = Reused { run: name.to_owned(), commit: own.commit.cloned(), ..Reused::default() };
    let reused = Reused { event: own.event.to_owned(), ..none };
    let mut comparison = Comparison { own, earlier, ended, reused };
    let same = comparison.written();
    comparison.environments(&same);
    comparison.reused
}

/// How a cell of the earlier run stands to the same of this one.
enum Stand {
    /// It did what it would do again, and is taken over.
    TakenOver,
    /// It would be skipped again.
    Skipped,
    /// It runs.
    Runs,
}

struct Comparison<'a> {
    own: &'a Execution<'a>,
    earlier: &'a Execution<'a>,
    ended: &'a [CellView],
    reused: Reused,
}

impl Comparison<'_> {
    /// The jobs that the pipeline has.
    fn written(&mut self) -> Vec<bool> {
        let graph = self.own.graph;
        // Steps read artifacts of their own run only: what they read is made in it.
        let steps = graph.nodes().iter().filter(|node| Step::of(&node.spec).is_some_and(|step| step.reads().is_some()));
        let read: Vec<&str> = steps.flat_map(|step| read_by(graph, step)).map(|node| node.spec.name.as_str()).collect();
        // By place: whether all of the job's cells would come to the same again.
        let mut same: Vec<bool> = Vec::new();
        for node in graph.nodes() {
            let is_read = read.contains(&node.spec.name.as_str());
            let needs_are_same = node.needs.iter().all(|place| same.get(*place).copied().unwrap_or_default());
            // What makes an environment is decided behind the jobs that use it.
            let may_be = needs_are_same && !node.is_finally && !is_read && node.environment.is_written();
            let mut all_same = may_be;
            for cell in node.cells.iter().filter(|_| may_be) {
                match self.stand(node, cell) {
                    Stand::TakenOver | Stand::Skipped => {}
                    Stand::Runs => all_same = false,
                }
            }
            same.push(all_same);
        }
        same
    }

    /// What makes the environments of those jobs, of which it is known which come to the same.
    fn environments(&mut self, same: &[bool]) {
        let nodes = self.own.graph.nodes();
        for (place, node) in nodes.iter().enumerate().filter(|(_, node)| node.environment == Role::Makes) {
            // Jobs bring it from the artifacts of their own run: it is made again as soon as one of them runs.
            let mut users = nodes.iter().zip(same).filter(|(user, _)| user.environment == Role::Uses(place));
            if users.all(|(user, same)| *same && !user.is_finally) {
                for cell in &node.cells {
                    self.stand(node, cell);
                }
            }
        }
    }

    /// Takes the cell over if it succeeded and nothing that determines it is another now.
    fn stand(&mut self, node: &Node, cell: &Cell) -> Stand {
        let Some(view) = self.ended.iter().find(|view| view.name == cell.name) else { return Stand::Runs };
        let cells = self.earlier.graph.nodes().iter().flat_map(|node| node.cells.iter().map(move |cell| (node, cell)));
        let found = cells.into_iter().find(|(_, earlier)| earlier.name == cell.name);
        let Some((before, earlier)) = found else { return Stand::Runs };
        if evidence(self.earlier, before, earlier, None) != evidence(self.own, node, cell, None) {
            return Stand::Runs;
        }
        match (view.phase, &view.result) {
            (JobPhase::Skipped, _) => Stand::Skipped,
            (JobPhase::Succeeded, Some(result)) => {
                let Some((images, meanings)) = self.images(before, result) else {
                    self.reused.unproved.push(cell.name.clone());
                    return Stand::Runs;
                };
                self.reused.images.extend(meanings);
                let evidence = evidence(self.own, node, cell, Some(&images));
                let result = taken_over(result, &self.reused.run);
                self.reused.cells.insert(cell.name.clone(), ReusedCell { evidence, images, result });
                Stand::TakenOver
            }
            (
                JobPhase::Succeeded
                | JobPhase::Failed
                | JobPhase::Cancelled
                | JobPhase::Waiting
                | JobPhase::Queued
                | JobPhase::Starting
                | JobPhase::Running,
                _,
            ) => Stand::Runs,
        }
    }

    /// The images in which the cell ran and would run in this run, and what their tags mean by that; `None` when that is not
    /// proved.
    ///
    /// A tag would be asked about in vain: the registry may need credentials that only the pods have, and what it says now
    /// need not be what a node has. So the tag means in this run what it meant for the first job that is taken over.
    fn images(&self, node: &Node, result: &JobResult) -> Option<(Images, Meanings)> {
        let mut meanings = Meanings::new();
        let image = self.image(node, result, &mut meanings)?;
        let mut services = BTreeMap::new();
        // What makes an environment has no services beside it.
        if node.environment != Role::Makes {
            for service in services_of(self.earlier.definition, &node.spec) {
                let reference = reference(&service, self.own.postgres)?;
                let image = match images::pinned(reference) {
                    Some(image) => image,
                    None => {
                        let ran = result.services.get(&service.name)?;
                        let is_of_it = images::repository(reference).as_ref() == Some(&ran.repository);
                        (is_of_it && self.means(reference, ran, &mut meanings)).then(|| ran.clone())?
                    }
                };
                services.insert(service.name, image);
            }
        }
        Some((Images { image, services }, meanings))
    }

    fn image(&self, node: &Node, result: &JobResult, meanings: &mut Meanings) -> Option<ImageReference> {
        // The image of an environment goes by its own digest, and is found by what it is made of.
        if let Some(made) = result.outputs.get(IMAGE_OUTPUT).filter(|_| node.environment == Role::Makes) {
            return images::pinned(made);
        }
        let reference = images::written(self.earlier.definition, node)?;
        if let Some(image) = images::pinned(&reference) {
            return Some(image);
        }
        let ran = result.image.clone()?;
        if images::repository(&reference).as_ref() != Some(&ran.repository) {
            return matches!(node.environment, Role::Uses(_)).then_some(ran);
        }
        self.means(&reference, &ran, meanings).then_some(ran)
    }

    /// Whether the reference means that image in this run, or may.
    fn means(&self, reference: &str, ran: &ImageReference, meanings: &mut Meanings) -> bool {
        let ImageVersion::Digest(digest) = &ran.version else { return false };
        match self.reused.images.get(reference) {
            Some(meant) => meant == digest,
            None => meanings.entry(reference.to_owned()).or_insert_with(|| digest.clone()) == digest,
        }
    }
}

fn taken_over(result: &JobResult, run: &str) -> JobResult {
    // Its time was the earlier run's.
    JobResult { message: Some(format!("reused from {run}")), seconds: None, finished: None, ..result.clone() }
}

impl Reused {
    /// The result that the cell took over, if what determines it is still the same.
    #[must_use]
    pub fn result(&self, of: &Execution<'_>, node: &Node, cell: &Cell) -> Option<&JobResult> {
        let kept = self.cells.get(&cell.name)?;
        (kept.evidence == evidence(of, node, cell, Some(&kept.images))).then_some(&kept.result)
    }

    /// The name of the ConfigMap in which a run keeps it.
    #[must_use]
    pub fn name(run: &PipelineRun) -> String {
        let uid = run.uid().unwrap_or_default();
        format!("{}-{}", run.name_any(), names::short_hash(&[&uid, "(reused)"]))
    }

    /// The ConfigMap: it never changes, and goes with the run.
    #[must_use]
    pub fn config_map(&self, run: &PipelineRun) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(Self::name(run)),
                namespace: run.namespace(),
                labels: Some(names::run_labels(&run.name_any(), &run.spec.pipeline_ref.name)),
                owner_references: run.owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            data: serde_json::to_string(self).ok().map(|text| BTreeMap::from([(KEY.to_owned(), text)])),
            immutable: Some(true),
            ..ConfigMap::default()
        }
    }

    /// Reads the run's ConfigMap; `None` when it is not the run's own.
    #[must_use]
    pub fn read(config_map: &ConfigMap, run: &PipelineRun) -> Option<Self> {
        let uid = run.uid()?;
        let own = config_map.owner_references().iter().any(|owner| owner.uid == uid);
        serde_json::from_str(config_map.data.as_ref().filter(|_| own)?.get(KEY)?).ok()
    }
}

#[cfg(test)]
#[path = "reuse_tests.rs"]
mod tests;
