//! What a cluster's own controllers and the Jobs' agents do, one step at a time.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};
use timetracker_operator::agent::report::{
    ContractReport, ContractVerdict, DatabaseFailure, InspectReport, MigrationReport,
};
use timetracker_operator::api::names::{Digest, Revision, Revisions};
use timetracker_operator::release::names;
use timetracker_operator::release::observed::Purpose;
use timetracker_operator::schema::{NeededColumn, SchemaContract};

use super::world::{Image, Migration, NAME, NAMESPACE, World};

/// The history of migrations, of which every image knows a part.
const HEADS: [&str; 5] = ["zero", "one", "two", "three", "four"];

pub fn revisions(head: Option<&str>) -> Revisions {
    head.iter().map(|head| head.parse::<Revision>().unwrap()).collect()
}

/// Each level has a table of its own. Code that can't run beyond a level reads a column that is gone there.
pub fn contract_of(image: &Image) -> String {
    let column = NeededColumn { nullable: false, filled_by_server: false };
    let mut tables: BTreeMap<String, BTreeMap<String, NeededColumn>> =
        (0..=image.needs).map(|level| (format!("table{level}"), [("id".to_owned(), column)].into())).collect();
    if image.tolerates < u32::MAX {
        tables.get_mut("table0").unwrap().insert(format!("until{}", image.tolerates), column);
    }
    let newest = HEADS.iter().position(|head| *head == image.head).unwrap();
    let known = HEADS[..=newest].iter().map(|head| head.parse().unwrap()).collect();
    serde_json::to_string(&SchemaContract { heads: revisions(Some(image.head)), known, tables }).unwrap()
}

impl World {
    /// Whether the image's code can run on the database as it is.
    fn fits(&self, image: &Image) -> bool {
        image.needs <= self.database.level && self.database.level <= image.tolerates
    }

    /// One step of every controller and Job, and ten seconds.
    pub fn tick(&mut self) {
        self.pass(10);
        self.stateful_set();
        let jobs: Vec<String> =
            self.objects.keys().filter(|(kind, _)| kind == "Job").map(|(_, name)| name.clone()).collect();
        for job in jobs {
            self.job(&job);
        }
        self.deployment();
    }

