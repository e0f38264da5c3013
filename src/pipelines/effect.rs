//! What a decision about a run wants done, and how it is written.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::names;
use super::queue::Mark;
use super::result::{JobResult, Outcome, Stop};
use crate::api::run::PipelineRun;
use crate::cluster::{Manifest, ManifestError, Target, Write};
use crate::logs::Wanted;
use crate::workload::Lost;

/// One change to the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Brings the trusted authorities into the namespace.
    Trust(Box<ConfigMap>),
    /// Brings the NetworkPolicy into the namespace.
    Restrict(Box<NetworkPolicy>),
    /// Keeps the pipeline as it is now.
    Preserve(Box<ControllerRevision>),
    /// Makes the run an owner of a revision that other runs made.
    Reference {
        /// The revision's name.
        revision: String,
        /// As it was read: the owners are replaced as a whole.
        resource_version: Option<String>,
        /// All owners.
        owners: Vec<OwnerReference>,
    },
    /// Marks the run as begun: finalizer, revision and start.
    Begin {
        /// As it was read: the finalizers are replaced as a whole.
        resource_version: Option<String>,
        /// All finalizers.
        finalizers: Vec<String>,
        /// The revision's name.
        revision: String,
        /// When.
        started: jiff::Timestamp,
    },
    /// Writes down what the run takes over from an earlier one.
    Reuse(Box<ConfigMap>),
    /// Says which concurrency group the run belongs to.
    Join {
        /// The group's hash.
        group: String,
    },
    /// Tells an older run of the group to end.
    Supersede {
        /// The older run.
        run: String,
    },
    /// Says that the run waits for room.
    Wait(Mark),
    /// Says that it does not any more.
    Proceed,
    /// Says which run makes an environment that this one waits for; `None`: it waits no more.
    Follow {
        /// The run.
        run: Option<String>,
    },
    /// Claims a job that must never run twice.
    Claim(Box<ConfigMap>),
    /// Starts an attempt.
    Start(Box<Job>),
    /// Ends the pod in order: command first, collector last; the pod, its messages and logs stay.
    EndPod {
        /// The pod.
        pod: String,
        /// Why; absent when only foreign containers are left.
        stop: Option<Stop>,
    },
    /// Ends a Job whose pod has no node yet, or lacks a volume there: nothing has run, and nothing will.
    Suspend {
        /// The Job.
        job: String,
        /// Why.
        stop: Stop,
    },
    /// Writes down how an attempt's pod is being taken away.
    Lose {
        /// The Job.
        job: String,
        /// How.
        loss: Lost,
    },
    /// Writes down how an attempt ended.
    Record {
        /// The Job.
        job: String,
        /// How.
        result: JobResult,
    },
    /// Writes down that an attempt's Job can never be made. On the run: there is nothing else that it could be written on.
    Refuse {
        /// The Job.
        job: String,
        /// Why.
        why: String,
    },
    /// Takes back a claim whose Job the API server refused to make: nothing has run.
    Unclaim {
        /// The claim.
        claim: String,
    },
    /// Writes down that a claimed job vanished.
    RecordClaim {
        /// The claim.
        claim: String,
        /// How.
        result: JobResult,
    },
    /// Writes down how the run ended, and lets it go.
    Finish {
        /// As it was read: the finalizers are replaced as a whole.
        resource_version: Option<String>,
        /// The other finalizers.
        finalizers: Vec<String>,
        /// The pipeline, by which the finished run is found again.
        pipeline: String,
        /// How.
        outcome: Outcome,
    },
    /// Lets a run go that is being deleted.
    Release {
        /// As it was read.
        resource_version: Option<String>,
        /// The other finalizers.
        finalizers: Vec<String>,
    },
    /// Has the log of a plain pod kept: no write to the API server.
    KeepLog(Box<Wanted>),
    /// Has the run looked at as soon as the log of one of these pods was kept, or not: no write to the API server.
    AwaitLogs {
        /// The uids of their Jobs.
        jobs: Vec<String>,
    },
    /// Writes down that the log of a plain pod can't be kept.
    GiveUpLog {
        /// The Job.
        job: String,
        /// Why.
        why: String,
    },
    /// Deletes an older run of the pipeline: there are more than are kept.
    Prune {
        /// Its name.
        run: String,
        /// Its uid.
        uid: Option<String>,
    },
    /// Deletes a run whose time to live is over.
    Expire {
        /// Its uid.
        uid: Option<String>,
    },
}

/// How the value of an annotation of `object` is written.
fn text<T: serde::Serialize>(object: &str, value: &T) -> Result<Value, ManifestError> {
    let written = serde_json::to_string(value).map_err(|source| ManifestError::Json {
        kind: "annotation of".to_owned(),
        name: object.to_owned(),
        source,
    })?;
    Ok(written.into())
}

