//! Random pipelines, and what an undisturbed run of each must come to: an oracle that knows nothing of the operator.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use timetracker_operator::pipelines::Settings;

use super::world::{Fate, World};

#[derive(Debug, Clone)]
pub struct Job {
    pub needs: Vec<usize>,
    pub cells: usize,
    pub exit: i32,
    pub failed_tests: u32,
    pub steps: u32,
    pub continue_on_error: bool,
    pub once: bool,
    pub collects: bool,
    pub traps: bool,
    /// The API server never takes its Jobs.
    pub impossible: bool,
    pub when: When,
}

impl Job {
    /// One that needs nothing and succeeds at its first step.
    pub fn succeeding() -> Self {
        Self {
            needs: Vec::new(),
            cells: 1,
            exit: 0,
            failed_tests: 0,
            steps: 1,
            continue_on_error: false,
            once: false,
            collects: false,
            traps: false,
            impossible: false,
            when: When::Absent,
        }
    }
}

/// A job's condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    Absent,
    Yes,
    No,
    /// Whether its first need failed; in `finally` the first job.
    NeedFailed,
    /// It has no value: the job fails.
    Broken,
}

impl When {
    fn text(self, need: Option<&String>) -> Option<String> {
        match (self, need) {
            (Self::Absent, _) | (Self::NeedFailed, None) => None,
            (Self::Yes, _) => Some("event == 'Manual' && params.go".to_owned()),
            (Self::No, _) => Some("!params.go".to_owned()),
            (Self::NeedFailed, Some(need)) => Some(format!("needs['{need}'].result == 'Failed'")),
            (Self::Broken, _) => Some("int(event) == 1".to_owned()),
        }
    }

    /// What a job comes to, or `None` when the rules without a condition hold.
    fn outcome<'a>(self, need: Option<&str>, own: &'a str) -> Option<&'a str> {
        match (self, need) {
            (Self::Absent, _) | (Self::NeedFailed, None) => None,
            (Self::Yes, _) => Some(own),
            (Self::No, _) => Some("Skipped"),
            (Self::NeedFailed, Some(need)) => Some(if need == "Failed" { own } else { "Skipped" }),
            (Self::Broken, _) => Some("Failed"),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub jobs: Vec<Job>,
    pub finally: Option<Job>,
    pub limit: u32,
}

fn job(place: usize) -> impl Strategy<Value = Job> {
    let needs = proptest::collection::btree_set(0..place.max(1), 0..3);
    let outcome = (prop_oneof![5 => Just(0), 1 => Just(1)], prop_oneof![4 => Just(0u32), 1 => Just(2)], 1..4u32);
    let flags = (
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.25),
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.1),
    );
    let when = prop_oneof![6 => Just(When::Absent), 1 => Just(When::Yes), 1 => Just(When::No), 2 => Just(When::NeedFailed),
        1 => Just(When::Broken)];
    (needs, prop_oneof![4 => Just(1usize), 1 => Just(2)], outcome, flags, when).prop_map(
        move |(
            needs,
            cells,
            (exit, failed_tests, steps),
            (continue_on_error, once, collects, traps, impossible),
            when,
        )| Job {
            needs: needs.into_iter().filter(|need| *need < place).collect(),
            cells,
            exit,
            failed_tests: if collects { failed_tests } else { 0 },
            steps,
            continue_on_error,
            once,
            collects,
            traps,
            impossible,
            when,
        },
    )
}

pub fn scenario() -> impl Strategy<Value = Scenario> {
    let jobs = (1..6usize).prop_flat_map(|count| (0..count).map(job).collect::<Vec<_>>());
    (jobs, proptest::option::of(job(0)), 1..5u32).prop_map(|(jobs, finally, limit)| Scenario { jobs, finally, limit })
}

/// What a cell comes to: its phase and how often its command runs.
pub type Expected = BTreeMap<String, String>;

impl Scenario {
    pub fn name(place: usize) -> String {
        format!("job-{place}")
    }

    fn spec(name: &str, job: &Job) -> Value {
        let needs: Vec<String> = job.needs.iter().map(|need| Self::name(*need)).collect();
        let mut spec = json!({"name": name, "image": "busybox", "run": "true", "needs": needs,
            "continueOnError": job.continue_on_error});
        let need = if name == "last" { Some(Self::name(0)) } else { needs.first().cloned() };
        if let Some(when) = job.when.text(need.as_ref()) {
            spec["when"] = json!(when);
        }
        if job.cells > 1 {
            let values: Vec<String> = (0..job.cells).map(|cell| cell.to_string()).collect();
            spec["matrix"] = json!({"axes": [{"name": "cell", "values": values}], "failFast": false});
        }
        if job.once {
            spec["effects"] = json!("Once");
        }
        if job.collects {
            spec["reports"] = json!(["JUnit"]);
        }
        spec
    }

