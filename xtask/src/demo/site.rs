//! The site, asked through the API server's proxy: that way works from outside every cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{NAMESPACE, SITE};
use crate::cluster::Cluster;
use crate::host::progress::seconds;
use crate::kubectl::Kubectl;

/// Between two questions of a watcher.
const PAUSE: Duration = Duration::from_millis(500);

/// What the site answers to a GET.
///
/// # Errors
/// When that is no success.
pub fn ask(kubectl: &Kubectl<'_>, path: &str) -> Result<String> {
    kubectl.raw(&format!("/api/v1/namespaces/{NAMESPACE}/services/{SITE}:http/proxy{path}"))
}

/// Asks the site again and again, and measures for how long it did not answer.
pub struct Watcher {
    stopped: Arc<AtomicBool>,
    asking: JoinHandle<Duration>,
}

impl Watcher {
    /// Begins to ask.
    pub fn start(cluster: &Cluster) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let (cluster, told) = (cluster.clone(), Arc::clone(&stopped));
        Self { stopped, asking: thread::spawn(move || silence(&cluster, &told)) }
    }

    /// Says how long the site was silent.
    pub fn stop(self) -> String {
        self.stopped.store(true, Ordering::Relaxed);
        match self.asking.join() {
            Ok(silence) if silence.is_zero() => "the site answered all the time".to_owned(),
            Ok(silence) => format!("the site was away for {}", seconds(silence)),
            Err(_) => "the site was not watched".to_owned(),
        }
    }
}

fn silence(cluster: &Cluster, stopped: &AtomicBool) -> Duration {
    let kubectl = Kubectl::new(cluster);
    let mut silent = Duration::ZERO;
    while !stopped.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answered = ask(&kubectl, "/_health").is_ok();
        thread::sleep(PAUSE);
        if !answered {
            silent += begun.elapsed();
        }
    }
    silent
}
