//! An image described by its layers and how it runs; pushed straight into a registry.
//!
//! ```text
//! Image::scratch().layer(Layer::directory(root)).entrypoint(["/pause"]).push(&registry, "localhost:5000/timetracker/pause:dev")
//! python::image(debian).layer(app).command(["gunicorn"]).push(…)
//! ```

use std::collections::BTreeMap;

use anyhow::Result;
use oci_distribution::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
    OciDescriptor,
};
use serde_json::{Value, json};

use super::layer::{BuiltLayer, Layer, sha256};
use super::registry::{Registry, reference};

/// Creation time of every image made here; a real one would change the digest of equal content.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// An image to be made.
#[derive(Debug, Clone, Default)]
pub struct Image {
    layers: Vec<Layer>,
    run: Run,
    architecture: Option<String>,
    indexed: bool,
}

/// How the image runs; what is set later replaces what was set before.
#[derive(Debug, Clone, Default)]
struct Run {
    entrypoint: Option<Vec<String>>,
    command: Option<Vec<String>>,
    environment: BTreeMap<String, String>,
    user: Option<String>,
    working_directory: Option<String>,
    ports: Vec<u16>,
    labels: BTreeMap<String, String>,
    stop_signal: Option<String>,
}

/// What a push left in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The reference as asked for.
    pub reference: String,
    /// Digest of the manifest, `sha256:…`.
    pub digest: String,
    /// Compressed size of all layers in bytes.
    pub size: i64,
    /// Whether the reference pointed elsewhere, or nowhere, before.
    pub changed: bool,
}

impl Image {
    /// An image without anything.
    pub fn scratch() -> Self {
        Self::default()
    }

    /// Adds a layer on top.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// What is run; the command's words follow as arguments.
    pub fn entrypoint<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.run.entrypoint = Some(words.into_iter().map(Into::into).collect());
        self
    }

    /// Arguments of the entrypoint, or the whole command when there is none.
    pub fn command<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.run.command = Some(words.into_iter().map(Into::into).collect());
        self
    }

    /// Sets an environment variable.
    pub fn environment(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.run.environment.insert(name.into(), value.into());
        self
    }

    /// The user, and after a colon the group; numeric, so that `runAsNonRoot` can be checked.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.run.user = Some(user.into());
        self
    }

    /// Where the process starts.
    pub fn working_directory(mut self, path: impl Into<String>) -> Self {
        self.run.working_directory = Some(path.into());
        self
    }

    /// Documents a TCP port.
    pub fn port(mut self, port: u16) -> Self {
        self.run.ports.push(port);
        self
    }

    /// Sets a label, such as `org.opencontainers.image.source`.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.run.labels.insert(name.into(), value.into());
        self
    }

    /// Sends this signal instead of TERM to stop a container.
    pub fn stop_signal(mut self, signal: impl Into<String>) -> Self {
        self.run.stop_signal = Some(signal.into());
        self
    }

    /// Declares another processor than this machine's, in Go's notation (`arm64`).
    pub fn architecture(mut self, architecture: impl Into<String>) -> Self {
        self.architecture = Some(architecture.into());
        self
    }

    /// Lets the reference point to an index with this image as its only entry, as multi-platform builds push it.
    pub fn indexed(mut self) -> Self {
        self.indexed = true;
        self
    }

    /// Builds the layers and puts everything in the registry; blobs that are there already are not sent again.
    ///
    /// # Errors
    /// When a layer can't be built or the registry refuses.
    pub fn push(&self, registry: &Registry, target: &str) -> Result<Pushed> {
        let image = reference(target)?;
        registry.authorize(&image)?;
        let before = registry.digest(target)?;
        let mut layers = Vec::new();
        let mut config = blank_config();
        let mut diff_ids = Vec::new();
        for layer in &self.layers {
            let BuiltLayer { digest, diff_id, data } = layer.build()?;
            layers.push(descriptor(IMAGE_LAYER_GZIP_MEDIA_TYPE, &digest, data.len()));
            diff_ids.push(diff_id);
            registry.push_blob(&image, &digest, data)?;
        }
        self.run.complete(&mut config, diff_ids);
        if let Some(architecture) = &self.architecture {
            config["architecture"] = json!(architecture);
        }
        let platform = json!({"architecture": config["architecture"], "os": config["os"]});
        let config = serde_json::to_vec(&config)?;
        let config_digest = sha256(&config);
        let config_descriptor = descriptor(IMAGE_CONFIG_MEDIA_TYPE, &config_digest, config.len());
        registry.push_blob(&image, &config_digest, config)?;
        let size = layers.iter().map(|layer| layer.size).sum();
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE_MEDIA_TYPE,
            "config": config_descriptor,
            "layers": layers,
        }))?;
        let mut digest = sha256(&manifest);
        let index = self.indexed.then(|| index(&digest, manifest.len(), &platform)).transpose()?;
        let manifest_digest = digest.clone();
        if let Some(index) = &index {
            digest = sha256(index);
        }
        let changed = before.as_deref() != Some(digest.as_str());
        match index {
            _ if !changed => {}
            None => registry.push_manifest(&image, OCI_IMAGE_MEDIA_TYPE, manifest)?,
            Some(index) => {
                registry.push_manifest(&image.clone_with_digest(manifest_digest), OCI_IMAGE_MEDIA_TYPE, manifest)?;
                registry.push_manifest(&image, OCI_IMAGE_INDEX_MEDIA_TYPE, index)?;
            }
        }
        Ok(Pushed { reference: target.to_owned(), digest, size, changed })
    }
}

