//! Classes of failure, each produced for real and told with its evidence; and jobs that mean harm.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::operator::Operator;
use crate::runs::{BOUND, RUN, begin, ended, job, pipeline};
use crate::stage::{OPERATOR, OPERATOR_NAMESPACE, Stage, on_stage, output, program, setting};
use crate::waiting::{condition, status, until};

/// More memory than [`small`] allows.
const GREEDY: &str = "python3 -c 'print(len(bytearray(300 << 20)))'";

fn small() -> Value {
    json!({ "resources": { "requests": { "memory": "32Mi" }, "limits": { "memory": "64Mi" } } })
}

/// Asks for an eviction of the pod of a job, as a drained node does.
fn evict(stage: &Stage, job: &str) {
    let selector = format!("timetracker.dev/job={job}");
    let pod = stage.kubectl(&["get", "pods", "--selector", &selector, "--output=jsonpath={.items[0].metadata.name}"]);
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod } });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), eviction.to_string()).unwrap();
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", stage.namespace);
    stage.kubectl(&["create", "--raw", &path, "--filename", file.path().to_str().unwrap()]);
}

/// The image that the operator runs from.
fn operator_image() -> String {
    let fields = "--output=jsonpath={.spec.template.spec.containers[0].image}";
    let get = ["--namespace", OPERATOR_NAMESPACE, "get", "deployment", OPERATOR, fields];
    output(program("kubectl").args(get)).trim().to_owned()
}

