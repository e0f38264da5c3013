//! The processes of the cluster: how each is called, what it needs, and how one sees that it works.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::binaries::Binaries;
use super::layout::{GATEWAY, Layout, NODE, POD_NETWORK, REGISTRY, SERVICE_NETWORK};
use crate::host::ports::Port;

/// One process.
#[derive(Debug, Clone)]
pub struct Component {
    /// Name of the component, its log and its record.
    pub name: &'static str,
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Environment beside the search path.
    pub environment: Vec<(&'static str, OsString)>,
    /// Files whose change calls for a restart.
    pub configuration: Vec<PathBuf>,
    /// Ports that it listens on.
    pub ports: Vec<Port>,
    /// How one sees that it works.
    pub health: Health,
    /// How long it may take to get there.
    pub bound: Duration,
}

/// How one sees that a component works.
#[derive(Debug, Clone)]
pub enum Health {
    /// `GET` of this path at this address over plain HTTP gives 200.
    Http {
        /// Address and port.
        address: String,
        /// Path with its leading slash.
        path: &'static str,
    },
    /// The same over HTTPS with the administrator's certificate, asked by kubectl.
    Api {
        /// Port on the loopback.
        port: u16,
        /// Path with its leading slash.
        path: &'static str,
    },
    /// Something accepts TCP connections at this address.
    Tcp(String),
    /// containerd answers on its socket.
    Containerd(PathBuf),
    /// Nothing to be asked; it has not ended.
    Alive,
}

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A component from its name, command and the rest.
struct Builder {
    component: Component,
}

impl Builder {
    fn new(name: &'static str, program: PathBuf) -> Self {
        Self {
            component: Component {
                name,
                command: vec![program.into_os_string()],
                environment: Vec::new(),
                configuration: Vec::new(),
                ports: Vec::new(),
                health: Health::Alive,
                // Seconds on a quiet machine; the rest is for a busy one.
                bound: Duration::from_secs(120),
            },
        }
    }

    fn word(mut self, word: impl Into<OsString>) -> Self {
        self.component.command.push(word.into());
        self
    }

    fn words<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.component.command.extend(words.map(OsString::from));
        self
    }

    /// `flag=path`; a change of the file restarts the component.
    fn file(mut self, flag: &str, path: PathBuf) -> Self {
        let mut word = OsString::from(format!("{flag}="));
        word.push(&path);
        self.component.configuration.push(path);
        self.component.command.push(word);
        self
    }

    /// `flag=path` of something whose content doesn't matter here.
    fn place(mut self, flag: &str, path: &Path) -> Self {
        let mut word = OsString::from(format!("{flag}="));
        word.push(path);
        self.component.command.push(word);
        self
    }

    fn ports<const N: usize>(mut self, ports: [Port; N]) -> Self {
        self.component.ports.extend(ports);
        self
    }

    fn health(mut self, health: Health) -> Component {
        self.component.health = health;
        self.component
    }
}

/// All components in the order in which they are started.
pub fn all(layout: &Layout, binaries: &Binaries) -> Vec<Component> {
    vec![
        etcd(layout, binaries),
        registry("registry", "registry.json", LOOPBACK, layout, binaries),
        registry("registry-gateway", "registry-gateway.json", GATEWAY, layout, binaries),
        containerd(layout),
        apiserver(layout, binaries),
        controller_manager(layout, binaries),
        scheduler(layout, binaries),
        kubelet(layout, binaries),
        proxy(layout, binaries),
        dns(layout, binaries),
        volumes(layout, binaries),
    ]
}

fn etcd(layout: &Layout, binaries: &Binaries) -> Component {
    Builder::new("etcd", binaries.kubernetes("etcd"))
        .place("--data-dir", &layout.path("etcd"))
        // A throwaway cluster: it survives the death of every process, not the loss of power.
        .words(["--unsafe-no-fsync", "--log-level=warn"])
        .ports([Port::tcp(LOOPBACK, 2379), Port::tcp(LOOPBACK, 2380)])
        .health(http("127.0.0.1:2379", "/health"))
}

fn registry(name: &'static str, file: &str, address: Ipv4Addr, layout: &Layout, binaries: &Binaries) -> Component {
    let mut builder = Builder::new(name, binaries.tool("registry")).words(["serve"]).word(layout.config(file));
    builder.component.configuration.push(layout.config(file));
    builder.ports([Port::tcp(address, 5000)]).health(http(&format!("{address}:5000"), "/v2/"))
}

fn containerd(layout: &Layout) -> Component {
    Builder::new("containerd", PathBuf::from("containerd"))
        .file("--config", layout.config("containerd.toml"))
        .health(Health::Containerd(layout.containerd_socket()))
}

