//! All pages, in few requests, and nothing picked from a part of them.

use crate::support::{Fault, TestRegistry, config, reader, repository};
use std::time::Duration;
use timetracker_operator::registry::{Access, Gap, Registry};

#[tokio::test]
async fn ten_thousand_tags_take_a_hundred_requests() {
    let registry = TestRegistry::builder().tags(10_000).start().await;
    let list = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap();
    assert_eq!((list.tags.len(), list.is_complete()), (10_000, true));
    assert_eq!(registry.seen().len(), 100);
}

#[tokio::test]
async fn without_links_the_list_is_read_on_after_the_last_tag() {
    let registry = TestRegistry::builder().tags(10_000).fault(Fault::NoLinks).start().await;
    let list = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap();
    assert_eq!((list.tags.len(), list.is_complete()), (10_000, true));
    assert_eq!(registry.seen().len(), 101, "an empty page ends the list");
}

#[tokio::test]
async fn a_registry_that_ignores_paging_is_read_in_one_request() {
    for (count, requests) in [(250, 1), (99, 1), (100, 2)] {
        let registry = TestRegistry::builder().tags(count).fault(Fault::IgnoresPaging).start().await;
        let list = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap();
        assert_eq!((list.tags.len(), list.is_complete(), registry.seen().len()), (count, true, requests));
    }
}

#[tokio::test]
async fn an_empty_list_is_empty_and_whole() {
    let registry = TestRegistry::builder().start().await;
    let list = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap();
    assert_eq!((list.tags.len(), list.is_complete()), (0, true));
    let registry = TestRegistry::builder().fault(Fault::NullTags).start().await;
    let list = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap();
    assert_eq!((list.tags.len(), list.is_complete()), (0, true));
}

#[tokio::test]
async fn what_is_no_tag_is_left_out_and_counted() {
    let registry = TestRegistry::builder().more_tags(&["1.0", "1e10", "null", "a b", "-x", "ü"]).start().await;
    let list = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap();
    assert_eq!((list.tags.len(), list.invalid, list.is_complete()), (3, 3, true));
}

#[tokio::test]
async fn endless_pages_end_at_the_limit_of_tags() {
    let registry = TestRegistry::builder().fault(Fault::EndlessPages).start().await;
    let mut config = config(registry.address());
    config.limits.tags = 1000;
    let list = Registry::new(config).unwrap().list_tags(&repository(), &Access::anonymous()).await.unwrap();
    assert_eq!((list.tags.len(), list.gap), (1000, Some(Gap::TooManyTags)));
    assert_eq!(registry.seen().len(), 11);
    let error = list.require_complete(&repository()).unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("TagListIncomplete", true));
}

#[tokio::test]
async fn pages_that_bring_nothing_new_end_the_scan_with_a_gap() {
    for fault in [Fault::NotAdvancing, Fault::LinkToItself] {
        let registry = TestRegistry::builder().fault(fault).start().await;
        let list = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap();
        assert_eq!((list.tags.len(), list.gap), (100, Some(Gap::NotAdvancing)));
        assert_eq!(registry.seen().len(), 2);
    }
}

#[tokio::test]
async fn a_scan_ends_when_its_time_is_over() {
    let registry = TestRegistry::builder().fault(Fault::NeverEndingBody).start().await;
    let mut config = config(registry.address());
    config.timeouts.scan = Duration::from_millis(200);
    let list = Registry::new(config).unwrap().list_tags(&repository(), &Access::anonymous()).await.unwrap();
    assert_eq!(list.gap, Some(Gap::OutOfTime));
}

#[tokio::test]
async fn a_link_to_another_place_is_not_followed() {
    let elsewhere = TestRegistry::builder().tags(3).start().await;
    for link in [
        format!("http://{}/v2/drytrix/timetracker/tags/list?last=x", elsewhere.address()),
        "/v2/other/repository/tags/list?last=x".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let registry = TestRegistry::builder().fault(Fault::LinkTo(link)).start().await;
        let error = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap_err();
        assert_eq!(error.reason(), "RegistryInvalidResponse");
        assert_eq!(registry.seen().len(), 1);
    }
    assert!(elsewhere.seen().is_empty());
}
