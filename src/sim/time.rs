//! Virtual time for one thread: the clock moves to the next timer when nothing else can happen, and everything happens in one
//! order. Sockets are real, so before the clock may move the kernel is asked a few times whether something has arrived.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use crate::task;

/// How often the kernel is asked before the clock moves. Each time gets a message one hop further; the longest chain of
/// messages that no simulated delay interrupts has two hops: an answer read, and the next INVOKE written for it.
const ROUNDS: u32 = 4;

/// Runs `future`, and all tasks it spawns, in virtual time. Blocking work is done in place, and takes as long as `takes` says.
pub fn run<F>(takes: impl FnMut() -> Duration + 'static, future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let settling = Arc::new(Settling::default());
    let parks = settling.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .on_thread_park(move || parks.about_to_park())
        .build()
        .expect("a runtime");
    task::in_place(Some(Box::new(takes)));
    let output = runtime.block_on(async {
        // A task of its own: the future that is blocked on is polled once more with every look at the kernel.
        let mut main = pin!(tokio::spawn(future));
        std::future::poll_fn(|context| {
            settling.state.lock().main = Some(context.waker().clone());
            main.as_mut().poll(context)
        })
        .await
    });
    drop(runtime);
    task::in_place(None);
    match output {
        Ok(output) => output,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[derive(Debug, Default)]
struct Settling {
    state: Mutex<Looks>,
}

#[derive(Debug, Default)]
struct Looks {
    done: u32,
    main: Option<Waker>,
}

impl Settling {
    /// No task can run. Woken now, the thread looks for events and comes back without moving the clock.
    fn about_to_park(&self) {
        let mut state = self.state.lock();
        if state.done == ROUNDS {
            state.done = 0;
            return;
        }
        state.done += 1;
        if let Some(main) = &state.main {
            main.wake_by_ref();
        }
    }
}
