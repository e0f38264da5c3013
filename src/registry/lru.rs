//! A small map that forgets what was used longest ago.

use std::collections::HashMap;
use std::hash::Hash;

/// At most `capacity` entries; a new one replaces the one used longest ago.
#[derive(Debug)]
pub(super) struct LeastRecentlyUsed<K, V> {
    capacity: usize,
    uses: u64,
    entries: HashMap<K, (u64, V)>,
}

impl<K: Eq + Hash + Clone, V> LeastRecentlyUsed<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), uses: 0, entries: HashMap::new() }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        self.uses += 1;
        let uses = self.uses;
        self.entries.get_mut(key).map(|(used, value)| {
            *used = uses;
            &*value
        })
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.uses += 1;
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
        self.entries.insert(key, (self.uses, value));
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_used_longest_ago_goes_first() {
        let mut map = LeastRecentlyUsed::new(2);
        map.insert("a", 1);
        map.insert("b", 2);
        map.get(&"a");
        map.insert("c", 3);
        let left = ["a", "b", "c"].map(|key| map.get(&key).copied());
        assert_eq!(left, [Some(1), None, Some(3)]);
    }
}
