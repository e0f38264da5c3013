//! Properties of what the charts render.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use timetracker_operator::api::pipeline::Pipeline;
use timetracker_operator::config::Configuration;

use crate::{Objects, objects, tools};

const CHART: &str = "charts/timetracker-operator";
const PIPELINES: &str = "charts/timetracker-pipelines";

fn render(sets: &[&str]) -> Objects {
    objects(&tools::helm_template("timetracker-operator", CHART, "timetracker-system", sets))
}

fn refusal(chart: &str, sets: &[&str]) -> String {
    tools::try_helm_template("timetracker-operator", chart, "timetracker-system", sets).expect_err("refused")
}

fn kinds(objects: &Objects, kind: &str) -> Vec<String> {
    objects.keys().filter(|key| key.starts_with(&format!("{kind} "))).cloned().collect()
}

/// Every rule of every Role and ClusterRole.
fn rules(objects: &Objects) -> Vec<Value> {
    objects
        .values()
        .filter(|object| object["kind"] == "Role" || object["kind"] == "ClusterRole")
        .flat_map(|role| role["rules"].as_array().unwrap().clone())
        .collect()
}

fn words(rule: &Value, key: &str) -> Vec<String> {
    rule[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn all_charts_pass_helms_own_lint_strictly() {
    for chart in ["charts/timetracker-operator", "charts/timetracker", PIPELINES] {
        let mut command = Command::new(tools::helm());
        command.args(["lint", "--strict", "--kube-version", tools::OLDEST, chart]);
        tools::run(command).unwrap();
    }
}

#[test]
fn the_definitions_are_kept_when_the_chart_goes_and_can_be_left_out() {
    let definitions: Vec<Value> =
        render(&[]).into_values().filter(|object| object["kind"] == "CustomResourceDefinition").collect();
    assert_eq!(definitions.len(), 4);
    for definition in definitions {
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    assert!(kinds(&render(&["crds.install=false"]), "CustomResourceDefinition").is_empty());
}

#[test]
fn the_chart_carries_no_custom_resource() {
    assert!(render(&[]).values().all(|object| object["apiVersion"] != "timetracker.dev/v1alpha1"));
}

#[test]
fn nothing_is_allowed_by_wildcard_and_secrets_are_never_listed() {
    for objects in [render(&[]), render(&["watchNamespaces={a,b}"])] {
        for rule in rules(&objects) {
            for key in ["apiGroups", "resources", "verbs"] {
                assert!(!words(&rule, key).contains(&"*".to_owned()), "{rule}");
            }
            let (resources, verbs) = (words(&rule, "resources"), words(&rule, "verbs"));
            if resources.contains(&"secrets".to_owned()) {
                assert_eq!(resources, ["secrets"]);
                assert_eq!(verbs, ["get", "create", "patch"]);
            }
            for verb in ["escalate", "bind", "impersonate", "deletecollection"] {
                assert!(!verbs.contains(&verb.to_owned()), "{rule}");
            }
            for resource in ["nodes", "pods/exec", "serviceaccounts/token", "roles", "clusterroles", "rolebindings"] {
                assert!(!resources.contains(&resource.to_owned()), "{rule}");
            }
        }
    }
}

#[test]
fn with_watched_namespaces_there_is_one_role_in_each_and_no_cluster_role() {
    let objects = render(&["watchNamespaces={a,b}"]);
    assert!(kinds(&objects, "ClusterRole").is_empty());
    assert!(kinds(&objects, "ClusterRoleBinding").is_empty());
    assert_eq!(
        kinds(&objects, "Role"),
        [
            "Role a/timetracker-operator",
            "Role b/timetracker-operator",
            "Role timetracker-system/timetracker-operator-leader",
        ]
    );
    let everywhere = render(&[]);
    assert_eq!(
        objects["Role a/timetracker-operator"]["rules"],
        everywhere["ClusterRole /timetracker-operator"]["rules"]
    );
}

#[test]
fn the_artifact_store_has_no_permission_at_all() {
    for object in render(&[]).values().filter(|object| object["kind"].as_str().unwrap().ends_with("Binding")) {
        for subject in object["subjects"].as_array().unwrap() {
            assert_eq!(subject["name"], "timetracker-operator", "{object}");
        }
    }
}

#[test]
fn every_pod_is_restricted_with_a_read_only_root() {
    let objects = render(&["trustedCA.configMap=ca"]);
    let deployments: Vec<&Value> = objects.values().filter(|object| object["kind"] == "Deployment").collect();
    assert_eq!(deployments.len(), 2);
    for deployment in deployments {
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["runAsUser"], 65532);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for container in pod["containers"].as_array().unwrap() {
            assert_eq!(
                container["securityContext"],
                json!({
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                })
            );
            assert!(container["resources"]["requests"].is_object() && container["resources"]["limits"].is_object());
            assert!(container["livenessProbe"].is_object() && container["readinessProbe"].is_object());
        }
    }
}

/// The artifact store's Deployment and the ports that it may reach.
fn artifacts(sets: &[&str]) -> (Value, Vec<u64>) {
    let objects = render(sets);
    let deployment = objects["Deployment timetracker-system/timetracker-artifacts"]["spec"].clone();
    let policy = &objects["NetworkPolicy timetracker-system/timetracker-artifacts"]["spec"];
    let rules = policy["egress"].as_array().unwrap().iter();
    let ports =
        rules.flat_map(|rule| rule["ports"].as_array().unwrap().iter().map(|port| port["port"].as_u64().unwrap()));
    (deployment, ports.collect())
}

const BUCKET: [&str; 4] = [
    "artifacts.s3.bucket=ci-artifacts",
    "artifacts.s3.endpoint=https://s3.example.org:9000/",
    "artifacts.s3.region=eu-central-1",
    "artifacts.s3.credentialsSecret=s3",
];

#[test]
fn by_default_artifacts_are_kept_on_a_volume_by_one_store() {
    let (deployment, ports) = artifacts(&[]);
    let pod = &deployment["template"]["spec"];
    assert_eq!((&deployment["replicas"], &deployment["strategy"]["type"]), (&json!(1), &json!("Recreate")));
    assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], "timetracker-artifacts");
    let arguments = pod["containers"][0]["args"].to_string();
    assert!(arguments.contains("--directory") && !arguments.contains("s3"), "{arguments}");
    assert_eq!(ports, [443, 6443, 53, 53]);
}

