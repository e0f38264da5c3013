//! Copies of images inside the cluster's registry, by the protocol itself.

use reqwest::{Client, StatusCode, header};
use serde_json::Value;

use crate::stage::setting;

const KINDS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Makes `to:tag` the same image as `from:of`; its digest stays.
pub async fn copy(from: &str, of: &str, to: &str, tag: &str) {
    let base = format!("http://{}/v2", setting("TIMETRACKER_TEST_PUSH"));
    let copying = Copying { client: Client::new(), base, from: from.to_owned(), to: to.to_owned() };
    let (kind, body) = copying.manifest(of).await;
    let manifest: Value = serde_json::from_slice(&body).unwrap();
    for child in manifest["manifests"].as_array().into_iter().flatten() {
        let digest = child["digest"].as_str().unwrap();
        let (kind, body) = copying.manifest(digest).await;
        copying.share_blobs(&serde_json::from_slice(&body).unwrap()).await;
        copying.put(digest, &kind, body).await;
    }
    copying.share_blobs(&manifest).await;
    copying.put(tag, &kind, body).await;
}

struct Copying {
    client: Client,
    base: String,
    from: String,
    to: String,
}

impl Copying {
    async fn manifest(&self, reference: &str) -> (String, Vec<u8>) {
        let url = format!("{}/{}/manifests/{reference}", self.base, self.from);
        let answer = self.client.get(&url).header(header::ACCEPT, KINDS).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{url}");
        let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        (kind, answer.bytes().await.unwrap().to_vec())
    }

    async fn share_blobs(&self, manifest: &Value) {
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for blob in layers.chain([&manifest["config"]]).filter_map(|blob| blob["digest"].as_str()) {
            let url = format!("{}/{}/blobs/uploads/?mount={blob}&from={}", self.base, self.to, self.from);
            let answer = self.client.post(&url).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::CREATED, "{url}");
        }
    }

    async fn put(&self, reference: &str, kind: &str, body: Vec<u8>) {
        let url = format!("{}/{}/manifests/{reference}", self.base, self.to);
        let answer = self.client.put(&url).header(header::CONTENT_TYPE, kind).body(body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{url}");
    }
}
