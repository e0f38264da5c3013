//! `cargo xtask test`: the checks and every tier of tests, summed up in one last line.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::Told;
use crate::cluster::Cluster;
use crate::cluster::choice::{ChoiceArguments, ClusterChoice};
use crate::operator::{self, Images};
use crate::paths;

mod counts;
mod deny;
mod needs;
mod python;
mod runner;
mod targets;
mod whole;

pub use whole::point_at;

use runner::Runner;
use targets::Targets;

/// Name of the package with the product.
const PACKAGE: &str = "timetracker-operator";
/// The modules of end-to-end tests that must have the cluster for themselves.
const ALONE: [&str; 2] = ["absent_node::", "installation::"];
/// How many of the others run at once: they mostly wait, and two at once keep two cores not half busy.
const THREADS: &str = "--test-threads=3";

/// What can be run by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Tier {
    /// Format, clippy, licences and banned crates
    Lint,
    /// Single functions and modules, generated files, the sample app's own tests
    Unit,
    /// Decisions against a model world
    Model,
    /// Against other programs: registry, GitHub's protocol, Postgres, git, helm, kustomize
    Contract,
    /// Against a real API server
    Apiserver,
    /// The whole: the demo, then cluster, images, operator, releases and runs
    E2e,
}

/// Arguments of `cargo xtask test`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this tier; may be given several times
    #[arg(long, value_enum)]
    tier: Vec<Tier>,
    #[command(flatten)]
    cluster: ChoiceArguments,
    /// Only tests whose name contains this
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
}

/// Runs the command. The last line on standard output is always `N passed, N failed`.
///
/// # Errors
/// [`Told`] when anything failed; what it was has been printed.
pub fn main(arguments: &Arguments) -> Result<()> {
    let mut runner = Runner::new(arguments.filter.clone());
    if let Err(error) = run(arguments, &mut runner) {
        runner.fail("preparing the tests", &format!("{error:#}"));
    }
    runner.print_table();
    println!("{} passed, {} failed", runner.counts().passed, runner.counts().failed);
    if runner.counts().failed == 0 { Ok(()) } else { Err(Told.into()) }
}

fn run(arguments: &Arguments, runner: &mut Runner) -> Result<()> {
    let wanted = |tier: Tier| arguments.tier.is_empty() || arguments.tier.contains(&tier);
    needs::ensure(runner.progress())?;
    // It takes minutes the first time and hardly gets in the way of what waits for clusters.
    let deny = wanted(Tier::Lint).then(deny::install_in_background);
    let targets = Targets::load()?;
    if wanted(Tier::Lint) {
        lint(runner, &targets);
    }
    if [Tier::Unit, Tier::Model, Tier::Contract, Tier::Apiserver, Tier::E2e].into_iter().any(wanted) {
        let built = runner.check(
            "building the tests",
            cargo(["test", "--quiet", "--no-run", "--package", PACKAGE]).args(targets.flags_of_all()),
        );
        if !built {
            bail!("the tests do not compile");
        }
    }
    if wanted(Tier::Unit) {
        let mut unit = cargo(["test", "--quiet", "--no-fail-fast", "--package", PACKAGE, "--lib", "--bins"]);
        runner.tests("units", unit.args(targets.flags(Tier::Unit)));
        runner.tests("units of xtask", &mut cargo(["test", "--quiet", "--no-fail-fast", "--package", "xtask"]));
        python::sample_app(runner)?;
    }
    if wanted(Tier::Model) && !targets.flags(Tier::Model).is_empty() {
        runner.tests("model", cargo_tests().args(targets.flags(Tier::Model)));
    }
    if wanted(Tier::Contract) {
        let tools = whole::Tools::built(runner.progress())?;
        let mut contract = cargo_tests();
        contract.env("TIMETRACKER_SAMPLE_PYTHON", python::interpreter(runner.progress())?);
        runner.tests("contracts", tools.set(contract.args(targets.flags(Tier::Contract)))?);
    }
    if [Tier::Apiserver, Tier::E2e].into_iter().any(wanted) {
        let cluster = arguments.cluster.cluster(runner.progress())?;
        if wanted(Tier::Apiserver) {
            api_server(&cluster, arguments.cluster.cluster, &targets, runner)?;
        }
        if wanted(Tier::E2e) {
            end_to_end(&cluster, arguments.cluster.cluster, &targets, runner)?;
        }
    }
    if let Some(deny) = deny {
        deny.check(runner);
    }
    Ok(())
}

