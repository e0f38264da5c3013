//! A container that a policy of the cluster adds to every pod, and that never ends by itself.

use serde_json::json;

use crate::runs::{PYTHON, RUN, begin, ended, job, pipeline};
use crate::stage::{Stage, on_stage, output, program};
use crate::waiting::{condition, until};

/// How long a pod may go on for a foreign container's sake, and what a busy machine adds.
const LINGERING: u64 = 150 + 120;

/// An admission policy that adds the container to the pods of one namespace. Dropped, there is none any more.
struct Injector {
    name: String,
}

impl Injector {
    fn into_pods_of(stage: &Stage) -> Self {
        let name = format!("inject-{}", stage.namespace);
        let container = format!(
            "[JSONPatch{{op: \"add\", path: \"/spec/containers/-\", value: Object.spec.containers{{name: \"foreign\", \
             image: \"{PYTHON}\", command: [\"sh\", \"-c\", \"trap 'exit 0' TERM; while true; do sleep 600 & wait; done\"]}}}}]"
        );
        let api = "admissionregistration.k8s.io/v1";
        stage.apply(&json!({
            "apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": { "name": &name },
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": &stage.namespace } },
                    "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
                },
                "failurePolicy": "Fail", "reinvocationPolicy": "Never",
                "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": container } }],
            },
        }));
        stage.apply(&json!({
            "apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": { "name": &name },
            "spec": { "policyName": &name },
        }));
        Self { name }
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
            output(program("kubectl").args(["delete", kind, &self.name, "--ignore-not-found"]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_container_that_never_ends_keeps_neither_the_run_nor_its_pods() {
    on_stage("foreign", |stage| async move {
        let injector = Injector::into_pods_of(&stage);
        until("the policy to be in force", 60, || {
            let try_out = ["run", "probe", "--image", PYTHON, "--dry-run=server", "--output=yaml"];
            stage.kubectl(&try_out).contains("name: foreign")
        })
        .await;
        let report = r#"echo '<testsuite tests="1"><testcase name="a"/></testsuite>' > "$REPORTS/junit.xml""#;
        let jobs = json!([
            { "name": "plain", "run": "true" },
            { "name": "next", "needs": ["plain"], "run": "true" },
            { "name": "reports", "run": report, "reports": ["JUnit"] },
            { "name": "red", "run": format!("{report}; exit 3"), "reports": ["JUnit"], "continueOnError": true },
        ]);
        begin(&stage, pipeline(jobs), json!({})).await;
        let status = ended(&stage).await;
        assert_eq!(condition(&status, "Succeeded")["status"], "True", "{status:#}");
        assert_eq!(job(&status, "reports")["phase"], "Succeeded", "{status:#}");
        assert_eq!(status["tests"]["passed"], 2, "{status:#}");
        let red = job(&status, "red");
        assert_eq!((&red["failure"], &red["message"]), (&json!("CommandFailure"), &json!("exit code 3")), "{status:#}");
        let selector = format!("timetracker.dev/run={RUN}");
        until("the pods to end", LINGERING, || {
            let pods =
                stage.kubectl(&["get", "pods", "--selector", &selector, "--output=jsonpath={.items[*].status.phase}"]);
            let phases: Vec<&str> = pods.split_whitespace().collect();
            phases.len() == 4 && phases.iter().all(|phase| ["Succeeded", "Failed"].contains(phase))
        })
        .await;
        drop(injector);
    })
    .await;
}
