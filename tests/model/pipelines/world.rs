//! A cluster in which jobs run: scheduler, kubelet and Job controller, one step at a time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};
use timetracker_operator::api::names::Digest;
use timetracker_operator::api::run::{PipelineRun, RunStatus};
use timetracker_operator::cluster::{Target, Write};
use timetracker_operator::logs::{Look, Standing, Wanted};
use timetracker_operator::pipelines::outline::{LeanJob, LeanPod};
use timetracker_operator::pipelines::{
    Effect, Finished, Flight, Mark, Observed, Queue, Reused, Rival, Settings, Waiting, decide, is_told, names,
    owes_log, revision_wanted, status_patch, takes_room,
};
use timetracker_operator::plan::Plan;
use timetracker_operator::workload::{PodPhase, pod_phase};

use super::store::Store;

pub const RUN: &str = "run";

/// What a cell's command does, whichever attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Fate {
    pub exit: i32,
    pub failed_tests: u32,
    pub steps: u32,
    /// Exits 0 when told to terminate.
    pub traps: bool,
}

#[derive(Debug, Clone)]
pub struct World {
    pub store: Store,
    pub fates: BTreeMap<String, Fate>,
    pub clock: i64,
    pub settings: Settings,
    /// What a cell's command leaves as its termination message.
    pub messages: BTreeMap<String, String>,
    /// What kubelet tells of the images of these references; of all others an image of their own.
    pub image_ids: BTreeMap<String, String>,
    /// Cells whose Jobs the API server never takes.
    pub refused: BTreeSet<String>,
    /// How many Jobs it refused for good.
    refusals: usize,
    /// How many Jobs at once a quota allows.
    pub quota: Option<usize>,
    /// How often each attempt's command was started, by Job name.
    pub executions: BTreeMap<String, u32>,
    /// How often each cell's command was started.
    pub cell_executions: BTreeMap<String, u32>,
    /// Jobs (by uid) for which a pod was made once.
    made: BTreeSet<String>,
    progress: BTreeMap<String, u32>,
    /// Cells in the order of their starts, each with the cells whose command ran at that moment.
    pub starts: Vec<(String, BTreeSet<String>)>,
    pub most_at_once: usize,
    /// The most Jobs at once whose end was not recorded.
    pub most_busy: usize,
    /// The most runs at once that had begun and were not over.
    pub most_going: usize,
    /// Runs in the order in which they began.
    pub begun: Vec<String>,
    pub logs: Logs,
}

/// Beside the operator, what keeps logs of plain pods: it knows only what it did since it was started.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    standing: BTreeMap<String, Standing>,
    /// What it is about to do.
    under_way: Vec<(Wanted, u32)>,
    /// The store takes nothing.
    pub refused: bool,
    /// The Jobs, by uid, whose log was kept after their command's end.
    pub kept: BTreeSet<String>,
    /// Those of which it was kept before.
    pub kept_before: BTreeSet<String>,
}

impl Logs {
    fn take(&mut self, effect: &Effect) {
        let Effect::KeepLog(wanted) = effect else { return };
        let before = self.standing.insert(wanted.uid.clone(), Standing::UnderWay);
        let tries = match before {
            Some(Standing::Failed { look, tries, .. }) if look == wanted.look => tries,
            Some(Standing::UnderWay) => return,
            Some(Standing::Failed { .. } | Standing::Kept { .. }) | None => 0,
        };
        self.under_way.push((wanted.as_ref().clone(), tries));
    }

    fn step(&mut self, at: Timestamp) {
        for (wanted, tries) in std::mem::take(&mut self.under_way) {
            let look = wanted.look;
            let standing = if self.refused {
                Standing::Failed { look, at, tries: tries + 1, why: "the store answered 507".to_owned() }
            } else {
                let kept = if look == Look::Final { &mut self.kept } else { &mut self.kept_before };
                kept.insert(wanted.uid.clone());
                Standing::Kept { look, at }
            };
            self.standing.insert(wanted.uid, standing);
        }
    }

