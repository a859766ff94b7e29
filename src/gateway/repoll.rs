//! A future that wakes itself while it is polled is polled again at once. hyper does so with every request that has a body: the
//! service and the connection are one task, and each tells the other of the body. Left to the runtime this is a yield, for which it
//! wakes another thread, per call, that finds nothing to do.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

use crate::task;

/// After so many polls in a row others have their turn.
const IN_A_ROW: usize = 4;

const RESTING: u8 = 0;
const POLLED: u8 = 1;
/// It was woken while it was polled.
const AGAIN: u8 = 2;

#[derive(Debug)]
pub struct Repoll<F> {
    future: Pin<Box<F>>,
    own: Arc<Own>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Own {
    state: AtomicU8,
    outer: AtomicWaker,
}

impl Wake for Own {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (state != RESTING).then_some(AGAIN)
            });
        if noted.is_err() {
            self.outer.wake();
        }
    }
}

impl<F> Repoll<F> {
    pub fn new(future: F) -> Self {
        let own = Arc::new(Own::default());
        Self {
            future: Box::pin(future),
            waker: own.clone().into(),
            own,
        }
    }
}

impl<F: Future> Future for Repoll<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        this.own.outer.register(context.waker());
        // Whoever did so before is none of this.
        task::stood_back();
        for _ in 0..IN_A_ROW {
            this.own.state.store(POLLED, Ordering::Release);
            let polled = this
                .future
                .as_mut()
                .poll(&mut Context::from_waker(&this.waker));
            if polled.is_ready() {
                return polled;
            }
            if this.own.state.swap(RESTING, Ordering::AcqRel) == POLLED {
                return Poll::Pending;
            }
            if task::stood_back() {
                break;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::future::poll_fn;

    use super::*;

    #[derive(Debug, Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Ready at the poll of this number; until then it wakes itself each time. Also: how often its task was woken meanwhile.
    fn after(polls: usize) -> (usize, usize) {
        let (woken, mut outer, mut inner) = (Arc::new(Counted::default()), 0, 0);
        let mut future = Repoll::new(poll_fn(|context| {
            inner += 1;
            context.waker().wake_by_ref();
            if inner < polls {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        }));
        let waker = woken.clone().into();
        loop {
            outer += 1;
            let polled = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                return (outer, woken.0.load(Ordering::SeqCst));
            }
        }
    }

    #[test]
    fn waking_oneself_costs_no_turn_of_the_task() {
        assert_eq!(after(1), (1, 0));
        assert_eq!(after(IN_A_ROW), (1, 0));
        assert_eq!(after(IN_A_ROW + 1), (2, 1), "others have their turn");
    }

    #[test]
    fn who_lets_others_go_first_is_not_polled_at_once() {
        let woken = Arc::new(Counted::default());
        let mut future = Repoll::new(task::let_others_go());
        let waker = woken.clone().into();
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut future).poll(&mut context).is_pending());
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(Pin::new(&mut future).poll(&mut context).is_ready());
        assert_eq!(after(IN_A_ROW), (1, 0), "nobody else is held up by it");
    }

    #[test]
    fn a_wake_from_elsewhere_wakes_the_task() {
        let woken = Arc::new(Counted::default());
        let inner = Arc::new(parking_lot::Mutex::new(None::<Waker>));
        let kept = inner.clone();
        let mut future = Repoll::new(poll_fn(move |context| {
            *kept.lock() = Some(context.waker().clone());
            Poll::<()>::Pending
        }));
        let waker = woken.clone().into();
        assert!(
            Pin::new(&mut future)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        inner.lock().take().expect("it was polled").wake();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    }
}
