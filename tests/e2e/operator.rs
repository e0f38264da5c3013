//! What the running operator has used: read from the kernel and from its own metrics.

use std::fs;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use crate::stage::{OPERATOR_NAMESPACE, output, program};

/// The process and its pod.
pub struct Operator {
    process: u32,
    pod: String,
}

/// What it has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Seconds of CPU.
    pub cpu_seconds: f64,
    /// Reconciles of runs.
    pub reconciles: f64,
    /// Writes to the API server.
    pub writes: f64,
}

impl Usage {
    /// Adds what was used between two readings.
    pub fn add(&mut self, before: Self, after: Self) {
        self.cpu_seconds += after.cpu_seconds - before.cpu_seconds;
        self.reconciles += after.reconciles - before.reconciles;
        self.writes += after.writes - before.writes;
    }
}

impl Operator {
    /// Finds the controller's process on this machine, which is the cluster's node; waits for it when it was just killed.
    pub async fn find(client: &Client) -> Self {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = Self::look(client).await {
                return found;
            }
            assert!(Instant::now() < deadline, "no process of the operator on this machine");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn look(client: &Client) -> Option<Self> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
        let selector = ListParams::default().labels("app.kubernetes.io/component=operator");
        let pods = pods.list(&selector).await.unwrap().items;
        let pod = pods.iter().find(|pod| pod.metadata.deletion_timestamp.is_none())?;
        let uid = pod.uid()?;
        let process = processes().find(|process| is_controller_of(*process, &uid))?;
        Some(Self { process, pod: pod.name_any() })
    }

    /// What it has used so far.
    pub fn usage(&self) -> Usage {
        let metrics = self.metrics();
        Usage {
            cpu_seconds: self.cpu_seconds(),
            reconciles: sum(&metrics, "timetracker_operator_reconciles_total", "kind=\"PipelineRun\""),
            writes: sum(&metrics, "timetracker_operator_api_writes_total", ""),
        }
    }

    /// Resident memory in MiB.
    pub fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kibibytes: f64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap();
        kibibytes / 1024.0
    }

    /// The scheduler counts in nanoseconds, thread by thread.
    fn cpu_seconds(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process)).unwrap();
        let nanoseconds: f64 = tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .filter_map(|text| text.split_whitespace().next()?.parse::<f64>().ok())
            .sum();
        nanoseconds / 1e9
    }

    fn metrics(&self) -> String {
        let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{}:8080/proxy/metrics", self.pod);
        output(program("kubectl").args(["get", "--raw", &path]))
    }
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn is_controller_of(process: u32, pod: &str) -> bool {
    let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    read("cgroup").contains(pod) && read("cmdline").split('\0').any(|argument| argument == "controller")
}

fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
