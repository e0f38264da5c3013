#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::*;

/// What a run takes over of one in which all succeeded.
fn taken_over_of(pipeline: Value) -> Vec<String> {
    taken_over_but(pipeline, "")
}

/// What a run takes over of one in which all but this one succeeded.
fn taken_over_but(pipeline: Value, failed: &str) -> Vec<String> {
    of_runs_in(pipeline, failed, |_, reference| Some(in_image(reference, "1"))).cells.into_keys().collect()
}

/// The image of this content that the reference named.
fn in_image(reference: &str, content: &str) -> JobResult {
    let image = images::pinned(&images::at(reference, &Digest::of(content.as_bytes())));
    JobResult { image: Some(image.unwrap()), ..JobResult::succeeded() }
}

/// What a run takes over of one in which all but this one ended as told of the cell and the reference of its image.
fn of_runs_in(pipeline: Value, failed: &str, result: impl Fn(&str, &str) -> Option<JobResult>) -> Reused {
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
    let cells = graph.nodes().iter().flat_map(|node| node.cells.iter().map(move |cell| (node, cell)));
    let ended: Vec<CellView> = cells
        .map(|(node, cell)| CellView {
            name: cell.name.clone(),
            position: 0,
            phase: if cell.name == failed { JobPhase::Failed } else { JobPhase::Succeeded },
            message: None,
            job: None,
            attempt: None,
            result: result(&cell.name, &images::written(&definition, node).unwrap()),
            forgiven: false,
            combines: false,
        })
        .collect();
    reused(&all, &all, "run", &ended)
}

#[test]
fn what_a_step_reads_is_made_again_and_so_is_all_of_finally() {
    let job = |name: &str, reports: Value| json!({"name": name, "image": "x", "run": "true", "reports": reports});
    let jobs = json!([job("lint", json!([])), job("unit", json!(["Coverage"]))]);
    let end = json!([job("last", json!([])), {"name": "combined", "image": "x", "coverageReport": {"threshold": 50}}]);
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

fn two(image: &str) -> Value {
    let job = |name: &str| json!({"name": name, "image": image, "run": "true"});
    json!({"jobs": [job("a"), job("b")]})
}

#[test]
fn of_one_tag_only_one_image_is_taken_over_and_it_stands_for_the_tag() {
    let reused = of_runs_in(two("tools:1"), "", |cell, reference| Some(in_image(reference, cell)));
    assert_eq!(reused.cells.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(reused.unproved, ["b"], "the tag was moved between them");
    assert_eq!(reused.images, BTreeMap::from([("tools:1".to_owned(), Digest::of(b"a"))]));
}

#[test]
fn without_a_record_only_what_names_its_image_by_digest_is_taken_over() {
    let unknown = |_: &str, _: &str| Some(JobResult::succeeded());
    let by_tag = of_runs_in(two("tools:1"), "", unknown);
    assert!(by_tag.cells.is_empty() && by_tag.images.is_empty(), "{by_tag:?}");
    assert_eq!(by_tag.unproved, ["a", "b"]);
    let by_digest = of_runs_in(two(&format!("tools:1@{}", Digest::of(b"x"))), "", unknown);
    assert_eq!(by_digest.cells.len(), 2);
    assert!(by_digest.images.is_empty() && by_digest.unproved.is_empty(), "{by_digest:?}");
}

#[test]
fn an_image_of_another_repository_proves_nothing_but_of_an_environment() {
    let elsewhere = |_: &str, _: &str| Some(in_image("r.test/other", "1"));
    assert!(of_runs_in(two("tools:1"), "", elsewhere).cells.is_empty());
    let environment = json!({"python": "3.11", "requirements": ["requirements.txt"]});
    let pipeline = json!({"defaults": {"environment": environment}, "jobs": [{"name": "unit", "run": "true"}, {"name": "b", "run": "true"}]});
    let reused = of_runs_in(pipeline, "b", |cell, _| match cell {
        "environment" => {
            let outputs = BTreeMap::from([(IMAGE_OUTPUT.to_owned(), format!("r.test/e@{}", Digest::of(b"e")))]);
            Some(JobResult { outputs, ..JobResult::succeeded() })
        }
        _ => Some(in_image("r.test/e", "e")),
    });
    assert_eq!(reused.cells.keys().collect::<Vec<_>>(), ["unit"]);
    assert!(reused.images.is_empty(), "Python's tag is not that of the environment's image: {reused:?}");
}

#[test]
fn what_was_taken_over_counts_only_with_the_image_that_was_written_down() {
    let definition = Definition { pipeline: serde_json::from_value(two("tools:1")).unwrap(), source: None };
    let graph = Graph::of(&definition.pipeline).unwrap();
    let (spec, parameters) = (PipelineRunSpec::default(), Parameters::new());
    let of = Execution {
        definition: &definition,
        graph: &graph,
        parameters: &parameters,
        spec: &spec,
        event: "Manual",
        commit: None,
    };
    let mut kept = of_runs_in(two("tools:1"), "", |_, reference| Some(in_image(reference, "1")));
    let (node, cell) = (&graph.nodes()[0], &graph.nodes()[0].cells[0]);
    assert!(kept.result(&of, node, cell).is_some());
    kept.cells.get_mut("a").unwrap().image = images::pinned(&format!("tools@{}", Digest::of(b"2"))).unwrap();
    assert!(kept.result(&of, node, cell).is_none());
}
