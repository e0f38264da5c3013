//! The cluster's keys: where they come from, and that they change.

use crate::support::*;

#[tokio::test]
async fn a_new_key_is_found_and_a_withdrawn_one_ends() {
    let store = store(In::Directory, &["--key-interval", "0s"]).await;
    assert_eq!(store.put(LOG, &store.own(), "text").await, 201);
    let next = Issuer::elliptic("key-2");
    std::fs::write(&store.keys_file, key_set(&[&next])).unwrap();
    assert_eq!(store.put(LOG, &next.token("ci", POD), "text").await, 201);
    assert_eq!(store.put(LOG, &store.own(), "text").await, 401);
}

#[tokio::test]
async fn unknown_keys_are_not_looked_for_all_the_time() {
    let store = store(In::Directory, &["--key-interval", "1h"]).await;
    assert_eq!(store.put(LOG, &store.own(), "text").await, 201);
    let next = Issuer::elliptic("key-2");
    std::fs::write(&store.keys_file, key_set(&[&store.issuer, &next])).unwrap();
    assert_eq!(store.put(LOG, &next.token("ci", POD), "text").await, 401);
    assert_eq!(store.put(LOG, &store.own(), "text").await, 201);
}

#[tokio::test]
async fn a_key_set_that_breaks_does_not_end_the_known_keys() {
    let store = store(In::Directory, &["--key-interval", "0s"]).await;
    assert_eq!(store.put(LOG, &store.own(), "text").await, 201);
    std::fs::write(&store.keys_file, "{").unwrap();
    assert_eq!(store.put(LOG, &Issuer::elliptic("key-2").token("ci", POD), "text").await, 401);
    assert_eq!(store.put(LOG, &store.own(), "text").await, 201);
}

#[tokio::test]
async fn without_keys_nobody_is_told_that_the_token_is_wrong() {
    let store = store(In::Directory, &["--key-interval", "0s", "--jwks-file", "/nonexistent/keys.json"]).await;
    assert_eq!(store.put(LOG, &store.own(), "text").await, 503);
    assert_eq!(store.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn a_key_of_an_unknown_kind_does_not_cost_the_others() {
    let issuer = Issuer::rsa("rsa-1");
    let store = store(In::Directory, &["--key-interval", "0s"]).await;
    let keys = serde_json::json!({"keys": [
        {"kty": "quantum", "kid": "q"},
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        issuer.public(),
    ]});
    std::fs::write(&store.keys_file, keys.to_string()).unwrap();
    assert_eq!(store.put(LOG, &issuer.token("ci", POD), "text").await, 201);
    let header = jsonwebtoken::Header {
        kid: Some("secret".to_owned()),
        ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256)
    };
    let secret = jsonwebtoken::EncodingKey::from_secret(b"secret");
    let token = jsonwebtoken::encode(&header, &claims("ci", POD), &secret).unwrap();
    assert_eq!(store.put(LOG, &token, "text").await, 401);
}
