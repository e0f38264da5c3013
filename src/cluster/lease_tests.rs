//! One operator among others, against an API server that answers as the tests say. The clock stands still while they
//! think.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::future::pending;

use serde_json::{Value, json};
use tokio::time::advance;

use super::*;
use crate::cluster::fake::{Asked, FakeApi};
use crate::cluster::{ActError, Cluster, Target, Write};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/operator";

fn keeper(client: Client) -> (Keeper, Leadership) {
    Keeper::new(client, "ns", "operator", "us")
}

fn held_by(holder: &str, version: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "operator", "namespace": "ns", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3,
            "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:10.000000Z"},
    })
}

/// The next request, which must be a read of the Lease.
async fn read(api: &mut FakeApi) -> Asked {
    let asked = api.next().await;
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", LEASE));
    asked
}

/// The next request, which must be a write of the Lease, accepted.
async fn accept(api: &mut FakeApi) -> Value {
    let asked = api.next().await;
    assert!(["POST", "PUT"].contains(&asked.method.as_str()), "{}", asked.method);
    let body = asked.body.clone();
    asked.answer(200, &body);
    body
}

async fn is_led(leadership: &Leadership) -> bool {
    // Lets the keeper take in the last answer.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    leadership.left().is_some()
}

fn with_term(left: Duration) -> Leadership {
    let leadership = Leadership::alone();
    *leadership.until.lock().unwrap() = Some(Instant::now() + left);
    leadership
}

fn write() -> Write {
    let target = Target::of::<Lease>("ns", "any");
    Write::Merge { target, patch: json!({"metadata": {"labels": {"a": "b"}}}) }
}

