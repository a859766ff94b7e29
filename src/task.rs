//! The only place that spawns. A task's kind says what its failure means; a panic ends the task, is logged with the
//! task's name, and for a vital task stops the process through the stop signal.

#![expect(clippy::disallowed_methods, reason = "the one place that spawns")]

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::task::Poll;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics;

/// What a panic in the task does.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Logged; everything else goes on. For work that belongs to one call, one worker or one connection.
    Local,
    /// Logged, and the process is asked to stop: without this task it would only seem to work.
    Vital(CancellationToken),
}

/// Runs `future` as a task of its own.
pub fn spawn<F>(kind: Kind, name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let counted = Counted::new(name);
    tokio::spawn(async move {
        let _counted = counted;
        match AssertUnwindSafe(future).catch_unwind().await {
            Ok(output) => Some(output),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(|s| (*s).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                tracing::error!(task = name, panic = text, "task panicked");
                if let Kind::Vital(stop) = kind {
                    stop.cancel();
                }
                None
            }
        }
    })
}

/// A task that has been spawned and has not ended, however it ends.
struct Counted(&'static str);

impl Counted {
    fn new(name: &'static str) -> Self {
        metrics::task(name, 1.0);
        Self(name)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::task(self.0, -1.0);
    }
}

thread_local! {
    /// What was polled last on this thread lets others go first.
    static STANDS_BACK: Cell<bool> = const { Cell::new(false) };
}

/// Lets the tasks that are ready on this thread go first, and nobody else: unlike the runtime's own yield, it does not look for what has come
/// meanwhile, which is a call of the system.
pub async fn let_others_go() {
    let mut stood_back = false;
    poll_fn(|context| {
        if std::mem::replace(&mut stood_back, true) {
            return Poll::Ready(());
        }
        STANDS_BACK.set(true);
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether what was just polled did that, for who polls futures that wake themselves; asked once.
pub fn stood_back() -> bool {
    STANDS_BACK.take()
}

/// Runs blocking work on a thread where blocking is allowed.
pub async fn blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    #[cfg(test)]
    if let Some(takes) = TAKES.with_borrow_mut(|takes| takes.as_mut().map(|takes| takes())) {
        tokio::time::sleep(takes).await;
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| panic_on_join(name, &error))
}

/// In a simulation blocking work is done in place, so that everything happens in one order: on this thread, from now on, and
/// with the time it takes as that says.
#[cfg(test)]
pub fn in_place(takes: Option<Takes>) {
    TAKES.set(takes);
}

#[cfg(test)]
pub type Takes = Box<dyn FnMut() -> std::time::Duration>;

#[cfg(test)]
thread_local! {
    static TAKES: std::cell::RefCell<Option<Takes>> = const { std::cell::RefCell::new(None) };
}

/// Starts a thread, for work that blocks as long as its owner lives. Whoever starts it ends it, and joins it.
pub fn thread(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}

#[expect(
    clippy::panic,
    reason = "a panic in blocking work is passed on to the task that waits for it"
)]
fn panic_on_join(name: &str, error: &tokio::task::JoinError) -> ! {
    panic!("blocking work {name:?} did not end: {error}")
}