fn runs(status: &Value, name: &str) -> bool {
    let jobs = status["jobs"].as_array().into_iter().flatten();
    jobs.into_iter().any(|job| job["name"] == name && job["phase"] == "Running")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_class_of_failure_is_told_with_its_evidence() {
    on_stage("classes", |stage| async move {
        let operator = operator_image();
        let once = json!({ "infrastructure": 0 });
        // (job, class, evidence)
        let expected = [
            ("command", "CommandFailure", "exit code 3"),
            ("memory", "OutOfMemory", "64Mi"),
            ("memory-agent", "OutOfMemory", "64Mi"),
            ("deadline", "DeadlineExceeded", "timeout of 2 s"),
            ("disk", "Evicted", "limit"),
            ("evicted", "Evicted", "timetracker-node"),
            ("shell", "Configuration", "could not start"),
            ("account", "Configuration", "serviceaccount \"nobody\" not found"),
            ("impossible", "Configuration", "must be less than or equal to cpu limit"),
        ];
        let report = r#"echo '<testsuite tests="1"><testcase name="a"/></testsuite>' > "$REPORTS/junit.xml""#;
        let disk = json!({ "resources": { "limits": { "ephemeral-storage": "20Mi", "memory": "256Mi" } } });
        let jobs = json!([
            { "name": "command", "run": "exit 3" },
            { "name": "memory", "run": GREEDY, "pod": small() },
            { "name": "memory-agent", "run": format!("{report}; {GREEDY}"), "reports": ["JUnit"], "pod": small() },
            { "name": "deadline", "run": "sleep 60", "timeout": "2s", "reports": ["JUnit"] },
            { "name": "disk", "run": "dd if=/dev/zero of=/tmp/full bs=1M count=200; sleep 120", "retries": once, "pod": disk },
            { "name": "evicted", "run": "sleep 120", "retries": once },
            // The operator's image has no shell.
            { "name": "shell", "run": "true", "image": operator },
            { "name": "account", "run": "true", "pod": { "serviceAccountName": "nobody" } },
            { "name": "impossible", "run": "true",
              "pod": { "resources": { "requests": { "cpu": "2" }, "limits": { "cpu": "1" } } } },
        ]);
        let mut definition = pipeline(jobs);
        definition["finally"] = json!([{ "name": "last", "run": "true" }]);
        begin(&stage, definition, json!({})).await;
        let what = "the job to be evicted to run";
        status(&stage, "PipelineRun", RUN, what, BOUND, |status| runs(status, "evicted")).await;
        evict(&stage, "evicted");
        let status = ended(&stage).await;
        for (name, class, evidence) in expected {
            let told = job(&status, name);
            assert_eq!((&told["phase"], &told["failure"]), (&json!("Failed"), &json!(class)), "{name}: {status:#}");
            let message = told["message"].as_str().unwrap_or_default();
            assert!(message.contains(evidence) && !message.is_empty(), "{name}: {told:#}");
        }
        assert_eq!(condition(&status, "Succeeded")["status"], "False");
        // What can't be made ends nothing but itself.
        assert_eq!(job(&status, "last")["phase"], "Succeeded", "{status:#}");
    })
    .await;
}

/// A registry on this machine that lets nobody in, and that its node knows by its address. Dropped, the node forgets it.
struct Closed {
    address: SocketAddr,
    /// Where the node's container runtime reads how to reach it.
    hosts: PathBuf,
}

impl Closed {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(|| async { StatusCode::UNAUTHORIZED });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let kubeconfig = PathBuf::from(setting("TIMETRACKER_TEST_KUBECONFIG"));
        let hosts = kubeconfig.with_file_name("certs.d").join(address.to_string());
        std::fs::create_dir(&hosts).unwrap();
        std::fs::write(hosts.join("hosts.toml"), format!("server = \"http://{address}\"\n")).unwrap();
        Self { address, hosts }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.hosts).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_nobody_may_pull_fails_its_job_at_once_and_says_so() {
    on_stage("closed", |stage| async move {
        let closed = Closed::start().await;
        let image = format!("{}/closed/tools:1", closed.address);
        let jobs = json!([{ "name": "closed", "run": "true", "image": image }, { "name": "open", "run": "true" }]);
        begin(&stage, pipeline(jobs), json!({})).await;
        let status = ended(&stage).await;
        let told = job(&status, "closed");
        assert_eq!((&told["failure"], &told["attempt"]), (&json!("Configuration"), &json!(1)), "{status:#}");
        let message = told["message"].as_str().unwrap_or_default();
        assert!(message.contains("401"), "{message}");
        assert_eq!(job(&status, "open")["phase"], "Succeeded", "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_job_is_run_again_unless_it_may_run_only_once() {
    on_stage("again", |stage| async move {
        // What the first attempt leaves behind tells the second one to end at once.
        let mark = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "marks" },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Mi" } } } });
        stage.apply(&mark);
        let volumes =
            json!([{ "name": "marks", "mountPath": "/marks", "persistentVolumeClaim": { "claimName": "marks" } }]);
        let script = |name: &str| format!("test -e /marks/{name} && exit 0; touch /marks/{name}; sleep 120");
        let jobs = json!([
            { "name": "again", "run": script("again"), "pod": { "volumes": volumes } },
            { "name": "once", "run": script("once"), "effects": "Once", "pod": { "volumes": volumes } },
        ]);
        begin(&stage, pipeline(jobs), json!({})).await;
        status(&stage, "PipelineRun", RUN, "both jobs to run", BOUND, |status| {
            runs(status, "again") && runs(status, "once")
        })
        .await;
        evict(&stage, "again");
        evict(&stage, "once");
        let status = ended(&stage).await;
        let (again, once) = (job(&status, "again"), job(&status, "once"));
        assert_eq!((&again["phase"], &again["attempt"]), (&json!("Succeeded"), &json!(2)), "{status:#}");
        assert_eq!((&once["failure"], &once["attempt"]), (&json!("Evicted"), &json!(1)), "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_quota_is_said_and_the_run_goes_on_when_there_is_more() {
    on_stage("quota", |stage| async move {
        let quota = |jobs: &str| {
            stage.apply(&json!({
                "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "few" },
                "spec": { "hard": { "count/jobs.batch": jobs } },
            }));
        };
        quota("1");
        let jobs = json!([{ "name": "first", "run": "true" }, { "name": "second", "needs": ["first"], "run": "true" }]);
        begin(&stage, pipeline(jobs), json!({})).await;
        until("an event about the quota", BOUND, || {
            stage.kubectl(&["get", "events", "--field-selector=reason=QuotaExceeded"]).contains("exceeded quota")
        })
        .await;
        status(&stage, "PipelineRun", RUN, "the first job's end and why the second waits", BOUND, |status| {
            let (first, second) = (&status["jobs"][0], &status["jobs"][1]);
            let waits = second["message"].as_str().is_some_and(|why| why.starts_with("waits: exceeded quota: few"));
            first["phase"] == "Succeeded" && second["phase"] == "Queued" && waits
        })
        .await;
        quota("5");
        let status = ended(&stage).await;
        assert_eq!(condition(&status, "Succeeded")["status"], "True", "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_has_no_room_for_a_pod_is_said_and_a_run_without_time_says_what_it_did_not_do() {
    on_stage("pods", |stage| async move {
        stage.apply(&json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "no-pods" }, "spec": { "hard": { "pods": "0" } },
        }));
        let mut definition = pipeline(json!([{ "name": "waits", "run": "true" }, { "name": "behind", "needs": ["waits"], "run": "true" }]));
        definition["timeout"] = json!("25s");
        begin(&stage, definition, json!({})).await;
        status(&stage, "PipelineRun", RUN, "why there is no pod", BOUND, |status| {
            let told = status["jobs"][0]["message"].as_str().unwrap_or_default();
            told.starts_with("no pod can be made: exceeded quota: no-pods")
        })
        .await;
        let status = ended(&stage).await;
        let told = condition(&status, "Succeeded");
        assert_eq!((&told["status"], &told["reason"]), (&json!("False"), &json!("DeadlineExceeded")), "{status:#}");
    })
    .await;
}

/// Looks for whatever a job could use and must not: tokens, Secrets, the node's agent, artifacts of its own run and of others.
/// Everything answers, and nothing opens.
fn snoops(stage: &Stage) -> String {
    let store = format!("http://timetracker-artifacts.{OPERATOR_NAMESPACE}:8080/v1/artifacts");
    let namespace = &stage.namespace;
    format!(
        "import os, ssl, urllib.error, urllib.request\n\
         trust = ssl._create_unverified_context()\n\
         def asked(method, url):\n    \
             request = urllib.request.Request(url, method=method, data=b'x' if method == 'PUT' else None)\n    \
             try: return urllib.request.urlopen(request, timeout=10, context=trust).status\n    \
             except urllib.error.HTTPError as error: return error.code\n    \
             except OSError as error: return str(error)\n\
         node = next(line.split()[2] for line in open('/proc/net/route') if line.split()[1] == '00000000')\n\
         node = '.'.join(str(byte) for byte in reversed(bytes.fromhex(node)))\n\
         answers = [asked(*question) for question in [\n    \
             ('GET', 'https://kubernetes.default.svc/api/v1/namespaces/{namespace}/secrets'),\n    \
             ('GET', 'https://kubernetes.default.svc/apis/timetracker.dev/v1alpha1/namespaces/{namespace}/pipelineruns'),\n    \
             ('GET', f'https://{{node}}:10250/pods'),\n    \
             ('GET', '{store}/{namespace}/{RUN}'),\n    \
             ('GET', '{store}/other/run'),\n    \
             ('PUT', '{store}/{namespace}/{RUN}/{RUN}-0/mine'),\n\
         ]]\n\
         places = [place for place in ('/var/run/secrets', '/run/secrets') if os.path.exists(place)]\n\
         told = [name for name in os.environ if 'TOKEN' in name or 'SECRET' in name]\n\
         print(answers, places, told)\n\
         assert all(answer in (401, 403) for answer in answers) and not places and not told\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_floods_lies_snoops_and_forks_harms_nobody() {
    on_stage("hostile", |stage| async move {
        let before = Operator::find(&stage.client).await.resident();
        let flood = "import os, sys\n\
            out = sys.stdout.buffer\n\
            out.write(b'x' * (100 << 20))\n\
            for _ in range(900): out.write(b'\\xff\\xfe 137 passed in 1.00s\\n' * 40000)\n\
            out.write(b'\\x1b]0;title\\x07 {\"exitCode\":0}\\n')\n\
            out.flush()\n\
            sys.exit(7)\n";
        let script = |python: &str| format!("python3 - <<'END'\n{python}END\n");
        let bomb = r#"python3 -c "
import os
open(os.environ['REPORTS'] + '/junit.xml', 'w').write('<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY a \"aaaa\">' + ''.join(f'<!ENTITY a{n} \"' + f'&a{n-1 if n else str()};' * 20 + '\">' for n in range(20)) + ']><testsuite tests=\"9\"><testcase name=\"&a19;\"/></testsuite>')
""#;
        let million = r#"python3 -c "
import os
with open(os.environ['REPORTS'] + '/junit.xml', 'w') as f:
    f.write('<testsuite tests=\"1000000\">')
    for n in range(1000000): f.write(f'<testcase name=\"t{n}\"><failure message=\"m\">x</failure></testcase>')
    f.write('</testsuite>')
""#;
        let jobs = json!([
            { "name": "flood", "run": script(flood) },
            { "name": "flood-agent", "run": script(flood), "reports": ["JUnit"] },
            { "name": "bomb", "run": bomb, "reports": ["JUnit"] },
            { "name": "million", "run": million, "reports": ["JUnit"] },
            { "name": "links", "run": "ln -s /proc/self/environ \"$REPORTS/junit.xml\"; ln -s / out; mkfifo pipe", "reports": ["JUnit"],
              "artifacts": [{ "name": "out", "path": "out/" }, { "name": "pipe", "path": "pipe" }] },
            { "name": "outputs", "outputs": ["version"], "run": "yes version=1 | head -c 50000000 > \"$OUTPUTS\"; exit 0" },
            { "name": "snoops", "run": script(&snoops(&stage)) },
            // Kubelet bounds the pod's processes, and the container's cpu keeps the other jobs going.
            { "name": "forks", "timeout": "5s", "run": "f() { f | f & }; f; while :; do :; done", "reports": ["JUnit"],
              "pod": { "resources": { "limits": { "cpu": "500m" } } } },
            { "name": "leaves", "timeout": "5s", "run": script(
                "import os, time\nfor _ in range(200):\n    if os.fork() == 0: os.setsid(); time.sleep(600)\ntime.sleep(600)\n"), "reports": ["JUnit"] },
        ]);
        let mut definition = pipeline(jobs);
        definition["defaults"]["resources"] = json!({ "limits": { "memory": "512Mi" } });
        begin(&stage, definition, json!({})).await;
        let status = ended(&stage).await;
        for (name, class) in [
            ("flood", "CommandFailure"),
            ("flood-agent", "CommandFailure"),
            ("bomb", "NoTestsCollected"),
            ("links", "NoTestsCollected"),
            ("forks", "DeadlineExceeded"),
            ("leaves", "DeadlineExceeded"),
        ] {
            assert_eq!(job(&status, name)["failure"], class, "{name}: {status:#}");
        }
        // A million failures are either counted or refused; never a success.
        assert_eq!(job(&status, "million")["phase"], "Failed", "{status:#}");
        assert_eq!(job(&status, "snoops")["phase"], "Succeeded", "{status:#}");
        assert!(status.to_string().len() < 100 << 10, "the status is bounded");
        let grown = Operator::find(&stage.client).await.resident() - before;
        assert!(grown < 20.0, "the operator's memory grew by {grown:.1} MiB");
    })
    .await;
}
