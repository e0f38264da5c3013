//! Events: told on transitions, never a reason to fail.

use kube::Resource;
use kube::runtime::events::{Event, EventType};

use super::Cluster;
use crate::api::conditions::printable;
use crate::plan::{Notice, Severity};

/// The longest note that the API server takes, in characters.
const MAX_NOTE: usize = 1000;

impl Cluster {
    /// Tells what happened to `object`. A failure is logged and forgotten.
    pub async fn notify<K>(&self, object: &K, notice: &Notice)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_: match notice.severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: notice.reason.to_owned(),
            note: Some(printable(&notice.note, MAX_NOTE)),
            action: notice.action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::debug!(reason = notice.reason, %error, "an event could not be written");
        }
    }
}
