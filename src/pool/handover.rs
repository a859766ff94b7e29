//! How a call in line comes by a worker. Warm path where there are more calls than workers: whoever has one to give, the call before or a
//! start, sends it the invocation of the first in line at once, and the worker's answer is what wakes that call. So the worker begins
//! sooner, and a turn of the call's task, which would only do the same, is saved.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::Mutex;

use crate::domain::invocation::StartReason;
use crate::pool::index::{Failed, Fresh};
use crate::worker::{Worker, call};

/// Sends a worker the invocation that waits for it; not if that may not begin any more.
pub type Opening = Box<dyn FnOnce(&mut Worker, Instant) + Send>;

/// A worker on its way to a caller in line.
#[derive(Debug)]
pub struct Handed {
    pub worker: Box<Worker>,
    pub reason: StartReason,
    /// How it came to be, if it was started for the line; `None` if it was busy before.
    pub fresh: Option<Fresh>,
    pub at: Instant,
}

/// A place between the two ends.
enum Place {
    /// Who waits, once it has been looked at.
    Empty(Opening, Option<Waker>),
    Full(Result<Handed, Box<Failed>>),
    /// Nothing will come: it was taken, or one end is gone.
    Closed,
}

/// The giver's end. Dropped, it wakes the caller, who then gets nothing.
pub struct Giver(Arc<Mutex<Place>>);

/// The end of the caller in line.
pub struct Taker(Arc<Mutex<Place>>);

pub fn pair(opening: Opening) -> (Giver, Taker) {
    let place = Arc::new(Mutex::new(Place::Empty(opening, None)));
    (Giver(place.clone()), Taker(place))
}

impl Giver {
    /// Hands a worker over, at work already; gives it back if the caller has left.
    pub fn give(self, mut handed: Handed) -> Result<(), Handed> {
        let mut place = self.0.lock();
        let (opening, waker) = match std::mem::replace(&mut *place, Place::Closed) {
            Place::Empty(opening, waker) => (opening, waker),
            Place::Full(_) | Place::Closed => return Err(handed),
        };
        opening(&mut handed.worker, handed.at);
        let to_wake = waker.filter(|waker| !call::wakes(&mut handed.worker, waker));
        *place = Place::Full(Ok(handed));
        // Woken at once, it would find the place locked.
        drop(place);
        if let Some(waker) = to_wake {
            waker.wake();
        }
        Ok(())
    }

    /// Tells a caller, if it is there, that no worker will come.
    pub fn fail(self, failed: Box<Failed>) {
        self.end(Place::Full(Err(failed)));
    }

    fn end(&self, end: Place) {
        let mut place = self.0.lock();
        if let Place::Empty(_, waker) = &mut *place {
            let waker = waker.take();
            *place = end;
            drop(place);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.end(Place::Closed);
    }
}

impl Taker {
    /// What came, or `None` if nothing will.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Handed, Box<Failed>>>> {
        let mut place = self.0.lock();
        if let Place::Empty(_, waker) = &mut *place {
            match waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        Poll::Ready(take(&mut place))
    }

    /// Does not wait any more; what came meanwhile has to go somewhere.
    pub fn leave(&mut self) -> Option<Result<Handed, Box<Failed>>> {
        take(&mut self.0.lock())
    }
}

fn take(place: &mut Place) -> Option<Result<Handed, Box<Failed>>> {
    match std::mem::replace(place, Place::Closed) {
        Place::Full(outcome) => Some(outcome),
        Place::Empty(..) | Place::Closed => None,
    }
}

impl Drop for Taker {
    /// What is given from now on comes back to the giver.
    fn drop(&mut self) {
        let mut place = self.0.lock();
        if matches!(*place, Place::Empty(..)) {
            *place = Place::Closed;
        }
    }
}

impl fmt::Debug for Giver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Giver")
    }
}

