#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

/// A run with one pod whose command stands so; the pod has this metadata too.
fn observed(state: Value, metadata: Value, is_plain: bool, standing: Option<Standing>) -> Observed {
    let run =
        json!({"metadata": {"name": "run-1", "namespace": "ci", "uid": "u"}, "spec": {"pipelineRef": {"name": "p"}}});
    let mut observed = Observed::alone(serde_json::from_value(run).unwrap());
    let marks = if is_plain { json!({names::PLAIN_ANNOTATION: "true"}) } else { json!({}) };
    let job = json!({"metadata": {"name": "run-1-0123456789", "namespace": "ci", "uid": "j", "annotations": marks}});
    observed.jobs = vec![serde_json::from_value(job).unwrap()];
    let owner =
        json!({"apiVersion": "batch/v1", "kind": "Job", "name": "run-1-0123456789", "uid": "j", "controller": true});
    let mut own =
        json!({"name": "run-1-0123456789-abcde", "namespace": "ci", "uid": "pod", "ownerReferences": [owner]});
    own.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    let pod = json!({
        "metadata": own, "spec": {"nodeName": "n", "containers": [{"name": MAIN}]},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": MAIN, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]},
    });
    observed.pods = vec![serde_json::from_value(pod).unwrap()];
    observed.logs = Some(standing.map(|standing| ("j".to_owned(), standing)).into_iter().collect());
    observed
}

fn plain(state: Value, standing: Option<Standing>) -> Observed {
    observed(state, json!({}), true, standing)
}

fn running() -> Value {
    json!({"running": {"startedAt": at(0).to_string()}})
}

fn ended(reason: &str) -> Value {
    json!({"terminated": {"exitCode": 1, "reason": reason, "startedAt": at(0).to_string(), "finishedAt": at(10).to_string()}})
}

fn looks(logs: &PlainLogs) -> Vec<Look> {
    let looks = logs
        .effects
        .iter()
        .filter_map(|effect| if let Effect::KeepLog(wanted) = effect { Some(wanted.look) } else { None });
    looks.collect()
}

fn kept(look: Look, second: i64) -> Option<Standing> {
    Some(Standing::Kept { look, at: at(second) })
}

fn failed(look: Look, tries: u32, second: i64) -> Option<Standing> {
    Some(Standing::Failed { look, at: at(second), tries, why: "the store answered 507".to_owned() })
}

const fn seconds(count: u64) -> Option<Duration> {
    Some(Duration::from_secs(count))
}

#[test]
fn the_log_of_a_running_command_is_kept_once_a_minute() {
    let early = PlainLogs::of(&plain(running(), None), at(20));
    assert_eq!((looks(&early), early.next, early.pending), (vec![], seconds(40), false));
    let due = PlainLogs::of(&plain(running(), None), at(60));
    assert_eq!((looks(&due), due.next, due.pending), (vec![Look::Passing], seconds(60), false));
    for standing in [kept(Look::Passing, 60), failed(Look::Passing, 9, 60)] {
        let again = PlainLogs::of(&plain(running(), standing.clone()), at(100));
        assert_eq!((looks(&again), again.next), (vec![], seconds(20)));
        assert_eq!(looks(&PlainLogs::of(&plain(running(), standing), at(120))), [Look::Passing]);
    }
    let under_way = PlainLogs::of(&plain(running(), Some(Standing::UnderWay)), at(500));
    assert_eq!(looks(&under_way), []);
}

#[test]
fn the_log_of_a_command_that_ended_is_awaited_until_it_is_kept() {
    for standing in [None, kept(Look::Passing, 5), failed(Look::Passing, 2, 9)] {
        let logs = PlainLogs::of(&plain(ended("Error"), standing), at(10));
        assert_eq!((looks(&logs), logs.pending, logs.under_way), (vec![Look::Final], true, vec!["j".to_owned()]));
    }
    let under_way = PlainLogs::of(&plain(ended("Error"), Some(Standing::UnderWay)), at(10));
    assert_eq!((looks(&under_way), under_way.pending, under_way.under_way.len()), (vec![], true, 1));
    let done = PlainLogs::of(&plain(ended("Error"), kept(Look::Final, 11)), at(11));
    assert_eq!((looks(&done), done.pending, done.next), (vec![], false, None));
}

