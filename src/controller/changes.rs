//! Which changes of a watched object are worth a reconcile.
//!
//! A pod changes a dozen times between its creation and its end, and each write of our own comes back as a change. A
//! decision reads only a little of that, its *significance*; a change that leaves it as it was wakes nobody.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::runtime::watcher::{Error, Event};
use kube::{Resource, ResourceExt};
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

/// A digest of what decisions read of an object; `None` while there is nothing to decide.
pub(super) type Significance = Option<u64>;

/// The digest of these parts, for comparisons within this process.
pub(super) fn digest(parts: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// The objects whose significance changed, and those that are gone.
pub(super) fn significant<K: Resource>(
    events: impl Stream<Item = Result<Event<K>, Error>>,
    significance: impl Fn(&K) -> Significance,
) -> impl Stream<Item = Result<K, Error>> {
    let mut known = Known::default();
    events.filter_map(move |event| {
        let passed = event.map(|event| known.pass(event, &significance)).transpose();
        async move { passed }
    })
}

/// How long a state that is only shown is held back.
const PATIENCE: Duration = Duration::from_millis(500);

/// The changes, those to a passing state only when the object still stands so a moment later.
///
/// A command that ends at once is started and ended with one reconcile then, instead of two.
pub(super) fn unless_passing<K: Resource>(
    changes: impl Stream<Item = Result<K, Error>>,
    passing: impl Fn(&K) -> bool,
) -> impl Stream<Item = Result<K, Error>> {
    let held = Held { due: DelayQueue::new(), keys: HashMap::new() };
    futures::stream::unfold((Box::pin(changes), held, passing), |(mut changes, mut held, passing)| async move {
        loop {
            tokio::select! {
                change = changes.next() => {
                    let change = change?;
                    let Ok(object) = change else { return Some((change, (changes, held, passing))) };
                    if let Some(object) = held.replace(object, &passing) {
                        return Some((Ok(object), (changes, held, passing)));
                    }
                }
                Some(object) = held.next() => return Some((Ok(object), (changes, held, passing))),
            }
        }
    })
}

/// The objects in a passing state, each until its time has come.
struct Held<K> {
    due: DelayQueue<K>,
    /// By uid.
    keys: HashMap<String, Key>,
}

impl<K: Resource> Held<K> {
    /// Forgets an older state of the object, and gives it back unless it is to wait.
    fn replace(&mut self, object: K, passing: impl Fn(&K) -> bool) -> Option<K> {
        let uid = object.uid()?;
        if let Some(key) = self.keys.remove(&uid) {
            self.due.remove(&key);
        }
        if !passing(&object) {
            return Some(object);
        }
        self.keys.insert(uid, self.due.insert(object, PATIENCE));
        None
    }

    /// The next whose time has come; `None` while nothing waits.
    async fn next(&mut self) -> Option<K> {
        let object = self.due.next().await?.into_inner();
        self.keys.remove(&object.uid()?);
        Some(object)
    }
}

/// The significance of every object that exists, by uid.
#[derive(Debug, Default)]
struct Known {
    all: HashMap<String, Significance>,
    /// What a list that is under way has brought so far: what it does not bring is gone.
    listed: HashSet<String>,
}

impl Known {
    fn pass<K: Resource>(&mut self, event: Event<K>, significance: impl Fn(&K) -> Significance) -> Option<K> {
        match event {
            Event::Init => {
                self.listed.clear();
                None
            }
            Event::InitApply(object) => {
                self.listed.insert(object.uid()?);
                self.applied(object, significance)
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.all.retain(|uid, _| listed.contains(uid));
                None
            }
            Event::Apply(object) => self.applied(object, significance),
            Event::Delete(object) => {
                self.all.remove(&object.uid()?);
                Some(object)
            }
        }
    }

    fn applied<K: Resource>(&mut self, object: K, significance: impl Fn(&K) -> Significance) -> Option<K> {
        let now = significance(&object);
        let before = self.all.insert(object.uid()?, now).flatten();
        (now != before).then_some(object)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::ObjectMeta;

    use super::*;

    fn object(uid: &str, generation: i64) -> ConfigMap {
        let metadata = ObjectMeta { uid: Some(uid.to_owned()), generation: Some(generation), ..ObjectMeta::default() };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    /// Generation 0 stands for "nothing to decide".
    fn generation(object: &ConfigMap) -> Significance {
        object.metadata.generation.filter(|generation| *generation > 0).map(|generation| digest(&generation))
    }

    fn passes(known: &mut Known, event: Event<ConfigMap>) -> bool {
        known.pass(event, generation).is_some()
    }

    #[test]
    fn a_change_wakes_only_when_it_changes_what_decisions_read() {
        let mut known = Known::default();
        assert!(!passes(&mut known, Event::Apply(object("a", 0))), "nothing to decide yet");
        assert!(passes(&mut known, Event::Apply(object("a", 1))));
        assert!(!passes(&mut known, Event::Apply(object("a", 1))));
        assert!(passes(&mut known, Event::Apply(object("b", 1))), "another object");
        assert!(passes(&mut known, Event::Apply(object("a", 2))));
        assert!(passes(&mut known, Event::Apply(object("a", 0))), "back to nothing is a change too");
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_state_wakes_only_when_it_lasts() {
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        let changes = unless_passing(receiver, |object: &ConfigMap| object.metadata.generation == Some(1));
        let mut changes = std::pin::pin!(changes);
        let generations = |object: ConfigMap| (object.uid().unwrap(), object.metadata.generation.unwrap());
        for (uid, generation) in [("lasts", 1), ("passes", 1), ("urgent", 2), ("passes", 3)] {
            sender.unbounded_send(Ok(object(uid, generation))).unwrap();
        }
        let mut seen = Vec::new();
        let begun = tokio::time::Instant::now();
        for _ in 0..3 {
            seen.push(generations(changes.next().await.unwrap().unwrap()));
        }
        let expected = [("urgent", 2), ("passes", 3), ("lasts", 1)];
        assert_eq!(seen, expected.map(|(uid, generation)| (uid.to_owned(), generation)));
        assert!(begun.elapsed() >= PATIENCE);
        assert!(tokio::time::timeout(PATIENCE * 4, changes.next()).await.is_err(), "nothing else was held");
        drop(sender);
        assert!(changes.next().await.is_none());
    }

    #[test]
    fn what_is_gone_always_wakes_and_is_new_when_it_comes_again() {
        let mut known = Known::default();
        assert!(passes(&mut known, Event::Apply(object("a", 1))));
        assert!(passes(&mut known, Event::Delete(object("a", 1))));
        assert!(passes(&mut known, Event::Apply(object("a", 1))));
        assert!(passes(&mut known, Event::Delete(object("never seen", 1))));
    }

    #[test]
    fn a_new_list_wakes_only_for_what_changed_meanwhile_and_forgets_what_is_gone() {
        let mut known = Known::default();
        assert!(passes(&mut known, Event::Apply(object("a", 1))));
        assert!(passes(&mut known, Event::Apply(object("b", 1))));
        assert!(passes(&mut known, Event::Apply(object("c", 1))));
        assert!(!passes(&mut known, Event::Init));
        assert!(!passes(&mut known, Event::InitApply(object("a", 1))));
        assert!(passes(&mut known, Event::InitApply(object("b", 2))));
        assert!(!passes(&mut known, Event::InitDone));
        assert_eq!(known.all.len(), 2, "c is gone");
    }
}
