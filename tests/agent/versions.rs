//! The sample app's versions do what their names say, on a real Postgres: other tests rely on it.

use std::path::Path;
use std::process::Command;

use crate::support::postgres::Postgres;

/// The Python with the sample app's requirements; `cargo xtask test` sets it.
const PYTHON: &str = "TIMETRACKER_SAMPLE_PYTHON";

#[test]
fn every_version_of_the_sample_app_does_what_its_name_says() {
    let python = std::env::var_os(PYTHON)
        .unwrap_or_else(|| panic!("{PYTHON} is not set: run `cargo xtask test --tier contract`"));
    let postgres = Postgres::start();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/timetracker");
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "versions_test.py"]).current_dir(folder);
    pytest.env("PYTHONDONTWRITEBYTECODE", "1").env("DATABASE_URL", postgres.url());
    let output = pytest.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains(" passed"), "{told}");
}