#[tokio::test(start_paused = true)]
async fn effects_stop_before_the_term_is_over() {
    let leadership = with_term(TERM);
    let now = Instant::now();
    assert_eq!(leadership.left_at(now), Some(TERM - MARGIN));
    assert_eq!(leadership.left_at(now + TERM - MARGIN), None);
    assert_eq!(leadership.left_at(now + TERM * 10), None, "a process that was stopped for long must not act");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_when_the_term_is_over() {
    let (client, mut api) = FakeApi::client();
    let cluster = Cluster::new(client, with_term(TERM), "us");
    advance(TERM - MARGIN).await;
    let refused = cluster.act(&write()).await.unwrap_err();
    assert!(matches!(refused, ActError::NotLeading { .. }), "{refused}");
    assert_eq!(cluster.writes().get(), 0);
    assert!(timeout(Duration::from_secs(60), api.next()).await.is_err(), "no request was sent");
}

#[tokio::test(start_paused = true)]
async fn a_write_is_broken_off_before_another_may_lead() {
    let (client, mut api) = FakeApi::client();
    let cluster = Cluster::new(client, with_term(TERM), "us");
    advance(Duration::from_secs(8)).await;
    let begun = Instant::now();
    // The API server takes the request and never answers.
    let write = write();
    let (done, _asked) = tokio::join!(cluster.act(&write), api.next());
    let error = done.unwrap_err();
    assert!(matches!(error, ActError::Timeout { .. }), "{error}");
    assert_eq!(begun.elapsed().as_secs(), 4, "{error}");
    assert!(error.to_string().contains("within 4 seconds"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn of_two_claimants_the_one_that_gets_the_conflict_does_not_lead() {
    let (client, mut api) = FakeApi::client();
    let (keeper, leadership) = keeper(client);
    let keeping = tokio::spawn(keeper.keep(pending()));
    read(&mut api).await.answer(200, &held_by("", "1"));
    let claim = api.next().await;
    assert_eq!(claim.body["metadata"]["resourceVersion"], "1", "conditional on what was read");
    claim.refuse(409, "Conflict");
    assert!(!is_led(&leadership).await);
    // The other was faster; this one looks on.
    read(&mut api).await.answer(200, &held_by("them", "2"));
    assert!(!is_led(&leadership).await);
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn another_s_lease_is_taken_only_when_it_was_not_renewed_for_a_whole_term() {
    let (client, mut api) = FakeApi::client();
    let (keeper, leadership) = keeper(client);
    let keeping = tokio::spawn(keeper.keep(pending()));
    // Its renewTime is long past by our clock: that proves nothing, clocks differ.
    let begun = Instant::now();
    for version in ["1", "2"] {
        read(&mut api).await.answer(200, &held_by("them", version));
        assert!(!is_led(&leadership).await);
    }
    let renewed = Instant::now();
    assert!(renewed > begun);
    loop {
        let asked = api.next().await;
        if asked.method == "PUT" {
            let spec = asked.body["spec"].clone();
            assert_eq!((&spec["holderIdentity"], &spec["leaseTransitions"]), (&json!("us"), &json!(4)));
            assert_ne!(spec["acquireTime"], "2026-01-01T00:00:00.000000Z");
            let body = asked.body.clone();
            asked.answer(200, &body);
            break;
        }
        asked.answer(200, &held_by("them", "2"));
    }
    assert!(renewed.elapsed() > TERM, "{:?}", renewed.elapsed());
    assert!(is_led(&leadership).await);
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_is_found_again() {
    let (client, mut api) = FakeApi::client();
    let (keeper, mut leadership) = keeper(client);
    let keeping = tokio::spawn(keeper.keep(pending()));
    read(&mut api).await.refuse(404, "NotFound");
    assert_eq!(accept(&mut api).await["spec"]["leaseTransitions"], 0);
    leadership.acquired().await;
    assert!(is_led(&leadership).await);
    // Another took it while this process was stopped.
    advance(TERM * 2).await;
    assert!(leadership.left().is_none(), "known without asking");
    read(&mut api).await.answer(200, &held_by("them", "7"));
    assert!(!is_led(&leadership).await);
    // It ended and gave it back.
    read(&mut api).await.answer(200, &held_by("", "8"));
    assert_eq!(accept(&mut api).await["spec"]["holderIdentity"], "us");
    assert!(is_led(&leadership).await);
    // Somebody deleted the Lease itself.
    read(&mut api).await.refuse(404, "NotFound");
    accept(&mut api).await;
    assert!(is_led(&leadership).await);
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_renewal_keeps_the_time_of_acquisition_and_counts_no_transition() {
    let (client, mut api) = FakeApi::client();
    let (keeper, leadership) = keeper(client);
    let keeping = tokio::spawn(keeper.keep(pending()));
    read(&mut api).await.answer(200, &held_by("us", "1"));
    let spec = accept(&mut api).await["spec"].clone();
    assert_eq!((&spec["leaseTransitions"], &spec["acquireTime"]), (&json!(3), &json!("2026-01-01T00:00:00.000000Z")));
    assert!(is_led(&leadership).await);
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_renewal_without_an_answer_does_not_lengthen_the_term() {
    let (client, mut api) = FakeApi::client();
    let (keeper, leadership) = keeper(client);
    let keeping = tokio::spawn(keeper.keep(pending()));
    read(&mut api).await.answer(200, &held_by("us", "1"));
    accept(&mut api).await;
    assert!(is_led(&leadership).await);
    let since = Instant::now();
    let mut unanswered = Vec::new();
    while leadership.left().is_some() {
        unanswered.push(api.next().await);
    }
    assert!(since.elapsed() < TERM + Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(unanswered.len(), 3);
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn at_the_end_the_lease_is_given_back_and_nothing_is_written_any_more() {
    let (client, mut api) = FakeApi::client();
    let (keeper, leadership) = keeper(client);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let keeping = tokio::spawn(keeper.keep(async move {
        let _ = stopped.await;
    }));
    read(&mut api).await.answer(200, &held_by("us", "1"));
    accept(&mut api).await;
    assert!(is_led(&leadership).await);
    stop.send(()).unwrap();
    let asked = read(&mut api).await;
    assert!(leadership.left().is_none());
    asked.answer(200, &held_by("us", "2"));
    assert_eq!(accept(&mut api).await["spec"].get("holderIdentity"), None);
    keeping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_s_lease_is_not_given_back() {
    let (client, mut api) = FakeApi::client();
    let (keeper, _leadership) = keeper(client);
    let keeping = tokio::spawn(keeper.keep(std::future::ready(())));
    read(&mut api).await.answer(200, &held_by("them", "1"));
    read(&mut api).await.answer(200, &held_by("them", "1"));
    keeping.await.unwrap();
}
