//! The jobs of a pipeline as a graph: what each needs, and the cells of its matrix.

use std::collections::{BTreeMap, BTreeSet};

use super::environments::{self, Role};
use super::steps;
use crate::api::job::{JobSpec, Matrix};
use crate::api::pipeline::{JobDefaults, PipelineSpec};

/// The most jobs of a pipeline, `finally` included.
pub const MAX_JOBS: usize = 144;
/// The most cells of all matrices together.
pub const MAX_MATRIX_CELLS: usize = 256;
/// The most cells of a run, a job without a matrix being one: each is an entry of the status, whose size is bounded. Those
/// that make environments come on top.
pub const MAX_CELLS: usize = 272;
/// The most different environments of a pipeline.
pub const MAX_ENVIRONMENTS: usize = 8;

/// Why jobs are no graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two jobs have one name.
    #[error("spec.jobs: the name `{0}` stands twice; rename one")]
    Duplicate(String),
    /// A need that is no job.
    #[error("spec.jobs: `{job}` needs `{need}`, which the pipeline does not have")]
    UnknownNeed {
        /// The job.
        job: String,
        /// What it names.
        need: String,
    },
    /// Jobs that wait for each other.
    #[error("spec.jobs: needs go round in a circle: {}; take one of them away", .0.join(" → "))]
    Cycle(Vec<String>),
    /// Too many jobs.
    #[error("spec.jobs: {0} jobs, at most {MAX_JOBS} are possible; split the pipeline")]
    TooManyJobs(usize),
    /// Too many cells of matrices.
    #[error("spec.jobs: the matrices have more than {MAX_MATRIX_CELLS} cells together; remove values")]
    TooManyCells,
    /// Too many cells of matrices and jobs without one.
    #[error(
        "spec.jobs: the cells of the matrices and the jobs without one are more than {MAX_CELLS} together; remove values or split the pipeline"
    )]
    TooManyInAll,
    /// Too many environments.
    #[error("spec.jobs: more than {MAX_ENVIRONMENTS} different environments; let jobs share them")]
    TooManyEnvironments,
    /// An axis of a matrix that can't be used.
    #[error("spec.jobs: `{job}`: matrix axis `{axis}` has no value or stands twice")]
    Axis {
        /// The job.
        job: String,
        /// The axis.
        axis: String,
    },
    /// Two cells would look the same.
    #[error("spec.jobs: `{0}`: two cells of the matrix have the same values; remove one")]
    SameCells(String),
}

/// All jobs, each behind those it needs; `finally` last.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
}

/// One job.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// As the pipeline says; a built-in step is lowered.
    pub spec: JobSpec,
    /// Positions of the jobs it needs; all are lower than its own.
    pub needs: Vec<usize>,
    /// Its cells; without a matrix exactly one.
    pub cells: Vec<Cell>,
    /// Whether it stands in `finally`.
    pub is_finally: bool,
    /// Its place in the pipeline as written. What makes an environment is written nowhere: it has the first job's.
    pub position: usize,
    /// What it has to do with environments.
    pub environment: Role,
}

/// One cell: a job with one combination of its matrix' values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The job's name, for a matrix with the values: `job (value, value)`.
    pub name: String,
    /// Axis and value.
    pub values: Vec<(String, String)>,
}

impl Graph {
    /// The graph of a pipeline.
    ///
    /// # Errors
    /// When a name stands twice, a need is unknown, needs form a circle, or there are too many.
    pub fn of(pipeline: &PipelineSpec) -> Result<Self, GraphError> {
        Self::with(pipeline, false)
    }

