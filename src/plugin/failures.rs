//! The failed and the flaky tests of a run, and the command that repeats them on the developer's machine.

use kube::ResourceExt;
use serde::Deserialize;

use super::Context;
use super::store::{Store, StoreError};
use super::text::shell_word;
use crate::api::artifacts;
use crate::api::run::{FailureClass, JobPhase, JobStatus, PipelineRun};

/// The longest summary that is read, in bytes: a collector names at most 200 tests in it.
const MAX_SUMMARY_BYTES: usize = 4 << 20;
/// Of how many jobs the tests are looked up.
const MAX_JOBS: usize = 8;
/// How many tests one command repeats.
const MAX_REPEATED: usize = 20;

/// A job with tests that failed, for good or before they passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedJob {
    /// The job's name.
    pub name: String,
    /// The tests that failed, or why these and the flaky ones are not known.
    pub tests: Result<Vec<FailedTest>, String>,
    /// Those that failed, then passed when only the failed ones were run again; with what they said when they failed.
    pub flaky: Vec<FailedTest>,
}

/// One failed test, as JUnit names it: written by the job, so anything may stand in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FailedTest {
    /// Its name.
    pub name: String,
    /// Module and class, with dots between them.
    #[serde(alias = "class", alias = "className")]
    pub classname: Option<String>,
    /// The file, relative to the repository.
    pub file: Option<String>,
    /// What it said.
    pub message: String,
}

/// What a collector leaves in the store; only what is used here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Summary {
    failures: Vec<FailedTest>,
    flaky: Vec<FailedTest>,
}

impl FailedTest {
    /// Module and class, and the test's own name. The collector writes both into one: `tests.test_models::test_name`.
    fn split(&self) -> (&str, &str) {
        match (self.classname.as_deref(), self.name.split_once("::")) {
            (Some(classname), _) => (classname, &self.name),
            (None, Some(parts)) => parts,
            (None, None) => ("", &self.name),
        }
    }

    /// pytest's name for it: `tests/test_models.py::TestUser::test_name`. `None`: it can't be told, or not safely.
    #[must_use]
    pub fn node_id(&self) -> Option<String> {
        let (classname, name) = self.split();
        let parts: Vec<&str> = classname.split('.').collect();
        let is_class = |part: &&&str| part.starts_with(|first: char| first.is_ascii_uppercase());
        let classes = parts.iter().rev().take_while(is_class).count();
        let (modules, classes) = parts.split_at(parts.len() - classes);
        let file = match self.file.as_deref().filter(|file| !file.is_empty()) {
            Some(file) => file.to_owned(),
            None if !modules.is_empty() && modules.iter().all(|module| is_identifier(module)) => {
                format!("{}.py", modules.join("/"))
            }
            None => return None,
        };
        let mut id = file;
        for class in classes {
            id = format!("{id}::{class}");
        }
        id = format!("{id}::{name}");
        // As an argument it must not be taken for an option.
        let safe = !id.starts_with('-') && !name.is_empty();
        safe.then_some(id).filter(|id| shell_word(id).is_some())
    }

    /// How it is shown.
    #[must_use]
    pub fn title(&self) -> String {
        self.node_id().unwrap_or_else(|| self.name.clone())
    }
}

fn is_identifier(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|character| character.is_alphanumeric() || character == '_')
}

impl FailedJob {
    /// The command that runs these tests again, ready to be pasted. `None`: no test's name can be used in one.
    #[must_use]
    pub fn repeat_command(&self) -> Option<String> {
        let tests = self.tests.as_ref().ok()?;
        let some = || tests.iter().take(MAX_REPEATED);
        let ids: Vec<String> = some().filter_map(FailedTest::node_id).filter_map(|id| shell_word(&id)).collect();
        if !ids.is_empty() {
            return Some(format!("python -m pytest {}", ids.join(" ")));
        }
        let stem = |test: &FailedTest| test.split().1.split('[').next().unwrap_or_default().to_owned();
        let mut names: Vec<String> = some().map(stem).filter(|name| is_identifier(name)).collect();
        names.dedup();
        let expression = shell_word(&names.join(" or ")).filter(|_| !names.is_empty())?;
        Some(format!("python -m pytest -k {expression}"))
    }
}

