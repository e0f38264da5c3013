//! Whether the cluster works, for waiting and for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use super::binaries::Binaries;
use super::components::{self, Component};
use super::layout::{Layout, NODE};
use super::supervise::{self, Record};
use crate::host::progress::seconds;
use crate::host::{run, wait};

/// Waits until a component works.
///
/// # Errors
/// When it ends or its bound is over, with its last words.
pub fn await_health(layout: &Layout, binaries: &Binaries, component: &Component) -> Result<()> {
    let healthy = wait::until(component.bound, || {
        if supervise::is_healthy(layout, binaries, &component.health) {
            return Ok(true);
        }
        if Record::load(layout, component.name).is_none_or(|record| !record.process.is_alive()) {
            bail!("{}", supervise::ended(layout, component.name));
        }
        Ok(false)
    })?;
    if healthy {
        return Ok(());
    }
    let log = layout.log(component.name);
    bail!(
        "{} does not work {} after its start; its last words:\n{}\nall of them: {}",
        component.name,
        seconds(component.bound),
        supervise::tail(&log, 15),
        log.display()
    )
}

/// Refuses when a component has ended in the meantime, such as one that can't be asked whether it works.
///
/// # Errors
/// When a component doesn't run, with its last words.
pub fn require_all_running(layout: &Layout, binaries: &Binaries) -> Result<()> {
    for component in components::all(layout, binaries) {
        if supervise::running(layout, component.name).is_none() {
            bail!("{}", supervise::ended(layout, component.name));
        }
    }
    Ok(())
}

/// Prints the table of components and what one needs to use the cluster; says whether everything works.
///
/// # Errors
/// When the clock is before 1970.
pub fn print(layout: &Layout, binaries: &Binaries) -> Result<bool> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut all_work = true;
    println!("{:<26}{:>8}  {:<9}SINCE", "COMPONENT", "PID", "HEALTHY");
    for component in components::all(layout, binaries) {
        let process = supervise::running(layout, component.name);
        let healthy = process.is_some() && supervise::is_healthy(layout, binaries, &component.health);
        all_work &= healthy;
        let since = match (&process, Record::load(layout, component.name)) {
            (Some(_), Some(record)) => seconds(Duration::from_secs(now.saturating_sub(record.since))),
            _ => "-".to_owned(),
        };
        let pid = process.map_or_else(|| "-".to_owned(), |process| process.pid.to_string());
        println!("{:<26}{pid:>8}  {:<9}{since}", component.name, if healthy { "yes" } else { "no" });
    }
    let condition = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    let mut kubectl = super::client(layout, &binaries.kubernetes("kubectl"));
    kubectl.args(["--request-timeout=5s", "get", "node", NODE, "--output", condition]);
    let ready = run::output(&mut kubectl).is_ok_and(|status| status == "True");
    println!("\nnode        {NODE}, {}", if ready { "ready" } else { "not ready" });
    println!("kubeconfig  {}", layout.kubeconfig().display());
    println!("kubectl     {}", binaries.kubernetes("kubectl").display());
    println!("helm        {}", binaries.tool("helm").display());
    println!("registry    {}", components::registry_address());
    Ok(all_work && ready)
}
