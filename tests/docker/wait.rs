//! Waiting for something to become so, with a deadline: the only way tests here wait.

use std::future::Future;
use std::time::{Duration, Instant};

/// Generous, because the machine may be busy; waits end as soon as what they wait for is there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The same without a runtime.
pub(crate) fn blocking<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
