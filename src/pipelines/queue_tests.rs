#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

fn waiting(namespace: &str, name: &str, since: i64, jobs: u32) -> Waiting {
    let mark = Mark { since: at(since), jobs, seen: at(since) };
    Waiting { namespace: namespace.to_owned(), name: name.to_owned(), mark }
}

fn limits(jobs: u32, jobs_per_namespace: u32) -> Limits {
    Limits { jobs, jobs_per_namespace, ..Limits::default() }
}

fn queue(busy: &[(&str, u32)], waiting: &[Waiting]) -> Queue {
    let named = |jobs: &u32| (0..*jobs).map(|number| format!("job-{number}")).collect();
    let busy = busy.iter().map(|(namespace, jobs)| ((*namespace).to_owned(), named(jobs))).collect();
    Queue { busy, waiting: waiting.to_vec() }
}

fn freed(jobs: &[&str]) -> BTreeSet<String> {
    jobs.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn within_a_namespace_the_run_that_waits_longest_is_next() {
    let (old, new) = (waiting("a", "old", 0, 3), waiting("a", "new", 5, 3));
    let queue = queue(&[("a", 8)], &[old.clone(), new.clone()]);
    let of = |own: &Waiting| queue.grant(own, &freed(&[]), &limits(20, 10), at(10));
    assert_eq!(of(&old).jobs, 2);
    assert_eq!(of(&new), Grant { jobs: 0, ahead: 1, namespace_is_full: true });
    assert!(of(&new).why(&limits(20, 10)).contains("1 run is before it"));
}

#[test]
fn a_namespace_with_many_jobs_does_not_keep_another_from_its_turn() {
    let (crowd, single) = (waiting("crowd", "r", 0, 100), waiting("small", "r", 50, 1));
    let queue = queue(&[("crowd", 19)], &[crowd.clone(), single.clone()]);
    let of = |own: &Waiting| queue.grant(own, &freed(&[]), &limits(20, 30), at(60)).jobs;
    assert_eq!((of(&single), of(&crowd)), (1, 0));
}

#[test]
fn a_full_namespace_keeps_no_room_from_others() {
    let (full, other) = (waiting("full", "r", 0, 100), waiting("other", "r", 50, 2));
    let queue = queue(&[("full", 10)], &[full, other.clone()]);
    assert_eq!(queue.grant(&other, &freed(&[]), &limits(12, 10), at(60)).jobs, 2);
}

#[test]
fn room_is_not_kept_for_a_run_that_is_not_looked_after_any_more() {
    let (lost, own) = (waiting("a", "lost", 0, 100), waiting("a", "own", 700, 1));
    let queue = queue(&[], &[lost]);
    assert_eq!(queue.grant(&own, &freed(&[]), &limits(1, 1), at(701)).jobs, 1);
}

#[test]
fn what_just_ended_makes_room_at_once() {
    let own = waiting("a", "own", 0, 2);
    assert_eq!(queue(&[("a", 1)], &[]).grant(&own, &freed(&["job-0"]), &limits(1, 1), at(0)).jobs, 1);
}

#[test]
fn what_took_no_room_any_more_makes_none() {
    let own = waiting("a", "own", 0, 2);
    let queue = queue(&[("a", 1), ("b", 1)], &[]);
    assert_eq!(queue.grant(&own, &freed(&["ended"]), &limits(2, 2), at(0)).jobs, 0);
    assert_eq!(
        queue.grant(&own, &freed(&["ended", "job-0"]), &limits(2, 2), at(0)).jobs,
        1,
        "only its own namespace's"
    );
}

#[test]
fn a_mark_keeps_its_place_and_is_renewed_seldom() {
    let mark = Mark::renewed(None, 3, at(0));
    assert_eq!(Mark::renewed(Some(&mark), 3, at(299)), mark);
    let renewed = Mark::renewed(Some(&mark), 3, at(300));
    assert_eq!((renewed.since, renewed.seen), (at(0), at(300)));
}

fn entries() -> impl Strategy<Value = Vec<Waiting>> {
    let one = (prop::sample::select(vec!["a", "b", "c"]), 0..50i64, 1..20u32);
    prop::collection::vec(one, 1..8).prop_map(|all| {
        let named = all.into_iter().enumerate();
        named.map(|(place, (namespace, since, jobs))| waiting(namespace, &format!("r{place}"), since, jobs)).collect()
    })
}

proptest! {
    #[test]
    fn all_grants_together_keep_both_limits_and_leave_no_room_unused(
        entries in entries(),
        busy in prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c"]), 0..12u32, 0..3),
        jobs in 1..25u32,
        per_namespace in 1..12u32,
    ) {
        let busy: Vec<(&str, u32)> = busy.into_iter().collect();
        let queue = queue(&busy, &entries);
        let limits = limits(jobs, per_namespace);
        let grants: Vec<u32> = entries.iter().map(|own| queue.grant(own, &freed(&[]), &limits, at(60)).jobs).collect();
        let free = jobs.saturating_sub(busy.iter().map(|(_, jobs)| jobs).sum());
        prop_assert!(grants.iter().sum::<u32>() <= free);
        let mut usable = 0;
        for namespace in ["a", "b", "c"] {
            let served = busy.iter().find(|(name, _)| *name == namespace).map_or(0, |(_, jobs)| *jobs);
            let here = |one: &&(&Waiting, &u32)| one.0.namespace == namespace;
            let pairs: Vec<_> = entries.iter().zip(&grants).collect();
            let granted: u32 = pairs.iter().filter(here).map(|(_, granted)| **granted).sum();
            let wanted: u32 = pairs.iter().filter(here).map(|(one, _)| one.mark.jobs).sum();
            prop_assert!(granted == 0 || served + granted <= per_namespace);
            usable += wanted.min(per_namespace.saturating_sub(served));
        }
        prop_assert_eq!(grants.iter().sum::<u32>(), usable.min(free));
    }
}
