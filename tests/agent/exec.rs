//! `agent exec`.

use std::path::Path;

use rustix::process::Signal;
use timetracker_operator::agent::report::ExecReport;

use crate::support::waiting::wait_for;
use crate::{Agent, Finished};

fn exec(logs: &Path, options: &[&str], script: &str) -> Agent {
    let mut arguments = vec!["exec", "--log-dir", logs.to_str().unwrap()];
    arguments.extend(options);
    arguments.extend(["--", "/bin/sh", "-c", script]);
    Agent::new(arguments)
}

fn run(script: &str) -> (Finished, tempfile::TempDir) {
    let logs = tempfile::tempdir().unwrap();
    (exec(logs.path(), &["--timeout", "60s"], script).run(), logs)
}

#[test]
fn the_exit_code_of_the_command_is_the_containers() {
    let (finished, logs) = run("echo out; echo err >&2; exit 7");
    assert_eq!(finished.code, Some(7));
    let report: ExecReport = finished.report();
    assert_eq!((report.exit_code, report.timed_out, report.terminated, report.log_bytes), (7, false, false, 8));
    assert_eq!(finished.stdout, "out\nerr\n", "both streams in their order");
    assert_eq!(std::fs::read_to_string(logs.path().join("head.log")).unwrap(), "out\nerr\n");
    assert_eq!(std::fs::read_to_string(logs.path().join("exec.json")).unwrap(), finished.report);
}

#[test]
fn pytest_finds_the_plugin_behind_the_commands_own_path() {
    let (logs, plugins) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = plugins.path().join("pytest");
    let script = "python3 -c \"
import importlib.metadata as m, sys
print([p.load().__name__ for p in m.entry_points(group='pytest11') if p.name == 'timetracker_markers'])
print(sys.path.index('/own') < sys.path.index('$1'))
\"";
    let mut arguments = vec!["exec", "--timeout", "60s", "--log-dir", logs.path().to_str().unwrap()];
    let folder = folder.to_str().unwrap();
    arguments.extend(["--pytest-plugins", folder, "--", "/bin/sh", "-c", script, "sh", folder]);
    let finished = Agent::new(arguments).env("PYTHONPATH", "/own").run();
    assert_eq!(finished.stdout, "['timetracker_markers']\nTrue\n", "{}", finished.stderr);
}

#[test]
fn a_plugin_that_can_not_be_written_is_no_reason_not_to_run() {
    let logs = tempfile::tempdir().unwrap();
    let finished = exec(logs.path(), &["--timeout", "60s", "--pytest-plugins", "/proc/none"], "echo ran").run();
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), "ran\n"));
}

#[test]
fn a_command_killed_by_a_signal_ends_with_128_and_the_signal() {
    assert_eq!(run("kill -KILL $$").0.code, Some(137));
}

#[test]
fn a_command_that_does_not_exist_ends_with_127() {
    let logs = tempfile::tempdir().unwrap();
    let finished =
        Agent::new(["exec", "--timeout", "5s", "--log-dir", logs.path().to_str().unwrap(), "--", "/no/such"]).run();
    assert_eq!(finished.code, Some(127));
    assert!(finished.stdout.contains("`/no/such` can't be started"), "{}", finished.stdout);
}

#[test]
fn a_timeout_counts_as_failure_even_when_the_command_traps_it_and_ends_with_0() {
    let logs = tempfile::tempdir().unwrap();
    let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let finished = exec(logs.path(), &["--timeout", "300ms"], script).run();
    assert_eq!(finished.code, Some(124));
    assert!(finished.report::<ExecReport>().timed_out);
}

#[test]
fn a_forwarded_term_counts_as_failure_even_when_the_command_ends_with_0() {
    let logs = tempfile::tempdir().unwrap();
    let script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let agent = exec(logs.path(), &["--timeout", "60s"], script).start();
    let head = logs.path().join("head.log");
    wait_for("the command", || std::fs::read_to_string(&head).ok().filter(|log| log.contains("ready")));
    agent.signal(Signal::TERM);
    let finished = agent.finish();
    assert_eq!(finished.code, Some(143));
    assert!(finished.report::<ExecReport>().terminated);
    assert!(finished.stdout.contains("asked"), "the command itself got the signal");
}

#[test]
fn a_group_that_ignores_term_is_killed_after_the_grace() {
    let logs = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' & while :; do sleep 0.1; done";
    let finished = exec(logs.path(), &["--timeout", "200ms", "--grace", "300ms"], script).run();
    assert_eq!(finished.code, Some(137));
    assert!(finished.report::<ExecReport>().seconds < 20);
}

#[test]
fn a_process_left_behind_with_the_output_open_does_not_hold_the_agent() {
    let started = std::time::Instant::now();
    let (finished, _logs) = run("setsid sleep 30 & echo started");
    assert_eq!(finished.code, Some(0));
    assert!(started.elapsed().as_secs() < 15);
}

#[test]
fn a_line_of_100_megabytes_and_invalid_text_need_bounded_memory() {
    let script = "head -c 100000000 /dev/zero | tr '\\0' x; printf '\\377\\376\\n'; grep VmHWM /proc/$PPID/status";
    let (finished, logs) = run(script);
    assert_eq!(finished.code, Some(0));
    let report: ExecReport = finished.report();
    assert!(report.log_bytes > 100_000_000);
    let tail = std::fs::read(logs.path().join("tail.log")).unwrap();
    let tail = String::from_utf8_lossy(&tail).into_owned();
    let peak: u64 = tail.rsplit_once("VmHWM:").unwrap().1.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 40_000, "the agent's memory peak was {peak} kB");
    let size = |name: &str| std::fs::metadata(logs.path().join(name)).unwrap().len();
    assert_eq!((size("head.log"), size("tail.previous.log")), (262_144, 262_144));
}

/// The agent as the parent of all orphans of its command, as process 1 of a container is.
const INHERITING: &str = "import ctypes, os, sys
ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])";

fn inheriting(logs: &Path, timeout: &str, script: &str) -> Agent {
    let agent = Agent::new(["exec", "--log-dir", logs.to_str().unwrap(), "--timeout", timeout, "--grace", "1s"]);
    agent.arguments(["--", "/bin/sh", "-c", script]).through(["python3", "-c", INHERITING])
}

#[test]
fn a_storm_of_orphans_keeps_neither_the_timeout_nor_the_output_waiting() {
    let logs = tempfile::tempdir().unwrap();
    // It would go on for minutes.
    let storm = "storm() { for round in $(seq 2000); do (sleep 0 &); done; }; trap '' TERM
storm & storm & storm & storm & while :; do echo output; sleep 0.1; done";
    let started = std::time::Instant::now();
    let finished = inheriting(logs.path(), "1s", storm).run();
    assert!(finished.report::<ExecReport>().timed_out);
    assert_eq!(finished.code, Some(137));
    assert!(finished.stdout.matches("output").count() > 3, "{}", finished.stdout);
    assert!(started.elapsed().as_secs() < 12, "{:?}", started.elapsed());
}

#[test]
fn orphans_that_have_ended_are_reaped() {
    let logs = tempfile::tempdir().unwrap();
    // Those of which the agent is the parent, and that wait to be reaped; it itself is the shell's parent.
    let script = "for round in $(seq 50); do (sleep 0 &); done
for round in $(seq 200); do
  left=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c \") Z $PPID \"); [ $left = 0 ] && echo none left && exit; sleep 0.1
done; echo $left left";
    let finished = inheriting(logs.path(), "60s", script).run();
    assert_eq!(finished.stdout, "none left\n", "{}", finished.stderr);
}
