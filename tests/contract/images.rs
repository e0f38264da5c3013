//! From a tag to a digest with platforms and labels.

use crate::support::{Fault, ImageFixture, TestRegistry, Variant, amd64, config, reader, repository, tag};
use serde_json::json;
use timetracker_operator::api::names::Digest;
use timetracker_operator::registry::{Access, Platform, Registry, RegistryError, ResolvedImage};

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

async fn resolve(registry: &TestRegistry, wanted: &Platform) -> Result<ResolvedImage, RegistryError> {
    reader(registry.address()).resolve(&repository(), &tag("1.0"), &Access::anonymous(), wanted).await
}

async fn serving(image: &ImageFixture) -> TestRegistry {
    TestRegistry::builder().public().image("1.0", image).start().await
}

#[tokio::test]
async fn the_digest_of_the_index_is_pinned_not_that_of_one_platform() {
    let image = ImageFixture::index(&[Variant::linux("amd64"), Variant::linux("arm64")]);
    let resolved = resolve(&serving(&image).await, &amd64()).await.unwrap();
    assert_eq!(resolved.digest.as_str(), image.digest);
    assert_eq!(resolved.platforms, [Platform::linux("amd64"), Platform::linux("arm64")]);
    assert!(resolved.supports(&Platform::linux("arm64")) && !resolved.supports(&Platform::linux("s390x")));
}

#[tokio::test]
async fn an_image_without_index_has_the_digest_of_its_manifest() {
    let image = ImageFixture::single(&Variant::linux("amd64"));
    let registry = serving(&image).await;
    let resolved = resolve(&registry, &amd64()).await.unwrap();
    assert_eq!(resolved.digest.as_str(), image.digest);
    assert_eq!(resolved.platforms, [amd64()]);
    assert_eq!(resolved.created.unwrap().to_string(), "2026-10-01T12:00:00Z");
    let reader = reader(registry.address());
    let digest = reader.current_digest(&repository(), &tag("1.0"), &Access::anonymous()).await.unwrap();
    assert_eq!(digest, resolved.digest);
}

#[tokio::test]
async fn labels_are_taken_from_the_platform_asked_for() {
    let labelled = |architecture, version| {
        Variant::linux(architecture).labels(json!({
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.revision": REVISION,
        }))
    };
    let image = ImageFixture::index(&[labelled("amd64", "5.3.0"), labelled("arm64", "5.3.1")]);
    let resolved = resolve(&serving(&image).await, &Platform::linux("arm64")).await.unwrap();
    assert_eq!(resolved.version.as_deref(), Some("5.3.1"));
    assert_eq!(resolved.revision.unwrap().as_str(), REVISION);
}

#[tokio::test]
async fn labels_that_are_no_version_or_commit_are_left_out() {
    let labels = json!({
        "org.opencontainers.image.version": "5.3\u{1b}[31m",
        "org.opencontainers.image.revision": "$(curl evil)",
    });
    let image = ImageFixture::single(&Variant::linux("amd64").labels(labels));
    let resolved = resolve(&serving(&image).await, &amd64()).await.unwrap();
    assert_eq!((resolved.version, resolved.revision), (None, None));
}

#[tokio::test]
async fn an_image_for_another_platform_is_refused_with_those_it_has() {
    for image in [ImageFixture::index(&[Variant::linux("arm64")]), ImageFixture::single(&Variant::linux("arm64"))] {
        let error = resolve(&serving(&image).await, &amd64()).await.unwrap_err();
        assert_eq!(error.reason(), "NoSuchPlatform");
        assert!(error.to_string().contains("no linux/amd64 variant, only linux/arm64"), "{error}");
    }
}

