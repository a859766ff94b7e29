//! How long the head of a request may take, as hyper asks for it: a sleep for each request of a connection, dropped when the head is there.
//! All of a connection's are one timer of the runtime, which is moved now and then.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use parking_lot::Mutex;

use crate::clock;
use crate::clock::patience::Patience;

/// One connection's; it waits for one head at a time.
#[derive(Debug, Default)]
pub struct HeadTimer(Arc<Mutex<Patience>>);

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(clock::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let patience = self.0.clone();
        Box::pin(HeadSleep { patience, deadline })
    }

    fn now(&self) -> Instant {
        clock::now()
    }
}

#[derive(Debug)]
struct HeadSleep {
    patience: Arc<Mutex<Patience>>,
    deadline: Instant,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.patience.lock().poll_passed(self.deadline, context)
    }
}

impl Sleep for HeadSleep {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_head_has_its_own_time() {
        let timer = HeadTimer::default();
        let begun = clock::now();
        let waited = || clock::now().saturating_duration_since(begun).as_millis();
        let long = Duration::from_millis(100);
        // Its head came: what is left of it in the wheel is nobody's.
        let dropped = tokio::time::timeout(Duration::from_millis(60), timer.sleep(long));
        assert!(dropped.await.is_err());
        timer.sleep(long).await;
        assert_eq!(waited(), 160);
        timer.sleep(Duration::from_millis(5)).await;
        assert_eq!(waited(), 165);
    }
}