#[test]
fn the_store_takes_logs_from_the_operators_account_and_the_operator_has_a_token_for_nothing_else() {
    let sets = ["serviceAccount.name=own"];
    let (store, _) = artifacts(&sets);
    let arguments = store["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    assert!(arguments.contains(&json!("--log-account=system:serviceaccount:timetracker-system:own")), "{arguments:?}");
    let pod = |sets: &[&str]| {
        render(sets)["Deployment timetracker-system/timetracker-operator"]["spec"]["template"]["spec"].clone()
    };
    let operator = pod(&sets);
    assert_eq!(operator["serviceAccountName"], "own");
    let volumes = operator["volumes"].as_array().unwrap();
    let token = volumes.iter().find(|volume| volume["name"] == "artifacts").unwrap();
    let expected = json!({"audience": "timetracker-artifacts-logs", "expirationSeconds": 3600, "path": "token"});
    assert_eq!(token["projected"]["sources"], json!([{ "serviceAccountToken": expected }]));
    let mounts = operator["containers"][0]["volumeMounts"].as_array().unwrap();
    let mounted = mounts.iter().find(|mount| mount["name"] == "artifacts").unwrap();
    assert_eq!(mounted["mountPath"], "/etc/timetracker/artifacts");
    let configuration = |sets: &[&str]| {
        render(sets)["ConfigMap timetracker-system/timetracker-operator"]["data"]["config.yaml"].to_string()
    };
    assert!(configuration(&sets).contains("tokenFile: /etc/timetracker/artifacts/token"));
    let without = ["artifacts.enabled=false"];
    assert!(!pod(&without).to_string().contains("timetracker-artifacts-logs"));
    assert!(!configuration(&without).contains("tokenFile"));
}

#[test]
fn with_a_bucket_there_is_no_volume_and_the_server_may_be_reached() {
    let mut sets = BUCKET.to_vec();
    sets.extend(["artifacts.replicas=2", "trustedCA.configMap=ca"]);
    let (deployment, ports) = artifacts(&sets);
    assert_eq!((&deployment["replicas"], &deployment["strategy"]["type"]), (&json!(2), &json!("RollingUpdate")));
    let pod = &deployment["template"]["spec"];
    let volumes: Vec<&Value> = pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
    assert_eq!(volumes, ["s3", "trusted-ca"]);
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], "s3");
    assert_eq!(
        pod["containers"][0]["args"],
        json!([
            "artifacts",
            "--listen=0.0.0.0:8080",
            "--retention=720h",
            "--log-account=system:serviceaccount:timetracker-system:timetracker-operator",
            "--s3-bucket=ci-artifacts",
            "--s3-prefix=timetracker-artifacts",
            "--s3-region=eu-central-1",
            "--s3-endpoint=https://s3.example.org:9000/",
            "--s3-credentials=/etc/timetracker/s3",
            "--s3-trusted-ca-file=/etc/timetracker/trusted-ca/ca-certificates.crt",
        ])
    );
    assert_eq!(ports, [443, 6443, 53, 53, 9000]);
    assert!(kinds(&render(&sets), "PersistentVolumeClaim").is_empty());
}