impl Run {
    /// Adds layers and settings to an image configuration.
    fn complete(&self, config: &mut Value, diff_ids: Vec<String>) {
        config["created"] = json!(CREATED);
        for diff_id in diff_ids {
            push(&mut config["rootfs"]["diff_ids"], json!(diff_id));
            push(&mut config["history"], json!({"created": CREATED, "created_by": "cargo xtask images"}));
        }
        let run = &mut config["config"];
        if let Some(entrypoint) = &self.entrypoint {
            run["Entrypoint"] = json!(entrypoint);
        }
        if let Some(command) = &self.command {
            run["Cmd"] = json!(command);
        }
        if let Some(user) = &self.user {
            run["User"] = json!(user);
        }
        if let Some(path) = &self.working_directory {
            run["WorkingDir"] = json!(path);
        }
        if let Some(signal) = &self.stop_signal {
            run["StopSignal"] = json!(signal);
        }
        for port in &self.ports {
            run["ExposedPorts"][format!("{port}/tcp")] = json!({});
        }
        for (name, value) in &self.labels {
            run["Labels"][name] = json!(value);
        }
        let mut environment: Vec<String> = serde_json::from_value(run["Env"].take()).unwrap_or_default();
        for (name, value) in &self.environment {
            let prefix = format!("{name}=");
            environment.retain(|entry| !entry.starts_with(&prefix));
            environment.push(format!("{prefix}{value}"));
        }
        run["Env"] = json!(environment);
    }
}

fn index(digest: &str, size: usize, platform: &Value) -> Result<Vec<u8>> {
    let entry = json!({"mediaType": OCI_IMAGE_MEDIA_TYPE, "digest": digest, "size": size, "platform": platform});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX_MEDIA_TYPE, "manifests": [entry]});
    Ok(serde_json::to_vec(&index)?)
}

fn blank_config() -> Value {
    json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    })
}

/// Appends to an array, which is made when it isn't there.
fn push(array: &mut Value, item: Value) {
    match array {
        Value::Array(items) => items.push(item),
        other => *other = Value::Array(vec![item]),
    }
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> OciDescriptor {
    OciDescriptor {
        media_type: media_type.to_owned(),
        digest: digest.to_owned(),
        size: i64::try_from(size).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_set_is_in_the_configuration() {
        let image = Image::scratch()
            .entrypoint(["/entry"])
            .command(["serve"])
            .environment("A", "1")
            .environment("A", "2")
            .port(8080)
            .user("1000")
            .stop_signal("SIGINT")
            .working_directory("/app");
        let mut config = blank_config();
        image.run.complete(&mut config, vec!["sha256:layer".to_owned()]);
        let run = &config["config"];
        assert_eq!(run["Entrypoint"], json!(["/entry"]));
        assert_eq!(run["Cmd"], json!(["serve"]));
        assert_eq!(run["User"], json!("1000"));
        assert_eq!(run["StopSignal"], json!("SIGINT"));
        assert_eq!(run["WorkingDir"], json!("/app"));
        assert_eq!(run["ExposedPorts"], json!({"8080/tcp": {}}));
        let environment: Vec<String> = serde_json::from_value(run["Env"].clone()).unwrap();
        assert_eq!(environment.iter().filter(|entry| entry.starts_with("A=")).collect::<Vec<_>>(), ["A=2"]);
        assert!(environment.iter().any(|entry| entry.starts_with("PATH=")));
        assert_eq!(config["rootfs"]["diff_ids"], json!(["sha256:layer"]));
    }

    #[test]
    fn an_index_names_the_platform_of_its_image() {
        let platform = json!({"architecture": "arm64", "os": "linux"});
        let index: Value = serde_json::from_slice(&index("sha256:x", 7, &platform).unwrap()).unwrap();
        assert_eq!(index["manifests"][0]["platform"], platform);
        assert_eq!(index["manifests"][0]["size"], json!(7));
    }
}
