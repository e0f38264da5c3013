//! The bootstrap step behind a migration: default rows and first administrators, by the image's own code.

use std::ffi::OsString;
use std::time::Duration;

use crate::agent::message::Secrets;
use crate::agent::process::{Limits, PassOn, Terminate};
use crate::agent::python::{self, Script};
use crate::agent::report::BootstrapReport;

const SCRIPT: &str = include_str!("bootstrap.py");
const LIMITS: Limits = Limits { timeout: Duration::from_secs(120), grace: Duration::from_secs(10) };

/// Runs it. Whatever goes wrong is only told: the site may well run without.
pub(super) async fn bootstrap(
    environment: Vec<(String, OsString)>,
    terminate: &mut Terminate,
    abandoned: impl Future<Output = ()>,
    secrets: &Secrets,
) -> BootstrapReport {
    let script = Script {
        interpreter: vec!["python".into(), "-".into()],
        text: SCRIPT,
        environment,
        directory: None,
        pass_on: PassOn::StandardOutput,
    };
    let failed = |message: String| BootstrapReport { succeeded: false, message };
    match python::run(script, LIMITS, terminate, abandoned).await {
        Ok(result) => match serde_json::from_slice::<BootstrapReport>(&result.document) {
            Ok(told) => BootstrapReport { message: secrets.message(&told.message), ..told },
            Err(_) => failed(secrets.message_with_output("the bootstrap step gave no result", &result.output)),
        },
        Err(error) => failed(secrets.message(&format!("the bootstrap step could not be run: {error}"))),
    }
}