fn apiserver(layout: &Layout, binaries: &Binaries) -> Component {
    Builder::new("kube-apiserver", binaries.kubernetes("kube-apiserver"))
        .words([
            "--etcd-servers=http://127.0.0.1:2379",
            "--secure-port=6443",
            "--bind-address=0.0.0.0",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--kubelet-preferred-address-types=InternalIP",
        ])
        // The loopback is refused as an address that pods should find.
        .word(format!("--advertise-address={GATEWAY}"))
        .word(format!("--service-cluster-ip-range={SERVICE_NETWORK}"))
        .file("--client-ca-file", layout.pki("ca.crt"))
        .file("--tls-cert-file", layout.pki("apiserver.crt"))
        .file("--tls-private-key-file", layout.pki("apiserver.key"))
        .file("--service-account-key-file", layout.pki("service-account.pub"))
        .file("--service-account-signing-key-file", layout.pki("service-account.key"))
        .file("--kubelet-client-certificate", layout.pki("admin.crt"))
        .file("--kubelet-client-key", layout.pki("admin.key"))
        .ports([Port::tcp(ANY, 6443)])
        .health(Health::Api { port: 6443, path: "/readyz" })
}

fn controller_manager(layout: &Layout, binaries: &Binaries) -> Component {
    Builder::new("kube-controller-manager", binaries.kubernetes("kube-controller-manager"))
        .file("--kubeconfig", layout.config("controller-manager.kubeconfig"))
        .file("--service-account-private-key-file", layout.pki("service-account.key"))
        .file("--root-ca-file", layout.pki("ca.crt"))
        .place("--flex-volume-plugin-dir", &layout.path("volume-plugins"))
        .words(["--use-service-account-credentials", "--leader-elect=false", "--bind-address=127.0.0.1"])
        .word(format!("--cluster-cidr={POD_NETWORK}"))
        .ports([Port::tcp(LOOPBACK, 10257)])
        .health(Health::Api { port: 10257, path: "/healthz" })
}

fn scheduler(layout: &Layout, binaries: &Binaries) -> Component {
    Builder::new("kube-scheduler", binaries.kubernetes("kube-scheduler"))
        .file("--kubeconfig", layout.config("scheduler.kubeconfig"))
        .words(["--leader-elect=false", "--bind-address=127.0.0.1"])
        .ports([Port::tcp(LOOPBACK, 10259)])
        .health(Health::Api { port: 10259, path: "/healthz" })
}

fn kubelet(layout: &Layout, binaries: &Binaries) -> Component {
    Builder::new("kubelet", binaries.kubernetes("kubelet"))
        .file("--config", layout.config("kubelet.json"))
        .file("--kubeconfig", layout.config("node.kubeconfig"))
        .place("--root-dir", &layout.path("kubelet"))
        .place("--cert-dir", &layout.path("kubelet-certificates"))
        .word(format!("--hostname-override={NODE}"))
        .word(format!("--node-ip={GATEWAY}"))
        .ports([Port::tcp(ANY, 10250), Port::tcp(LOOPBACK, 10248)])
        .health(http("127.0.0.1:10248", "/healthz"))
}

fn proxy(layout: &Layout, binaries: &Binaries) -> Component {
    Builder::new("kube-proxy", binaries.kubernetes("kube-proxy"))
        .file("--config", layout.config("proxy.json"))
        .ports([Port::tcp(ANY, 10256), Port::tcp(LOOPBACK, 10249)])
        .health(http("127.0.0.1:10249", "/healthz"))
}

fn dns(layout: &Layout, binaries: &Binaries) -> Component {
    let mut builder =
        Builder::new("coredns", binaries.tool("coredns")).words(["-conf"]).word(layout.config("Corefile"));
    builder.component.configuration.push(layout.config("Corefile"));
    builder.component.environment.push(("CLUSTER_KUBECONFIG", layout.kubeconfig().into_os_string()));
    builder.ports([Port::tcp(GATEWAY, 53), Port::udp(GATEWAY, 53)]).health(Health::Tcp(format!("{GATEWAY}:53")))
}

fn volumes(layout: &Layout, binaries: &Binaries) -> Component {
    Builder::new("local-path-provisioner", binaries.tool("local-path-provisioner"))
        .words(["start"])
        .file("--config", layout.config("volumes.json"))
        .file("--helper-pod-file", layout.config("volume-helper.yaml"))
        .file("--kubeconfig", layout.kubeconfig())
        .health(Health::Alive)
}

fn http(address: &str, path: &'static str) -> Health {
    Health::Http { address: address.to_owned(), path }
}

/// Address of the registry for pushes from the host.
pub fn registry_address() -> &'static str {
    REGISTRY
}
