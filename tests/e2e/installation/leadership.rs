//! The Lease: given back on TERM, so that nobody waits for its end.

use std::time::Duration;

use serde_json::Value;

use super::{operator_is_ready, pods_of_operator};
use crate::stage::{OPERATOR, OPERATOR_NAMESPACE, output, program, try_output};
use crate::waiting::until;

/// Shorter than a term, which is what one waits for whose predecessor was killed.
const SECONDS: u64 = 12;

fn kubectl(arguments: &[&str]) -> String {
    output(program("kubectl").args(["--namespace", OPERATOR_NAMESPACE]).args(arguments)).trim().to_owned()
}

fn lease() -> Value {
    let lease: Value = serde_json::from_str(&kubectl(&["get", "lease", OPERATOR, "--output=json"])).unwrap();
    lease["spec"].clone()
}

/// Who leads: the name of a pod, or nobody.
fn holder() -> String {
    lease()["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// One operator again, whatever becomes of the test.
struct Single;

impl Drop for Single {
    fn drop(&mut self) {
        // A test may fail because there is no operator at all: what it says must not be lost in a second panic.
        if let Err(error) = scale(1) {
            println!("{error}");
        }
    }
}

fn scale(replicas: u32) -> Result<String, String> {
    let replicas = format!("--replicas={replicas}");
    try_output(program("kubectl").args(["--namespace", OPERATOR_NAMESPACE, "scale", "deployment", OPERATOR, &replicas]))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_told_to_end_gives_the_lease_back_and_the_one_that_stands_by_takes_it_at_once() {
    let single = Single;
    scale(2).unwrap();
    operator_is_ready().await;
    until("one to lead", 60, || !holder().is_empty()).await;
    let first = holder();
    let transitions = lease()["leaseTransitions"].as_i64().unwrap();
    kubectl(&["delete", "pod", &first, "--wait=false"]);
    until("the other one to lead", SECONDS, || ![String::new(), first.clone()].contains(&holder())).await;
    assert_eq!(lease()["leaseTransitions"].as_i64(), Some(transitions + 1));

    // With nobody to take it, it is seen that it was given back.
    operator_is_ready().await;
    scale(0).unwrap();
    until("all to end", 60, || pods_of_operator().lines().all(|pod| pod.contains("artifacts"))).await;
    assert_eq!(holder(), "", "the Lease was given back");
    let begun = tokio::time::Instant::now();
    drop(single);
    operator_is_ready().await;
    until("the next one to lead", SECONDS, || !holder().is_empty()).await;
    println!("led again after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(120));
}
