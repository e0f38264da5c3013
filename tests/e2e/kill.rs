//! KILL for the operator, as the kernel or a power cut does it.

use crate::stage::{OPERATOR, OPERATOR_NAMESPACE, output, program, try_output};
use crate::waiting::until;

/// A pod whose container was started again this often is replaced after the next kill: kubelet would wait ever longer.
const RESTARTS: u32 = 2;

fn kubectl(arguments: &[&str]) -> String {
    output(program("kubectl").args(["--namespace", OPERATOR_NAMESPACE]).args(arguments)).trim().to_owned()
}

/// Sends KILL to the operator's process, which is one of this machine.
pub async fn kill_operator() {
    let selector = format!("app.kubernetes.io/instance={OPERATOR},app.kubernetes.io/component=operator");
    let fields =
        "{.items[0].metadata.name} {.items[0].metadata.uid} {.items[0].status.containerStatuses[0].restartCount}";
    let mut pod = String::new();
    let mut uid = String::new();
    let mut restarts = 0;
    until("the operator's process to be killed", 90, || {
        let mut get = program("kubectl");
        get.args(["--namespace", OPERATOR_NAMESPACE, "get", "pods", "--selector", &selector]);
        let Ok(shown) = try_output(get.arg(format!("--output=jsonpath={fields}"))) else { return false };
        let words: Vec<&str> = shown.split_whitespace().collect();
        let &[name, its_uid, count] = words.as_slice() else { return false };
        (pod, uid, restarts) = (name.to_owned(), its_uid.to_owned(), count.parse().unwrap_or(0));
        kill_in_pod(&uid, OPERATOR) == 1
    })
    .await;
    if restarts >= RESTARTS {
        kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force", "--ignore-not-found"]);
        // The deleted one must not be taken for the one that follows.
        until("the killed pod to be gone", 60, || {
            !kubectl(&["get", "pods", "--selector", &selector, "--output=jsonpath={.items[*].metadata.uid}"])
                .contains(&uid)
        })
        .await;
    }
}

/// Kills the processes of that name in the pod of that uid, and says how many there were.
pub fn kill_in_pod(uid: &str, program: &str) -> usize {
    let processes = in_pod(uid, program).into_iter();
    processes.filter(|pid| rustix::process::kill_process(*pid, rustix::process::Signal::KILL).is_ok()).count()
}

/// The processes of that name in the pod of that uid.
pub fn in_pod(uid: &str, program: &str) -> Vec<rustix::process::Pid> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
        // The kernel keeps 15 characters of a name.
        let wanted = program.get(..15).unwrap_or(program);
        rustix::process::Pid::from_raw(pid).filter(|_| name.trim() == wanted && groups.contains(uid))
    });
    processes.collect()
}