    /// The operator starts anew.
    pub fn forget(&mut self) {
        self.standing.clear();
        self.under_way.clear();
    }
}

/// A plan, and what it was made of.
#[derive(Debug, Clone)]
pub struct RunPlan {
    plan: Plan<Effect, RunStatus>,
    observed: Observed,
    at: Timestamp,
}

impl std::ops::Deref for RunPlan {
    type Target = Plan<Effect, RunStatus>;
    fn deref(&self) -> &Self::Target {
        &self.plan
    }
}

impl World {
    pub fn new(pipeline: Value, run: Value, fates: BTreeMap<String, Fate>, settings: Settings) -> Self {
        let mut world = Self {
            store: Store::default(),
            fates,
            clock: 1_750_000_000,
            settings,
            messages: BTreeMap::new(),
            image_ids: BTreeMap::new(),
            refused: BTreeSet::new(),
            refusals: 0,
            quota: None,
            executions: BTreeMap::new(),
            cell_executions: BTreeMap::new(),
            made: BTreeSet::new(),
            progress: BTreeMap::new(),
            starts: Vec::new(),
            most_at_once: 0,
            most_busy: 0,
            most_going: 0,
            begun: Vec::new(),
            logs: Logs::default(),
        };
        let now = world.now_text();
        let pipeline = json!({"apiVersion": "timetracker.dev/v1alpha1", "kind": "Pipeline", "spec": pipeline});
        world.store.insert("Pipeline", "p", pipeline, &now);
        world.add_run(RUN, run);
        world
    }

    pub fn add_run(&mut self, name: &str, spec: Value) {
        let run = json!({"apiVersion": "timetracker.dev/v1alpha1", "kind": "PipelineRun", "spec": spec});
        let now = self.now_text();
        self.store.insert("PipelineRun", name, run, &now);
    }

    /// The repository that pipelines name `r`.
    pub fn add_repository(&mut self, images: Option<&str>) {
        let image = images.map(|images| json!({"repository": images, "pushSecretRef": {"name": "push"}}));
        let spec = json!({"cloneURL": "https://git.example.org/a.git", "image": image});
        let repository = json!({"apiVersion": "timetracker.dev/v1alpha1", "kind": "SourceRepository", "spec": spec});
        let now = self.now_text();
        self.store.insert("SourceRepository", "r", repository, &now);
    }

