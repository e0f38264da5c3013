//! Where the API server listens: what pods of runs are kept from.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kube::Client;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::pipelines::Endpoint;

const PATIENCE: Duration = Duration::from_secs(10);

/// The API server's addresses: that of its Service, from the environment of every pod, and the one that it announces
/// itself, which stands behind the Service. Both may be read with no permission at all.
pub(super) async fn api_server(client: &Client) -> Vec<Endpoint> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"));
    let mut found: BTreeSet<Endpoint> = from_parts(&host, &port).into_iter().collect();
    match timeout(PATIENCE, client.list_core_api_versions()).await {
        Ok(Ok(versions)) => {
            let announced = versions.server_address_by_client_cidrs.into_iter();
            found.extend(announced.filter_map(|entry| from_text(&entry.server_address)));
        }
        Ok(Err(error)) => warn!(%error, "the API server does not say its address"),
        Err(_) => warn!("the API server does not say its address in time"),
    }
    let told: Vec<String> = found.iter().map(|endpoint| format!("{} port {}", endpoint.cidr, endpoint.port)).collect();
    info!(addresses = told.join(", "), "the API server is kept from pods of runs");
    found.into_iter().collect()
}

fn from_parts(host: &str, port: &str) -> Option<Endpoint> {
    Some(endpoint(host.trim_matches(['[', ']']).parse().ok()?, port.parse().ok()?))
}

/// From `address:port`; a name instead of an address can't stand in a policy.
fn from_text(text: &str) -> Option<Endpoint> {
    let address: SocketAddr = text.parse().ok()?;
    Some(endpoint(address.ip(), address.port()))
}

fn endpoint(address: IpAddr, port: u16) -> Endpoint {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    Endpoint { cidr: format!("{address}/{bits}"), port }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_read_and_names_are_left_out() {
        let shown = |found: Option<Endpoint>| found.map(|found| (found.cidr, found.port));
        assert_eq!(shown(from_parts("10.96.0.1", "443")), Some(("10.96.0.1/32".to_owned(), 443)));
        assert_eq!(shown(from_parts("fd00::1", "443")), Some(("fd00::1/128".to_owned(), 443)));
        assert_eq!(shown(from_text("[fd00::2]:6443")), Some(("fd00::2/128".to_owned(), 6443)));
        assert_eq!(shown(from_text("api.example.org:6443")), None);
        assert_eq!(shown(from_parts("", "")), None);
    }
}
