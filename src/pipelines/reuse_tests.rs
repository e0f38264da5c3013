#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::*;

fn postgres() -> BTreeMap<String, String> {
    BTreeMap::from([("16".to_owned(), "docker.io/library/postgres:16".to_owned())])
}

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
    let (parameters, postgres) = (Parameters::new(), postgres());
    let all = Execution {
        definition: &definition,
        graph: &graph,
        parameters: &parameters,
        spec: &spec,
        event: "Manual",
        commit: None,
        postgres: &postgres,
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
    let (spec, parameters, postgres) = (PipelineRunSpec::default(), Parameters::new(), postgres());
    let of = Execution {
        definition: &definition,
        graph: &graph,
        parameters: &parameters,
        spec: &spec,
        event: "Manual",
        commit: None,
        postgres: &postgres,
    };
    let mut kept = of_runs_in(two("tools:1"), "", |_, reference| Some(in_image(reference, "1")));
    let (node, cell) = (&graph.nodes()[0], &graph.nodes()[0].cells[0]);
    assert!(kept.result(&of, node, cell).is_some());
    kept.cells.get_mut("a").unwrap().images.image = images::pinned(&format!("tools@{}", Digest::of(b"2"))).unwrap();
    assert!(kept.result(&of, node, cell).is_none());
}

fn with_services(image: &str) -> Value {
    let services = json!([{"name": "redis", "image": image}, {"name": "postgres", "postgres": {"version": "16"}}]);
    let job = |name: &str| json!({"name": name, "image": format!("{name}:1"), "run": "true"});
    json!({"defaults": {"services": services}, "jobs": [job("a"), job("b")]})
}

/// As [`in_image`], with services of these references in images of these contents.
fn beside(reference: &str, services: &[(&str, &str, &str)]) -> JobResult {
    let images = services.iter().map(|(name, reference, content)| {
        let image = images::pinned(&images::at(reference, &Digest::of(content.as_bytes()))).unwrap();
        ((*name).to_owned(), image)
    });
    JobResult { services: images.collect(), ..in_image(reference, "1") }
}

const POSTGRES: (&str, &str, &str) = ("postgres", "docker.io/library/postgres", "16.1");

#[test]
fn what_is_taken_over_says_what_the_tags_of_its_services_mean() {
    let reused = of_runs_in(with_services("redis:7"), "", |_, reference| {
        Some(beside(reference, &[("redis", "redis:7", "7.1"), POSTGRES]))
    });
    assert_eq!(reused.cells.len(), 2);
    let meant = |reference: &str| reused.images.get(reference).cloned();
    assert_eq!(meant("redis:7"), Some(Digest::of(b"7.1")));
    assert_eq!(meant("docker.io/library/postgres:16"), Some(Digest::of(b"16.1")));
    let written = serde_json::to_string(&reused).unwrap();
    assert_eq!(serde_json::from_str::<Reused>(&written).unwrap(), reused);
}

#[test]
fn a_service_whose_image_is_another_or_not_known_is_not_taken_over_and_decides_no_tag() {
    let moved = |cell: &str, reference: &str| Some(beside(reference, &[("redis", "redis:7", cell), POSTGRES]));
    let unknown = |cell: &str, reference: &str| {
        let redis = ("redis", "redis:7", "7.1");
        Some(if cell == "a" { beside(reference, &[redis, POSTGRES]) } else { beside(reference, &[POSTGRES]) })
    };
    let elsewhere = |cell: &str, reference: &str| {
        let redis = if cell == "a" { "redis:7" } else { "r.test/redis:7" };
        Some(beside(reference, &[("redis", redis, "7.1"), POSTGRES]))
    };
    let all = [
        of_runs_in(with_services("redis:7"), "", moved),
        of_runs_in(with_services("redis:7"), "", unknown),
        of_runs_in(with_services("redis:7"), "", elsewhere),
    ];
    for reused in all {
        assert_eq!(reused.cells.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(reused.unproved, ["b"]);
        assert!(!reused.images.contains_key("b:1"), "nothing of that image is taken over: {reused:?}");
    }
}

#[test]
fn a_service_that_names_its_image_by_digest_needs_no_record() {
    let pinned = format!("redis:7@{}", Digest::of(b"7.1"));
    let reused = of_runs_in(with_services(&pinned), "", |_, reference| Some(beside(reference, &[POSTGRES])));
    assert_eq!(reused.cells.len(), 2);
    assert!(!reused.images.contains_key(&pinned), "{reused:?}");
}

#[test]
fn what_was_taken_over_before_images_of_services_were_known_still_counts() {
    let definition = Definition { pipeline: serde_json::from_value(two("tools:1")).unwrap(), source: None };
    let graph = Graph::of(&definition.pipeline).unwrap();
    let (spec, parameters, postgres) = (PipelineRunSpec::default(), Parameters::new(), postgres());
    let of = Execution {
        definition: &definition,
        graph: &graph,
        parameters: &parameters,
        spec: &spec,
        event: "Manual",
        commit: None,
        postgres: &postgres,
    };
    let reused = of_runs_in(two("tools:1"), "", |_, reference| Some(in_image(reference, "1")));
    let written = serde_json::to_value(&reused).unwrap();
    let keys: Vec<&String> = written["cells"]["a"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["evidence", "image", "result"], "as older operators wrote it");
    let read: Reused = serde_json::from_value(written).unwrap();
    assert!(read.result(&of, &graph.nodes()[0], &graph.nodes()[0].cells[0]).is_some());
}
