//! Somebody who watches: every pod of every Job in a namespace, from the beginning, whatever becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use tokio::task::JoinHandle;

use crate::stage::Stage;

const JOB_LABEL: &str = "batch.kubernetes.io/job-name";
/// The label of what a pod is part of, and its value for those of a site.
const COMPONENT_LABEL: (&str, &str) = ("app.kubernetes.io/component", "app");
/// What a pod is for: a step of a delivery, or a cell of a run.
const PURPOSES: [&str; 2] = ["timetracker.dev/purpose", "timetracker.dev/cell"];

/// Per purpose and Job the pods that there were.
type Seen = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Per image the pods of sites that there were.
type Sites = BTreeMap<String, BTreeSet<String>>;

/// The pods of sites in which something runs or will, by uid, with their images; and per purpose the images of those that there were when
/// its first pod came.
#[derive(Default)]
struct Together {
    now: BTreeMap<String, String>,
    at: BTreeMap<String, BTreeSet<String>>,
}

/// The watch; it ends with it.
pub struct Witness {
    seen: Arc<Mutex<Seen>>,
    sites: Arc<Mutex<Sites>>,
    together: Arc<Mutex<Together>>,
    watch: JoinHandle<()>,
}

impl Witness {
    /// Watches from now on.
    pub fn of(stage: &Stage) -> Self {
        let pods: Api<Pod> = Api::namespaced(stage.client.clone(), &stage.namespace);
        let seen = Arc::new(Mutex::new(Seen::new()));
        let writes = Arc::clone(&seen);
        let sites = Arc::new(Mutex::new(Sites::new()));
        let site_writes = Arc::clone(&sites);
        let together = Arc::new(Mutex::new(Together::default()));
        let together_writes = Arc::clone(&together);
        let watch = tokio::spawn(async move {
            let mut events = watcher(pods, watcher::Config::default()).default_backoff().boxed();
            while let Some(event) = events.next().await {
                let (pod, exists) = match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => (pod, true),
                    Ok(Event::Delete(pod)) => (pod, false),
                    Ok(Event::Init | Event::InitDone) | Err(_) => continue,
                };
                together_writes.lock().unwrap().note(&pod, exists);
                if pod.labels().get(COMPONENT_LABEL.0).is_some_and(|component| component == COMPONENT_LABEL.1) {
                    let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone()).unwrap();
                    site_writes.lock().unwrap().entry(image).or_default().insert(pod.uid().unwrap());
                }
                let Some(job) = pod.labels().get(JOB_LABEL) else { continue };
                let Some(purpose) = PURPOSES.iter().find_map(|name| pod.annotations().get(*name)) else { continue };
                let mut seen = writes.lock().unwrap();
                let pods = seen.entry(purpose.clone()).or_default().entry(job.clone()).or_default();
                pods.insert(pod.uid().unwrap());
            }
        });
        Self { seen, sites, together, watch }
    }

    /// The images of the pods of sites in which something ran, ending ones among them, when the first pod for this purpose came.
    pub fn sites_at(&self, purpose: &str) -> Vec<String> {
        let together = self.together.lock().unwrap();
        let at = together.at.get(purpose).unwrap_or_else(|| panic!("no pod for {purpose}: {:?}", together.at));
        at.iter().cloned().collect()
    }

    /// How many pods of sites ran the image of this digest.
    pub fn pods_of(&self, digest: &str) -> usize {
        let sites = self.sites.lock().unwrap();
        sites.iter().filter(|(image, _)| image.ends_with(digest)).map(|(_, pods)| pods.len()).sum()
    }

    /// Whether there was a pod for this purpose.
    pub fn saw(&self, purpose: &str) -> bool {
        self.together.lock().unwrap().at.contains_key(purpose)
    }

    /// Each Job had one pod, and each of these purposes (by the begin of their names) one Job; returns how many.
    pub fn saw_each_once(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        for (purpose, jobs) in seen.iter() {
            assert_eq!(jobs.len(), 1, "attempts at {purpose}: {jobs:?}");
            for (job, pods) in jobs {
                assert_eq!(pods.len(), 1, "pods of {job}, for {purpose}: {pods:?}");
            }
        }
        seen.len()
    }
}

impl Together {
    fn note(&mut self, pod: &Pod, exists: bool) {
        let uid = pod.uid().unwrap();
        if pod.labels().get(COMPONENT_LABEL.0).is_some_and(|component| component == COMPONENT_LABEL.1) {
            let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone()).unwrap();
            // One whose containers have all ended stays listed for a moment; nothing runs in it any more.
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            if exists && !matches!(phase, Some("Succeeded" | "Failed")) {
                self.now.insert(uid, image);
            } else {
                self.now.remove(&uid);
            }
        } else if let Some(purpose) = PURPOSES.iter().find_map(|name| pod.annotations().get(*name)) {
            let images = self.now.values().cloned().collect();
            self.at.entry(purpose.clone()).or_insert(images);
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.watch.abort();
    }
}
