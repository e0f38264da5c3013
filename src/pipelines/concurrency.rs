//! Groups of runs that exclude each other.
//!
//! A run says by a label which group it belongs to, before it begins. Who may begin follows from the unfinished runs
//! with that label, in the order of their creation; nothing is kept anywhere else.

use jiff::Timestamp;
use kube::ResourceExt;

use super::expressions::{Expression, ExpressionError, Facts, Kind, Scope, compile};
use super::names;
use super::parameters::Refusal;
use crate::api::conditions::printable;
use crate::api::pipeline::{Concurrency, ParamSpec, Parameters};
use crate::api::run::PipelineRun;

/// The longest name of a group, in bytes.
const MAX_GROUP: usize = 1024;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// As the expression gave it, shortened for messages.
    pub shown: String,
    /// The label's value.
    pub hash: String,
}

impl Group {
    /// The group of a run.
    ///
    /// # Errors
    /// When the expression can't be used or has no value.
    pub fn of(
        concurrency: &Concurrency,
        declared: &[ParamSpec],
        values: &Parameters,
        run: &PipelineRun,
    ) -> Result<Self, Refusal> {
        let facts = Facts {
            parameters: Some(values),
            revision: run.spec.revision.as_ref(),
            event: names::event(run),
            ..Facts::default()
        };
        let broken = |why: String| Refusal::Group { why };
        let expression = expression(concurrency, declared).map_err(|why| broken(why.to_string()))?;
        let name = expression.text(&facts).map_err(|why| broken(why.to_string()))?;
        if name.len() > MAX_GROUP {
            return Err(broken(format!("the group's name has {} bytes, at most {MAX_GROUP} are possible", name.len())));
        }
        let hash = names::short_hash(&[&run.spec.pipeline_ref.name, &name]);
        Ok(Self { shown: printable(&name, 60), hash })
    }
}

/// The expression, checked.
fn expression(concurrency: &Concurrency, declared: &[ParamSpec]) -> Result<Expression, ExpressionError> {
    // The commit of a branch is read by a Job of the run: after its turn has come.
    let scope = Scope { parameters: declared, commit: false, ..Scope::default() };
    compile(&concurrency.group, Kind::Text, &scope)
}

/// Another unfinished run of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// Whether it has begun.
    pub begun: bool,
    /// Whether it was told to end for a newer one.
    pub superseded: bool,
}

impl Rival {
    /// Of a run, decoded or not; `None` when it is over.
    #[must_use]
    pub fn of(run: &impl ResourceExt) -> Option<Self> {
        let annotations = run.annotations();
        (!annotations.contains_key(names::OUTCOME_ANNOTATION)).then(|| Self {
            name: run.name_any(),
            created: created(run),
            begun: annotations.contains_key(names::STARTED_ANNOTATION),
            superseded: annotations.contains_key(names::SUPERSEDED_ANNOTATION),
        })
    }
}

fn created(run: &impl ResourceExt) -> Timestamp {
    run.creation_timestamp().map_or(Timestamp::MIN, |time| time.0)
}

/// What a run that has not begun does about its rivals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It begins.
    Begin,
    /// It waits for that run.
    Wait(String),
    /// It tells these to end, and waits for the last of them.
    Replace(Vec<String>),
    /// It never begins: that newer run is there.
    Superseded(String),
}

impl Turn {
    /// The run's turn among its rivals. Of two created in the same second the name decides.
    #[must_use]
    pub fn of(run: &PipelineRun, rivals: &[Rival], cancel_in_progress: bool) -> Self {
        let place = |rival: &Rival| (rival.created, rival.name.clone());
        let own = (created(run), run.name_any());
        let going = rivals.iter().filter(|rival| rival.begun).min_by_key(|rival| place(rival));
        if !cancel_in_progress {
            let ahead =
                rivals.iter().filter(|rival| !rival.begun && place(rival) < own).min_by_key(|rival| place(rival));
            return going.or(ahead).map_or(Self::Begin, |rival| Self::Wait(rival.name.clone()));
        }
        let newest = rivals.iter().filter(|rival| place(rival) > own).max_by_key(|rival| place(rival));
        if let Some(newer) = newest {
            return Self::Superseded(newer.name.clone());
        }
        let told = rivals.iter().filter(|rival| rival.begun && !rival.superseded);
        let told: Vec<String> = told.map(|rival| rival.name.clone()).collect();
        match going {
            None => Self::Begin,
            Some(rival) if told.is_empty() => Self::Wait(rival.name.clone()),
            Some(_) => Self::Replace(told),
        }
    }
}

/// Checks a pipeline's group before a run of it begins.
///
/// # Errors
/// When the expression can't be used.
pub fn check(concurrency: &Concurrency, declared: &[ParamSpec]) -> Result<(), ExpressionError> {
    expression(concurrency, declared).map(|_| ())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(name: &str, second: i64) -> PipelineRun {
        let created = Timestamp::from_second(1_767_225_600 + second).unwrap().to_string();
        let metadata = json!({"name": name, "namespace": "ns", "creationTimestamp": created});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"pipelineRef": {"name": "p"}}})).unwrap()
    }

    fn rival(name: &str, second: i64, begun: bool) -> Rival {
        Rival { begun, ..Rival::of(&run(name, second)).unwrap() }
    }

    #[test]
    fn runs_take_their_turn_in_the_order_of_creation() {
        let of = |rivals: &[Rival]| Turn::of(&run("m", 10), rivals, false);
        assert_eq!(of(&[]), Turn::Begin);
        assert_eq!(of(&[rival("a", 5, false), rival("b", 3, false)]), Turn::Wait("b".to_owned()));
        assert_eq!(of(&[rival("z", 20, false)]), Turn::Begin);
        assert_eq!(of(&[rival("z", 20, true)]), Turn::Wait("z".to_owned()), "what runs is never joined");
        assert_eq!(of(&[rival("a", 10, false)]), Turn::Wait("a".to_owned()), "the same second: by name");
        assert_eq!(of(&[rival("z", 10, false)]), Turn::Begin);
    }

    #[test]
    fn with_cancel_in_progress_the_newest_replaces_all_others() {
        let of = |rivals: &[Rival]| Turn::of(&run("m", 10), rivals, true);
        assert_eq!(of(&[rival("a", 5, true)]), Turn::Replace(vec!["a".to_owned()]));
        let told = Rival { superseded: true, ..rival("a", 5, true) };
        assert_eq!(of(&[told]), Turn::Wait("a".to_owned()));
        assert_eq!(of(&[rival("a", 5, false)]), Turn::Begin, "what has not begun ends by itself");
        assert_eq!(of(&[rival("a", 5, true), rival("z", 20, false)]), Turn::Superseded("z".to_owned()));
        assert_eq!(of(&[rival("z", 10, false)]), Turn::Superseded("z".to_owned()));
    }

    #[test]
    fn a_group_is_of_one_pipeline_and_one_name() {
        let concurrency = |group: &str| Concurrency { group: group.to_owned(), cancel_in_progress: false };
        let of = |group: &str, run: &PipelineRun| Group::of(&concurrency(group), &[], &Parameters::new(), run);
        let one = run("a", 0);
        let mut other = run("b", 0);
        assert_eq!(of("event + '-x'", &one).unwrap(), of("'Manual-x'", &other).unwrap());
        other.spec.pipeline_ref.name = "q".to_owned();
        assert_ne!(of("'x'", &one).unwrap(), of("'x'", &other).unwrap());
        assert!(of("revision.commit", &one).unwrap_err().to_string().contains("revision.commit"));
        assert!(of("true", &one).unwrap_err().to_string().contains("a text is needed"));
    }
}
