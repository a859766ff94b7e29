//! Sends the calls. Every connection is a loop of its own: take the next call, wait until it is due, send it, wait for the answer,
//! count. Calls, time and connections are bounded; a server that answers slowly or not at all only makes the result worse.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use parking_lot::Mutex;

use crate::clock;
use crate::load::Error;
use crate::load::connection::{Connection, Failure};
use crate::load::origin::{Call, Origin};
use crate::load::pace::Pacer;
use crate::load::plan::Arrival;
use crate::load::tally::Tally;

/// Between two attempts to connect where nobody listens.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, Clone)]
pub struct Options {
    pub origin: Origin,
    /// What is sent, in turn; an open loop's plan names them by their number.
    pub calls: Vec<Call>,
    /// Connections, and therefore the most calls under way at once.
    pub connections: usize,
    /// No call is sent after this; those under way are waited for.
    pub length: Duration,
    /// A call that takes longer has failed.
    pub timeout: Duration,
}

/// Closed loop: every connection sends its next call when it has the answer to the last, `most` calls in all. Finds out how much
/// a server can do; says nothing of what callers would have to wait who come when they come.
pub async fn closed(options: &Options, most: usize) -> Result<Tally, Error> {
    let run = Run::new(options)?;
    let loops = run.connections()?.into_iter();
    join_all(loops.map(|connection| run.closed_loop(connection, most))).await;
    Ok(run.finish(0))
}

/// Open loop: calls are sent when they are due. One that finds no connection free is sent as soon as there is one, and its latency
/// counts from when it was due. What is not sent in time is counted as unsent.
pub async fn open(options: &Options, plan: &[Arrival]) -> Result<Tally, Error> {
    let run = Run::new(options)?;
    let loops = run.connections()?.into_iter();
    try_join_all(loops.map(|connection| run.open_loop(connection, plan))).await?;
    let sent = run.next.load(Ordering::Relaxed).min(plan.len());
    Ok(run.finish(plan.len() - sent))
}

