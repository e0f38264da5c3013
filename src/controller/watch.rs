//! One controller per resource: what is watched, and what stands around each reconcile.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info_span, warn};

use super::changes::{digest, significant};
use crate::api::conditions::{Statement, Verdict, restate, types};
use crate::cluster::{Backoff, Cluster, Target, WATCH_SECONDS, Write, supervised};
use crate::plan::Next;
use crate::telemetry::{Metrics, Outcome};

/// How long a burst of changes is gathered before one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(30);
/// How soon a reconcile that lost a race looks again.
const AFTER_CONFLICT: Duration = Duration::from_millis(200);
/// How often every object is looked at without any change: missed events are normal.
const RESYNC: Duration = Duration::from_secs(600);

/// What a vertical's error tells its controller.
pub(super) trait ReconcileFailure: std::error::Error {
    /// A static word for metrics.
    fn reason(&self) -> &'static str;
    /// Whether it is enough to observe again at once.
    fn is_conflict(&self) -> bool;
}

/// What all controllers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) cluster: Cluster,
    pub(super) metrics: Metrics,
    pub(super) stop: CancellationToken,
    pub(super) concurrency: u16,
}

/// A custom resource that is reconciled.
pub(super) trait Reconciled:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// The kind, for metrics and logs.
    const KIND: &'static str;

    /// The generation that its status speaks of.
    fn observed_generation(&self) -> Option<i64>;

    /// Whether it has no status: nobody wrote one yet, or somebody deleted it.
    fn is_without_status(&self) -> bool {
        // The default of the definition is −1: nobody has looked yet.
        self.observed_generation().is_none_or(|generation| generation < 0)
    }
}

/// The objects of kind `K` in one namespace, or in all.
pub(super) fn api_in<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// How everything is watched.
pub(super) fn watched(selector: Option<&str>) -> watcher::Config {
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    match selector {
        Some(selector) => config.labels(selector),
        None => config,
    }
}

/// A controller of `K` before its children are named. What is written to a status wakes nobody: it is ours alone.
pub(super) fn controller<K: Reconciled>(shared: &Shared, namespace: Option<&str>) -> Controller<DeserializeGuard<K>> {
    let stop = shared.stop.clone();
    let (reader, writer) = reflector::store();
    let events = watcher(api_in::<DeserializeGuard<K>>(&shared.client, namespace), watched(None));
    let changes = significant(events.reflect(writer), |object: &DeserializeGuard<K>| Some(significance(object)));
    Controller::for_stream(changes, reader)
        .with_config(kube::runtime::controller::Config::default().debounce(DEBOUNCE).concurrency(shared.concurrency))
        .graceful_shutdown_on(async move { stop.cancelled().await })
}

/// What a decision reads of the object itself. A status that was deleted is to be written again.
fn significance<K: Reconciled>(object: &DeserializeGuard<K>) -> u64 {
    let metadata = object.meta();
    digest(&(
        metadata.generation,
        &metadata.annotations,
        &metadata.labels,
        &metadata.finalizers,
        metadata.deletion_timestamp.is_some(),
        object.0.as_ref().is_ok_and(Reconciled::is_without_status),
    ))
}

/// The owner of a child, by the label that names it.
pub(super) fn owner_by_label<K: Reconciled, C: Resource>(
    child: &C,
    label: &str,
) -> Option<ObjectRef<DeserializeGuard<K>>> {
    let owner = child.meta().labels.as_ref()?.get(label)?;
    let namespace = child.meta().namespace.as_deref()?;
    Some(ObjectRef::new(owner).within(namespace))
}

/// Reconciles until told to stop. A panic, an error or an undecodable object stops nothing else.
pub(super) async fn drive<K, E, F>(
    shared: Shared,
    controller: Controller<DeserializeGuard<K>>,
    reconcile: impl Fn(Cluster, String, String) -> F + Send + Sync + 'static,
) where
    K: Reconciled,
    E: ReconcileFailure,
    F: Future<Output = Result<Next, E>> + Send + 'static,
{
    let guard = Arc::new(Guard::<K> {
        shared,
        backoff: Backoff::default(),
        told: Told::default(),
        kind: std::marker::PhantomData,
    });
    let reconcile = Arc::new(reconcile);
    let each = move |object: Arc<DeserializeGuard<K>>, guard: Arc<Guard<K>>| {
        let reconcile = Arc::clone(&reconcile);
        async move { Ok::<_, std::convert::Infallible>(guard.once(object, reconcile.as_ref()).await) }
    };
    let policy = |_: Arc<DeserializeGuard<K>>, never: &std::convert::Infallible, _: Arc<Guard<K>>| match *never {};
    controller
        .run(each, policy, guard)
        .for_each(|result| async {
            match result {
                Ok(_) => {}
                // A child outlived its owner, or carries the label of none: nothing to do.
                Err(kube::runtime::controller::Error::ObjectNotFound(_)) => {}
                // Tried again by the runtime.
                Err(failure) => warn!(kind = K::KIND, error = %failure, "watching"),
            }
        })
        .await;
}