#[test]
fn the_identity_of_the_pod_serves_without_a_secret() {
    let role = "artifacts.serviceAccount.annotations.eks\\.amazonaws\\.com/role-arn=arn:aws:iam::1:role/ci";
    let sets = ["artifacts.s3.bucket=ci-artifacts", "artifacts.s3.pathStyle=true", role];
    let (deployment, ports) = artifacts(&sets);
    let pod = &deployment["template"]["spec"];
    assert!(pod["volumes"].is_null() && pod["containers"][0]["volumeMounts"].is_null(), "{pod}");
    assert!(pod["containers"][0]["args"].to_string().contains("--s3-path-style=true"));
    assert_eq!(ports, [443, 6443, 53, 53, 80]);
    let account = &render(&sets)["ServiceAccount timetracker-system/timetracker-artifacts"];
    assert_eq!(account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"], "arn:aws:iam::1:role/ci");
}

#[test]
fn the_store_takes_the_arguments_that_the_chart_writes() {
    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        arguments: timetracker_operator::artifacts::ArtifactsArguments,
    }
    for sets in [&BUCKET[..], &["artifacts.s3.bucket=ci-artifacts"], &[]] {
        let (deployment, _) = artifacts(sets);
        let given = words(&deployment["template"]["spec"]["containers"][0], "args");
        let Program { arguments } = clap::Parser::try_parse_from(given).unwrap();
        assert_eq!(arguments.bucket.bucket.is_some(), arguments.directory.is_none());
    }
}

/// The configuration file that the operator would read.
fn configuration(sets: &[&str]) -> Configuration {
    let objects = render(sets);
    let text = objects["ConfigMap timetracker-system/timetracker-operator"]["data"]["config.yaml"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, text).unwrap();
    Configuration::read(&path).unwrap()
}