    fn stateful_set(&mut self) {
        let key = ("StatefulSet".to_owned(), names::postgres(NAME));
        let Some(mut set) = self.objects.get(&key).cloned() else {
            return;
        };
        set["status"] = json!({
            "replicas": 1, "readyReplicas": i64::from(!self.database.down),
            "observedGeneration": set["metadata"]["generation"],
        });
        let claim = ("PersistentVolumeClaim".to_owned(), names::postgres_claim(NAME));
        if !self.objects.contains_key(&claim) {
            let template = set["spec"]["volumeClaimTemplates"][0].clone();
            let body = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": template["spec"],
                "metadata": {"name": claim.1, "namespace": NAMESPACE, "labels": template["metadata"]["labels"]},
            });
            self.insert(claim, body);
        }
        self.objects.insert(key, set);
    }

    fn job(&mut self, name: &str) {
        let job = self.get("Job", name).unwrap().clone();
        let pod = ("Pod".to_owned(), format!("{name}-pod"));
        let Some(existing) = self.objects.get(&pod).cloned() else {
            if job.pointer("/status/conditions").is_none() {
                self.start_pod(&job, pod);
            }
            return;
        };
        match existing.pointer("/status/containerStatuses/0/state") {
            None if self.full_node => {
                self.objects.get_mut(&pod).unwrap()["status"] = json!({"phase": "Pending", "conditions": [{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": "0/1 nodes are available: 1 Insufficient memory."}]});
            }
            None => {
                if purpose(&job).is_some_and(|purpose| matches!(purpose, Purpose::Migrate { .. })) {
                    self.database.running += 1;
                }
                self.container(&pod, json!({"running": {"startedAt": self.now.to_string()}}));
            }
            Some(state) if state.get("running").is_some() => self.end(&job, &pod),
            Some(_) => {}
        }
    }

    fn start_pod(&mut self, job: &Value, key: (String, String)) {
        let name = job["metadata"]["name"].clone();
        let mut labels = job["spec"]["template"]["metadata"]["labels"].clone();
        labels[names::JOB_NAME_LABEL] = name.clone();
        let body = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": key.1, "namespace": NAMESPACE, "labels": labels,
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name,
                    "uid": job["metadata"]["uid"], "controller": true}],
            },
        });
        self.insert(key, body);
    }

    fn container(&mut self, pod: &(String, String), state: Value) {
        self.objects.get_mut(pod).unwrap()["status"] = json!({
            "phase": "Running",
            "containerStatuses": [{"name": names::MAIN_CONTAINER, "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": state}],
        });
    }

    fn end(&mut self, job: &Value, pod: &(String, String)) {
        let name = job["metadata"]["name"].as_str().unwrap().to_owned();
        let Some(purpose) = purpose(job) else { return };
        let digest = self.digest_of(&purpose, job);
        let Some(image) = self.image_of(&digest).cloned() else { return };
        let (message, succeeded) = match purpose {
            Purpose::Contract(_) => {
                let contract = contract_of(&image);
                let report = ContractReport::Dumped {
                    contract: Digest::of(contract.as_bytes()),
                    heads: revisions(Some(image.head)),
                    tables: image.needs,
                };
                self.logs.insert(name, contract);
                (serde_json::to_string(&report).unwrap(), true)
            }
            Purpose::Inspect { .. } | Purpose::InspectBack { .. } => self.inspected(job),
            Purpose::Migrate { .. } => {
                self.database.running -= 1;
                self.migrated(&image)
            }
        };
        let state = json!({"terminated": {"exitCode": i32::from(!succeeded), "reason": "Completed",
            "message": message, "finishedAt": self.now.to_string()}});
        self.container(pod, state);
        let condition = if succeeded { "Complete" } else { "Failed" };
        let key = ("Job".to_owned(), job["metadata"]["name"].as_str().unwrap().to_owned());
        self.objects.get_mut(&key).unwrap()["status"] = json!({"conditions": [{"type": condition, "status": "True"}]});
    }

    fn digest_of(&self, purpose: &Purpose, job: &Value) -> Digest {
        if let Purpose::Contract(digest) = purpose {
            return digest.clone();
        }
        argument(job, "--digest").parse().unwrap()
    }

    fn inspected(&self, job: &Value) -> (String, bool) {
        if self.database.down {
            let report = InspectReport::Failed {
                failure: DatabaseFailure::Unreachable,
                message: "connection refused".to_owned(),
            };
            return (serde_json::to_string(&report).unwrap(), false);
        }
        let asked = argument(job, "--contract");
        let digest: Digest = asked.split('=').next().unwrap().parse().unwrap();
        let holds = self.image_of(&digest).is_some_and(|image| self.fits(image));
        let verdict = ContractVerdict { holds, message: if holds { "fits" } else { "does not fit" }.to_owned() };
        let report = InspectReport::Inspected {
            server_version: "16.14".to_owned(),
            revisions: revisions(self.database.head),
            snapshot: Digest::of(b"s"),
            empty: self.database.head.is_none(),
            contracts: [(digest, verdict)].into(),
            ledger: None,
        };
        (serde_json::to_string(&report).unwrap(), true)
    }

    /// What `agent database migrate` does, with its ledger: a second attempt finds the first one's work.
    fn migrated(&mut self, image: &Image) -> (String, bool) {
        let from = revisions(self.database.head);
        let failed = |failure, untouched| {
            let report = MigrationReport::Failed {
                failure,
                revisions: None,
                untouched: Some(untouched),
                message: "it did not work".to_owned(),
            };
            (serde_json::to_string(&report).unwrap(), false)
        };
        if self.database.down {
            return failed(DatabaseFailure::Unreachable, true);
        }
        let at_head = self.database.head == Some(image.head);
        let found_done = at_head && self.database.level >= image.needs;
        if at_head && !found_done {
            // Its own migration before this one, whose end nobody saw.
            return failed(DatabaseFailure::Ambiguous, false);
        }
        let place = |head: &str| HEADS.iter().position(|known| *known == head);
        if self.database.head.is_some_and(|head| place(head) > place(image.head)) {
            return failed(DatabaseFailure::UnknownRevision, true);
        }
        if !found_done {
            match image.migration {
                Migration::Fails => return failed(DatabaseFailure::CommandFailed, true),
                Migration::Interrupted => return failed(DatabaseFailure::Interrupted, true),
                Migration::Ambiguous => return failed(DatabaseFailure::Ambiguous, false),
                Migration::Refused => {
                    let report = MigrationReport::Failed {
                        failure: DatabaseFailure::AccessDenied,
                        revisions: None,
                        untouched: None,
                        message: "password refused".to_owned(),
                    };
                    return (serde_json::to_string(&report).unwrap(), false);
                }
                Migration::FailsHalfWay => return failed(DatabaseFailure::CommandFailed, false),
                Migration::Swallows => {
                    self.database.head = Some(image.head);
                    return failed(DatabaseFailure::ContractBroken, false);
                }
                Migration::FailsAtTheEnd => {
                    self.database.head = Some(image.head);
                    self.database.level = image.needs;
                    return failed(DatabaseFailure::CommandFailed, false);
                }
                Migration::Works => {
                    self.database.head = Some(image.head);
                    self.database.level = image.needs;
                    *self.database.completed.entry(image.digest.clone()).or_default() += 1;
                }
            }
        }
        let report = MigrationReport::Completed {
            from,
            to: revisions(self.database.head),
            snapshot: Digest::of(b"s"),
            found_done,
            seconds: 1,
            bootstrap: None,
        };
        (serde_json::to_string(&report).unwrap(), true)
    }

    /// A pod of a running Job is lost. Whether a migration's command had come to its end is a matter of luck.
    pub fn lose_a_pod(&mut self, finished: bool) {
        let running = self.objects.iter().find(|((kind, name), body)| {
            kind == "Pod"
                && name.ends_with("-pod")
                && body.pointer("/status/containerStatuses/0/state/running").is_some()
        });
        let Some((key, _)) = running else { return };
        let key = key.clone();
        let job = ("Job".to_owned(), key.1.trim_end_matches("-pod").to_owned());
        let Some(body) = self.objects.get(&job).cloned() else { return };
        if matches!(purpose(&body), Some(Purpose::Migrate { .. })) {
            self.database.running -= 1;
            let digest: Digest = argument(&body, "--digest").parse().unwrap();
            // The next attempt would find that one done, or not know what to make of it, and the end be another.
            let counts =
                |image: &Image| finished && !matches!(image.migration, Migration::FailsAtTheEnd | Migration::Swallows);
            if let Some(image) = self.image_of(&digest).cloned().filter(counts) {
                self.migrated(&image);
            }
        }
        self.objects.remove(&key);
        self.objects.get_mut(&job).unwrap()["status"] = json!({"conditions": [{"type": "Failed", "status": "True"}]});
    }

    fn deployment(&mut self) {
        let key = ("Deployment".to_owned(), NAME.to_owned());
        let pod_key = ("Pod".to_owned(), "web".to_owned());
        let Some(mut live) = self.objects.get(&key).cloned() else { return };
        let template = live["spec"]["template"].clone();
        let pods = live["spec"]["replicas"].as_i64().unwrap_or(1);
        let wanted = template["metadata"]["annotations"].clone();
        if pods == 0 {
            self.end_site_pod(&pod_key);
            live["status"] = json!({"observedGeneration": live["metadata"]["generation"]});
            self.objects.insert(key, live);
            return;
        }
        let stands = self.get("Pod", "web").is_some_and(|pod| {
            pod["metadata"]["annotations"] == wanted && pod.pointer("/metadata/deletionTimestamp").is_none()
        });
        if !stands {
            // Recreate: the old pod goes first.
            if !self.end_site_pod(&pod_key) {
                let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
                    "name": "web", "namespace": NAMESPACE, "labels": template["metadata"]["labels"],
                    "annotations": wanted, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                        "name": "site-1", "uid": "rs", "controller": true}]}});
                self.insert(pod_key.clone(), body);
            }
            live["status"] = json!({"observedGeneration": live["metadata"]["generation"], "replicas": 0});
            self.objects.insert(key, live);
            return;
        }
        let digest: Digest = wanted[names::DIGEST_ANNOTATION].as_str().unwrap().parse().unwrap();
        let image = self.image_of(&digest).cloned();
        let serves = image.is_some_and(|image| image.serves && self.fits(&image)) && !self.database.down;
        let pod = self.objects.get_mut(&pod_key).unwrap();
        let before = pod.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_i64).unwrap_or(0);
        let restarts = if serves { before } else { before + 1 };
        if self.full_node && pod.get("status").is_none() {
            pod["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": "0/1 nodes are available"}]});
            live["status"] = json!({"observedGeneration": live["metadata"]["generation"], "replicas": pods,
                "updatedReplicas": pods});
            self.objects.insert(key, live);
            return;
        }
        let state = if serves {
            json!({"running": {"startedAt": self.now.to_string()}})
        } else {
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}})
        };
        pod["status"] = json!({"phase": "Running", "containerStatuses": [{"name": names::APP_CONTAINER, "image": "",
            "imageID": "", "ready": serves, "restartCount": restarts, "state": state}]});
        let count = if serves { pods } else { 0 };
        live["status"] = json!({"observedGeneration": live["metadata"]["generation"], "replicas": pods,
            "updatedReplicas": pods, "readyReplicas": count, "availableReplicas": count});
        self.objects.insert(key, live);
    }
}

