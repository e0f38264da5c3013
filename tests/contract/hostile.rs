//! A registry that is down, wrong or hostile.

use crate::support::{Fault, ImageFixture, TestRegistry, Variant, access, amd64, config, reader, repository, tag};
use std::time::Duration;
use timetracker_operator::registry::{Access, Registry, RegistryError};

async fn list(registry: &TestRegistry) -> RegistryError {
    reader(registry.address()).list_tags(&repository(), &Access::anonymous()).await.unwrap_err()
}

async fn resolve(registry: &TestRegistry) -> RegistryError {
    let reader = reader(registry.address());
    reader.resolve(&repository(), &tag("1.0"), &Access::anonymous(), &amd64()).await.unwrap_err()
}

async fn with(fault: Fault) -> TestRegistry {
    TestRegistry::builder().tags(3).fault(fault).start().await
}

#[tokio::test]
async fn a_web_page_is_not_taken_for_a_list_or_a_manifest() {
    let registry = with(Fault::Html).await;
    for error in [list(&registry).await, resolve(&registry).await] {
        assert_eq!(error.reason(), "RegistryInvalidResponse");
        assert!(error.to_string().contains("a web page (HTML)"), "{error}");
    }
}

#[tokio::test]
async fn every_status_has_its_reason() {
    for (status, reason, is_transient) in [
        (401, "RegistryUnauthorized", false),
        (403, "RegistryForbidden", false),
        (404, "ImageNotFound", false),
        (429, "RegistryRateLimited", true),
        (500, "RegistryUnreachable", true),
        (503, "RegistryUnreachable", true),
        (204, "RegistryInvalidResponse", false),
        (418, "RegistryInvalidResponse", false),
    ] {
        let registry = with(Fault::Status(status, Vec::new())).await;
        for error in [list(&registry).await, resolve(&registry).await] {
            assert_eq!((error.reason(), error.is_transient()), (reason, is_transient), "{status}");
            assert!(error.to_string().starts_with("ghcr.io/drytrix/timetracker: "), "{error}");
        }
        assert_eq!(registry.seen().len(), 2, "nothing is repeated after {status}");
    }
}

#[tokio::test]
async fn the_wait_that_a_registry_asks_for_is_passed_on() {
    let registry = with(Fault::Status(429, vec![("retry-after", "17".to_owned())])).await;
    let error = list(&registry).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
    assert!(error.to_string().contains("17 s"), "{error}");
}

#[tokio::test]
async fn a_challenge_that_cannot_be_met_is_unauthorized() {
    for challenge in ["Negotiate", "Bearer", "Bearer realm=\"\"", "=,=,\"", &"Bearer a=b,".repeat(2000)] {
        let registry = with(Fault::Status(401, vec![("www-authenticate", challenge.to_owned())])).await;
        assert_eq!(list(&registry).await.reason(), "RegistryUnauthorized");
    }
}

#[tokio::test]
async fn a_registry_that_is_down_is_unreachable() {
    let registry = TestRegistry::builder().start().await;
    let address = registry.address().to_owned();
    drop(registry);
    // A port that nothing listens on: bound and closed again.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap().to_string();
    drop(listener);
    assert_ne!(address, closed);
    let error = reader(&closed).list_tags(&repository(), &Access::anonymous()).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("RegistryUnreachable", true));
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn fifty_megabytes_are_not_read() {
    let bytes = 50 << 20;
    for announced in [true, false] {
        let registry = with(Fault::Huge { bytes, announced }).await;
        for error in [list(&registry).await, resolve(&registry).await] {
            assert_eq!(error.reason(), "RegistryResponseTooLarge", "{error}");
        }
    }
}

#[tokio::test]
async fn a_body_that_does_not_end_is_given_up() {
    let registry = with(Fault::NeverEndingBody).await;
    let mut config = config(registry.address());
    config.timeouts.request = Duration::from_millis(300);
    let error = Registry::new(config).unwrap().list_tags(&repository(), &Access::anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnreachable");
    assert!(error.to_string().contains("no complete answer within 0.3 s"), "{error}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_taken_for_the_whole() {
    assert_eq!(list(&with(Fault::Truncated).await).await.reason(), "RegistryUnreachable");
}

#[tokio::test]
async fn a_redirect_to_an_address_inside_is_not_followed() {
    let inside = TestRegistry::builder().tags(3).start().await;
    let port = inside.address().rsplit_once(':').unwrap().1.to_owned();
    for target in [
        format!("http://{}", inside.address()),
        format!("https://{}", inside.address()),
        format!("https://[::ffff:127.0.0.1]:{port}"),
        format!("https://localhost:{port}"),
        "https://169.254.169.254".to_owned(),
        "https://10.0.0.1".to_owned(),
        "https://user:pw@example.com".to_owned(),
        "file:///etc".to_owned(),
    ] {
        let registry = with(Fault::RedirectTo(target.clone())).await;
        let error = list(&registry).await;
        let is_refused = matches!(error, RegistryError::RefusedAddress { .. });
        // A name is refused once it is resolved, which looks like a name without address.
        let is_unresolved = error.to_string().contains("no public address");
        assert!(is_refused || (is_unresolved && target.contains("localhost")), "{target}: {error}");
        assert_eq!(registry.seen().len(), 1);
    }
    assert!(inside.seen().is_empty());
}

#[tokio::test]
async fn a_redirect_in_a_circle_ends() {
    let first = TestRegistry::builder().start().await;
    let registry = with(Fault::RedirectTo(String::new())).await;
    assert_eq!(list(&registry).await.reason(), "RegistryInvalidResponse");
    assert_eq!(registry.seen().len(), 4);
    drop(first);
}

#[tokio::test]
async fn a_blob_elsewhere_is_fetched_without_the_token() {
    let image = ImageFixture::single(&Variant::linux("amd64"));
    let storage = TestRegistry::builder().image("1.0", &image).start().await;
    let fault = Fault::RedirectBlobsTo(format!("http://{}", storage.address()));
    let builder = TestRegistry::builder().private("robot", "canary-secret").image("1.0", &image).fault(fault);
    let registry = builder.start().await;
    let mut config = config(registry.address());
    config.insecure.insert(storage.address().to_owned());
    let reader = Registry::new(config).unwrap();
    let access = access("robot", "canary-secret", "a");
    reader.resolve(&repository(), &tag("1.0"), &access, &amd64()).await.unwrap();
    let seen = storage.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen.iter().all(|seen| seen.authorization.is_none()), "{seen:?}");
}

#[tokio::test]
async fn the_host_behind_a_redirect_gets_no_password_even_when_it_asks() {
    let thief = TestRegistry::builder().private("robot", "canary-secret").tags(3).start().await;
    let fault = Fault::RedirectTo(format!("http://{}", thief.address()));
    let registry = TestRegistry::builder().private("robot", "canary-secret").tags(3).fault(fault).start().await;
    let mut config = config(registry.address());
    config.insecure.insert(thief.address().to_owned());
    let reader = Registry::new(config).unwrap();
    let error = reader.list_tags(&repository(), &access("robot", "canary-secret", "a")).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnauthorized");
    assert!(thief.seen().iter().all(|seen| seen.authorization.is_none() && seen.path != "/token"));
}
