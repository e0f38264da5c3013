//! The API server as the operator's writes see it: names are unique, a resourceVersion that moved is a conflict,
//! finalizers hold a deletion, and what has no living owner is collected.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use timetracker_operator::cluster::{HASH_ANNOTATION, Write};

#[derive(Debug, Clone, PartialEq)]
pub struct Conflict;

#[derive(Debug, Clone, Default)]
pub struct Store {
    pub objects: BTreeMap<(String, String), Value>,
    version: u64,
    pub writes: u64,
    pub created: BTreeMap<(String, String), u32>,
}

pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let map = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

impl Store {
    pub fn key(kind: &str, name: &str) -> (String, String) {
        (kind.to_owned(), name.to_owned())
    }

    pub fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&Self::key(kind, name))
    }

    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((of, _), _)| of == kind).map(|(_, object)| object)
    }

    pub fn names(&self, kind: &str) -> Vec<String> {
        self.objects.keys().filter(|(of, _)| of == kind).map(|(_, name)| name.clone()).collect()
    }

    /// Puts an object there with a uid and a creation time.
    pub fn insert(&mut self, kind: &str, name: &str, mut body: Value, now: &str) {
        self.version += 1;
        let (version, uid) = (self.version.to_string(), format!("uid-{}", self.version));
        let generation = json!({"name": name, "namespace": "ns", "uid": uid, "resourceVersion": version,
            "creationTimestamp": now, "generation": 1});
        merge(&mut body["metadata"], &generation);
        *self.created.entry(Self::key(kind, name)).or_default() += 1;
        self.objects.insert(Self::key(kind, name), body);
    }

    /// Changes an object as the cluster itself does: kubelet, the Job controller, a user.
    pub fn patch(&mut self, kind: &str, name: &str, patch: &Value) {
        self.version += 1;
        let version = self.version;
        let Some(object) = self.objects.get_mut(&Self::key(kind, name)) else { return };
        let before = object.clone();
        merge(object, patch);
        if *object != before {
            object["metadata"]["resourceVersion"] = json!(version.to_string());
        }
        self.collect(kind, name);
    }

    pub fn delete(&mut self, kind: &str, name: &str, now: &str) {
        let Some(object) = self.objects.get_mut(&Self::key(kind, name)) else { return };
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
        if held {
            self.patch(kind, name, &json!({"metadata": {"deletionTimestamp": now, "deletionGracePeriodSeconds": 0}}));
        } else {
            self.objects.remove(&Self::key(kind, name));
            self.garbage();
        }
    }

    fn collect(&mut self, kind: &str, name: &str) {
        let Some(object) = self.get(kind, name) else { return };
        let deleting = !object["metadata"]["deletionTimestamp"].is_null();
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
        if deleting && !held && kind == "PipelineRun" {
            self.objects.remove(&Self::key(kind, name));
            self.garbage();
        }
    }

    /// The garbage collector: what has owners, none of which lives, goes.
    pub fn garbage(&mut self) {
        loop {
            let living: Vec<String> = self
                .objects
                .values()
                .filter_map(|object| object["metadata"]["uid"].as_str().map(str::to_owned))
                .collect();
            let orphan = self.objects.iter().find_map(|(key, object)| {
                let owners = object["metadata"]["ownerReferences"].as_array()?;
                let dead = owners.iter().all(|owner| !living.iter().any(|uid| owner["uid"] == uid.as_str()));
                (!owners.is_empty() && dead).then(|| key.clone())
            });
            match orphan {
                Some(key) => self.objects.remove(&key),
                None => return,
            };
        }
    }

    /// One write of the operator.
    pub fn act(&mut self, write: &Write, now: &str) -> Result<(), Conflict> {
        self.writes += 1;
        match write {
            Write::Apply(manifest) => {
                let (kind, name) = (manifest.resource.kind.clone(), manifest.name.clone());
                if self.get(&kind, &name).is_none() {
                    self.insert(&kind, &name, manifest.body.clone(), now);
                } else {
                    self.patch(&kind, &name, &manifest.body);
                }
                Ok(())
            }
            Write::Create(manifest) => {
                let (kind, name) = (manifest.resource.kind.clone(), manifest.name.clone());
                let hash = manifest.body.to_string();
                if let Some(existing) = self.get(&kind, &name) {
                    let controller = |object: &Value| {
                        let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
                        owners.into_iter().find(|owner| owner["controller"] == true).map(|owner| owner["uid"].clone())
                    };
                    let ours = match controller(&manifest.body) {
                        Some(uid) => controller(existing) == Some(uid),
                        None => existing["metadata"]["annotations"][HASH_ANNOTATION] == hash.as_str(),
                    };
                    return if ours { Ok(()) } else { Err(Conflict) };
                }
                let mut body = manifest.body.clone();
                merge(&mut body, &json!({"metadata": {"annotations": {HASH_ANNOTATION: hash}}}));
                self.insert(&kind, &name, body, now);
                self.garbage();
                Ok(())
            }
            Write::Delete { target, uid } => {
                let found = self.get(&target.resource.kind, &target.name);
                let same =
                    found.is_some_and(|found| uid.is_none() || found["metadata"]["uid"].as_str() == uid.as_deref());
                if same {
                    self.delete(&target.resource.kind.clone(), &target.name.clone(), now);
                }
                Ok(())
            }
            Write::Merge { target, patch } => {
                let Some(found) = self.get(&target.resource.kind, &target.name) else { return Ok(()) };
                let wanted = &patch["metadata"]["resourceVersion"];
                if !wanted.is_null() && *wanted != found["metadata"]["resourceVersion"] {
                    return Err(Conflict);
                }
                let mut patch = patch.clone();
                if let Some(metadata) = patch["metadata"].as_object_mut() {
                    metadata.remove("resourceVersion");
                }
                self.patch(&target.resource.kind, &target.name, &patch);
                Ok(())
            }
            Write::Status { target, status } => {
                self.patch(&target.resource.kind, &target.name, &json!({ "status": status }));
                Ok(())
            }
        }
    }
}
