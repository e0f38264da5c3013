//! Images of a few bytes that are correct to the last one, or wrong in one place.

use serde_json::{Value, json};
use timetracker_operator::api::names::Digest;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// One platform's image.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) architecture: &'static str,
    pub(crate) config_media_type: &'static str,
    pub(crate) labels: Value,
}

impl Variant {
    pub(crate) fn linux(architecture: &'static str) -> Self {
        Self { architecture, config_media_type: CONFIG, labels: Value::Null }
    }

    pub(crate) fn labels(self, labels: Value) -> Self {
        Self { labels, ..self }
    }

    pub(crate) fn config_media_type(self, config_media_type: &'static str) -> Self {
        Self { config_media_type, ..self }
    }
}

/// An image with all its manifests and blobs.
#[derive(Debug, Clone)]
pub(crate) struct ImageFixture {
    /// The digest of the outermost manifest or index.
    pub(crate) digest: String,
    /// Digest, media type, bytes.
    pub(crate) manifests: Vec<(String, String, Vec<u8>)>,
    pub(crate) blobs: Vec<(String, Vec<u8>)>,
}

impl ImageFixture {
    /// A manifest without index.
    pub(crate) fn single(variant: &Variant) -> Self {
        let config = json!({
            "os": "linux",
            "architecture": variant.architecture,
            "created": "2026-10-01T12:00:00Z",
            "config": { "Labels": variant.labels, "Volumes": null },
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let config = config.to_string().into_bytes();
        let config_digest = Digest::of(&config).to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": variant.config_media_type, "digest": config_digest, "size": config.len() },
            "layers": [],
        });
        Self { blobs: vec![(config_digest, config)], ..Self::document(MANIFEST, &manifest) }
    }

    /// An index of images, with the attestation that buildx adds.
    pub(crate) fn index(variants: &[Variant]) -> Self {
        let images: Vec<Self> = variants.iter().map(Self::single).collect();
        let entry = |image: &Self, os: &str, architecture: &str| {
            json!({
                "mediaType": MANIFEST,
                "digest": image.digest,
                "size": image.manifests[0].2.len(),
                "platform": { "os": os, "architecture": architecture },
            })
        };
        let mut entries: Vec<Value> =
            images.iter().zip(variants).map(|(image, variant)| entry(image, "linux", variant.architecture)).collect();
        entries.push(entry(&images[0], "unknown", "unknown"));
        Self::document(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries })).with(&images)
    }

    /// An index around another image or index.
    pub(crate) fn wrapped(inner: &Self) -> Self {
        let (digest, media_type, body) = inner.manifests.iter().find(|(digest, ..)| *digest == inner.digest).unwrap();
        let entries = json!([{ "mediaType": media_type, "digest": digest, "size": body.len() }]);
        Self::document(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }))
            .with(std::slice::from_ref(inner))
    }

    /// Any document in place of a manifest.
    pub(crate) fn document(media_type: &str, document: &Value) -> Self {
        let body = document.to_string().into_bytes();
        let digest = Digest::of(&body).to_string();
        Self { digest: digest.clone(), manifests: vec![(digest, media_type.to_owned(), body)], blobs: Vec::new() }
    }

    fn with(mut self, others: &[Self]) -> Self {
        for other in others {
            self.manifests.extend(other.manifests.iter().cloned());
            self.blobs.extend(other.blobs.iter().cloned());
        }
        self
    }
}
