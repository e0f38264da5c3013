//! Keeps the logs of pods in which there is no agent: reads head and tail from kubelet and brings them to the artifact
//! store, as the collector does it of all other pods.
//!
//! A job may print without end, a kubelet may be slow and the store may be down: each costs a bounded amount of memory and
//! time of a few tasks that stand beside the reconciles, and holds no other run up. What was kept is remembered here alone.
//! An operator that starts anew keeps it once more, which changes nothing.

mod read;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::timeout;

use crate::agent::{Log, Store, StoreError};
use crate::api::marks::MAIN_CONTAINER;
use crate::api::names::Digest;
use crate::cluster::{Cluster, Panicked, ReadError, supervised};

/// How many logs are read and brought away at once, each with less than 1.5 MiB in memory.
const SLOTS: usize = 8;
/// How long one may take, with the time that it waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many pods are remembered. Were there more, the logs of all would be kept once again.
const MOST: usize = 4096;
/// How many messages of what ended may be on their way.
const CAPACITY: usize = 256;

/// When in its life a log is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Its command runs: should the pod be lost, this is what is left.
    Passing,
    /// Its pod is being taken away.
    Parting,
    /// Its command has ended by itself.
    Final,
}

/// A log that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The namespace.
    pub namespace: String,
    /// The run.
    pub run: String,
    /// The Kubernetes Job of the attempt.
    pub job: String,
    /// The pod.
    pub pod: String,
    /// The Job's uid.
    pub uid: String,
    /// When it is looked at.
    pub look: Look,
}

/// How the keeping of a pod's log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is being kept.
    UnderWay,
    /// It was kept.
    Kept {
        /// As it was at that look.
        look: Look,
        /// When.
        at: Timestamp,
    },
    /// It could not be kept.
    Failed {
        /// At that look.
        look: Look,
        /// When.
        at: Timestamp,
        /// How often in a row, at that look.
        tries: u32,
        /// Why.
        why: String,
    },
}

/// Why a log was not kept.
#[derive(Debug, thiserror::Error)]
enum LogError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("kubelet does not have it any more")]
    Gone,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it took longer than {} seconds", PATIENCE.as_secs())]
    TooSlow,
    #[error("this operator does not lead any more")]
    NotLeading,
    #[error(transparent)]
    Panicked(Panicked),
}

/// A pod of which something was wanted.
#[derive(Debug, Default)]
struct Known {
    standing: Option<Standing>,
    /// What was kept last.
    kept: Option<Kept>,
    /// Somebody waits for the end of what is under way.
    awaited: bool,
}

/// By which what was kept is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    /// The length and digest of the head.
    head: (usize, Digest),
    tail: Digest,
    complete: bool,
}

impl Kept {
    fn of(log: &Log, complete: bool) -> Self {
        Self { head: (log.head().len(), Digest::of(log.head())), tail: Digest::of(log.tail()), complete }
    }

    /// Whether the log goes on with what was kept. Else kubelet has begun a new file, and the head is not there any more.
    fn is_begin_of(&self, log: &Log) -> bool {
        let (length, digest) = &self.head;
        log.head().get(..*length).is_some_and(|head| Digest::of(head) == *digest)
    }
}

/// The tasks that keep logs, and what they have kept.
#[derive(Clone)]
pub struct Keeper(Arc<Tasks>);

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("store", &self.0.store).finish_non_exhaustive()
    }
}

struct Tasks {
    cluster: Cluster,
    store: String,
    token_file: PathBuf,
    slots: Semaphore,
    /// By uid.
    pods: Mutex<HashMap<String, Known>>,
    /// Namespace and name of runs with a log that was awaited.
    ended: broadcast::Sender<(String, String)>,
}

impl Keeper {
    /// Keeps what `cluster` has in the store at this address, with the token in the file.
    #[must_use]
    pub fn new(cluster: Cluster, store: &str, token_file: PathBuf) -> Self {
        Self(Arc::new(Tasks {
            cluster,
            store: store.to_owned(),
            token_file,
            slots: Semaphore::new(SLOTS),
            pods: Mutex::default(),
            ended: broadcast::Sender::new(CAPACITY),
        }))
    }