/// What stands around each reconcile.
struct Guard<K> {
    shared: Shared,
    backoff: Backoff<(String, String)>,
    told: Told,
    kind: std::marker::PhantomData<K>,
}

/// Undecodable objects whose status says so already: the generation that it speaks of, by uid.
#[derive(Debug, Default)]
struct Told(Mutex<HashMap<String, i64>>);

/// So many are remembered. Were there more, all would be told once again: deleted ones must not stay for ever.
const TOLD: usize = 1024;

impl Told {
    fn knows(&self, uid: &str, generation: i64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid) == Some(&generation)
    }

    fn remember(&self, uid: String, generation: i64) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD {
            told.clear();
        }
        told.insert(uid, generation);
    }
}

impl<K: Reconciled> Guard<K> {
    async fn once<E, F>(
        &self,
        object: Arc<DeserializeGuard<K>>,
        reconcile: &(impl Fn(Cluster, String, String) -> F + Sync),
    ) -> Action
    where
        E: ReconcileFailure,
        F: Future<Output = Result<Next, E>> + Send,
    {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        let started = Instant::now();
        let span = info_span!("reconcile", kind = K::KIND);
        let (outcome, action) = async {
            if let Err(invalid) = &object.0 {
                self.tell_undecodable(&object, &key, &invalid.error).await;
                return (Outcome::Undecodable, Action::await_change());
            }
            let done = supervised(reconcile(self.shared.cluster.clone(), key.0.clone(), key.1.clone())).await;
            self.judge(done, key.clone())
        }
        .instrument(span)
        .await;
        self.shared.metrics.reconciled(K::KIND, outcome, started.elapsed());
        action
    }

    fn judge<E: ReconcileFailure>(
        &self,
        done: Result<Result<Next, E>, crate::cluster::Panicked>,
        key: (String, String),
    ) -> (Outcome, Action) {
        match done {
            Ok(Ok(next)) => {
                self.backoff.succeeded(&key);
                let after = match next.sooner(Next::After(RESYNC)) {
                    Next::After(after) => after,
                    Next::OnChange => RESYNC,
                };
                (Outcome::Done, Action::requeue(after))
            }
            Ok(Err(failure)) if failure.is_conflict() => {
                (Outcome::Failed(failure.reason()), Action::requeue(AFTER_CONFLICT))
            }
            Ok(Err(failure)) => {
                let after = self.backoff.failed(key);
                warn!(error = %failure, retry_after_seconds = after.as_secs(), "reconcile failed");
                (Outcome::Failed(failure.reason()), Action::requeue(after))
            }
            Err(panicked) => {
                let after = self.backoff.failed(key);
                error!(error = %panicked, retry_after_seconds = after.as_secs(), "reconcile panicked");
                (Outcome::Panicked, Action::requeue(after))
            }
        }
    }

    /// Says in the object's own status that it can't be read, once per generation.
    async fn tell_undecodable(&self, object: &DeserializeGuard<K>, key: &(String, String), cause: &str) {
        let (uid, generation) = (object.uid().unwrap_or_default(), object.meta().generation.unwrap_or_default());
        if self.told.knows(&uid, generation) {
            return;
        }
        warn!(error = cause, "the object can't be decoded");
        let message =
            format!("this operator can't read the object: {cause}; correct the field or upgrade the operator");
        let statements = vec![
            Statement::new(types::READY, Verdict::False, "Undecodable", message.clone()),
            Statement::new(types::STALLED, Verdict::True, "Undecodable", message),
        ];
        let conditions = restate(&[], statements, generation, jiff::Timestamp::now());
        let status = serde_json::json!({ "observedGeneration": generation, "conditions": conditions });
        let write = Write::Status { target: Target::of::<K>(&key.0, &key.1), status };
        match self.shared.cluster.act(&write).await {
            Ok(()) => self.told.remember(uid, generation),
            Err(error) => warn!(%error, "the status of an undecodable object could not be written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undecodable_object_is_told_once_per_generation_and_not_remembered_for_ever() {
        let told = Told::default();
        assert!(!told.knows("a", 1));
        told.remember("a".to_owned(), 1);
        assert!(told.knows("a", 1) && !told.knows("a", 2));
        told.remember("a".to_owned(), 2);
        assert!(told.knows("a", 2));
        for number in 0..TOLD * 3 {
            told.remember(format!("object {number}"), 1);
        }
        assert!(told.0.lock().unwrap_or_else(PoisonError::into_inner).len() <= TOLD);
    }
}
