//! Whom a run wakes when it gives something free: room for Jobs, the turn in its concurrency group, or an environment.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;

use super::names;
use super::queue::Waiting;
use crate::api::run::PipelineRun;

/// The most namespaces of which a run is woken, and the most runs that are woken for an environment.
const MOST: usize = 8;

/// The runs to be woken, by namespace and name: those whose turn it may be. All others look by themselves, less often.
pub fn woken<'a>(changed: &PipelineRun, all: impl Iterator<Item = &'a PipelineRun> + Clone) -> Vec<(String, String)> {
    let mut first: BTreeMap<String, Waiting> = BTreeMap::new();
    for waiting in all.clone().filter_map(Waiting::of) {
        match first.get(&waiting.namespace) {
            Some(before) if (before.mark.since, &before.name) <= (waiting.mark.since, &waiting.name) => {}
            Some(_) | None => {
                first.insert(waiting.namespace.clone(), waiting);
            }
        }
    }
    let mut heads: Vec<Waiting> = first.into_values().collect();
    heads.sort_by_key(|waiting| waiting.mark.since);
    let mut woken: Vec<(String, String)> =
        heads.into_iter().take(MOST).map(|waiting| (waiting.namespace, waiting.name)).collect();
    woken.extend(followers(changed, all.clone()));
    woken.extend(next_of_group(changed, all));
    woken
}

/// The runs that wait for an environment that the changed one makes.
fn followers<'a>(
    changed: &PipelineRun,
    all: impl Iterator<Item = &'a PipelineRun>,
) -> impl Iterator<Item = (String, String)> {
    let (namespace, name) = (changed.namespace().unwrap_or_default(), changed.name_any());
    let follows = move |run: &&PipelineRun| {
        run.annotations().get(names::FOLLOWS_ANNOTATION) == Some(&name) && run.namespace().as_ref() == Some(&namespace)
    };
    let following: Vec<_> = all.filter(follows).take(MOST).map(|run| (run.namespace(), run.name_any())).collect();
    following.into_iter().map(|(namespace, name)| (namespace.unwrap_or_default(), name))
}

/// The oldest and the newest run of the group that have not begun: one of them is next.
fn next_of_group<'a>(
    changed: &PipelineRun,
    all: impl Iterator<Item = &'a PipelineRun>,
) -> impl Iterator<Item = (String, String)> {
    let group = changed.labels().get(names::GROUP_LABEL);
    let mut members: Vec<&PipelineRun> = all
        .filter(|run| group.is_some() && run.labels().get(names::GROUP_LABEL) == group)
        .filter(|run| run.namespace() == changed.namespace() && run.name_any() != changed.name_any())
        .filter(|run| {
            let marks = [names::STARTED_ANNOTATION, names::OUTCOME_ANNOTATION];
            marks.iter().all(|mark| !run.annotations().contains_key(*mark))
        })
        .collect();
    let created = |run: &&PipelineRun| run.creation_timestamp().map_or(Timestamp::MIN, |time| time.0);
    members.sort_by_key(|run| (created(run), run.name_any()));
    let newest = members.last().copied().filter(|_| members.len() > 1);
    let ends = [members.first().copied(), newest];
    ends.into_iter()
        .flatten()
        .map(|run| (run.namespace().unwrap_or_default(), run.name_any()))
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(
        namespace: &str,
        name: &str,
        second: i64,
        labels: serde_json::Value,
        marks: serde_json::Value,
    ) -> PipelineRun {
        let created = Timestamp::from_second(1_767_225_600 + second).unwrap().to_string();
        let metadata = json!({"name": name, "namespace": namespace, "creationTimestamp": created, "labels": labels,
            "annotations": marks});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"pipelineRef": {"name": "p"}}})).unwrap()
    }

    fn waits(namespace: &str, name: &str, second: i64) -> PipelineRun {
        let since = Timestamp::from_second(1_767_225_600 + second).unwrap().to_string();
        let mark = json!({"since": since, "jobs": 1, "seen": since}).to_string();
        run(namespace, name, 0, json!({}), json!({names::WAITING_ANNOTATION: mark}))
    }

    #[test]
    fn the_run_that_waits_longest_in_each_namespace_is_woken() {
        let all = [waits("a", "late", 9), waits("a", "early", 3), waits("b", "r", 5)];
        let changed = run("a", "x", 0, json!({}), json!({}));
        let names: Vec<String> = woken(&changed, all.iter()).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["early", "r"]);
    }

    #[test]
    fn runs_that_wait_for_an_environment_are_woken_by_the_one_that_makes_it() {
        let follows = |namespace: &str, name: &str, run: &str| {
            self::run(namespace, name, 0, json!({}), json!({names::FOLLOWS_ANNOTATION: run}))
        };
        let all = [follows("a", "one", "maker"), follows("a", "two", "other"), follows("b", "three", "maker")];
        let changed = run("a", "maker", 0, json!({}), json!({}));
        assert_eq!(woken(&changed, all.iter()), [("a".to_owned(), "one".to_owned())]);
    }

    #[test]
    fn of_a_group_the_oldest_and_the_newest_that_wait_are_woken() {
        let group = json!({names::GROUP_LABEL: "g"});
        let member = |name: &str, second| run("a", name, second, group.clone(), json!({}));
        let begun = run("a", "begun", 1, group.clone(), json!({names::STARTED_ANNOTATION: "x"}));
        let all = [member("second", 2), member("third", 3), member("fourth", 4), begun];
        let names: Vec<String> = woken(&member("x", 0), all.iter()).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["second", "fourth"]);
    }
}
