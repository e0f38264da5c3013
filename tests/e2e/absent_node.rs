//! The node's agent stops in the middle of a job. It is the only node's, so nothing else runs meanwhile.

use std::fs;

use serde_json::json;

use crate::runs::{RUN, begin, ended, job, pipeline};
use crate::stage::{on_stage, output, program, setting};
use crate::waiting::{condition, status, until};

/// The kubelet of this machine, stopped. Dropped, it goes on.
struct Stopped {
    process: u32,
}

impl Stopped {
    /// Stops it as an overloaded or frozen machine does: nothing ends, nothing is reported.
    fn kubelet() -> Self {
        let all = fs::read_dir("/proc").unwrap();
        let mut processes = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let kubeconfig = setting("TIMETRACKER_TEST_KUBECONFIG");
        let ours = std::path::Path::new(&kubeconfig).parent().unwrap().display().to_string();
        let is_kubelet = |process: &u32| {
            let command = fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
            let mut words = command.split('\0');
            // Another kubelet of this machine is none of ours.
            words.next().is_some_and(|program| program.ends_with("/kubelet")) && command.contains(&ours)
        };
        let process = processes.find(is_kubelet).expect("the node's agent is a process of this machine");
        signal(process, "STOP");
        Self { process }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.process, "CONT");
    }
}

fn signal(process: u32, name: &str) {
    output(program("kill").args([&format!("-{name}"), &process.to_string()]));
}

/// Asks the node controller to take the pods of the silent node away, as it does by itself where other nodes are left.
///
/// Of a cluster that lost all its nodes at once it believes that the fault is its own: then it takes this taint away
/// again in the very pass that wanted it. It does so only once, and again when the node is back.
fn give_up_the_node() {
    let taint = "node.kubernetes.io/unreachable=:NoExecute";
    output(program("kubectl").args(["taint", "node", "--all", "--overwrite", taint]));
}

fn node_is_ready() -> bool {
    let fields = "--output=jsonpath={.items[0].status.conditions[?(@.type==\"Ready\")].status}";
    output(program("kubectl").args(["get", "nodes", fields])).trim() == "True"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_node_falls_silent_is_lost_and_not_taken_for_a_success() {
    on_stage("absent", |stage| async move {
        // As short as a cluster allows: the default is five minutes.
        let tolerations: Vec<_> = ["not-ready", "unreachable"]
            .iter()
            .map(|key| json!({ "key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1 }))
            .collect();
        // It ends well, but only when its node is gone for everybody else.
        let jobs = json!([{
            "name": "lost", "run": "sleep 75", "retries": { "infrastructure": 0 }, "timeout": "10m",
            "pod": { "tolerations": tolerations },
        }]);
        begin(&stage, pipeline(jobs), json!({})).await;
        status(&stage, "PipelineRun", RUN, "the job to run", 120, |status| {
            status["jobs"][0]["phase"] == "Running"
        })
        .await;
        let stopped = Stopped::kubelet();
        until("the node to count as unreachable", 120, || !node_is_ready()).await;
        until("the job's pod to be taken away", 60, || {
            give_up_the_node();
            let deletions = "--output=jsonpath={.items[*].metadata.deletionTimestamp}";
            !stage.kubectl(&["get", "pods", deletions]).is_empty()
        })
        .await;
        let status = ended(&stage).await;
        drop(stopped);
        let lost = job(&status, "lost");
        assert_eq!((&lost["phase"], &lost["failure"]), (&json!("Failed"), &json!("NodeLost")), "{status:#}");
        assert_eq!(condition(&status, "Succeeded")["status"], "False");
        until("the node to be back", 120, node_is_ready).await;
    })
    .await;
}