fn lint(runner: &mut Runner, targets: &Targets) {
    runner.check("format", &mut cargo(["fmt", "--all", "--check"]));
    // By name: `--all-targets` leaves out what a bare `cargo test` does.
    let mut all = targets.flags_of_all();
    all.push("--benches".to_owned());
    for (package, targets) in [(PACKAGE, all), ("xtask", vec!["--all-targets".to_owned()])] {
        // One package at a time, as they are built: their dependencies' features differ, and together they would be a third set.
        let mut clippy = cargo(["clippy", "--quiet", "--locked", "--package", package]);
        clippy.args(targets).args(["--", "--deny", "warnings"]);
        runner.check(&format!("clippy of {package}"), &mut clippy);
    }
}

fn api_server(cluster: &Cluster, choice: ClusterChoice, targets: &Targets, runner: &mut Runner) -> Result<()> {
    // The operator of an earlier demo would take up what these tests make. Of another cluster it is not ours to stop.
    let stopped = match choice {
        ClusterChoice::Embedded => {
            runner.progress().step("stopping the operator, if there is one", || operator::stop(cluster))?
        }
        ClusterChoice::Current => None,
    };
    runner.tests("API server", whole::point_at(cluster, cargo_tests().args(targets.flags(Tier::Apiserver)))?);
    match stopped {
        Some(replicas) => operator::start(cluster, replicas),
        None => Ok(()),
    }
}

fn end_to_end(cluster: &Cluster, choice: ClusterChoice, targets: &Targets, runner: &mut Runner) -> Result<()> {
    let flags = targets.flags(Tier::E2e);
    if flags.is_empty() {
        return Ok(());
    }
    if choice == ClusterChoice::Current {
        runner.progress().say("the end-to-end tests kill processes and change registries, so they run on the embedded cluster only: left out");
        return Ok(());
    }
    if runner.filter().is_none() {
        // The first promise of the README, kept as anybody would see it kept. It installs an operator with values of its
        // own, so it comes before the tests.
        let program = env::current_exe().context("finding this program")?;
        runner.check("demo", Command::new(program).arg("demo").current_dir(paths::repository()));
    }
    let images = Images::push(cluster, runner.progress())?;
    images.push_samples("samples/timetracker", runner.progress())?;
    let mut values = images.values(cluster)?;
    whole::allow_faulty_registries(cluster, &mut values);
    runner.progress().step("installing the operator", || operator::install_with(cluster, &values))?;
    let mut command = cargo(["test", "--no-fail-fast", "--package", PACKAGE]);
    command.args(&flags);
    if runner.filter().is_some() {
        runner.tests_with("end to end", whole::point_at(cluster, &mut command)?, &[THREADS]);
        return Ok(());
    }
    let mut options = vec![THREADS];
    options.extend(ALONE.iter().flat_map(|name| ["--skip", *name]));
    runner.tests_with("end to end", whole::point_at(cluster, &mut command)?, &options);
    // One takes away the node that the others need, the last one the operator.
    let mut alone = cargo(["test", "--no-fail-fast", "--package", PACKAGE]);
    alone.args(&flags);
    let options: Vec<&str> = ["--test-threads=1"].into_iter().chain(ALONE).collect();
    runner.tests_with("end to end, alone", whole::point_at(cluster, &mut alone)?, &options);
    Ok(())
}

/// The program of `cargo xtask bench`, which finds the cluster as the tests do.
pub fn bench(scenarios: &[String]) -> Command {
    let mut command = cargo(["test", "--quiet", "--package", PACKAGE, "--bench", "cluster", "--"]);
    command.args(scenarios);
    command
}

fn cargo_tests() -> Command {
    cargo(["test", "--quiet", "--no-fail-fast", "--package", PACKAGE])
}

/// The cargo that runs this program, in the checkout.
fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(arguments).current_dir(paths::repository());
    command
}

/// A program beside others that tests find on the search path.
fn search_path(first: &[PathBuf]) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(first.iter().cloned().chain(env::split_paths(&path))).context("search path")
}
