//! A cluster, a database and a registry in memory. Objects are JSON, changed only by the operator's own vocabulary of
//! writes and by the model's controllers.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use timetracker_operator::api::names::{Digest, Tag};
use timetracker_operator::api::release::TimeTrackerRelease;
use timetracker_operator::cluster::{HASH_ANNOTATION, Write};
use timetracker_operator::release::assemble::{self, Listed};
use timetracker_operator::release::observed::{Observed, RegistryProblem, RegistrySeen, RegistryView, Settings};
use timetracker_operator::release::{lower, names, status_body, values};

pub const NAMESPACE: &str = "prod";
pub const NAME: &str = "site";
pub const UID: &str = "release-uid";

/// How an image behaves.
#[derive(Debug, Clone)]
pub struct Image {
    pub digest: Digest,
    /// Its Alembic head.
    pub head: &'static str,
    /// The schema level its code needs: what lies below breaks reads.
    pub needs: u32,
    /// The highest schema level its code can run on.
    pub tolerates: u32,
    pub migration: Migration,
    pub serves: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migration {
    Works,
    /// Exit code other than 0, rolled back whole.
    Fails,
    /// Exit code other than 0, half of it committed; old code still runs.
    FailsHalfWay,
    /// Exit code other than 0 after all of it was committed, which the next attempt finds done.
    FailsAtTheEnd,
    /// Told to stop each time, with nothing done.
    Interrupted,
    /// The server lets nobody in who migrates; nothing is known of the schema.
    Refused,
    /// The agent finds neither what was before nor what should be.
    Ambiguous,
    /// Exit code 0, and nothing done but the revision.
    Swallows,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    pub head: Option<&'static str>,
    pub level: u32,
    pub down: bool,
    /// Commands that ran to their end, by digest.
    pub completed: BTreeMap<Digest, u32>,
    /// Commands running now.
    pub running: u32,
}

#[derive(Debug, Clone)]
pub struct World {
    pub now: Timestamp,
    pub objects: BTreeMap<(String, String), Value>,
    pub database: Database,
    pub images: BTreeMap<Tag, Image>,
    pub registry_down: bool,
    pub full_node: bool,
    /// Pods of the site that are deleted stay, as on a node that is lost.
    pub pods_stick: bool,
    pub logs: BTreeMap<String, String>,
    pub created: BTreeMap<(String, String), u32>,
    serial: u64,
}

/// Why a write was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    Conflict,
    Foreign,
}

