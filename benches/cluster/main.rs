//! What the operator costs, on a real cluster: `cargo xtask bench`.
//!
//! Every figure that has a bound is a ratio within one run, against the same pods made by hand by a client that does
//! nothing else: machines differ, and differ from hour to hour. Nothing here fails on a slow machine; it tells.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod by_hand;
mod delivery;
mod environments;
#[path = "../../tests/e2e/git.rs"]
#[allow(dead_code)] // The tests use the rest.
mod git;
mod graph;
#[path = "../../tests/e2e/operator.rs"]
mod operator;
#[path = "../../tests/e2e/registry.rs"]
mod registry;
mod runs;
#[path = "../../tests/e2e/stage.rs"]
#[allow(dead_code)] // The tests use the rest.
mod stage;
mod table;
mod workflow;

use graph::Graph;
use table::Table;

/// Every scenario by its name, in the order in which they run.
const SCENARIOS: [&str; 8] = ["levels", "at-once", "fan-out", "chain", "delivery", "workflow", "environments", "kept"];

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = wanted.iter().find(|name| !SCENARIOS.contains(&name.as_str())) {
        eprintln!("no scenario {unknown}; there are {}", SCENARIOS.join(", "));
        std::process::exit(2);
    }
    let mut table = Table::default();
    for scenario in SCENARIOS.into_iter().filter(|name| wanted.is_empty() || wanted.iter().any(|own| own == name)) {
        eprintln!("{scenario} …");
        match scenario {
            "levels" => runs::against_hand(&Graph::levels(), 1, 7, &mut table).await,
            "at-once" => runs::against_hand(&Graph::levels(), 10, 3, &mut table).await,
            "fan-out" => runs::against_hand(&Graph::fan_out(20), 1, 3, &mut table).await,
            "chain" => runs::against_hand(&Graph::chain(10), 1, 3, &mut table).await,
            "delivery" => delivery::measure(&mut table).await,
            "workflow" => workflow::measure(&mut table).await,
            "environments" => environments::measure(&mut table).await,
            "kept" => runs::kept(300, &mut table).await,
            other => unreachable!("{other} is in no list"),
        }
    }
    println!("{}", table.markdown());
}