impl World {
    /// Ends the site's pod, which takes a while. Whether there is (still) one.
    fn end_site_pod(&mut self, key: &(String, String)) -> bool {
        let by = self.now.checked_add(SignedDuration::from_secs(25)).unwrap();
        let (now, sticks) = (self.now, self.pods_stick);
        let Some(pod) = self.objects.get_mut(key) else { return false };
        let asked = pod.pointer("/metadata/deletionTimestamp").and_then(Value::as_str).map(str::to_owned);
        match asked.and_then(|asked| asked.parse::<jiff::Timestamp>().ok()) {
            None => pod["metadata"]["deletionTimestamp"] = json!(by.to_string()),
            Some(by) if now >= by && !sticks => {
                self.objects.remove(key);
            }
            Some(_) => {}
        }
        true
    }

    /// Nothing that can't run on the new schema runs when its migration is ordered.
    pub fn nothing_breaks_by(&self, job: &Value) {
        let Some(Purpose::Migrate { .. }) = purpose(job) else { return };
        let Some(pod) = self.get("Pod", "web") else { return };
        let old: Digest = pod["metadata"]["annotations"][names::DIGEST_ANNOTATION].as_str().unwrap().parse().unwrap();
        let new: Digest = argument(job, "--digest").parse().unwrap();
        let (old, new) = (self.image_of(&old).unwrap(), self.image_of(&new).unwrap());
        assert!(new.needs <= old.tolerates, "{} is migrated while a pod of {} exists", new.digest, old.digest);
    }
}

fn purpose(job: &Value) -> Option<Purpose> {
    Purpose::parse(job["metadata"]["annotations"][names::PURPOSE_ANNOTATION].as_str()?)
}

fn argument(job: &Value, name: &str) -> String {
    let command = job.pointer("/spec/template/spec/containers/0/command").and_then(Value::as_array).unwrap();
    let at = command.iter().position(|word| word == name).unwrap();
    command[at + 1].as_str().unwrap().to_owned()
}