impl World {
    pub fn new(spec: Value) -> Self {
        let mut world = Self {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            objects: BTreeMap::new(),
            database: Database::default(),
            images: BTreeMap::new(),
            registry_down: false,
            full_node: false,
            pods_stick: false,
            logs: BTreeMap::new(),
            created: BTreeMap::new(),
            serial: 0,
        };
        let release = json!({
            "apiVersion": "timetracker.dev/v1alpha1", "kind": "TimeTrackerRelease",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "uid": UID, "generation": 1}, "spec": spec,
        });
        world.objects.insert(("TimeTrackerRelease".into(), NAME.into()), release);
        world
    }

    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub fn push(&mut self, tag: &str, image: Image) {
        self.images.insert(tag.parse().unwrap(), image);
    }

    pub fn release(&self) -> TimeTrackerRelease {
        serde_json::from_value(self.objects[&("TimeTrackerRelease".to_owned(), NAME.to_owned())].clone()).unwrap()
    }

    pub fn change_release(&mut self, change: impl FnOnce(&mut Value)) {
        let release = self.objects.get_mut(&("TimeTrackerRelease".to_owned(), NAME.to_owned())).unwrap();
        let before = release["spec"].clone();
        change(release);
        if release["spec"] != before {
            release["metadata"]["generation"] = json!(release["metadata"]["generation"].as_i64().unwrap() + 1);
        }
    }

    pub fn delete_status(&mut self) {
        self.change_release(|release| {
            release.as_object_mut().unwrap().remove("status");
        });
    }

    pub fn all<K: DeserializeOwned>(&self, kind: &str) -> Vec<K> {
        self.objects
            .iter()
            .filter(|((known, _), _)| known == kind)
            .map(|(_, body)| serde_json::from_value(body.clone()).unwrap())
            .collect()
    }

    pub fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), name.to_owned()))
    }

    pub fn image_of(&self, digest: &Digest) -> Option<&Image> {
        self.images.values().find(|image| &image.digest == digest)
    }

    pub fn observe(&self) -> Observed {
        let release = self.release();
        let (jobs, pods): (Vec<Job>, Vec<Pod>) = (self.all("Job"), self.all("Pod"));
        let (revisions, unreadable) = assemble::revisions(self.all("ControllerRevision"), UID);
        let needed: BTreeSet<String> =
            assemble::contracts_needed(&revisions).iter().map(|digest| names::contract(NAME, digest)).collect();
        let config_maps: Vec<ConfigMap> = self
            .all::<ConfigMap>("ConfigMap")
            .into_iter()
            .filter(|config_map| config_map.metadata.name.as_ref().is_some_and(|name| needed.contains(name)))
            .collect();
        let secret = |name: String| -> Option<Secret> {
            self.get("Secret", &name).map(|body| serde_json::from_value(body.clone()).unwrap())
        };
        let (database, key) = (secret(names::postgres(NAME)), secret(names::secret_key(NAME)));
        let mut views = assemble::jobs(&jobs, &pods, UID);
        for view in &mut views {
            view.contract = self.logs.get(&view.name).map(|log| Ok(log.clone()));
        }
        let listed = Listed {
            deployments: self.all("Deployment"),
            stateful_sets: self.all("StatefulSet"),
            services: self.all("Service"),
            service_accounts: self.all("ServiceAccount"),
            claims: self.all("PersistentVolumeClaim"),
            ingresses: self.all("Ingress"),
        };
        Observed {
            settings: Settings {
                agent_image: "agent:1".into(),
                postgres_image: "postgres:16".into(),
                trusted_ca: Some("PEM".into()),
                ..Settings::default()
            },
            values: values::merge(&[], release.spec.values.as_ref()),
            registry: self.registry(&release),
            revisions,
            unreadable,
            jobs: views,
            contracts: assemble::contracts(&config_maps, UID),
            objects: assemble::objects(&listed, UID),
            pods: assemble::app_pods(&pods, NAME),
            secrets: assemble::secrets(&release, database.as_ref(), key.as_ref(), UID),
            release,
        }
    }

    fn registry(&self, release: &TimeTrackerRelease) -> RegistryView {
        if self.registry_down {
            return RegistryView::Failed(RegistryProblem {
                reason: "RegistryUnreachable",
                message: "no route".into(),
                transient: true,
            });
        }
        let wanted = release.spec.image.digest.as_ref().or(release.spec.hold.as_ref().and_then(|h| h.digest.as_ref()));
        RegistryView::Seen(RegistrySeen {
            tags: self.images.keys().cloned().collect(),
            gap: None,
            images: self.images.iter().map(|(tag, image)| (tag.clone(), Ok(image.digest.clone()))).collect(),
            digest: wanted.and_then(|digest| digest.parse().ok()).map(Ok),
        })
    }

    /// All writes of one decision on `observed`, the status last.
    pub fn plan(&self, observed: &Observed) -> Vec<Write> {
        let plan = timetracker_operator::release::decide(observed, self.now);
        let irreversible = plan.effects.iter().filter(|effect| effect.is_irreversible()).count();
        assert!(irreversible <= 1, "more than one irreversible effect in a plan");
        assert!(
            irreversible == 0
                || plan.effects.last().is_some_and(timetracker_operator::release::Effect::is_irreversible),
            "an irreversible effect that is not the last"
        );
        let entropy = [7; 32];
        let mut writes: Vec<Write> =
            plan.effects.iter().flat_map(|effect| lower(effect, observed, &entropy).unwrap()).collect();
        if let Some(status) = plan.status {
            writes.push(Write::Status {
                target: timetracker_operator::cluster::Target::of::<TimeTrackerRelease>(NAMESPACE, NAME),
                status: status_body(&status),
            });
        }
        writes
    }

    pub fn write(&mut self, write: &Write) -> Result<(), Refused> {
        match write {
            Write::Create(manifest) => {
                let key = (manifest.resource.kind.clone(), manifest.name.clone());
                if let Some(existing) = self.objects.get(&key) {
                    let same = match owner(&manifest.body) {
                        Some(uid) => owner(existing) == Some(uid),
                        None => hash(existing) == hash(&manifest.body),
                    };
                    return if same { Ok(()) } else { Err(Refused::Foreign) };
                }
                if key.0 == "Job" {
                    self.nothing_breaks_by(&manifest.body);
                }
                self.insert(key, manifest.body.clone());
                Ok(())
            }
            Write::Apply(manifest) => {
                let key = (manifest.resource.kind.clone(), manifest.name.clone());
                let Some(mut live) = self.objects.get(&key).cloned() else {
                    self.insert(key, manifest.body.clone());
                    return Ok(());
                };
                let before = live["spec"].clone();
                give_up_annotations(&mut live, &manifest.body);
                overlay(&mut live, &manifest.body);
                if live["spec"] != before {
                    live["metadata"]["generation"] = json!(live["metadata"]["generation"].as_i64().unwrap() + 1);
                }
                self.objects.insert(key, live);
                Ok(())
            }
            Write::Delete { target, uid } => {
                let key = (target.resource.kind.clone(), target.name.clone());
                let Some(existing) = self.objects.get(&key) else {
                    return Ok(());
                };
                if uid.is_some() && existing["metadata"]["uid"].as_str() != uid.as_deref() {
                    return Err(Refused::Conflict);
                }
                self.objects.remove(&key);
                // Garbage collection of a Job's pod.
                self.objects.remove(&("Pod".to_owned(), format!("{}-pod", key.1)));
                Ok(())
            }
            Write::Merge { target, patch } => {
                let serial = self.next_serial();
                let key = (target.resource.kind.clone(), target.name.clone());
                let Some(existing) = self.objects.get_mut(&key) else {
                    return Ok(());
                };
                let mut patch = patch.clone();
                let expected =
                    patch["metadata"].as_object_mut().and_then(|metadata| metadata.remove("resourceVersion"));
                if expected.is_some() && expected.as_ref() != Some(&existing["metadata"]["resourceVersion"]) {
                    return Err(Refused::Conflict);
                }
                merge_patch(existing, &patch);
                existing["metadata"]["resourceVersion"] = json!(serial.to_string());
                Ok(())
            }
            Write::Status { target, status } => {
                let key = (target.resource.kind.clone(), target.name.clone());
                merge_patch(self.objects.get_mut(&key).unwrap(), &json!({ "status": status }));
                Ok(())
            }
        }
    }

    pub fn insert(&mut self, key: (String, String), mut body: Value) {
        let serial = self.next_serial();
        *self.created.entry(key.clone()).or_default() += 1;
        body["metadata"]["uid"] = json!(format!("uid-{serial}"));
        body["metadata"]["resourceVersion"] = json!(serial.to_string());
        body["metadata"]["generation"] = json!(1);
        body["metadata"]["creationTimestamp"] = json!(self.now.to_string());
        self.objects.insert(key, body);
    }

    pub fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }
}

fn owner(body: &Value) -> Option<&str> {
    body.pointer("/metadata/ownerReferences/0/uid")?.as_str()
}

fn hash(body: &Value) -> Option<&str> {
    body.get("metadata")?.get("annotations")?.get(HASH_ANNOTATION)?.as_str()
}

/// What was applied and no longer is goes.
fn give_up_annotations(live: &mut Value, applied: &Value) {
    let wanted = applied.pointer("/metadata/annotations").cloned().unwrap_or_default();
    if let Some(annotations) = live.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !key.starts_with("timetracker.dev/") || wanted.get(key).is_some());
    }
}

fn overlay(live: &mut Value, above: &Value) {
    match (live, above) {
        (Value::Object(live), Value::Object(above)) => {
            for (key, value) in above {
                overlay(live.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (live, above) => *live = above.clone(),
    }
}

fn merge_patch(live: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *live = patch.clone();
        return;
    };
    if !live.is_object() {
        *live = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            live.as_object_mut().unwrap().remove(key);
        } else {
            merge_patch(live.as_object_mut().unwrap().entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
