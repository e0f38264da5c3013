//! Graphs of trivial jobs: all that is measured is what happens between them.

use serde_json::{Value, json};

/// A graph: each job with what it needs.
#[derive(Debug, Clone)]
pub struct Graph {
    /// What it is called in the table.
    pub name: String,
    /// The jobs in an order in which each stands behind what it needs.
    pub jobs: Vec<(String, Vec<String>)>,
}

impl Graph {
    /// 8 jobs in 5 levels: 1, 2, 2, 2, 1; each needs the whole level before.
    pub fn levels() -> Self {
        Self::of_levels("8 jobs in 5 levels", &[1, 2, 2, 2, 1])
    }

    /// One job, then many that need it.
    pub fn fan_out(width: usize) -> Self {
        Self::of_levels(&format!("fan-out of {width}"), &[1, width])
    }

    /// One after the other.
    pub fn chain(length: usize) -> Self {
        Self::of_levels(&format!("chain of {length}"), &vec![1; length])
    }

    fn of_levels(name: &str, widths: &[usize]) -> Self {
        let mut jobs = Vec::new();
        let mut before: Vec<String> = Vec::new();
        for (level, width) in widths.iter().enumerate() {
            let level: Vec<String> = (0..*width).map(|place| format!("job-{level}-{place}")).collect();
            jobs.extend(level.iter().map(|job| (job.clone(), before.clone())));
            before = level;
        }
        Self { name: name.to_owned(), jobs }
    }

    /// The specification of a Pipeline with these jobs.
    pub fn pipeline(&self) -> Value {
        let jobs: Vec<Value> =
            self.jobs.iter().map(|(name, needs)| json!({"name": name, "needs": needs, "run": "true"})).collect();
        json!({"defaults": {"image": "python:3.11-slim"}, "jobs": jobs})
    }

    /// What a job needs.
    pub fn needs(&self, job: &str) -> &[String] {
        self.jobs.iter().find(|(name, _)| name == job).map(|(_, needs)| needs.as_slice()).unwrap_or_default()
    }
}