impl fmt::Debug for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Taker")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::net::UnixStream;

    use super::*;
    use crate::clock;
    use crate::clock::patience::Patience;
    use crate::domain::fault::Fault;
    use crate::domain::id::{RequestId, RuntimeId, WorkerId};
    use crate::domain::invocation::Invocation;
    use crate::domain::limits::Mebibytes;
    use crate::engine::ContainerId;
    use crate::worker::Remains;
    use crate::worker::call::Step;
    use crate::worker::connection::Connection;
    use crate::worker::frame::{Frame, Kind};
    use crate::worker::gone::Gone;
    use crate::worker::logs::Pipe;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    /// A worker, and the other end of its socket.
    fn worker() -> (tempfile::TempDir, Box<Worker>, Connection) {
        let directory = tempfile::tempdir().expect("a directory");
        let (here, there) = UnixStream::pair().expect("a pair");
        let id = WorkerId::generate();
        let pipe = Pipe::create(&directory.path().join("log"), id.clone(), 1024).expect("fifo");
        let worker = Worker {
            remains: Remains {
                id,
                container: ContainerId("none".into()),
                first_process: None,
                directory: directory.path().into(),
                memory: Mebibytes(1),
                last_words: Duration::ZERO,
            },
            runtime: RuntimeId::new("any"),
            connection: Connection::new(here).expect("a reactor"),
            pipe,
            pid: None,
            patience: Patience::default(),
            stream: 0,
            opened: None,
            idle_since: clock::now(),
            gone: Arc::new(Gone::default()),
        };
        let there = Connection::new(there).expect("a reactor");
        (directory, Box::new(worker), there)
    }

    fn handed(worker: Box<Worker>) -> Handed {
        Handed {
            worker,
            reason: StartReason::AllBusy,
            fresh: None,
            at: clock::now(),
        }
    }

    fn invocation(payload: Bytes) -> Invocation {
        Invocation {
            request_id: RequestId::generate(),
            payload,
            raw: true,
            context: Bytes::new(),
            measured: false,
            trace: None,
        }
    }

    /// Opens an invocation that may take so long.
    fn opening(payload: &Bytes, timeout: Duration) -> Opening {
        let invocation = invocation(payload.clone());
        Box::new(move |worker, now| call::open(worker, &invocation, timeout, now))
    }

    /// A call that has been looked at and waits.
    fn waiting(opening: Opening) -> (Giver, Taker, Arc<Woken>) {
        let (giver, mut taker) = pair(opening);
        let woken = Arc::new(Woken::default());
        let waker = woken.clone().into();
        let mut context = Context::from_waker(&waker);
        assert!(taker.poll(&mut context).is_pending());
        (giver, taker, woken)
    }

    fn taken(taker: &mut Taker) -> Box<Worker> {
        let outcome = taker.leave().expect("something came");
        outcome.expect("a worker").worker
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_answer_is_what_wakes_a_call_in_line() {
        let (_directory, worker, mut there) = worker();
        let payload = Bytes::from_static(b"ask");
        let (giver, mut taker, woken) = waiting(opening(&payload, LONG));
        giver.give(handed(worker)).expect("it waits");
        let asked = there.receive().await.expect("an invocation");
        assert!(asked.body.ends_with(b"ask"));
        tokio::task::yield_now().await;
        assert_eq!(woken.times(), 0, "there is nothing to do for it");
        let answer = there.send(Kind::ResponseEnd, asked.stream, b"said");
        answer.await.expect("sent");
        while woken.times() == 0 {
            tokio::task::yield_now().await;
        }
        let mut worker = taken(&mut taker);
        let opened = worker.opened.take().expect("it was opened");
        let (step, _) = call::answer(&mut worker, opened, &payload).await;
        assert!(matches!(step, Step::Answered { body, .. } if body == "said"));
    }

    #[tokio::test(start_paused = true)]
    async fn so_is_the_end_of_its_time() {
        let (_directory, worker, _there) = worker();
        let payload = Bytes::new();
        let (giver, mut taker, woken) = waiting(opening(&payload, LONG));
        giver.give(handed(worker)).expect("it waits");
        tokio::time::sleep(LONG - Duration::from_secs(1)).await;
        assert_eq!(woken.times(), 0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(woken.times(), 1);
        let mut worker = taken(&mut taker);
        let opened = worker.opened.take().expect("it was opened");
        let (step, _) = call::answer(&mut worker, opened, &payload).await;
        assert!(matches!(step, Step::Late));
    }

    #[tokio::test]
    async fn a_call_goes_on_itself_with_what_does_not_fit() {
        let (_directory, worker, mut there) = worker();
        let payload = Bytes::from(vec![b'x'; 3_000_000]);
        let (giver, mut taker, woken) = waiting(opening(&payload, LONG));
        giver.give(handed(worker)).expect("it waits");
        assert_eq!(woken.times(), 1);
        let mut worker = taken(&mut taker);
        let opened = worker.opened.take().expect("it was opened");
        let answers = async {
            let Frame { stream, body, .. } = there.receive().await.expect("an invocation");
            assert!(body.ends_with(&payload));
            let answer = there.send(Kind::ResponseEnd, stream, b"all");
            answer.await.expect("sent");
        };
        let called = call::answer(&mut worker, opened, &payload);
        let ((step, _), ()) = tokio::join!(called, answers);
        assert!(matches!(step, Step::Answered { body, .. } if body == "all"));
        assert!(worker.opened.is_none(), "the next call begins anew");
    }

    #[tokio::test]
    async fn a_caller_that_leaves_half_way_leaves_a_worker_that_waits_for_the_rest() {
        let (_directory, mut worker, _there) = worker();
        let payload = Bytes::from(vec![b'x'; 3_000_000]);
        opening(&payload, LONG)(&mut worker, clock::now());
        let opened = worker.opened.take().expect("it was opened");
        let waker = Arc::new(Woken::default()).into();
        let mut context = Context::from_waker(&waker);
        {
            let mut answer = std::pin::pin!(call::answer(&mut worker, opened, &payload));
            assert!(answer.as_mut().poll(&mut context).is_pending());
        }
        assert!(worker.opened.is_some_and(|opened| !opened.is_sent()));
    }

    #[tokio::test]
    async fn a_worker_that_has_ended_wakes_its_call() {
        let (_directory, worker, there) = worker();
        drop(there);
        let (giver, mut taker, woken) = waiting(opening(&Bytes::new(), LONG));
        giver.give(handed(worker)).expect("it waits");
        assert_eq!(woken.times(), 1);
        assert!(taken(&mut taker).opened.is_some());
    }

    #[tokio::test]
    async fn who_may_not_begin_is_told_and_its_worker_got_nothing() {
        let (_directory, worker, there) = worker();
        let (giver, mut taker, woken) = waiting(Box::new(|_, _| {}));
        giver.give(handed(worker)).expect("it waits");
        assert_eq!(woken.times(), 1);
        let worker = taken(&mut taker);
        assert!(worker.opened.is_none() && there.is_quiet());
    }

    #[tokio::test]
    async fn who_has_left_gets_nothing_and_nothing_is_begun() {
        let (_directory, worker, there) = worker();
        let (giver, mut taker, woken) = waiting(opening(&Bytes::new(), LONG));
        assert!(taker.leave().is_none());
        let back = giver.give(handed(worker)).expect_err("nobody is there");
        assert!(back.worker.opened.is_none() && there.is_quiet());
        assert_eq!(woken.times(), 0);
    }

    #[test]
    fn a_failure_and_the_end_of_the_line_wake_who_waits() {
        let nothing = || -> Opening { Box::new(|_, _| {}) };
        let (giver, mut taker, woken) = waiting(nothing());
        giver.fail(Failed::unstarted(Fault::Draining).into());
        assert_eq!(woken.times(), 1);
        assert!(matches!(taker.leave(), Some(Err(_))));
        let (giver, mut taker, woken) = waiting(nothing());
        drop(giver);
        assert_eq!(woken.times(), 1);
        let waker = woken.clone().into();
        let polled = taker.poll(&mut Context::from_waker(&waker));
        assert!(matches!(polled, Poll::Ready(None)));
    }
}
