//! Generated files are those that the types say. With `TIMETRACKER_UPDATE=1` they are written instead of compared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;

use timetracker_operator::generate::{self, chart_values::OperatorValues};

#[test]
fn generated_files_have_not_drifted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let update = std::env::var_os("TIMETRACKER_UPDATE").is_some();
    let mut drifted = Vec::new();
    for file in generate::files().unwrap() {
        let path = root.join(&file.path);
        if fs::read_to_string(&path).is_ok_and(|text| text == file.text) {
            continue;
        }
        if update {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &file.text).unwrap();
        } else {
            drifted.push(file.path);
        }
    }
    assert!(drifted.is_empty(), "run `cargo xtask generate`; drifted: {drifted:?}");
}

#[test]
fn the_operator_charts_own_values_have_the_typed_form() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/timetracker-operator/values.yaml"))
            .unwrap();
    let values: OperatorValues = serde_saphyr::from_str(&text).unwrap();
    assert!(values.crds.install);
    assert!(values.watch_namespaces.is_empty());
}
