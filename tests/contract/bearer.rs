//! The token dance of GHCR.

use crate::support::{Fault, TestRegistry, access, reader, repository};
use timetracker_operator::registry::{Access, RegistryError};

#[tokio::test]
async fn a_public_repository_is_read_with_an_anonymous_token() {
    let registry = TestRegistry::builder().public().tags(250).start().await;
    let list = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap();
    assert_eq!((list.tags.len(), list.is_complete()), (250, true));
    assert_eq!(registry.count("/token"), 1, "one token serves all pages");
}

#[tokio::test]
async fn a_private_repository_is_read_with_the_pull_secret() {
    let registry = TestRegistry::builder().private("robot", "canary-secret").tags(3).start().await;
    let reader = reader(registry.address());
    let list = reader.list_tags(&repository(), &access("robot", "canary-secret", "a")).await.unwrap();
    assert_eq!(list.tags.len(), 3);
    for seen in registry.seen() {
        let has_password = seen.authorization.is_some_and(|header| header.starts_with("Basic "));
        assert_eq!(has_password, seen.path == "/token", "the password goes to the token service alone");
    }
}

#[tokio::test]
async fn the_scope_asked_for_is_reading_whatever_the_challenge_says() {
    let registry = TestRegistry::builder().public().tags(1).start().await;
    reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap();
    let token = registry.seen().into_iter().find(|seen| seen.path == "/token").unwrap();
    assert!(token.query.contains("drytrix%2Ftimetracker%3Apull&"), "{}", token.query);
}

#[tokio::test]
async fn a_private_repository_without_pull_secret_is_unauthorized() {
    let registry = TestRegistry::builder().private("robot", "s").tags(3).start().await;
    let error = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnauthorized");
    assert!(error.to_string().contains("there is no pull secret"), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_wrong_password_is_unauthorized_and_not_shown() {
    let registry = TestRegistry::builder().private("robot", "right").tags(3).start().await;
    let wrong = access("robot", "canary-wrong", "a");
    let error = reader(registry.address()).list_tags(&repository(), &wrong).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnauthorized");
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
}

#[tokio::test]
async fn a_token_is_never_used_for_another_secret() {
    let registry = TestRegistry::builder().private("robot", "right").tags(3).start().await;
    let reader = reader(registry.address());
    reader.list_tags(&repository(), &access("robot", "right", "a")).await.unwrap();
    let error = reader.list_tags(&repository(), &access("robot", "wrong", "b")).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnauthorized");
    let error = reader.list_tags(&repository(), &Access::anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnauthorized");
    reader.list_tags(&repository(), &access("robot", "right", "c")).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_refuses_the_token_it_gave_is_asked_twice_and_no_more() {
    let registry = TestRegistry::builder().public().tags(3).fault(Fault::RefusesTokens).start().await;
    let error = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnauthorized");
    assert_eq!((registry.count("/tags/list"), registry.count("/token")), (2, 1));
}

#[tokio::test]
async fn a_token_that_ended_is_replaced() {
    let registry = TestRegistry::builder().public().tags(3).start().await;
    let reader = reader(registry.address());
    for _ in 0..3 {
        assert_eq!(reader.list_tags(&repository(), &Access::anonymous()).await.unwrap().tags.len(), 3);
        reader.list_tags(&repository(), &Access::anonymous()).await.unwrap();
        registry.end_tokens();
    }
    assert_eq!((registry.count("/token"), registry.count("/tags/list")), (3, 9));
}

#[tokio::test]
async fn basic_is_answered_when_the_registry_itself_asks_for_it() {
    let builder = TestRegistry::builder().private("robot", "right").tags(3).fault(Fault::BasicChallenge);
    let registry = builder.start().await;
    let reader = reader(registry.address());
    let list = reader.list_tags(&repository(), &access("robot", "right", "a")).await.unwrap();
    assert_eq!(list.tags.len(), 3);
    let error = reader.list_tags(&repository(), &Access::anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnauthorized");
}

#[tokio::test]
async fn a_token_service_at_another_host_is_sent_nothing() {
    let elsewhere = TestRegistry::builder().public().start().await;
    let realm = Fault::RealmAt(format!("http://{}/token", elsewhere.address()));
    let registry = TestRegistry::builder().private("robot", "canary-secret").tags(3).fault(realm).start().await;
    let reader = reader(registry.address());
    for access in [access("robot", "canary-secret", "a"), Access::anonymous()] {
        let error = reader.list_tags(&repository(), &access).await.unwrap_err();
        assert!(matches!(error, RegistryError::RefusedAddress { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
}

#[tokio::test]
async fn a_token_service_that_answers_nonsense_is_an_invalid_response() {
    for answer in ["<html>", "{}", "[]", r#"{"token":""}"#, r#"{"token":"a\nX-Evil: 1"}"#, r#"{"token":null}"#] {
        let fault = Fault::TokenAnswer(answer.to_owned());
        let registry = TestRegistry::builder().public().tags(3).fault(fault).start().await;
        let error = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap_err();
        assert_eq!(error.reason(), "RegistryInvalidResponse", "{answer}");
    }
}

#[tokio::test]
async fn a_failing_token_service_is_transient_and_a_refusing_one_is_not() {
    for (status, reason) in [(500, "RegistryUnreachable"), (429, "RegistryRateLimited"), (403, "RegistryUnauthorized")]
    {
        let fault = Fault::TokenStatus(status);
        let registry = TestRegistry::builder().public().tags(3).fault(fault).start().await;
        let error = reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), (reason, status != 403));
    }
}
