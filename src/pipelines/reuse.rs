//! What a run with `rerunOf` takes over from the earlier one: all that succeeded there and would be done again exactly
//! so. The rest runs: what failed, what depends on it, and what the pipeline now defines otherwise.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::environments::Role;
use super::graph::{Cell, Graph, Node};
use super::names;
use super::progress::CellView;
use super::result::JobResult;
use super::steps::{Step, read_by};
use crate::api::names::{CommitSha, Digest};
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
}

/// One cell that was taken over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReusedCell {
    /// The digest of all that determines what the cell does.
    pub evidence: Digest,
    /// How it ended.
    pub result: JobResult,
}

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
}

/// The digest of all that determines what a cell does but for its needs: the job as written, the pipeline's defaults,
/// the repository, the commit and how it was named, the parameters, the event and the cell's values.
#[must_use]
pub fn evidence(of: &Execution<'_>, node: &Node, cell: &Cell) -> Digest {
    // Written through JSON values, whose maps are ordered: what is equal is the same text.
    let parts = serde_json::json!({
        "job": node.spec,
        "defaults": of.definition.pipeline.defaults,
        "source": of.definition.source,
        "parameters": of.parameters,
        "commit": of.commit,
        "revision": of.spec.revision,
        "event": of.event,
        "cell": cell.values,
    });
    Digest::of(parts.to_string().as_bytes())
}

/// What `own` takes over of the earlier run, whose cells ended so.
#[must_use]
pub fn reused(own: &Execution<'_>, earlier: &Execution<'_>, name: &str, ended: &[CellView]) -> Reused {
    let mut cells = BTreeMap::new();
    // Steps read artifacts of their own run only: what they read is made in it.
    let steps = own.graph.nodes().iter().filter(|node| Step::of(&node.spec).is_some_and(|step| step.reads().is_some()));
    let read: Vec<&str> = steps.flat_map(|step| read_by(own.graph, step)).map(|node| node.spec.name.as_str()).collect();
    let ended_so = |node: &Node, cell: &Cell| {
        let evidence = evidence(own, node, cell);
        let view = ended.iter().find(|view| view.name == cell.name && is_equal(earlier, view, &evidence))?;
        Some((view.phase, view.result.as_ref().map(|result| taken_over(result, name)), evidence))
    };
    // By place: whether all of the job's cells would come to the same again.
    let mut same: Vec<bool> = Vec::new();
    for node in own.graph.nodes() {
        let is_read = read.contains(&node.spec.name.as_str());
        let needs_are_same = node.needs.iter().all(|place| same.get(*place).copied().unwrap_or_default());
        // What makes an environment is decided behind the jobs that use it.
        let may_be = needs_are_same && !node.is_finally && !is_read && node.environment.is_written();
        let mut all_same = may_be;
        for cell in &node.cells {
            match ended_so(node, cell) {
                Some((JobPhase::Succeeded, Some(result), evidence)) if may_be => {
                    cells.insert(cell.name.clone(), ReusedCell { evidence, result });
                }
                Some((JobPhase::Skipped, _, _)) => {}
                Some(_) | None => all_same = false,
            }
        }
        same.push(all_same);
    }
    for (place, node) in own.graph.nodes().iter().enumerate().filter(|(_, node)| node.environment == Role::Makes) {
        // Jobs bring it from the artifacts of their own run: it is made again as soon as one of them runs.
        let mut users = own.graph.nodes().iter().zip(&same).filter(|(user, _)| user.environment == Role::Uses(place));
        let none_runs = users.all(|(user, same)| *same && !user.is_finally);
        for cell in node.cells.iter().filter(|_| none_runs) {
            if let Some((JobPhase::Succeeded, Some(result), evidence)) = ended_so(node, cell) {
                cells.insert(cell.name.clone(), ReusedCell { evidence, result });
            }
        }
    }
    Reused { run: name.to_owned(), commit: own.commit.cloned(), event: own.event.to_owned(), cells }
}

/// Whether the earlier run's cell was determined by the same.
fn is_equal(earlier: &Execution<'_>, view: &CellView, wanted: &Digest) -> bool {
    let cells = earlier.graph.nodes().iter().flat_map(|node| node.cells.iter().map(move |cell| (node, cell)));
    let found = cells.into_iter().find(|(_, cell)| cell.name == view.name);
    found.is_some_and(|(node, cell)| evidence(earlier, node, cell) == *wanted)
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
        (kept.evidence == evidence(of, node, cell)).then_some(&kept.result)
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
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What a run takes over of one in which all succeeded.
    fn taken_over_of(pipeline: Value) -> Vec<String> {
        taken_over_but(pipeline, "")
    }

    /// What a run takes over of one in which all but this one succeeded.
    fn taken_over_but(pipeline: Value, failed: &str) -> Vec<String> {
        let definition = Definition { pipeline: serde_json::from_value(pipeline).unwrap(), source: None };
        let graph = Graph::of(&definition.pipeline).unwrap();
        let spec = PipelineRunSpec::default();
        let parameters = Parameters::new();
        let all = Execution {
            definition: &definition,
            graph: &graph,
            parameters: &parameters,
            spec: &spec,
            event: "Manual",
            commit: None,
        };
        let cells = graph.nodes().iter().flat_map(|node| &node.cells);
        let ended: Vec<CellView> = cells
            .map(|cell| CellView {
                name: cell.name.clone(),
                position: 0,
                phase: if cell.name == failed { JobPhase::Failed } else { JobPhase::Succeeded },
                message: None,
                job: None,
                attempt: None,
                result: Some(JobResult::succeeded()),
                forgiven: false,
                combines: false,
            })
            .collect();
        reused(&all, &all, "run", &ended).cells.into_keys().collect()
    }

    #[test]
    fn what_a_step_reads_is_made_again_and_so_is_all_of_finally() {
        let job = |name: &str, reports: Value| json!({"name": name, "image": "x", "run": "true", "reports": reports});
        let jobs = json!([job("lint", json!([])), job("unit", json!(["Coverage"]))]);
        let end =
            json!([job("last", json!([])), {"name": "combined", "image": "x", "coverageReport": {"threshold": 50}}]);
        assert_eq!(taken_over_of(json!({ "jobs": jobs, "finally": end })), ["lint"]);
        assert_eq!(taken_over_of(json!({ "jobs": jobs })), ["lint", "unit"]);
    }

    #[test]
    fn an_environment_is_made_again_as_soon_as_a_job_that_uses_it_runs() {
        let environment = json!({"python": "3.11", "requirements": ["requirements.txt"]});
        let job = |name: &str| json!({"name": name, "run": "true"});
        let pipeline = json!({"defaults": {"environment": environment}, "jobs": [job("lint"), job("unit")]});
        assert_eq!(taken_over_but(pipeline.clone(), ""), ["environment", "lint", "unit"]);
        assert_eq!(taken_over_but(pipeline.clone(), "unit"), ["lint"], "one of its jobs runs, the other need not");
        let mut with_end = pipeline;
        with_end["finally"] = json!([job("last")]);
        assert_eq!(taken_over_but(with_end, ""), ["lint", "unit"], "what stands in finally runs always");
    }
}
