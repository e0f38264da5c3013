//! An operator of some namespaces only: its Roles suffice there, and it does nothing elsewhere.

use serde_json::{Value, json};

use super::{chart, helm, operator_is_ready};
use crate::releases::{SITE, delivered, release};
use crate::runs::{RUN, begin, ended, pipeline};
use crate::stage::{OPERATOR, OPERATOR_NAMESPACE, Stage, on_stage, output, program, try_output};
use crate::waiting::is_true;

/// The operator as it was installed, whatever becomes of the test.
struct Installed(tempfile::NamedTempFile);

impl Installed {
    fn now() -> Self {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(file.path(), helm(&["get", "values", OPERATOR, "--output=yaml"])).unwrap();
        Self(file)
    }

    fn upgrade(&self, more: &[&str]) {
        let values = self.0.path().to_str().unwrap();
        let chart = chart();
        let mut arguments = vec!["upgrade", OPERATOR, &chart, "--values", values, "--wait", "--timeout=3m"];
        arguments.extend(more);
        helm(&arguments);
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        self.upgrade(&[]);
    }
}

/// What the operator's account may do, in the API server's words.
fn may(namespace: &str, verb: &str, resource: &str) -> bool {
    let account = format!("--as=system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR}");
    let mut ask = program("kubectl");
    ask.args(["--namespace", namespace, "auth", "can-i", verb, resource, &account]);
    // It ends with 1 when it says no.
    try_output(&mut ask).is_ok_and(|answer| answer.trim() == "yes")
}

/// A release and a run that need nothing but an operator.
async fn site_and_run(stage: &Stage) {
    stage.publish("1.0.0").await;
    stage.create("TimeTrackerRelease", SITE, release(stage)).await;
    let report = r#"echo '<testsuite tests="1"><testcase name="a"/></testsuite>' > "$REPORTS/junit.xml""#;
    begin(stage, pipeline(json!([{ "name": "job", "reports": ["JUnit"], "run": report }])), json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_of_some_namespaces_works_in_them_and_nowhere_else() {
    on_stage("watched", |watched| async move {
        on_stage("unwatched", |unwatched| async move {
            let installed = Installed::now();
            installed.upgrade(&["--set", &format!("watchNamespaces={{{}}}", watched.namespace)]);
            operator_is_ready().await;
            for stage in [&unwatched, &watched] {
                site_and_run(stage).await;
            }
            let run = ended(&watched).await;
            assert!(is_true(&run, "Succeeded"), "{run:#}");
            delivered(&watched, "1.0.0").await;
            watched.ask(SITE, "/_ready").expect("the site answers");

            for (kind, name) in [("TimeTrackerRelease", SITE), ("PipelineRun", RUN)] {
                let object = unwatched.api(kind).get(name).await.unwrap();
                let observed = &object.data["status"]["observedGeneration"];
                assert!([Value::Null, json!(-1)].contains(observed), "{:#}", object.data);
                assert!(object.metadata.finalizers.is_none(), "{:?}", object.metadata);
            }
            let kinds = "jobs,pods,deployments,statefulsets,services,secrets,controllerrevisions,networkpolicies";
            assert_eq!(unwatched.kubectl(&["get", kinds, "--output=name"]), "");

            assert!(may(&watched.namespace, "create", "jobs.batch"));
            for namespace in [unwatched.namespace.as_str(), "default", OPERATOR_NAMESPACE] {
                assert!(!may(namespace, "list", "pods") && !may(namespace, "get", "secrets"), "{namespace}");
            }
            let target = format!("deployment/{OPERATOR}");
            let log = output(program("kubectl").args(["--namespace", OPERATOR_NAMESPACE, "logs", &target]));
            assert!(log.contains(&watched.namespace), "{log}");
            let refused: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains("forbidden")).collect();
            assert!(refused.is_empty(), "{refused:#?}");
        })
        .await;
    })
    .await;
    operator_is_ready().await;
}