    /// The graph of a pipeline, with jobs that publish its environments as images if it has a place for these.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn with(pipeline: &PipelineSpec, publishes: bool) -> Result<Self, GraphError> {
        let written: Vec<(&JobSpec, bool)> = pipeline
            .jobs
            .iter()
            .map(|job| (job, false))
            .chain(pipeline.finally.iter().map(|job| (job, true)))
            .collect();
        if written.len() > MAX_JOBS {
            return Err(GraphError::TooManyJobs(written.len()));
        }
        let mut known: BTreeMap<&str, bool> = BTreeMap::new();
        for (job, is_finally) in &written {
            if known.insert(&job.name, *is_finally).is_some() {
                return Err(GraphError::Duplicate(job.name.clone()));
            }
        }
        for (job, is_finally) in &written {
            for need in &job.needs {
                // A job can't wait for what waits for all jobs.
                let reachable = known.get(need.as_str()).is_some_and(|need_is_finally| *is_finally || !need_is_finally);
                if !reachable {
                    return Err(GraphError::UnknownNeed { job: job.name.clone(), need: need.clone() });
                }
            }
        }
        let makers = environments::jobs_of(pipeline);
        if makers.len() > MAX_ENVIRONMENTS {
            return Err(GraphError::TooManyEnvironments);
        }
        let (makers, publishers): (Vec<JobSpec>, Vec<JobSpec>) = makers.into_iter().unzip();
        let mut graph = Self::sorted(&written, makers, pipeline.defaults.as_ref())?;
        // Behind all others, in what is shown too.
        let publishers = publishers.into_iter().enumerate().filter(|_| publishes);
        graph.nodes.extend(publishers.map(|(place, spec)| publisher(spec, place, written.len())));
        Ok(graph)
    }

    /// Puts each job behind its needs, otherwise as written; what makes environments before all others.
    fn sorted(
        written: &[(&JobSpec, bool)],
        makers: Vec<JobSpec>,
        defaults: Option<&JobDefaults>,
    ) -> Result<Self, GraphError> {
        let mut nodes: Vec<Node> = makers.into_iter().map(maker).collect();
        let made = nodes.len();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let (mut all, mut of_matrices) = (0, 0);
        while places.len() < written.len() {
            let before = nodes.len();
            for (position, (job, is_finally)) in written.iter().enumerate() {
                if places.contains_key(&job.name) {
                    continue;
                }
                let mut needs = Vec::new();
                for need in job.needs.iter().collect::<BTreeSet<_>>() {
                    match places.get(need) {
                        Some(place) => needs.push(*place),
                        None => break,
                    }
                }
                if needs.len() < job.needs.iter().collect::<BTreeSet<_>>().len() {
                    continue;
                }
                let cells = cells_of(job)?;
                all += cells.len();
                of_matrices += if job.matrix.is_some() { cells.len() } else { 0 };
                if of_matrices > MAX_MATRIX_CELLS {
                    return Err(GraphError::TooManyCells);
                }
                if all > MAX_CELLS {
                    return Err(GraphError::TooManyInAll);
                }
                places.insert(job.name.clone(), nodes.len());
                let used = environments::used(job, defaults);
                let maker =
                    nodes.iter().take(made).position(|maker| used.is_some() && maker.spec.environment.as_ref() == used);
                let spec = JobSpec { environment: used.cloned(), ..steps::lowered(job) };
                let environment = maker.map_or(Role::None, Role::Uses);
                nodes.push(Node { spec, needs, cells, is_finally: *is_finally, position, environment });
            }
            if nodes.len() == before {
                return Err(GraphError::Cycle(circle(written, &places)));
            }
        }
        Ok(Self { nodes })
    }

    /// The jobs, each behind those it needs.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The job at this place.
    #[must_use]
    pub fn node(&self, place: usize) -> Option<&Node> {
        self.nodes.get(place)
    }

    /// How many cells in all.
    #[must_use]
    pub fn cell_count(&self) -> usize {
        self.nodes.iter().map(|node| node.cells.len()).sum()
    }
}

fn publisher(spec: JobSpec, place: usize, position: usize) -> Node {
    let cells = vec![Cell { name: spec.name.clone(), values: Vec::new() }];
    Node { spec, needs: vec![place], cells, is_finally: false, position, environment: Role::Publishes(place) }
}

fn maker(spec: JobSpec) -> Node {
    let cells = vec![Cell { name: spec.name.clone(), values: Vec::new() }];
    Node { spec, needs: Vec::new(), cells, is_finally: false, position: 0, environment: Role::Makes }
}

/// One circle among the jobs that found no place: every such job needs another such job, so following them returns.
fn circle(written: &[(&JobSpec, bool)], places: &BTreeMap<String, usize>) -> Vec<String> {
    let open: BTreeMap<&str, &JobSpec> = written
        .iter()
        .filter(|(job, _)| !places.contains_key(&job.name))
        .map(|(job, _)| (job.name.as_str(), *job))
        .collect();
    let mut path: Vec<String> = Vec::new();
    let mut here = open.keys().next().copied();
    while let Some(name) = here {
        if let Some(start) = path.iter().position(|seen| seen == name) {
            let mut found = path.split_off(start);
            found.push(name.to_owned());
            return found;
        }
        path.push(name.to_owned());
        here = open
            .get(name)
            .and_then(|job| job.needs.iter().find(|need| open.contains_key(need.as_str())))
            .map(String::as_str);
    }
    path
}

fn cells_of(job: &JobSpec) -> Result<Vec<Cell>, GraphError> {
    let Some(matrix) = &job.matrix else {
        return Ok(vec![Cell { name: job.name.clone(), values: Vec::new() }]);
    };
    let cells: Vec<Cell> = combinations(job, matrix)?
        .into_iter()
        .map(|values| {
            let shown: Vec<&str> = values.iter().map(|(_, value)| value.as_str()).collect();
            Cell { name: format!("{} ({})", job.name, shown.join(", ")), values }
        })
        .collect();
    let names: BTreeSet<&str> = cells.iter().map(|cell| cell.name.as_str()).collect();
    if names.len() < cells.len() {
        return Err(GraphError::SameCells(job.name.clone()));
    }
    Ok(cells)
}

