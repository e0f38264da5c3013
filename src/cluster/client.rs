//! The client: bounded in time, with no retries of its own.

use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config};

use super::liveness::WatchMonitor;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a pod's service account nor a kubeconfig.
    #[error("no API server: neither in a pod nor a usable kubeconfig: {0}")]
    Infer(#[from] kube::config::InferConfigError),
    /// TLS or authentication can't be set up.
    #[error("no client for the API server: {0}")]
    Client(#[from] kube::Error),
}

/// A client from the pod's service account or the kubeconfig.
///
/// kube's own retries are off: they repeat every verb, a POST included, up to 15 times, and would block a reconcile for
/// minutes. Retrying is the reconcile's business, which looks at the world first.
///
/// # Errors
/// When there is neither, or TLS can't be set up.
pub async fn connect(monitor: &WatchMonitor) -> Result<Client, ConnectError> {
    let mut config = Config::infer().await?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    Ok(ClientBuilder::try_from(config)?.with_layer(monitor).build())
}