impl Effect {
    /// The write that does it, for the run of that name; `None`: it is none.
    ///
    /// # Errors
    /// When an object can't be written as JSON.
    pub fn write(&self, namespace: &str, run: &str) -> Result<Option<Write>, ManifestError> {
        let of_run = |metadata: Value| Write::Merge {
            target: Target::of::<PipelineRun>(namespace, run),
            patch: json!({ "metadata": metadata }),
        };
        // Conditional on what was read: the finalizers are replaced as a whole.
        let on_run = |resource_version: &Option<String>, finalizers: &[String], more: Value| {
            let mut metadata = json!({ "finalizers": finalizers });
            if let Some(map) = metadata.as_object_mut() {
                if let Some(version) = resource_version {
                    map.insert("resourceVersion".to_owned(), version.clone().into());
                }
                if let Value::Object(more) = more {
                    map.extend(more);
                }
            }
            of_run(metadata)
        };
        Ok(Some(match self {
            Self::KeepLog(_) | Self::AwaitLogs { .. } => return Ok(None),
            Self::GiveUpLog { job, why } => Write::Merge {
                target: Target::of::<Job>(namespace, job),
                patch: json!({ "metadata": { "annotations": { names::LOG_ANNOTATION: why } } }),
            },
            Self::Trust(config_map) => Write::Apply(Manifest::of(config_map.as_ref())?),
            Self::Restrict(policy) => Write::Apply(Manifest::of(policy.as_ref())?),
            Self::Preserve(revision) => Write::Create(Manifest::of(revision.as_ref())?),
            Self::Reference { revision, resource_version, owners } => Write::Merge {
                target: Target::of::<ControllerRevision>(namespace, revision),
                patch: json!({ "metadata": { "resourceVersion": resource_version, "ownerReferences": owners } }),
            },
            Self::Begin { resource_version, finalizers, revision, started } => {
                let annotations = json!({
                    names::REVISION_ANNOTATION: revision,
                    names::STARTED_ANNOTATION: started.to_string(),
                });
                on_run(resource_version, finalizers, json!({ "annotations": annotations }))
            }
            Self::Reuse(reused) => Write::Create(Manifest::of(reused.as_ref())?),
            Self::Join { group } => of_run(json!({ "labels": { names::GROUP_LABEL: group } })),
            Self::Supersede { run: older } => Write::Merge {
                target: Target::of::<PipelineRun>(namespace, older),
                patch: json!({ "metadata": { "annotations": { names::SUPERSEDED_ANNOTATION: run } } }),
            },
            Self::Wait(mark) => of_run(json!({
                "labels": { names::WAITING_LABEL: "true" },
                "annotations": { names::WAITING_ANNOTATION: text(run, mark)? },
            })),
            Self::Proceed => of_run(json!({
                "labels": { names::WAITING_LABEL: null },
                "annotations": { names::WAITING_ANNOTATION: null },
            })),
            Self::Follow { run } => of_run(json!({ "annotations": { names::FOLLOWS_ANNOTATION: run } })),
            Self::Claim(claim) => Write::Create(Manifest::of(claim.as_ref())?),
            Self::Start(job) => Write::Create(Manifest::of(job.as_ref())?),
            Self::EndPod { pod, stop } => {
                let mut patch = json!({ "spec": { "activeDeadlineSeconds": 1 } });
                if let (Some(stop), Some(map)) = (stop, patch.as_object_mut()) {
                    map.insert(
                        "metadata".to_owned(),
                        json!({ "annotations": { names::STOP_ANNOTATION: text(pod, stop)? } }),
                    );
                }
                Write::Merge { target: Target::of::<Pod>(namespace, pod), patch }
            }
            Self::Suspend { job, stop } => Write::Merge {
                target: Target::of::<Job>(namespace, job),
                patch: json!({
                    "metadata": { "annotations": { names::STOP_ANNOTATION: text(job, stop)? } },
                    "spec": { "suspend": true },
                }),
            },
            Self::Lose { job, loss } => Write::Merge {
                target: Target::of::<Job>(namespace, job),
                patch: json!({ "metadata": { "annotations": { names::LOSS_ANNOTATION: text(job, loss)? } } }),
            },
            Self::Record { job, result } => Write::Merge {
                target: Target::of::<Job>(namespace, job),
                patch: json!({ "metadata": {
                    "annotations": { names::RESULT_ANNOTATION: text(job, result)? },
                    "labels": { names::FINISHED_LABEL: "true" },
                } }),
            },
            Self::Refuse { job, why } => of_run(json!({ "annotations": { names::refusal_annotation(job): why } })),
            Self::Unclaim { claim } => Write::Delete { target: Target::of::<ConfigMap>(namespace, claim), uid: None },
            Self::RecordClaim { claim, result } => Write::Merge {
                target: Target::of::<ConfigMap>(namespace, claim),
                patch: json!({ "metadata": { "annotations": { names::RESULT_ANNOTATION: text(claim, result)? } } }),
            },
            Self::Finish { resource_version, finalizers, pipeline, outcome } => {
                let annotations = json!({
                    names::OUTCOME_ANNOTATION: text(run, outcome)?,
                    names::WAITING_ANNOTATION: null,
                    names::FOLLOWS_ANNOTATION: null,
                });
                let labels = json!({
                    names::FINISHED_LABEL: "true",
                    names::PIPELINE_LABEL: pipeline,
                    names::WAITING_LABEL: null,
                });
                on_run(resource_version, finalizers, json!({ "annotations": annotations, "labels": labels }))
            }
            Self::Release { resource_version, finalizers } => on_run(resource_version, finalizers, Value::Null),
            Self::Prune { run, uid } => {
                Write::Delete { target: Target::of::<PipelineRun>(namespace, run), uid: uid.clone() }
            }
            Self::Expire { uid } => {
                Write::Delete { target: Target::of::<PipelineRun>(namespace, run), uid: uid.clone() }
            }
        }))
    }