#[test]
fn a_log_that_can_t_be_kept_is_tried_three_times_and_then_given_up() {
    let standing = failed(Look::Final, 2, 12);
    let paused = PlainLogs::of(&plain(ended("Error"), standing.clone()), at(13));
    // Nothing is under way: who waited for it would be woken at once, over and over.
    assert_eq!((looks(&paused), paused.pending, paused.under_way.len(), paused.next), (vec![], true, 0, seconds(4)));
    assert_eq!(looks(&PlainLogs::of(&plain(ended("Error"), standing), at(17))), [Look::Final]);
    let mut observed = plain(ended("Error"), failed(Look::Final, 3, 20));
    let given_up = PlainLogs::of(&observed, at(20));
    let why = "the store answered 507".to_owned();
    let effect = Effect::GiveUpLog { job: "run-1-0123456789".to_owned(), why: why.clone() };
    assert_eq!((given_up.effects, given_up.pending, given_up.next), (vec![effect], true, seconds(0)));
    // Written down: also for an operator that starts anew.
    assert!(owes_log(&observed.jobs[0], observed.logs.as_ref()));
    observed.jobs[0].annotations_mut().insert(names::LOG_ANNOTATION.to_owned(), why);
    observed.logs = Some(BTreeMap::new());
    let over = PlainLogs::of(&observed, at(21));
    assert_eq!((over.effects, over.pending, over.next), (vec![], false, None));
    assert!(!owes_log(&observed.jobs[0], observed.logs.as_ref()));
}

#[test]
fn a_pod_is_of_use_until_its_log_is_kept_as_it_was_at_its_end() {
    for standing in [None, kept(Look::Passing, 5), failed(Look::Final, 1, 9), Some(Standing::UnderWay)] {
        let observed = plain(ended("Error"), standing);
        assert!(owes_log(&observed.jobs[0], observed.logs.as_ref()));
    }
    let done = plain(ended("Error"), kept(Look::Final, 9));
    assert!(!owes_log(&done.jobs[0], done.logs.as_ref()));
    let with_agent = observed(ended("Error"), json!({}), false, None);
    assert!(!owes_log(&with_agent.jobs[0], with_agent.logs.as_ref()) && !owes_log(&done.jobs[0], None));
}

#[test]
fn a_pod_that_is_being_taken_away_is_looked_at_once_more_and_holds_nothing_up() {
    let deleted = |standing| {
        let metadata = json!({"deletionTimestamp": at(40).to_string(), "deletionGracePeriodSeconds": 20});
        PlainLogs::of(&observed(running(), metadata, true, standing), at(21))
    };
    for standing in [None, kept(Look::Passing, 20)] {
        let logs = deleted(standing);
        assert_eq!((looks(&logs), logs.pending), (vec![Look::Parting], false));
    }
    for standing in [Some(Standing::UnderWay), kept(Look::Parting, 21), failed(Look::Parting, 1, 21)] {
        let logs = deleted(standing);
        assert_eq!((looks(&logs), logs.pending, logs.next), (vec![], false, None));
    }
}

#[test]
fn pods_with_the_agent_and_commands_that_never_ran_are_left_alone() {
    let logs = PlainLogs::of(&observed(ended("Error"), json!({}), false, None), at(10));
    assert!(logs.effects.is_empty() && !logs.pending);
    let never = PlainLogs::of(&plain(ended("StartError"), None), at(10));
    assert!(never.effects.is_empty() && !never.pending);
    let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
    assert!(PlainLogs::of(&plain(waiting, None), at(500)).effects.is_empty());
}

#[test]
fn without_a_token_for_the_store_nothing_is_kept_and_nothing_waits() {
    let mut observed = plain(ended("Error"), None);
    observed.logs = None;
    let logs = PlainLogs::of(&observed, at(10));
    assert!(logs.effects.is_empty() && !logs.pending);
}