struct Run<'a> {
    options: &'a Options,
    begun: Instant,
    /// The number of the next call.
    next: AtomicUsize,
    tally: Mutex<Tally>,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options) -> Result<Self, Error> {
        if options.calls.is_empty() {
            return Err(Error::NoCalls);
        }
        Ok(Self {
            options,
            begun: clock::now(),
            next: AtomicUsize::new(0),
            tally: Mutex::default(),
        })
    }

    fn connections(&self) -> Result<Vec<Connection>, Error> {
        let one = || Connection::new(self.options.origin, self.options.timeout);
        (0..self.options.connections).map(|_| one()).collect()
    }

    fn over(&self, at: Instant) -> bool {
        at.saturating_duration_since(self.begun) >= self.options.length
    }

    /// Takes the next of `most` calls.
    fn take(&self, most: usize) -> Option<usize> {
        let next = |n| (n < most).then_some(n + 1);
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .ok()
    }

    async fn closed_loop(&self, mut connection: Connection, most: usize) {
        while let Some(number) = self.take(most) {
            let now = clock::now();
            if self.over(now) {
                break;
            }
            self.send(&mut connection, number, now).await;
        }
    }

    async fn open_loop(&self, mut connection: Connection, plan: &[Arrival]) -> Result<(), Error> {
        let mut pacer = Pacer::new().map_err(Error::Timer)?;
        // A loop that comes too late for its time takes no further call, so what was not taken was not sent.
        while !self.over(clock::now()) {
            let Some(arrival) = self.take(plan.len()).map(|number| plan[number]) else {
                break;
            };
            let due = self.begun + arrival.at;
            pacer.until(due).await.map_err(Error::Timer)?;
            self.send(&mut connection, arrival.function, due).await;
        }
        Ok(())
    }

    async fn send(&self, connection: &mut Connection, number: usize, due: Instant) {
        let call = &self.options.calls[number % self.options.calls.len()];
        let sent = clock::now();
        let result = connection.call(call).await;
        let now = clock::now();
        match result {
            Ok(answer) => {
                let mut tally = self.tally.lock();
                let since = |then| now.saturating_duration_since(then);
                tally.answered(since(due), since(sent), answer.status);
                tally.told(&answer.headers);
            }
            Err(failure) => {
                self.tally.lock().failed(failure);
                if failure == Failure::Connect {
                    tokio::time::sleep(CONNECT_PAUSE).await;
                }
            }
        }
    }

    fn finish(self, unsent: usize) -> Tally {
        let mut tally = self.tally.into_inner();
        tally.finish(clock::now().saturating_duration_since(self.begun), unsent);
        tally
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use bytes::Bytes;
    use http::Response;
    use http_body_util::Full;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::*;
    use crate::load::plan::{self, Bound};

    /// A server that answers its calls one after the other as `answer` says: after a wait, and with a status.
    struct Server {
        origin: Origin,
        connections: Arc<AtomicUsize>,
    }

    impl Server {
        async fn start(answer: impl Fn(usize) -> (Duration, u16) + Send + Sync + 'static) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let origin = Origin::new(listener.local_addr().expect("bound")).expect("loopback");
            let connections = Arc::new(AtomicUsize::new(0));
            let (accepted, calls) = (connections.clone(), Arc::new(AtomicUsize::new(0)));
            let answer = Arc::new(answer);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    accepted.fetch_add(1, Ordering::Relaxed);
                    let (answer, calls) = (answer.clone(), calls.clone());
                    let service = service_fn(move |_| {
                        let (wait, status) = answer(calls.fetch_add(1, Ordering::Relaxed));
                        async move {
                            tokio::time::sleep(wait).await;
                            let response = Response::builder().status(status);
                            let response = response.header("x-hearth-start", "warm");
                            let body = Full::new(Bytes::from_static(b"{}"));
                            Ok::<_, Infallible>(response.body(body).expect("a response"))
                        }
                    });
                    tokio::spawn(
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                    );
                }
            });
            Self {
                origin,
                connections,
            }
        }

        fn options(&self, connections: usize, millis: u64) -> Options {
            Options {
                origin: self.origin,
                calls: vec![Call::post("/", "{}").expect("a call")],
                connections,
                length: Duration::from_millis(millis),
                timeout: Duration::from_secs(30),
            }
        }
    }

    #[tokio::test]
    async fn a_closed_loop_keeps_its_connections_and_its_bounds() {
        let answer = |n| (Duration::ZERO, if n % 2 == 0 { 200 } else { 429 });
        let server = Server::start(answer).await;
        let tally = closed(&server.options(4, 60_000), 200).await.expect("ran");
        assert_eq!(tally.statuses().values().sum::<u64>(), 200);
        assert_eq!(tally.statuses()[&429], 100);
        assert_eq!(tally.starts()["warm"], 200);
        assert_eq!(server.connections.load(Ordering::Relaxed), 4);
        let tally = closed(&server.options(1, 50), usize::MAX)
            .await
            .expect("ran");
        assert!(tally.elapsed() >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn a_call_that_could_not_be_sent_has_waited() {
        // The first answer takes as long as fifteen calls take to come.
        let slow = |n| (Duration::from_millis(if n == 0 { 150 } else { 0 }), 200);
        let server = Server::start(slow).await;
        let length = Duration::from_secs(60);
        let plan = plan::constant(100.0, Bound { calls: 20, length });
        let tally = open(&server.options(1, 60_000), &plan).await.expect("ran");
        assert_eq!((tally.latency().len(), tally.unsent()), (20, 0));
        let slow = tally.latency().iter_recorded();
        let slow: u64 = slow
            .filter(|value| value.value_iterated_to() > 50_000_000)
            .map(|value| value.count_at_value())
            .sum();
        // Itself, and those that were due in the first 100 ms of the 150.
        assert!(slow >= 10, "{slow} of 20 calls were slow");
    }

    #[tokio::test]
    async fn what_is_not_sent_in_time_is_said() {
        let server = Server::start(|_| (Duration::from_millis(200), 200)).await;
        let length = Duration::from_millis(50);
        let plan = plan::constant(1_000.0, Bound { calls: 40, length });
        let tally = open(&server.options(1, 100), &plan).await.expect("ran");
        assert_eq!((tally.latency().len(), tally.unsent()), (1, 39));
    }

    #[tokio::test]
    async fn failures_are_counted_by_their_kind() {
        let server = Server::start(|_| (Duration::from_secs(600), 200)).await;
        let mut options = server.options(2, 60_000);
        options.timeout = Duration::from_millis(20);
        let tally = closed(&options, 4).await.expect("ran");
        assert_eq!(tally.failures()[&Failure::Timeout], 4);
        assert_eq!(
            server.connections.load(Ordering::Relaxed),
            4,
            "each costs one"
        );

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        options.origin = Origin::new(listener.local_addr().expect("bound")).expect("loopback");
        options.timeout = Duration::from_secs(30);
        let hangs_up = tokio::spawn(async move {
            for _ in 0..3 {
                drop(listener.accept().await);
            }
        });
        let tally = closed(&options, 3).await.expect("ran");
        let failed: u64 = tally.failures().values().sum();
        assert_eq!((failed, tally.latency().len()), (3, 0));
        hangs_up
            .await
            .expect("accepted three times and closed the port");
        let tally = closed(&options, 2).await.expect("ran");
        assert_eq!(tally.failures()[&Failure::Connect], 2);

        options.calls.clear();
        assert!(matches!(closed(&options, 1).await, Err(Error::NoCalls)));
    }
}