    pub fn all_runs(&self) -> Vec<PipelineRun> {
        self.store.of_kind("PipelineRun").map(|run| serde_json::from_value(run.clone()).unwrap()).collect()
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock).unwrap()
    }

    fn now_text(&self) -> String {
        self.now().to_string()
    }

    pub fn run(&self) -> Option<PipelineRun> {
        self.run_of(RUN)
    }

    pub fn run_of(&self, name: &str) -> Option<PipelineRun> {
        self.store.get("PipelineRun", name).map(|run| serde_json::from_value(run.clone()).unwrap())
    }

    pub fn is_over(&self) -> bool {
        self.is_over_of(RUN)
    }

    pub fn is_over_of(&self, name: &str) -> bool {
        self.run_of(name).is_none_or(|run| run.status.is_some_and(|status| status.completion_time.is_some()))
    }

    fn queue(&self) -> Queue {
        let waiting = self.all_runs().iter().filter_map(Waiting::of).collect();
        Queue { busy: BTreeMap::from([("ns".to_owned(), self.busy())]), waiting }
    }

    fn busy(&self) -> BTreeSet<String> {
        let jobs = typed_jobs(self.store.of_kind("Job").cloned().collect()).into_iter();
        jobs.filter(takes_room).filter_map(|job| job.metadata.name).collect()
    }

    fn flights(&self, own_uid: &str) -> Vec<Flight> {
        let jobs = typed_jobs(self.store.of_kind("Job").cloned().collect());
        let found = Flight::among(&jobs, own_uid).into_iter();
        found.filter(|flight| flight.goes_on(self.run_of(&flight.run).as_ref())).collect()
    }

    fn reused(&self, run: &PipelineRun) -> Option<Reused> {
        run.spec.rerun_of.as_ref()?;
        let kept = self.store.get("ConfigMap", &Reused::name(run))?;
        Reused::read(&serde_json::from_value(kept.clone()).unwrap(), run)
    }

    fn earlier(&self, run: &PipelineRun) -> Option<Box<Observed>> {
        let begun = run.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(names::STARTED_ANNOTATION));
        let reference = run.spec.rerun_of.as_ref().filter(|_| !begun && self.reused(run).is_none())?;
        self.observe_of(&reference.name).map(Box::new)
    }

    fn rivals(&self, run: &PipelineRun) -> Vec<Rival> {
        let group = |run: &PipelineRun| run.metadata.labels.as_ref()?.get(names::GROUP_LABEL).cloned();
        let Some(own) = group(run) else { return Vec::new() };
        let others = self.all_runs().into_iter().filter(|other| other.metadata.uid != run.metadata.uid);
        others.filter(|other| group(other).as_ref() == Some(&own)).filter_map(|other| Rival::of(&other)).collect()
    }

    fn observe_of(&self, name: &str) -> Option<Observed> {
        let run = self.run_of(name)?;
        let uid = run.metadata.uid.clone().unwrap();
        let all = |kind: &str| -> Vec<Value> { self.store.of_kind(kind).cloned().collect() };
        let jobs: Vec<_> =
            all("Job").into_iter().filter(|job| job["metadata"]["ownerReferences"][0]["uid"] == uid.as_str()).collect();
        let jobs = typed_jobs(jobs);
        let open: Vec<&Job> =
            jobs.iter().filter(|job| !is_told(job) || owes_log(job, Some(&self.logs.standing))).collect();
        let controlled = |pod: &Value| {
            open.iter().any(|job| job.metadata.uid.as_deref() == pod["metadata"]["ownerReferences"][0]["uid"].as_str())
        };
        let outline = |pod| serde_json::from_value::<LeanPod>(pod).unwrap().0;
        let pods = all("Pod").into_iter().filter(controlled).map(outline).collect();
        let typed =
            |values: Vec<Value>| values.into_iter().map(|value| serde_json::from_value(value).unwrap()).collect();
        let mut observed = Observed {
            pipeline: self.store.get("Pipeline", "p").map(|found| serde_json::from_value(found.clone()).unwrap()),
            repository: self
                .store
                .get("SourceRepository", "r")
                .map(|found| serde_json::from_value(found.clone()).unwrap()),
            revision: None,
            jobs,
            pods,
            lacking: BTreeMap::new(),
            unmade: BTreeMap::new(),
            held: BTreeMap::new(),
            claims: typed(
                all("ConfigMap")
                    .into_iter()
                    .filter(|claim| claim["metadata"]["ownerReferences"][0]["uid"] == uid.as_str())
                    .collect(),
            ),
            trust: None,
            policy: self
                .store
                .get("NetworkPolicy", names::NETWORK_POLICY)
                .and_then(|policy| policy["metadata"]["annotations"][names::CONTENT_ANNOTATION].as_str())
                .map(str::to_owned),
            queue: Some(self.queue()),
            flights: Some(self.flights(&uid)),
            history: Some(self.all_runs().iter().filter_map(Finished::of).collect()),
            reused: self.reused(&run),
            earlier: self.earlier(&run),
            rivals: self.rivals(&run),
            logs: Some(self.logs.standing.clone()),
            run,
        };
        let begun =
            observed.run.metadata.annotations.as_ref().and_then(|all| all.get(names::REVISION_ANNOTATION).cloned());
        let wanted = begun.or_else(|| revision_wanted(&observed));
        observed.revision = wanted
            .and_then(|name| self.store.get("ControllerRevision", &name))
            .map(|found| serde_json::from_value(found.clone()).unwrap());
        Some(observed)
    }

    pub fn plan(&self) -> Option<RunPlan> {
        self.plan_of(RUN)
    }

    pub fn plan_of(&self, name: &str) -> Option<RunPlan> {
        let observed = self.observe_of(name)?;
        let at = self.now();
        Some(RunPlan { plan: decide(&observed, &self.settings, at), observed, at })
    }

    /// Does the first `most` writes of a plan, stopping at the first conflict as the operator does.
    pub fn act(&mut self, plan: &RunPlan, most: usize) {
        self.act_of(RUN, plan, most);
    }

    pub fn act_of(&mut self, name: &str, plan: &RunPlan, most: usize) {
        self.write(name, plan, most);
        self.most_busy = self.most_busy.max(self.busy().len());
        let marks =
            |run: &PipelineRun, name: &str| run.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(name));
        let runs = self.all_runs();
        let begun = runs.iter().filter(|run| marks(run, names::STARTED_ANNOTATION));
        for run in begun.clone() {
            let name = run.metadata.name.clone().unwrap();
            if !self.begun.contains(&name) {
                self.begun.push(name);
            }
        }
        let going = begun.filter(|run| !marks(run, names::OUTCOME_ANNOTATION)).count();
        self.most_going = self.most_going.max(going);
    }

    /// The plain pods of the run that are there, whose command has ended, and whose log is neither kept nor said not to be:
    /// there are none when it ends.
    fn owing(&self, run: &str) -> Vec<String> {
        let jobs = self.store.of_kind("Job").filter(|job| job["metadata"]["labels"][names::RUN_LABEL] == run);
        let owes = |job: &&Value| {
            let name = job["metadata"]["name"].as_str().unwrap();
            let Some(pod) = self.store.get("Pod", name) else { return false };
            let is_plain = pod["spec"]["containers"][0]["command"][0] == "/bin/sh";
            let is_kept = self.logs.kept.contains(job["metadata"]["uid"].as_str().unwrap());
            let is_said = !job["metadata"]["annotations"][names::LOG_ANNOTATION].is_null();
            let pod = serde_json::from_value(pod.clone()).unwrap();
            let job = serde_json::from_value((*job).clone()).unwrap();
            is_plain && !is_kept && !is_said && matches!(pod_phase(&job, Some(&pod), "job"), PodPhase::Ended(_))
        };
        jobs.filter(owes).map(|job| job["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    fn write(&mut self, name: &str, plan: &RunPlan, most: usize) {
        let now = self.now_text();
        let mut left = most;
        let mut held = BTreeMap::new();
        for effect in &plan.effects {
            if left == 0 {
                return;
            }
            if effect.is_mark() && !held.is_empty() {
                continue;
            }
            left -= 1;
            if let Effect::Start(job) = effect {
                let job_name = job.metadata.name.clone().unwrap();
                if self.refused.contains(&job.metadata.annotations.as_ref().unwrap()[names::CELL_ANNOTATION]) {
                    self.refusals += 1;
                    let refuse = Effect::Refuse { job: job_name, why: "it is invalid".to_owned() };
                    let _changed_meanwhile = self.store.act(&refuse.write("ns", name).unwrap().unwrap(), &now);
                    return;
                }
                if self.quota.is_some_and(|quota| self.busy().len() >= quota) {
                    if plan.effects.iter().any(|effect| effect.claims(job)) && left > 0 {
                        let unclaim = Effect::Unclaim { claim: job_name.clone() };
                        self.store.act(&unclaim.write("ns", name).unwrap().unwrap(), &now).unwrap();
                    }
                    held.insert(job_name, "exceeded quota".to_owned());
                    continue;
                }
            }
            let Some(write) = effect.write("ns", name).unwrap() else {
                self.logs.take(effect);
                continue;
            };
            let ends = effect.ends_run() || matches!(effect, Effect::Release { .. });
            let owing = if ends { self.owing(name) } else { Vec::new() };
            if self.store.act(&write, &now).is_err() {
                return;
            }
            assert!(owing.is_empty(), "{name} ends without the logs of {owing:?}");
        }
        let mut status = plan.status.clone();
        if !held.is_empty() {
            if Mark::of(&plan.observed.run).is_some() && left > 0 {
                left -= 1;
                self.store.act(&Effect::Proceed.write("ns", name).unwrap().unwrap(), &now).unwrap();
            }
            let observed = Observed { held, ..plan.observed.clone() };
            status = decide(&observed, &self.settings, plan.at).status;
        }
        if let Some(status) = status.filter(|_| left > 0) {
            let write = Write::Status { target: Target::of::<PipelineRun>("ns", name), status: status_patch(&status) };
            let _changed_meanwhile = self.store.act(&write, &now);
        }
    }

    pub fn reconcile(&mut self) {
        self.reconcile_of(RUN);
    }

    /// Reconciles until a status is written: behind a Job that is refused for good the run is looked at again at once.
    pub fn reconcile_told(&mut self) {
        loop {
            let before = self.refusals;
            self.reconcile();
            if self.refusals == before {
                return;
            }
        }
    }

    pub fn reconcile_of(&mut self, name: &str) {
        if let Some(plan) = self.plan_of(name) {
            self.act_of(name, &plan, usize::MAX);
        }
    }

    /// One step of everything but the operator.
    pub fn step(&mut self) {
        self.clock += 2;
        self.kubelet();
        self.job_controller();
        self.store.garbage();
        self.logs.step(self.now());
        self.most_at_once = self.most_at_once.max(self.running_cells().len());
    }

    fn job_controller(&mut self) {
        let now = self.now_text();
        for name in self.store.names("Job") {
            let job = self.store.get("Job", &name).unwrap().clone();
            if !job["status"]["conditions"].is_null() {
                continue;
            }
            let uid = job["metadata"]["uid"].as_str().unwrap().to_owned();
            let pod = self.store.get("Pod", &name).cloned();
            match pod {
                Some(pod) if job["spec"]["suspend"] == true => self.delete_pod_object(&name, &pod),
                Some(pod) => {
                    let phase = pod["status"]["phase"].as_str().unwrap_or_default().to_owned();
                    let kind = match phase.as_str() {
                        "Succeeded" => "Complete",
                        "Failed" => "Failed",
                        _ => continue,
                    };
                    self.finish_job(&name, kind);
                }
                None if job["spec"]["suspend"] == true => {}
                None if self.made.contains(&uid) => self.finish_job(&name, "Failed"),
                None => {
                    self.made.insert(uid.clone());
                    let mut pod = job["spec"]["template"].clone();
                    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": name,
                        "uid": uid, "controller": true}]);
                    pod["status"] = json!({"phase": "Pending"});
                    self.store.insert("Pod", &name, pod, &now);
                }
            }
        }
    }

    fn finish_job(&mut self, name: &str, kind: &str) {
        self.store.patch("Job", name, &json!({"status": {"conditions": [{"type": kind, "status": "True"}]}}));
    }

    /// What the API server does on a pod's deletion: without a node it is gone at once.
    fn delete_pod_object(&mut self, name: &str, pod: &Value) {
        if pod["spec"]["nodeName"].is_null() || is_terminal(pod) {
            self.store.objects.remove(&Store::key("Pod", name));
        } else if pod["metadata"]["deletionTimestamp"].is_null() {
            let due = Timestamp::from_second(self.clock + 120).unwrap().to_string();
            let metadata = json!({"metadata": {"deletionTimestamp": due, "deletionGracePeriodSeconds": 120}});
            self.store.patch("Pod", name, &metadata);
        }
    }

    fn kubelet(&mut self) {
        for name in self.store.names("Pod") {
            let pod = self.store.get("Pod", &name).unwrap().clone();
            let deleting = !pod["metadata"]["deletionTimestamp"].is_null();
            if is_terminal(&pod) {
                if deleting && pod["metadata"]["deletionGracePeriodSeconds"] == 0 {
                    self.store.objects.remove(&Store::key("Pod", &name));
                } else if deleting {
                    // Kubelet's last deletion: the API server forgets when the first was asked for.
                    let now = self.now_text();
                    let metadata = json!({"metadata": {"deletionTimestamp": now, "deletionGracePeriodSeconds": 0}});
                    self.store.patch("Pod", &name, &metadata);
                }
                continue;
            }
            if pod["spec"]["nodeName"].is_null() {
                self.store.patch("Pod", &name, &json!({"spec": {"nodeName": "node"}}));
                continue;
            }
            self.advance(&name, &pod, deleting);
        }
    }

    fn advance(&mut self, name: &str, pod: &Value, deleting: bool) {
        let now = self.now_text();
        let cell = pod["metadata"]["annotations"][names::CELL_ANNOTATION].as_str().unwrap().to_owned();
        let fate = self.fates.get(&cell).cloned().unwrap_or(Fate { exit: 0, failed_tests: 0, steps: 1, traps: false });
        let ending = pod["spec"]["activeDeadlineSeconds"] == 1;
        let main = &pod["status"]["containerStatuses"][0]["state"];
        let image = self.image_id(pod);
        let container = |state: Value| json!([{"name": "job", "image": "", "imageID": image, "ready": false, "restartCount": 0, "state": state}]);
        if main.is_null() {
            if deleting {
                self.store.objects.remove(&Store::key("Pod", name));
                return;
            }
            if ending {
                self.store.patch("Pod", name, &json!({"status": {"phase": "Failed", "reason": "DeadlineExceeded"}}));
                return;
            }
            *self.executions.entry(name.to_owned()).or_default() += 1;
            *self.cell_executions.entry(cell.clone()).or_default() += 1;
            let running = self.running_cells();
            self.starts.push((cell, running));
            let status = json!({"phase": "Running", "initContainerStatuses": self.services(pod),
                "containerStatuses": container(json!({"running": {"startedAt": now}}))});
            self.store.patch("Pod", name, &json!({ "status": status }));
        } else if !main["running"].is_null() {
            let steps = self.progress.entry(name.to_owned()).or_default();
            *steps += 1;
            let stopped = ending || deleting;
            if !stopped && *steps < fate.steps {
                return;
            }
            let exit = match (stopped, fate.traps) {
                (true, true) => 0,
                (true, false) => 143,
                (false, _) => fate.exit,
            };
            let started = main["running"]["startedAt"].clone();
            let ended = container(
                json!({"terminated": {"exitCode": exit, "reason": "Completed", "startedAt": started, "finishedAt": now,
                    "message": self.messages.get(&cell)}}),
            );
            let has_collector = pod["spec"]["initContainers"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["name"] == "collector"));
            let mut status = json!({"containerStatuses": ended});
            if !has_collector || stopped {
                status["phase"] = json!(if exit == 0 && !ending { "Succeeded" } else { "Failed" });
            }
            let mut patch = json!({ "status": status });
            patch["status"]["containerStatuses"][0]["state"]["running"] = Value::Null;
            self.store.patch("Pod", name, &patch);
        } else {
            let exit = main["terminated"]["exitCode"].as_i64().unwrap();
            let message = json!({"tests": {"passed": 5, "failed": fate.failed_tests, "skipped": 1}, "coverage": 6_000})
                .to_string();
            let collector = json!({"name": "collector", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "finishedAt": now, "message": message}}});
            let phase = if exit == 0 { "Succeeded" } else { "Failed" };
            let mut beside = self.services(pod);
            beside.push(collector);
            self.store.patch("Pod", name, &json!({"status": {"initContainerStatuses": beside, "phase": phase}}));
        }
    }

    /// As kubelet tells it of what a registry has.
    fn image_id(&self, pod: &Value) -> String {
        self.image_id_of(pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default())
    }

    /// The services beside the job's container, while they run.
    fn services(&self, pod: &Value) -> Vec<Value> {
        let beside = pod["spec"]["initContainers"].as_array().into_iter().flatten();
        let services =
            beside.filter(|container| container["restartPolicy"] == "Always" && container["name"] != "collector");
        let told = services.map(|service| {
            let id = self.image_id_of(service["image"].as_str().unwrap_or_default());
            json!({"name": service["name"], "image": "", "imageID": id, "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": self.now_text()}}})
        });
        told.collect()
    }

    fn image_id_of(&self, reference: &str) -> String {
        let name =
            if reference.contains('/') { reference.to_owned() } else { format!("docker.io/library/{reference}") };
        let told = || image_of(&name, reference);
        self.image_ids.get(reference).cloned().unwrap_or_else(told)
    }

    fn running_cells(&self) -> BTreeSet<String> {
        let pods = self.store.of_kind("Pod");
        let runs = |pod: &&Value| !pod["status"]["containerStatuses"][0]["state"]["running"].is_null();
        let running = pods.filter(|pod| runs(pod) && !is_terminal(pod));
        running
            .map(|pod| pod["metadata"]["annotations"][names::CELL_ANNOTATION].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    // What users and nodes do.

    pub fn cancel(&mut self) {
        self.store.patch("PipelineRun", RUN, &json!({"spec": {"cancel": true}}));
    }

    pub fn delete_run(&mut self) {
        let now = self.now_text();
        self.store.delete("PipelineRun", RUN, &now);
    }

    pub fn delete_status(&mut self) {
        self.delete_status_of(RUN);
    }

    pub fn delete_status_of(&mut self, name: &str) {
        self.store.patch("PipelineRun", name, &json!({"status": null}));
    }

    /// Cells with a pod that is not over.
    pub fn living_pods(&self) -> Vec<(String, String)> {
        let pods = self.store.of_kind("Pod").filter(|pod| !is_terminal(pod));
        pods.map(|pod| {
            let cell = pod["metadata"]["annotations"][names::CELL_ANNOTATION].as_str().unwrap_or_default();
            (pod["metadata"]["name"].as_str().unwrap().to_owned(), cell.to_owned())
        })
        .collect()
    }

    pub fn delete_pod(&mut self, name: &str) {
        if let Some(pod) = self.store.get("Pod", name).cloned() {
            self.delete_pod_object(name, &pod);
        }
    }

    /// Deleted by force, as with its node: nothing is seen of its end.
    pub fn lose_pod(&mut self, name: &str) {
        self.store.objects.remove(&Store::key("Pod", name));
    }

    pub fn evict_pod(&mut self, name: &str) {
        self.store.patch("Pod", name, &json!({"status": {"phase": "Failed", "reason": "Evicted"}}));
    }

    pub fn delete_job(&mut self, name: &str) {
        self.store.objects.remove(&Store::key("Job", name));
        self.store.garbage();
    }

    /// Until nothing changes for longer than an attempt waits for the next; panics when that never happens.
    pub fn settle(&mut self) {
        for _ in 0..400 {
            let before = (self.store.objects.clone(), self.logs.standing.clone());
            for _ in 0..7 {
                for run in self.store.names("PipelineRun") {
                    self.reconcile_of(&run);
                }
                self.step();
            }
            if (&self.store.objects, &self.logs.standing) == (&before.0, &before.1) {
                return;
            }
        }
        panic!("never comes to rest: {:#?}", self.plan());
    }
}

fn typed_jobs(jobs: Vec<Value>) -> Vec<Job> {
    jobs.into_iter().map(|job| serde_json::from_value::<LeanJob>(job).unwrap().0).collect()
}

fn is_terminal(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// `repository@digest` of an image of this content, by its full name.
pub fn image_of(name: &str, content: &str) -> String {
    if name.contains('@') {
        return name.to_owned();
    }
    let repository = name.rsplit_once(':').map_or(name, |(repository, _)| repository);
    format!("{repository}@{}", Digest::of(content.as_bytes()))
}