fn combinations(job: &JobSpec, matrix: &Matrix) -> Result<Vec<Vec<(String, String)>>, GraphError> {
    let mut seen = BTreeSet::new();
    let mut combined: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for axis in &matrix.axes {
        if axis.values.is_empty() || !seen.insert(axis.name.to_ascii_uppercase()) {
            return Err(GraphError::Axis { job: job.name.clone(), axis: axis.name.clone() });
        }
        if combined.len().saturating_mul(axis.values.len()) > MAX_MATRIX_CELLS {
            return Err(GraphError::TooManyCells);
        }
        combined = combined
            .iter()
            .flat_map(|before| {
                axis.values.iter().map(move |value| {
                    let mut cell = before.clone();
                    cell.push((axis.name.clone(), value.clone()));
                    cell
                })
            })
            .collect();
    }
    Ok(combined)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::job::Axis;

    fn job(name: &str, needs: &[&str]) -> JobSpec {
        JobSpec {
            name: name.to_owned(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            run: Some("true".to_owned()),
            ..JobSpec::default()
        }
    }

    fn pipeline(jobs: Vec<JobSpec>) -> PipelineSpec {
        PipelineSpec { jobs, ..PipelineSpec::default() }
    }

    #[test]
    fn every_job_stands_behind_what_it_needs() {
        let graph = Graph::of(&pipeline(vec![job("c", &["a", "b"]), job("b", &["a"]), job("a", &[])])).unwrap();
        let names: Vec<_> = graph.nodes().iter().map(|node| node.spec.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        for (place, node) in graph.nodes().iter().enumerate() {
            assert!(node.needs.iter().all(|need| *need < place));
        }
    }

    #[test]
    fn a_circle_is_refused_with_its_path() {
        let error = Graph::of(&pipeline(vec![job("a", &["c"]), job("b", &["a"]), job("c", &["b"]), job("d", &["a"])]))
            .unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, GraphError::Cycle(path) if path.len() == 4 && path.first() == path.last()), "{text}");
        assert!(text.contains(" → "), "{text}");
    }

    #[test]
    fn unknown_needs_and_double_names_are_refused() {
        let unknown = Graph::of(&pipeline(vec![job("a", &["zebra"])])).unwrap_err();
        assert!(matches!(unknown, GraphError::UnknownNeed { .. }));
        let double = Graph::of(&pipeline(vec![job("a", &[]), job("a", &[])])).unwrap_err();
        assert!(matches!(double, GraphError::Duplicate(_)));
    }

    #[test]
    fn a_job_can_not_wait_for_a_finally_job() {
        let mut spec = pipeline(vec![job("a", &["end"])]);
        spec.finally = vec![job("end", &[])];
        assert!(matches!(Graph::of(&spec).unwrap_err(), GraphError::UnknownNeed { .. }));
    }

    #[test]
    fn a_matrix_has_one_cell_per_combination() {
        let axis = |name: &str, values: &[&str]| Axis {
            name: name.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let mut with_matrix = job("unit", &[]);
        with_matrix.matrix =
            Some(Matrix { axes: vec![axis("group", &["models", "api"]), axis("n", &["1", "2"])], ..Matrix::default() });
        let graph = Graph::of(&pipeline(vec![with_matrix.clone()])).unwrap();
        let names: Vec<_> = graph.node(0).unwrap().cells.iter().map(|cell| cell.name.clone()).collect();
        assert_eq!(names, ["unit (models, 1)", "unit (models, 2)", "unit (api, 1)", "unit (api, 2)"]);
    }

    /// A job with a matrix of so many cells.
    fn wide(name: &str, cells: usize) -> JobSpec {
        let values = (0..cells).map(|number| number.to_string()).collect();
        let axes = vec![Axis { name: "w".to_owned(), values }];
        JobSpec { matrix: Some(Matrix { axes, ..Matrix::default() }), ..job(name, &[]) }
    }

    #[test]
    fn matrices_have_256_cells_and_no_more() {
        let graph = Graph::of(&pipeline(vec![job("smoke", &[]), wide("unit", 256)])).unwrap();
        assert_eq!(graph.cell_count(), 257, "a job beside them is none of them");
        let mut two_axes = wide("unit", 129);
        let axes = &mut two_axes.matrix.as_mut().unwrap().axes;
        axes.push(Axis { name: "n".to_owned(), values: vec!["1".to_owned(), "2".to_owned()] });
        for jobs in [vec![wide("unit", 257)], vec![wide("a", 200), wide("b", 57)], vec![two_axes]] {
            let error = Graph::of(&pipeline(jobs)).unwrap_err();
            assert_eq!(error, GraphError::TooManyCells);
            assert!(error.to_string().contains("the matrices have more than 256 cells together"), "{error}");
        }
    }

    #[test]
    fn jobs_and_cells_are_together_no_more_than_the_status_holds() {
        let with = |plain: usize| {
            let plain = (0..plain).map(|number| job(&format!("j{number}"), &[]));
            Graph::of(&pipeline(plain.chain([wide("unit", 256)]).collect()))
        };
        assert_eq!(with(16).unwrap().cell_count(), MAX_CELLS);
        let error = with(17).unwrap_err();
        assert_eq!(error, GraphError::TooManyInAll);
        assert!(error.to_string().contains("more than 272 together"), "{error}");
    }
}
