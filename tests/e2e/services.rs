//! Services of any image beside a job.

use serde_json::json;

use crate::runs::{PYTHON, begin, ended, job, pipeline};
use crate::stage::on_stage;
use crate::waiting::is_true;

/// Asks the app beside it, which must have been ready before.
const ASK: &str = r#"python3 - <<'END'
import urllib.request
with urllib.request.urlopen("http://127.0.0.1:8080/_health", timeout=5) as answer:
    assert answer.status == 200, answer.status
END
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_any_image_is_ready_before_its_job_starts_and_goes_with_it() {
    on_stage("service", |stage| async move {
        stage.publish("1.0.0").await;
        let env = [
            ("DATABASE_URL", "sqlite:////tmp/app.db"),
            ("SECRET_KEY", "a-key-of-more-than-thirty-two-characters"),
            ("INSTALLATION_CONFIG_DIR", "/tmp"),
            ("UPLOAD_FOLDER", "/tmp"),
        ];
        let env = env.map(|(name, value)| json!({ "name": name, "value": value }));
        let image = format!("{}:1.0.0", stage.image_name());
        let by_port = json!({ "name": "app", "image": image, "port": 8080, "env": env });
        let mut by_command = by_port.clone();
        by_command["readiness"] = json!([
            "python3",
            "-c",
            "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/_health', timeout=2)"
        ]);
        let jobs = json!([
            { "name": "port", "run": ASK, "services": [by_port] },
            { "name": "command", "run": ASK, "services": [by_command] },
        ]);
        begin(&stage, pipeline(jobs), json!({})).await;
        let status = ended(&stage).await;
        assert!(is_true(&status, "Succeeded"), "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_stays_is_told_as_such_and_its_job_never_starts() {
    on_stage("crashing", |stage| async move {
        // Python without a script ends at once.
        let job_of = json!([{ "name": "waits", "run": "true", "retries": { "infrastructure": 0 },
            "services": [{ "name": "cache", "image": PYTHON, "port": 6379 }] }]);
        begin(&stage, pipeline(job_of), json!({})).await;
        let status = ended(&stage).await;
        let told = job(&status, "waits");
        assert_eq!((&told["phase"], &told["failure"]), (&json!("Failed"), &json!("ServiceNotReady")), "{status:#}");
        let message = told["message"].as_str().unwrap();
        assert!(message.contains("cache: ended with exit code 0 at its start number"), "{message}");
    })
    .await;
}