    pub fn cells(name: &str, job: &Job) -> Vec<String> {
        if job.cells == 1 {
            return vec![name.to_owned()];
        }
        (0..job.cells).map(|cell| format!("{name} ({cell})")).collect()
    }

    fn named(&self) -> Vec<(String, &Job)> {
        let jobs = self.jobs.iter().enumerate().map(|(place, job)| (Self::name(place), job));
        jobs.chain(self.finally.iter().map(|job| ("last".to_owned(), job))).collect()
    }

    pub fn world(&self) -> World {
        let jobs: Vec<Value> =
            self.jobs.iter().enumerate().map(|(place, job)| Self::spec(&Self::name(place), job)).collect();
        let finally: Vec<Value> = self.finally.iter().map(|job| Self::spec("last", job)).collect();
        let mut fates = BTreeMap::new();
        for (name, job) in self.named() {
            for cell in Self::cells(&name, job) {
                let fate = Fate { exit: job.exit, failed_tests: job.failed_tests, steps: job.steps, traps: job.traps };
                fates.insert(cell, fate);
            }
        }
        let mut settings = Settings::default();
        settings.limits.jobs = self.limit;
        let params = json!([{"name": "go", "type": "Boolean", "default": "true"}]);
        let mut world = World::new(
            json!({"params": params, "jobs": jobs, "finally": finally}),
            json!({"pipelineRef": {"name": "p"}}),
            fates,
            settings,
        );
        let impossible = self.named().into_iter().filter(|(_, job)| job.impossible);
        world.refused = impossible.flat_map(|(name, job)| Self::cells(&name, job)).collect();
        world
    }

    pub fn once_cells(&self) -> Vec<String> {
        self.named().into_iter().filter(|(_, job)| job.once).flat_map(|(name, job)| Self::cells(&name, job)).collect()
    }

    /// Which cells each cell waits for.
    pub fn needed_cells(&self) -> BTreeMap<String, Vec<String>> {
        let mut needed = BTreeMap::new();
        for (name, job) in self.named() {
            let before: Vec<String> = if name == "last" {
                Vec::new()
            } else {
                job.needs.iter().flat_map(|need| Self::cells(&Self::name(*need), &self.jobs[*need])).collect()
            };
            for cell in Self::cells(&name, job) {
                needed.insert(cell, before.clone());
            }
        }
        needed
    }

    /// What an undisturbed run comes to.
    pub fn expected(&self) -> Expected {
        let mut by_place: Vec<&str> = Vec::new();
        let mut expected = Expected::new();
        let succeeds = |job: &Job| job.exit == 0 && job.failed_tests == 0 && !job.impossible;
        let own = |job: &Job| if succeeds(job) { "Succeeded" } else { "Failed" };
        for (place, job) in self.jobs.iter().enumerate() {
            let open = job.needs.iter().all(|need| {
                by_place[*need] == "Succeeded" || (by_place[*need] == "Failed" && self.jobs[*need].continue_on_error)
            });
            let need = job.needs.first().map(|need| by_place[*need]);
            let phase = job.when.outcome(need, own(job)).unwrap_or(if open { own(job) } else { "Skipped" });
            by_place.push(phase);
            for cell in Self::cells(&Self::name(place), job) {
                expected.insert(cell, phase.to_owned());
            }
        }
        if let Some(job) = &self.finally {
            let phase = job.when.outcome(Some(by_place[0]), own(job)).unwrap_or(own(job));
            for cell in Self::cells("last", job) {
                expected.insert(cell, phase.to_owned());
            }
        }
        expected
    }

    /// The cells that a run which repeats this one takes over, if only what the commands do has changed.
    pub fn reused(&self) -> BTreeSet<String> {
        let expected = self.expected();
        let mut reused = BTreeSet::new();
        let mut same: Vec<bool> = Vec::new();
        for (place, job) in self.jobs.iter().enumerate() {
            let needs_are_same = job.needs.iter().all(|need| same[*need]);
            let cells = Self::cells(&Self::name(place), job);
            if needs_are_same {
                reused.extend(cells.iter().filter(|cell| expected[*cell] == "Succeeded").cloned());
            }
            same.push(
                needs_are_same && cells.iter().all(|cell| ["Succeeded", "Skipped"].contains(&expected[cell].as_str())),
            );
        }
        reused
    }

    /// Whether the cell's command runs at all.
    pub fn executes(&self, cell: &str) -> bool {
        let named = self.named();
        let (_, job) = named.iter().find(|(name, job)| Self::cells(name, job).iter().any(|own| own == cell)).unwrap();
        job.when != When::Broken && !job.impossible && self.expected()[cell] != "Skipped"
    }

    /// Nothing failed that is not forgiven: what is skipped is so by a condition, or because of a failure.
    pub fn succeeds(&self) -> bool {
        let expected = self.expected();
        self.named().iter().all(|(name, job)| {
            let cells = Self::cells(name, job);
            cells.iter().all(|cell| expected[cell] != "Failed" || job.continue_on_error)
        })
    }
}
