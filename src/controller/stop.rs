//! How the operator ends: told to, or because something in it ended by itself.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::ControllerError;
use crate::cluster::Leadership;

/// How long running reconciles may take to end after a TERM.
const GRACE: Duration = Duration::from_secs(20);

/// The signals that ask for an end. From the moment they are listened to, none is lost.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, ControllerError> {
        let one = |kind| signal(kind).map_err(ControllerError::Signals);
        Ok(Self { terminate: one(SignalKind::terminate())?, interrupt: one(SignalKind::interrupt())? })
    }

    /// Resolves when TERM or INT arrives.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => info!("TERM: stopping"),
            _ = self.interrupt.recv() => info!("INT: stopping"),
        }
    }
}

/// Resolves when TERM or INT arrives, or when signals can't be received at all.
pub async fn stop_asked() {
    match Signals::listen() {
        Ok(mut signals) => signals.asked().await,
        Err(error) => tracing::error!(%error, "stopping"),
    }
}

/// Whether this operator leads: waits until it does, or until it is told to stop.
pub(super) async fn led(leadership: &mut Leadership, stop: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = leadership.acquired() => true,
    }
}

/// Runs all until they end after `stop`. When one ends by itself, the others are ended too: they would go on for only a
/// part of the resources, and nobody would see it.
pub(super) async fn all_of(running: Vec<LocalBoxFuture<'_, ()>>, stop: &CancellationToken) {
    let mut running: FuturesUnordered<_> = running.into_iter().collect();
    while running.next().await.is_some() {
        if !stop.is_cancelled() {
            return;
        }
    }
}

/// Runs `work` until `told` says why it is to end, and gives it time to do so.
///
/// # Errors
/// What `told` says; and when `work` ends without having been told.
pub(super) async fn until_told(
    work: impl Future<Output = ()>,
    told: impl Future<Output = Result<(), ControllerError>>,
) -> Result<(), ControllerError> {
    tokio::pin!(work);
    let ended = tokio::select! {
        biased;
        ended = told => ended,
        () = &mut work => return Err(ControllerError::Ended),
    };
    if timeout(GRACE, &mut work).await.is_err() {
        warn!("some reconciles did not end in time; the next operator goes on from what they left");
    }
    ended
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt as _;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::cluster::Keeper;
    use crate::cluster::fake::FakeApi;

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_by_itself_is_an_error_and_no_panic() {
        let ended = until_told(ready(()), pending()).await;
        assert!(matches!(ended, Err(ControllerError::Ended)));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_was_told_to_end_has_time_to_do_so() {
        let begun = Instant::now();
        let stop = CancellationToken::new();
        let work = async {
            stop.cancelled().await;
            sleep(Duration::from_secs(3)).await;
        };
        let told = async {
            stop.cancel();
            Ok(())
        };
        until_told(work, told).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_is_left_after_the_grace() {
        let begun = Instant::now();
        until_told(pending(), ready(Ok(()))).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), GRACE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_server_ends_the_work_and_is_the_error() {
        let broken = || ControllerError::Registry("broken".to_owned());
        let stop = CancellationToken::new();
        let told = async {
            stop.cancel();
            Err(broken())
        };
        let ended = until_told(stop.cancelled(), told).await;
        assert_eq!(ended.unwrap_err().to_string(), broken().to_string());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_while_waiting_for_the_lease_ends_at_once() {
        let (client, _api) = FakeApi::client();
        // Another operator leads: the keeper never gets the Lease.
        let (_keeper, mut leadership) = Keeper::new(client, "ns", "operator", "us");
        let (begun, stop) = (Instant::now(), CancellationToken::new());
        let work = async { assert!(!led(&mut leadership, &stop).await) };
        let told = async {
            sleep(Duration::from_secs(1)).await;
            stop.cancel();
            Ok(())
        };
        until_told(work, told).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_controller_that_ends_by_itself_ends_all() {
        let stop = CancellationToken::new();
        all_of(vec![pending().boxed_local(), ready(()).boxed_local()], &stop).await;
        assert!(!stop.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_stop_all_controllers_are_waited_for() {
        let (begun, stop) = (Instant::now(), CancellationToken::new());
        stop.cancel();
        all_of(vec![ready(()).boxed_local(), sleep(Duration::from_secs(5)).boxed_local()], &stop).await;
        assert_eq!(begun.elapsed().as_secs(), 5);
    }
}