/// The failed and flaky tests of the run's jobs, from the artifact store.
pub(super) async fn failed_tests(context: &Context, run: &PipelineRun) -> Vec<FailedJob> {
    let jobs = run.status.as_ref().map(|status| status.jobs.as_slice()).unwrap_or_default();
    let has_failed = |job: &&JobStatus| job.phase == JobPhase::Failed && job.failure == Some(FailureClass::TestFailure);
    let is_flaky = |job: &&JobStatus| job.flaky.is_some_and(|flaky| flaky > 0);
    // What stayed red comes first, should there be too many.
    let (red, green): (Vec<&JobStatus>, Vec<&JobStatus>) =
        jobs.iter().filter(|job| has_failed(job) || is_flaky(job)).partition(has_failed);
    let failed = red.into_iter().chain(green).filter_map(|job| Some((job.name.as_str(), job.job.as_deref()?)));
    let mut found = Vec::new();
    let mut store = None;
    for (name, job) in failed.take(MAX_JOBS) {
        let tests = match &store {
            Some(known) => read(known, context, run, job).await,
            None => match context.store(run).await {
                Ok(first) => read(store.insert(first), context, run, job).await,
                Err(error) => Err(error),
            },
        };
        let unreachable = tests.is_err();
        let (tests, flaky) = match tests {
            Ok(summary) => (Ok(summary.failures), summary.flaky),
            Err(error) => (Err(error.to_string()), Vec::new()),
        };
        found.push(FailedJob { name: name.to_owned(), tests, flaky });
        // The next one would wait as long for the same answer.
        if unreachable {
            break;
        }
    }
    found
}

async fn read(store: &Store, context: &Context, run: &PipelineRun, job: &str) -> Result<Summary, StoreError> {
    let names = [context.namespace.as_str(), &run.name_any(), job, artifacts::SUMMARY];
    let text = store.read(names, MAX_SUMMARY_BYTES).await?;
    serde_json::from_slice(&text).map_err(|error| StoreError::Content(error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn test(classname: Option<&str>, name: &str) -> FailedTest {
        let classname = classname.map(str::to_owned);
        FailedTest { name: name.to_owned(), classname, ..FailedTest::default() }
    }

    #[rstest]
    #[case(Some("tests.test_models.TestUser"), "test_a[1-x]", Some("tests/test_models.py::TestUser::test_a[1-x]"))]
    #[case(Some("tests.test_models"), "test_a", Some("tests/test_models.py::test_a"))]
    #[case(Some("tests.test_m.TestA.TestB"), "t", Some("tests/test_m.py::TestA::TestB::t"))]
    #[case(Some("TestA"), "t", None)]
    #[case(Some("../../etc"), "t", None)]
    #[case(Some("tests.test_m"), "", None)]
    #[case(Some("tests.test_m"), "t\n; reboot", None)]
    #[case(Some("-p"), "evil", None)]
    #[case(None, "t", None)]
    #[case(None, "tests.test_m.TestA::t[a::b]", Some("tests/test_m.py::TestA::t[a::b]"))]
    #[case(None, "::t", None)]
    #[case(None, "tests.test_m::", None)]
    fn a_tests_name_becomes_pytests_or_nothing(
        #[case] classname: Option<&str>,
        #[case] name: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(test(classname, name).node_id().as_deref(), expected);
    }

    #[test]
    fn a_file_that_looks_like_an_option_is_not_passed_on() {
        let hostile = FailedTest { file: Some("--pdbcls=evil".to_owned()), ..test(None, "t") };
        assert_eq!(hostile.node_id(), None);
    }

    #[test]
    fn what_is_pasted_is_one_word_for_each_test_and_never_a_command() {
        let tests = vec![test(Some("tests.test_a"), "t['; rm -rf ~ #]"), test(Some("tests.test_b.TestB"), "t")];
        let job = FailedJob { name: "unit".to_owned(), tests: Ok(tests), flaky: Vec::new() };
        assert_eq!(
            job.repeat_command().unwrap(),
            r"python -m pytest 'tests/test_a.py::t['\''; rm -rf ~ #]' tests/test_b.py::TestB::t"
        );
    }

    #[rstest]
    #[case(&["test_a", "test_b[x]"], Some("python -m pytest -k 'test_a or test_b'"))]
    #[case(&["test_a"], Some("python -m pytest -k test_a"))]
    #[case(&["__import__('os')"], None)]
    #[case(&[], None)]
    fn without_files_tests_are_repeated_by_name(#[case] names: &[&str], #[case] expected: Option<&str>) {
        let tests = names.iter().map(|name| test(None, name)).collect();
        let job = FailedJob { name: "unit".to_owned(), tests: Ok(tests), flaky: Vec::new() };
        assert_eq!(job.repeat_command().as_deref(), expected);
    }

    #[test]
    fn a_summary_may_say_more_or_less_than_is_known_here() {
        let summary: Summary =
            serde_json::from_str(r#"{"tests":{"passed":1},"failures":[{"name":"t","seconds":3}]}"#).unwrap();
        assert_eq!(summary.failures, [test(None, "t")]);
    }
}