#[tokio::test]
async fn an_image_is_found_by_its_digest() {
    let image = ImageFixture::index(&[Variant::linux("amd64")]);
    let registry = serving(&image).await;
    let digest: Digest = image.digest.parse().unwrap();
    let reader = reader(registry.address());
    let resolved = reader.resolve_digest(&repository(), &digest, &Access::anonymous(), &amd64()).await.unwrap();
    assert_eq!(resolved.digest, digest);
    let missing = Digest::of(b"missing");
    let error = reader.resolve_digest(&repository(), &missing, &Access::anonymous(), &amd64()).await.unwrap_err();
    assert_eq!(error.reason(), "ImageNotFound");
}

#[tokio::test]
async fn a_tag_that_does_not_exist_is_named() {
    let registry = TestRegistry::builder().public().tags(1).start().await;
    let error = resolve(&registry, &amd64()).await.unwrap_err();
    assert_eq!(error.reason(), "ImageNotFound");
    assert!(error.to_string().starts_with("ghcr.io/drytrix/timetracker: the tag `1.0` does not exist"), "{error}");
}

#[tokio::test]
async fn content_with_another_digest_is_refused() {
    let image = ImageFixture::single(&Variant::linux("amd64"));
    let announced = TestRegistry::builder().image("1.0", &image).fault(Fault::WrongDigestHeader).start().await;
    assert_eq!(resolve(&announced, &amd64()).await.unwrap_err().reason(), "DigestMismatch");
    let changed = TestRegistry::builder().image("1.0", &image).fault(Fault::OtherContent).start().await;
    let reader = reader(changed.address());
    let digest: Digest = image.digest.parse().unwrap();
    let error = reader.resolve_digest(&repository(), &digest, &Access::anonymous(), &amd64()).await.unwrap_err();
    assert_eq!(error.reason(), "DigestMismatch");
}

#[tokio::test]
async fn an_index_in_an_index_is_read_and_a_third_is_not() {
    let two = ImageFixture::wrapped(&ImageFixture::index(&[Variant::linux("amd64")]));
    let resolved = resolve(&serving(&two).await, &amd64()).await.unwrap();
    assert_eq!(resolved.digest.as_str(), two.digest);
    let error = resolve(&serving(&ImageFixture::wrapped(&two)).await, &amd64()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryInvalidResponse");
}

#[tokio::test]
async fn an_index_that_names_no_platform_is_read_when_it_has_one_image() {
    let image = ImageFixture::wrapped(&ImageFixture::single(&Variant::linux("amd64")));
    let resolved = resolve(&serving(&image).await, &amd64()).await.unwrap();
    assert_eq!(resolved.platforms, [amd64()]);
}

#[tokio::test]
async fn what_is_no_image_is_an_invalid_response() {
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let config = json!({ "mediaType": "x", "digest": "sha256:x", "size": 1 });
    let documents = [
        ImageFixture::document("application/json", &json!({ "schemaVersion": 2 })),
        ImageFixture::document(
            manifest,
            &json!({ "schemaVersion": 2, "manifests": [], "layers": [], "config": config }),
        ),
        ImageFixture::document(manifest, &json!({ "schemaVersion": 2, "manifests": [] })),
        ImageFixture::document(manifest, &json!({ "schemaVersion": 1, "layers": [], "config": config })),
        ImageFixture::document(manifest, &json!({ "schemaVersion": 2, "layers": [], "config": config })),
        ImageFixture::document(manifest, &json!([1])),
        ImageFixture::single(&Variant::linux("amd64").config_media_type("application/vnd.cncf.helm.config.v1+json")),
    ];
    for document in documents {
        let error = resolve(&serving(&document).await, &amd64()).await.unwrap_err();
        assert_eq!(error.reason(), "RegistryInvalidResponse", "{error}");
    }
}

#[tokio::test]
async fn an_index_with_too_many_manifests_is_refused() {
    let image = ImageFixture::index(&[Variant::linux("amd64"), Variant::linux("arm64"), Variant::linux("riscv64")]);
    let registry = serving(&image).await;
    let mut config = config(registry.address());
    config.limits.index_entries = 3;
    let reader = Registry::new(config).unwrap();
    let error = reader.resolve(&repository(), &tag("1.0"), &Access::anonymous(), &amd64()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryInvalidResponse");
}