    /// Whether it must not happen beside another of its kind: it begins a run, or takes room.
    #[must_use]
    pub fn needs_turn(&self) -> bool {
        match self {
            Self::Begin { .. } | Self::Start(_) => true,
            Self::Trust(_)
            | Self::Restrict(_)
            | Self::Preserve(_)
            | Self::Reference { .. }
            | Self::Reuse(_)
            | Self::Join { .. }
            | Self::Supersede { .. }
            | Self::Wait(_)
            | Self::Proceed
            | Self::Follow { .. }
            | Self::Claim(_)
            | Self::EndPod { .. }
            | Self::Suspend { .. }
            | Self::Lose { .. }
            | Self::Record { .. }
            | Self::Refuse { .. }
            | Self::Unclaim { .. }
            | Self::RecordClaim { .. }
            | Self::Finish { .. }
            | Self::Release { .. }
            | Self::KeepLog(_)
            | Self::AwaitLogs { .. }
            | Self::GiveUpLog { .. }
            | Self::Prune { .. }
            | Self::Expire { .. } => false,
        }
    }

    /// Whether it says whether the run waits for room.
    #[must_use]
    pub fn is_mark(&self) -> bool {
        matches!(self, Self::Wait(_) | Self::Proceed)
    }

    /// Whether it claims what this Job does.
    #[must_use]
    pub fn claims(&self, job: &Job) -> bool {
        matches!(self, Self::Claim(claim) if claim.metadata.name == job.metadata.name)
    }

    /// Whether the run is over with it.
    #[must_use]
    pub fn ends_run(&self) -> bool {
        matches!(self, Self::Finish { .. })
    }

    /// A short description for logs.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Trust(_) => "apply trusted authorities".to_owned(),
            Self::Restrict(_) => "apply network policy".to_owned(),
            Self::Preserve(revision) => format!("create revision {}", revision.name_any()),
            Self::Reference { revision, .. } => format!("own revision {revision}"),
            Self::Begin { .. } => "begin the run".to_owned(),
            Self::Reuse(reused) => format!("keep what is reused in {}", reused.name_any()),
            Self::Join { group } => format!("join concurrency group {group}"),
            Self::Supersede { run } => format!("tell run {run} to end for this one"),
            Self::Wait(mark) => format!("wait for room for {} jobs", mark.jobs),
            Self::Proceed => "wait no longer".to_owned(),
            Self::Follow { run: Some(run) } => format!("wait for the environment that run {run} makes"),
            Self::Follow { run: None } => "wait for no environment any more".to_owned(),
            Self::Claim(claim) => format!("claim {}", claim.name_any()),
            Self::Start(job) => format!("start job {}", job.name_any()),
            Self::EndPod { pod, .. } => format!("end pod {pod}"),
            Self::Suspend { job, .. } => format!("suspend job {job}"),
            Self::Lose { job, .. } => format!("write down that the pod of {job} is being taken away"),
            Self::Record { job, .. } => format!("record the result of {job}"),
            Self::Refuse { job, .. } => format!("write down that {job} can't be made"),
            Self::Unclaim { claim } => format!("take back the claim {claim}"),
            Self::RecordClaim { claim, .. } => format!("record that {claim} vanished"),
            Self::Finish { .. } => "finish the run".to_owned(),
            Self::Release { .. } => "release the run".to_owned(),
            Self::KeepLog(wanted) => format!("keep the log of {}", wanted.pod),
            Self::AwaitLogs { jobs } => format!("wait for {} logs to be kept", jobs.len()),
            Self::GiveUpLog { job, .. } => format!("write down that the log of {job} was not kept"),
            Self::Prune { run, .. } => format!("delete the older run {run}"),
            Self::Expire { .. } => "delete the run after its time to live".to_owned(),
        }
    }
}
