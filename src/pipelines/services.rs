//! Services beside a job: native sidecars that are ready before it starts.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvVar, ExecAction, Lifecycle, LifecycleHandler, Probe,
    ResourceRequirements, SecurityContext, TCPSocketAction, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::environment::{given, literal};
use super::pods;
use super::settings::Settings;
use crate::api::job::{PostgresService, ServiceSpec};
use crate::workload::{escape_env, restricted_container};

/// Memory for the server itself beside its data.
const POSTGRES_OVERHEAD: u64 = 256 << 20;
/// Room for data when the service says none.
const POSTGRES_SIZE: u64 = 256 << 20;
/// User, password and database: reachable from inside the pod only.
const POSTGRES_NAME: &str = "timetracker";

/// Starts the server and turns TERM into INT: PostgreSQL's fast shutdown, which waits for no client.
const POSTGRES_START: &str = "docker-entrypoint.sh postgres -c fsync=off -c synchronous_commit=off \
-c full_page_writes=off -c listen_addresses=127.0.0.1 -c unix_socket_directories=/var/run/postgresql & server=$!; \
trap 'kill -INT $server' TERM INT; wait $server; wait $server";

/// Bounded, and over TCP: while the entrypoint initialises, the server listens on its socket only.
///
/// With a user name: without one pg_isready looks its own up, and a pod's uid need not have any.
const POSTGRES_READY: &str =
    "timeout 60 sh -c 'until pg_isready -q -h 127.0.0.1 -p 5432 -U timetracker; do sleep 0.1; done'";

/// The sidecar, beside a command that may take so long.
#[must_use]
pub fn sidecar(service: &ServiceSpec, settings: &Settings, timeout: Duration) -> Container {
    let container = match &service.postgres {
        Some(postgres) => postgres_sidecar(service, postgres, settings),
        None => generic_sidecar(service),
    };
    let container = if keeps_log(service, settings) { pods::logged(container, timeout) } else { container };
    restricted_container(Container { restart_policy: Some("Always".to_owned()), ..container })
}

/// The reference of the image in which the service runs. `postgres` is what the configuration names, by version.
#[must_use]
pub fn reference<'a>(service: &'a ServiceSpec, postgres: &'a BTreeMap<String, String>) -> Option<&'a String> {
    match &service.postgres {
        Some(wanted) => postgres.get(&wanted.version),
        None => service.image.as_ref(),
    }
}

/// Whether the agent keeps what the service prints: where its command is ours, and there is a store.
#[must_use]
pub fn keeps_log(service: &ServiceSpec, settings: &Settings) -> bool {
    service.postgres.is_some() && settings.artifacts.is_some()
}

/// Whether any of them has its log kept.
#[must_use]
pub fn keep_logs(beside: &[ServiceSpec], settings: &Settings) -> bool {
    beside.iter().any(|service| keeps_log(service, settings))
}

/// What the job's command is told about the service.
#[must_use]
pub fn variables(service: &ServiceSpec) -> Vec<EnvVar> {
    if service.postgres.is_none() {
        return Vec::new();
    }
    let url = format!("postgresql://{POSTGRES_NAME}:{POSTGRES_NAME}@localhost:5432/{POSTGRES_NAME}");
    vec![literal("DATABASE_URL", &url)]
}

/// The volumes that services need: data in memory.
#[must_use]
pub fn volumes(beside: &[ServiceSpec]) -> Vec<Volume> {
    let Some(postgres) = beside.iter().find_map(|service| service.postgres.as_ref()) else {
        return Vec::new();
    };
    let in_memory = EmptyDirVolumeSource {
        medium: Some("Memory".to_owned()),
        size_limit: Some(Quantity(size_of(postgres).to_string())),
    };
    vec![
        Volume { name: "timetracker-postgres".to_owned(), empty_dir: Some(in_memory), ..Volume::default() },
        pods::scratch("timetracker-postgres-run"),
    ]
}

fn postgres_sidecar(service: &ServiceSpec, postgres: &PostgresService, settings: &Settings) -> Container {
    let limit = size_of(postgres).saturating_add(POSTGRES_OVERHEAD);
    let mut env = vec![
        literal("POSTGRES_USER", POSTGRES_NAME),
        literal("POSTGRES_PASSWORD", POSTGRES_NAME),
        literal("POSTGRES_DB", POSTGRES_NAME),
        literal("PGDATA", "/var/lib/postgresql/data/pgdata"),
        literal("POSTGRES_INITDB_ARGS", "--no-sync --encoding=UTF8"),
    ];
    env.extend(service.env.iter().map(given));
    let ready = vec!["/bin/sh".to_owned(), "-c".to_owned(), POSTGRES_READY.to_owned()];
    Container {
        name: service.name.clone(),
        image: reference(service, &settings.images.postgres).cloned(),
        command: Some(["/bin/sh", "-c", POSTGRES_START].iter().map(|word| escape_env(word)).collect()),
        env: Some(env),
        lifecycle: Some(Lifecycle {
            post_start: Some(LifecycleHandler {
                exec: Some(ExecAction { command: Some(ready) }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(ResourceRequirements {
            requests: Some(quantities("50m", "64Mi")),
            limits: Some(BTreeMap::from([("memory".to_owned(), Quantity(limit.to_string()))])),
            ..ResourceRequirements::default()
        }),
        volume_mounts: Some(vec![
            pods::mount("timetracker-postgres", "/var/lib/postgresql/data"),
            pods::mount("timetracker-postgres-run", "/var/run/postgresql"),
        ]),
        ..Container::default()
    }
}

fn generic_sidecar(service: &ServiceSpec) -> Container {
    let probe = |exec: Option<ExecAction>, tcp_socket: Option<TCPSocketAction>| Probe {
        exec,
        tcp_socket,
        period_seconds: Some(1),
        timeout_seconds: Some(5),
        failure_threshold: Some(120),
        ..Probe::default()
    };
    let startup = if service.readiness.is_empty() {
        service.port.map(|port| {
            probe(None, Some(TCPSocketAction { port: IntOrString::Int(port), ..TCPSocketAction::default() }))
        })
    } else {
        Some(probe(Some(ExecAction { command: Some(service.readiness.clone()) }), None))
    };
    Container {
        name: service.name.clone(),
        image: service.image.clone(),
        env: Some(service.env.iter().map(given).collect()),
        ports: service.port.map(|port| vec![ContainerPort { container_port: port, ..ContainerPort::default() }]),
        startup_probe: startup,
        security_context: Some(SecurityContext::default()),
        resources: Some(ResourceRequirements {
            requests: Some(quantities("50m", "64Mi")),
            limits: Some(BTreeMap::from([("memory".to_owned(), Quantity("512Mi".to_owned()))])),
            ..ResourceRequirements::default()
        }),
        ..Container::default()
    }
}

fn quantities(cpu: &str, memory: &str) -> BTreeMap<String, Quantity> {
    BTreeMap::from([("cpu".to_owned(), Quantity(cpu.to_owned())), ("memory".to_owned(), Quantity(memory.to_owned()))])
}

/// Bytes of a size such as `512Mi`; the schema has checked its form.
fn size_of(postgres: &PostgresService) -> u64 {
    let Some(text) = postgres.size.as_deref() else {
        return POSTGRES_SIZE;
    };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text.get(digits.len()..) {
        Some("Ki") => 10,
        Some("Mi") => 20,
        Some("Gi") => 30,
        Some(_) | None => 0,
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).unwrap_or(POSTGRES_SIZE)
}