#[test]
fn the_operator_reads_the_configuration_that_the_chart_writes() {
    let plain = configuration(&[]);
    assert_eq!(plain.images.agent, format!("ghcr.io/drytrix/timetracker-agent:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(plain.artifacts.unwrap().url, "http://timetracker-artifacts.timetracker-system:8080");
    assert!(plain.trusted_ca_file.is_none());
    assert_eq!(plain.priority_class_name.as_deref(), Some("timetracker-ci"));

    let set = configuration(&[
        "watchNamespaces={a}",
        "artifacts.enabled=false",
        "priorityClass.enabled=false",
        "trustedCA.configMap=ca",
        "agentImage.repository=registry.example.org/agent",
        "agentImage.tag=dev",
        "config.limits.jobs=3",
        "config.registry.mirrors.ghcr\\.io=registry.example.org:5000",
    ]);
    assert_eq!(set.watch_namespaces, ["a"]);
    assert_eq!(set.images.agent, "registry.example.org/agent:dev");
    assert!(set.artifacts.is_none());
    assert!(set.priority_class_name.is_none(), "a class that may not exist would keep every pod from being made");
    assert_eq!(set.trusted_ca_file.as_deref(), Some(Path::new("/etc/timetracker/trusted-ca/ca-certificates.crt")));
    assert_eq!(set.limits.jobs, 3);
    assert_eq!(set.limits.jobs_per_namespace, Configuration::default().limits.jobs_per_namespace);
    assert_eq!(set.registry.mirrors["ghcr.io"], "registry.example.org:5000");
}

#[test]
fn a_changed_configuration_restarts_the_operator() {
    let hash = |sets: &[&str]| {
        let deployment = &render(sets)["Deployment timetracker-system/timetracker-operator"];
        deployment["spec"]["template"]["metadata"]["annotations"]["timetracker.dev/config-hash"].clone()
    };
    assert_ne!(hash(&[]), hash(&["config.limits.jobs=3"]));
    assert_eq!(hash(&[]), hash(&["resources.limits.memory=1Gi"]));
}

#[test]
fn a_digest_wins_over_a_tag() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let objects = render(&["image.tag=x", &format!("image.digest={digest}")]);
    let pod = &objects["Deployment timetracker-system/timetracker-operator"]["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], format!("ghcr.io/drytrix/timetracker-operator@{digest}"));
}

#[test]
fn values_with_unknown_keys_or_wrong_types_are_refused_by_name() {
    for (chart, set, words) in [
        (CHART, "imagee.tag=x", "imagee"),
        (CHART, "artifacts.enabled=maybe", "/artifacts/enabled"),
        (CHART, "config.limits.jobz=1", "jobz"),
        (CHART, "image.digest=latest", "/image/digest"),
        (CHART, "networkPolicy.apiServerPorts={}", "/networkPolicy/apiServerPorts"),
        (CHART, "networkPolicy.apiServerPorts={443,65536}", "/networkPolicy/apiServerPorts/1"),
        (CHART, "networkPolicy.apiServerPorts={https}", "/networkPolicy/apiServerPorts/0"),
        (CHART, "config.watchNamespaces={a}", "write watchNamespaces at the top level"),
        (CHART, "metrics.enabled=false,metrics.serviceMonitor.enabled=true", "serviceMonitor needs metrics.enabled"),
        (CHART, "artifacts.replicas=2", "needs artifacts.s3.bucket"),
        (CHART, "artifacts.s3.bucket=Not_A_Bucket", "/artifacts/s3/bucket"),
        (CHART, "artifacts.s3.bucket=b-1,artifacts.s3.endpoint=http://minio:9000", "has no TLS"),
        (CHART, "artifacts.s3.endpoint=https://key:secret@s3.example.org", "/artifacts/s3/endpoint"),
        (CHART, "artifacts.s3.secretAccessKey=x", "secretAccessKey"),
        (CHART, "artifacts.s3.prefix=", "/artifacts/s3/prefix"),
        ("charts/timetracker", "image.semvr=5", "semvr"),
        ("charts/timetracker", "values.replicaCount=two", "/values/replicaCount"),
        ("charts/timetracker", "values.ingres.enabled=true", "ingres"),
        (PIPELINES, "codecov.enable=true", "enable"),
        (PIPELINES, "coverage.threshold=101", "/coverage/threshold"),
        (PIPELINES, "coverage.source=app; id", "/coverage/source"),
        (PIPELINES, "image=ci $(id)", "/image"),
        (PIPELINES, "codecov.flags={a b}", "/codecov/flags/0"),
    ] {
        let error = refusal(chart, &[set]);
        assert!(error.contains(words), "{chart} {set}: {error}");
    }
}

#[test]
fn a_service_monitor_is_rendered_when_asked_for_and_finds_the_metrics() {
    const MONITOR: &str = "ServiceMonitor timetracker-system/timetracker-operator";
    assert!(!render(&[]).contains_key(MONITOR), "it needs definitions that not every cluster has");
    let objects = render(&[
        "metrics.serviceMonitor.enabled=true",
        "metrics.serviceMonitor.interval=15s",
        "metrics.serviceMonitor.labels.release=prometheus",
    ]);
    let monitor = &objects[MONITOR];
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(monitor["spec"]["endpoints"], json!([{ "port": "metrics", "path": "/metrics", "interval": "15s" }]));
    let service = &objects["Service timetracker-system/timetracker-operator-metrics"];
    assert_eq!(service["spec"]["ports"][0]["name"], "metrics");
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(!wanted.is_empty());
    for (key, value) in wanted {
        assert_eq!(&service["metadata"]["labels"][key], value, "{key}");
    }
}

#[test]
fn the_artifact_store_reaches_the_api_server_on_the_ports_that_are_named() {
    let ports = |sets: &[&str]| -> Vec<i64> {
        let policy = &render(sets)["NetworkPolicy timetracker-system/timetracker-artifacts"];
        let rules = policy["spec"]["egress"].as_array().unwrap();
        assert_eq!(rules.len(), 1);
        let ports = rules[0]["ports"].as_array().unwrap();
        ports.iter().map(|port| port["port"].as_i64().unwrap()).filter(|port| *port != 53).collect()
    };
    assert_eq!(ports(&[]), [443, 6443]);
    assert_eq!(ports(&["networkPolicy.apiServerPorts={443,16443}"]), [443, 16443]);
}

/// What Helm says after an installation. Without a cluster it does not, so a copy of the chart renders it as an object.
fn notes(chart: &str, sets: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("chart");
    let mut command = Command::new("cp");
    command.args(["--recursive", chart]).arg(&copy);
    tools::run(command).unwrap();
    std::fs::rename(copy.join("templates/NOTES.txt"), copy.join("notes")).unwrap();
    let shown = "{notes: {{ tpl (.Files.Get \"notes\") . | toJson }}, kind: Notes, metadata: {name: shown}}";
    std::fs::write(copy.join("templates/shown.yaml"), shown).unwrap();
    let rendered = objects(&tools::helm_template("site", copy.to_str().unwrap(), "default", sets));
    rendered["Notes /shown"]["notes"].as_str().unwrap().to_owned()
}

#[test]
fn the_release_chart_warns_of_more_than_one_replica() {
    let notes = |sets: &[&str]| notes("charts/timetracker", sets);
    assert!(notes(&[]).contains("wait timetrackerrelease/site") && !notes(&[]).contains("WARNING"));
    assert!(!notes(&["values.replicaCount=1"]).contains("WARNING"));
    let warned = notes(&["values.replicaCount=3"]);
    assert!(warned.contains("WARNING: values.replicaCount is 3"), "{warned}");
}

#[test]
fn the_release_chart_renders_its_values_as_the_spec() {
    let one = |sets: &[&str]| {
        let rendered = tools::helm_template("site", "charts/timetracker", "default", sets);
        let objects = objects(&rendered);
        assert_eq!(objects.len(), 1);
        objects["TimeTrackerRelease default/site"]["spec"].clone()
    };
    assert_eq!(one(&[]), json!({ "image": { "semver": ">=5, <6" } }));
    assert_eq!(
        one(&["image.version=5.10.0", "values.replicaCount=2", "hold.reason=audit"]),
        json!({ "image": { "version": "5.10.0" }, "values": { "replicaCount": 2 }, "hold": { "reason": "audit" } })
    );
}

fn pipeline(name: &str, sets: &[&str]) -> Pipeline {
    let objects = objects(&tools::helm_template("pipelines", PIPELINES, "ci", sets));
    serde_json::from_value(objects[&format!("Pipeline /{name}")].clone()).unwrap()
}

#[test]
fn the_pipelines_chart_says_repository_image_room_and_threshold_in_every_pipeline() {
    let sets = [
        "repository=mine",
        "image=registry.example.org/ci@sha256:0",
        "resources.limits.memory=3Gi",
        "nodeSelector.disk=ssd",
        "coverage.threshold=80",
    ];
    for name in ["comprehensive-ci", "migration-check", "development-cd", "release-cd"] {
        let spec = pipeline(name, &sets).spec;
        assert_eq!(spec.repository_ref.unwrap().name, "mine");
        let defaults = spec.defaults.unwrap();
        assert_eq!(defaults.image.as_deref(), Some("registry.example.org/ci@sha256:0"));
        assert_eq!(defaults.resources.unwrap().limits.unwrap()["memory"].0, "3Gi");
        assert_eq!(defaults.pod.unwrap().node_selector["disk"], "ssd");
        for step in spec.jobs.iter().chain(&spec.finally).filter_map(|job| job.coverage_report.as_ref()) {
            assert_eq!(step.threshold, Some(80));
        }
    }
}

#[test]
fn requirement_files_take_the_place_of_the_image_but_for_the_upload() {
    let sets = ["environment.requirements={requirements-test.txt}", "codecov.enabled=true"];
    for name in ["comprehensive-ci", "migration-check", "development-cd", "release-cd"] {
        let spec = pipeline(name, &sets).spec;
        let defaults = spec.defaults.unwrap();
        let environment = defaults.environment.unwrap();
        assert_eq!((environment.python.as_str(), defaults.image), ("3.11", None));
        assert_eq!(environment.requirements, ["requirements-test.txt"]);
        for job in spec.jobs.iter().chain(&spec.finally) {
            assert_eq!(job.image.is_some(), job.codecov_upload.is_some(), "{}", job.name);
        }
    }
}

#[test]
fn codecov_is_off_unless_it_is_asked_for() {
    let uploads = |sets: &[&str]| {
        let spec = pipeline("comprehensive-ci", sets).spec;
        spec.finally.into_iter().filter_map(|job| Some((job.needs, job.codecov_upload?))).collect::<Vec<_>>()
    };
    assert!(uploads(&[]).is_empty());
    let on = uploads(&["codecov.enabled=true", "codecov.flags={unit}"]);
    assert_eq!(on.len(), 1);
    assert_eq!(on[0].0, ["coverage-report"]);
    assert_eq!(on[0].1.token_secret_ref.as_ref().unwrap().name, "codecov");
    assert_eq!((on[0].1.flags.as_slice(), on[0].1.fail_on_error), (&["unit".to_owned()][..], false));
    assert!(uploads(&["codecov.enabled=true", "codecov.tokenSecret="])[0].1.token_secret_ref.is_none());
}

#[test]
fn the_values_that_the_documents_show_are_values_of_the_chart() {
    let mut count = 0;
    for example in crate::examples::examples() {
        let Some(values) = example.chart_values() else { continue };
        let chart = "charts/timetracker-operator";
        let rendered = tools::try_helm_template_with("timetracker-operator", chart, "system", &values.to_string());
        rendered.unwrap_or_else(|error| panic!("{}: {error}", example.place));
        count += 1;
    }
    assert!(count >= 1, "{count} examples");
}
