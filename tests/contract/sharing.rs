//! One scan serves all releases of a repository and credential.

use crate::support::{Fault, TestRegistry, access, reader, repository};
use futures::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use timetracker_operator::registry::{Access, Scanner};

const INTERVAL: Duration = Duration::from_secs(300);

#[tokio::test]
async fn a_hundred_releases_of_one_repository_take_one_scan() {
    let registry = TestRegistry::builder().public().tags(10_000).start().await;
    let scanner = Scanner::new(reader(registry.address()));
    let (repository, access) = (repository(), Access::anonymous());
    let scans = join_all((0..100).map(|_| scanner.scan(&repository, &access, INTERVAL))).await;
    let first = scans[0].as_ref().unwrap();
    assert_eq!((first.list.tags.len(), first.list.is_complete()), (10_000, true));
    assert!(scans.iter().all(|scan| Arc::ptr_eq(scan.as_ref().unwrap(), first)));
    // A challenge and a token beside the hundred pages.
    assert_eq!((registry.count("/tags/list"), registry.count("/token")), (101, 1));
}

#[tokio::test]
async fn an_older_scan_is_not_used_when_a_newer_is_asked_for() {
    let registry = TestRegistry::builder().tags(3).start().await;
    let scanner = Scanner::new(reader(registry.address()));
    let (repository, access) = (repository(), Access::anonymous());
    let first = scanner.scan(&repository, &access, INTERVAL).await.unwrap();
    let second = scanner.scan(&repository, &access, Duration::ZERO).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second) && second.taken >= first.taken);
    assert_eq!(registry.seen().len(), 2);
}

#[tokio::test]
async fn a_hundred_who_all_want_the_newest_list_take_two_scans_at_most() {
    let registry = TestRegistry::builder().tags(1000).start().await;
    let scanner = Scanner::new(reader(registry.address()));
    let (repository, access) = (repository(), Access::anonymous());
    let scans = join_all((0..100).map(|_| scanner.scan(&repository, &access, Duration::ZERO))).await;
    assert!(scans.iter().all(Result::is_ok));
    // The first began before the others asked; the second serves all of them.
    assert!(registry.count("/tags/list") <= 20);
}

#[tokio::test]
async fn scans_are_not_shared_between_secrets() {
    let registry = TestRegistry::builder().private("robot", "right").tags(3).start().await;
    let scanner = Scanner::new(reader(registry.address()));
    let repository = repository();
    scanner.scan(&repository, &access("robot", "right", "a"), INTERVAL).await.unwrap();
    let error = scanner.scan(&repository, &Access::anonymous(), INTERVAL).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnauthorized");
    let error = scanner.scan(&repository, &access("robot", "wrong", "b"), INTERVAL).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnauthorized");
}

#[tokio::test]
async fn a_failing_registry_is_asked_once_for_all() {
    let registry = TestRegistry::builder().fault(Fault::Status(503, Vec::new())).start().await;
    let scanner = Scanner::new(reader(registry.address()));
    let (repository, access) = (repository(), Access::anonymous());
    let scans = join_all((0..100).map(|_| scanner.scan(&repository, &access, INTERVAL))).await;
    assert!(scans.iter().all(Result::is_err));
    assert_eq!(registry.seen().len(), 1);
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_the_scan_to_the_next() {
    let stuck = TestRegistry::builder().fault(Fault::NeverEndingBody).start().await;
    let scanner = Scanner::new(reader(stuck.address()));
    let (repository, access) = (repository(), Access::anonymous());
    for _ in 0..2 {
        let scan = scanner.scan(&repository, &access, INTERVAL);
        assert!(tokio::time::timeout(Duration::from_millis(200), scan).await.is_err());
    }
    assert_eq!(stuck.seen().len(), 2);
}