    /// How the logs of the Jobs of these uids stand; of others nothing was wanted.
    #[must_use]
    pub fn standing<'a>(&self, uids: impl Iterator<Item = &'a str>) -> BTreeMap<String, Standing> {
        let pods = self.0.pods();
        uids.filter_map(|uid| Some((uid.to_owned(), pods.get(uid)?.standing.clone()?))).collect()
    }

    /// Begins to keep a log, unless that is under way. Must be called within the runtime.
    pub fn keep(&self, wanted: Wanted) {
        let before = {
            let mut pods = self.0.pods();
            if pods.len() >= MOST {
                pods.retain(|_, known| known.standing == Some(Standing::UnderWay));
            }
            let known = pods.entry(wanted.uid.clone()).or_default();
            if known.standing == Some(Standing::UnderWay) {
                return;
            }
            known.standing.replace(Standing::UnderWay)
        };
        let tasks = Arc::clone(&self.0);
        tokio::spawn(async move {
            let result = match supervised(timeout(PATIENCE, tasks.keep(&wanted))).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(LogError::TooSlow),
                Err(panicked) => Err(LogError::Panicked(panicked)),
            };
            tasks.end(&wanted, result, before.as_ref());
        });
    }

    /// Has the run told by [`Keeper::ended`] when what is under way for one of these Jobs has ended, or at once when
    /// nothing is.
    pub fn await_end(&self, namespace: &str, run: &str, uids: &[String]) {
        let mut pods = self.0.pods();
        let mut under_way = false;
        for uid in uids {
            if let Some(known) = pods.get_mut(uid).filter(|known| known.standing == Some(Standing::UnderWay)) {
                known.awaited = true;
                under_way = true;
            }
        }
        drop(pods);
        if !under_way {
            self.0.tell(namespace, run);
        }
    }

    /// The runs, by namespace and name, of which an awaited log was kept or not, from now on. Some may be missed.
    pub fn ended(&self) -> impl Stream<Item = (String, String)> + Send + 'static {
        let receiver = self.0.ended.subscribe();
        futures::stream::unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(run) => return Some((run, receiver)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
    }

    /// Forgets these Jobs: their run is over.
    pub fn forget<'a>(&self, uids: impl Iterator<Item = &'a str>) {
        let mut pods = self.0.pods();
        for uid in uids {
            pods.remove(uid);
        }
    }
}

impl Tasks {
    fn pods(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, namespace: &str, run: &str) {
        // Nobody listens while the controllers start: then all runs are looked at anyway.
        let _listeners = self.ended.send((namespace.to_owned(), run.to_owned()));
    }

    /// Reads the log and brings it to the store, unless that has it already.
    async fn keep(&self, wanted: &Wanted) -> Result<Option<Kept>, LogError> {
        // Never closed.
        let _slot = self.slots.acquire().await.map_err(|_| LogError::NotLeading)?;
        if !self.cluster.leads() {
            return Err(LogError::NotLeading);
        }
        let container = [wanted.namespace.as_str(), wanted.pod.as_str(), MAIN_CONTAINER];
        let Some(log) = read::read(&self.cluster, container).await? else { return Ok(None) };
        let before = self.pods().get(&wanted.uid).and_then(|known| known.kept.clone());
        let complete = wanted.look == Look::Final;
        let (log, kept) = match &before {
            Some(before) if !before.is_begin_of(&log) => {
                let log = log.continuing();
                let kept = Kept { head: before.head.clone(), ..Kept::of(&log, complete) };
                (log, kept)
            }
            Some(_) | None => {
                let kept = Kept::of(&log, complete);
                (log, kept)
            }
        };
        if before.as_ref() == Some(&kept) {
            return Ok(None);
        }
        let names = [wanted.namespace.as_str(), wanted.run.as_str(), wanted.job.as_str()];
        let store = Store::new(&self.store, names, &self.token_file)?;
        for (name, content) in log.artifacts(complete) {
            store.put(&name, &content).await?;
        }
        Ok(Some(kept))
    }

    fn end(&self, wanted: &Wanted, result: Result<Option<Kept>, LogError>, before: Option<&Standing>) {
        let (look, at) = (wanted.look, Timestamp::now());
        let mut pods = self.pods();
        // Else its run is over.
        if let Some(known) = pods.get_mut(&wanted.uid) {
            known.standing = Some(match result {
                Ok(kept) => {
                    known.kept = kept.or_else(|| known.kept.take());
                    Standing::Kept { look, at }
                }
                Err(error) => {
                    let tries = match before {
                        Some(Standing::Failed { look: earlier, tries, .. }) if *earlier == look => tries + 1,
                        Some(Standing::Failed { .. } | Standing::Kept { .. } | Standing::UnderWay) | None => 1,
                    };
                    let (namespace, pod) = (wanted.namespace.as_str(), wanted.pod.as_str());
                    tracing::warn!(%error, namespace, pod, tries, "the log of a pod was not kept");
                    Standing::Failed { look, at, tries, why: error.to_string() }
                }
            });
            if std::mem::take(&mut known.awaited) {
                drop(pods);
                self.tell(&wanted.namespace, &wanted.run);
            }
        }
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
