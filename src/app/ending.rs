//! How the process is asked to end, and how long what runs for nobody in particular may take then. In what order things end is said in `app`.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Signals that ask the process to end. Listened to from the start, so that none is lost between two waits.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Once it is told to stop, asynchronous calls under way have as long to finish as those somebody waits for.
pub(crate) async fn finished(
    consumer: impl Future<Output = ()>,
    stop: &CancellationToken,
    grace: Duration,
    hurry: &CancellationToken,
) {
    stop.cancelled().await;
    tokio::select! {
        () = consumer => {}
        () = tokio::time::sleep(grace) => {}
        () = hurry.cancelled() => {}
    }
}
