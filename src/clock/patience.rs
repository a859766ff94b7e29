//! A deadline that is moved often and seldom passes: a call's, or that of the next request on a connection. A timer each time would be
//! put into the runtime's wheel and taken out again, under its lock; this one stays there and is moved only when it has run out, or
//! would come too late.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::future::poll_fn;
use tokio::time::Sleep;

use crate::clock;

#[derive(Debug, Default)]
pub struct Patience(Option<Pin<Box<Sleep>>>);

/// The deadline has passed.
#[derive(Debug, PartialEq, Eq)]
pub struct Elapsed;

impl Patience {
    /// What comes of the future, if it does until then.
    pub async fn until<F: Future>(
        &mut self,
        deadline: Instant,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = std::pin::pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            self.poll_passed(deadline, context).map(|()| Err(Elapsed))
        })
        .await
    }

    /// Ready when the deadline has passed.
    pub fn poll_passed(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if sleep.deadline() > deadline.into() {
            sleep.as_mut().reset(deadline.into());
        }
        // Of an earlier time, most often: then it goes on to this one.
        while sleep.as_mut().poll(context).is_ready() {
            if clock::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_call_has_its_own_deadline() {
        let mut patience = Patience::default();
        let begun = clock::now();
        let after = |ms| begun + Duration::from_millis(ms);
        let passed = || clock::now().saturating_duration_since(begun).as_millis();
        let never = std::future::pending::<()>;
        // What is there already needs no timer, whatever the time is.
        assert_eq!(patience.until(begun, async { 1 }).await, Ok(1));
        let answer = tokio::time::sleep(Duration::from_millis(10));
        assert_eq!(patience.until(after(100), answer).await, Ok(()));
        // Earlier than the one before.
        assert_eq!(patience.until(after(50), never()).await, Err(Elapsed));
        assert_eq!(passed(), 50);
        // Later: the timer of another runs out meanwhile.
        let answer = tokio::time::sleep(Duration::from_millis(1));
        assert_eq!(patience.until(after(60), answer).await, Ok(()));
        assert_eq!(patience.until(after(200), never()).await, Err(Elapsed));
        assert_eq!(passed(), 200);
        assert_eq!(
            patience.until(after(150), never()).await,
            Err(Elapsed),
            "over before it began"
        );
        assert_eq!(passed(), 200);
    }
}
