//! Events: told on transitions, never a reason to fail.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt};
use tokio::time::timeout;

use super::{Cluster, FIELD_MANAGER};
use crate::api::conditions::printable;
use crate::api::names::Digest;
use crate::plan::{Notice, Severity};

/// The longest note, in bytes: the API server takes 1024.
const MAX_NOTE: usize = 1000;
/// How long telling may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Cluster {
    /// Tells what happened to `object`. A failure is logged and forgotten.
    ///
    /// kube's own recorder is not used: it takes a second event with the same reason for a repetition and keeps the
    /// first note, so that the second version delivered within minutes would be told with the first one's number.
    pub async fn notify<K>(&self, object: &K, notice: &Notice)
    where
        K: Resource<DynamicType = ()>,
    {
        let Some(left) = self.leadership.left() else {
            return;
        };
        let event = self.event(object.object_ref(&()), &object.name_any(), notice, jiff::Timestamp::now());
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let told = timeout(left.min(PATIENCE), api.create(&PostParams::default(), &event)).await;
        if let Ok(Err(error)) = told {
            tracing::debug!(reason = notice.reason, %error, "an event could not be written");
        }
    }

    fn event(&self, regarding: ObjectReference, name: &str, notice: &Notice, now: jiff::Timestamp) -> Event {
        let note = printable(&notice.note, MAX_NOTE);
        let uid = regarding.uid.as_deref().unwrap_or_default();
        let hash = Digest::of(format!("{uid}/{}/{note}/{now}", notice.reason).as_bytes());
        Event {
            metadata: ObjectMeta { name: Some(format!("{name}.{}", hash.short())), ..ObjectMeta::default() },
            event_time: Some(MicroTime(now)),
            type_: Some(
                match notice.severity {
                    Severity::Normal => "Normal",
                    Severity::Warning => "Warning",
                }
                .to_owned(),
            ),
            reason: Some(notice.reason.to_owned()),
            action: Some(notice.action.to_owned()),
            note: Some(note),
            regarding: Some(regarding),
            reporting_controller: Some(format!("timetracker.dev/{FIELD_MANAGER}")),
            reporting_instance: Some(self.identity.chars().take(128).collect()),
            ..Event::default()
        }
    }
}
