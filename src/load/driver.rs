//! Sends the calls. Every connection is a loop of its own: take the next call, wait until it is due, send it, wait for the answer,
//! count. Calls, time and connections are bounded; a server that answers slowly or not at all only makes the result worse.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use parking_lot::Mutex;

use crate::clock;
use crate::load::Error;
use crate::load::connection::{Answer, Connection, Failure};
use crate::load::omission;
use crate::load::origin::{Call, Origin};
use crate::load::pace::Pacer;
use crate::load::plan::Arrival;
use crate::load::series::Series;
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
    /// Whether what an answer tells of itself is counted. Where servers are compared, reading it would cost those who tell.
    pub told: bool,
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

/// What calls there are, and when they come.
#[derive(Debug, Clone, Copy)]
pub enum Load<'a> {
    /// So many in all, of the functions in these turns.
    Closed {
        turns: &'a [usize],
        most: usize,
    },
    Open(&'a [Arrival]),
}

/// What became of a run, by function and over time.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub total: Tally,
    /// By the number of the call.
    pub by_call: Vec<Tally>,
    pub series: Series,
}

/// Either loop, with more to tell; what a closed loop left out is added to its latencies. `ended` counts the calls that have an end while it runs.
pub async fn detailed(
    options: &Options,
    load: Load<'_>,
    ended: &AtomicU64,
) -> Result<Outcome, Error> {
    let mut run = Run::new(options)?;
    run.ended = Some(ended);
    run.record.lock().tallies = vec![Tally::default(); options.calls.len()];
    run.record.lock().series = Some(Series::new(options.length));
    let mut unsent: &[Arrival] = &[];
    let loops = run.connections()?.into_iter();
    match load {
        Load::Closed { turns, most } => {
            run.turns = turns;
            join_all(loops.map(|connection| run.closed_loop(connection, most))).await;
        }
        Load::Open(plan) => {
            try_join_all(loops.map(|connection| run.open_loop(connection, plan))).await?;
            unsent = &plan[run.next.load(Ordering::Relaxed).min(plan.len())..];
        }
    }
    let elapsed = clock::now().saturating_duration_since(run.begun);
    let record = run.record.into_inner();
    let mut by_call = record.tallies;
    for arrival in unsent {
        by_call[arrival.function % options.calls.len()].finish(Duration::ZERO, 1);
    }
    if matches!(load, Load::Closed { .. }) {
        omission::correct(&mut by_call);
    }
    let mut total = Tally::default();
    by_call.iter().for_each(|tally| total.add(tally));
    total.finish(elapsed, 0);
    by_call
        .iter_mut()
        .for_each(|tally| tally.finish(elapsed, 0));
    Ok(Outcome {
        total,
        by_call,
        series: record.series.unwrap_or_else(|| Series::new(elapsed)),
    })
}

struct Run<'a> {
    options: &'a Options,
    begun: Instant,
    /// The number of the next call.
    next: AtomicUsize,
    /// The order of functions in a closed loop; empty when they simply take turns.
    turns: &'a [usize],
    ended: Option<&'a AtomicU64>,
    record: Mutex<Record>,
}

/// What is counted: one tally for all calls, or one for each of them and a series.
struct Record {
    tallies: Vec<Tally>,
    series: Option<Series>,
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
            turns: &[],
            ended: None,
            record: Mutex::new(Record {
                tallies: vec![Tally::default()],
                series: None,
            }),
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
            let number = match self.turns.len() {
                0 => number,
                turns => self.turns[number % turns],
            };
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
        let number = number % self.options.calls.len();
        let sent = clock::now();
        let result = connection.call(&self.options.calls[number]).await;
        self.count(number, due, sent, &result);
        if matches!(result, Err(Failure::Connect)) {
            tokio::time::sleep(CONNECT_PAUSE).await;
        }
    }

    fn count(&self, number: usize, due: Instant, sent: Instant, result: &Result<Answer, Failure>) {
        let now = clock::now();
        let since = |then| now.saturating_duration_since(then);
        let mut record = self.record.lock();
        let place = number.min(record.tallies.len() - 1);
        let tally = &mut record.tallies[place];
        match result {
            Ok(answer) => {
                tally.answered(since(due), since(sent), answer.status);
                if self.options.told {
                    tally.told(&answer.headers);
                }
            }
            Err(failure) => tally.failed(*failure, since(sent)),
        }
        if let Some(series) = &mut record.series {
            let good = matches!(result, Ok(answer) if (200..300).contains(&answer.status));
            let at = |then: Instant| then.saturating_duration_since(self.begun);
            series.ended(at(due), at(now), good, result.is_ok());
        }
        if let Some(ended) = self.ended {
            ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn finish(self, unsent: usize) -> Tally {
        let mut tally = self.record.into_inner().tallies.swap_remove(0);
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
                told: true,
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
    async fn what_is_told_by_function_adds_up_to_the_whole() {
        let server = Server::start(|n| (Duration::ZERO, if n == 5 { 500 } else { 200 })).await;
        let mut options = server.options(2, 60_000);
        options
            .calls
            .push(Call::post("/other", "{}").expect("a call"));
        let (turns, ended) = ([0, 1, 1], AtomicU64::new(0));
        let load = Load::Closed {
            turns: &turns,
            most: 30,
        };
        let outcome = detailed(&options, load, &ended).await.expect("ran");
        let calls = |tally: &Tally| tally.latency().len();
        assert_eq!(calls(&outcome.total), 30);
        let by_call: Vec<_> = outcome.by_call.iter().map(calls).collect();
        assert_eq!((by_call, ended.into_inner()), (vec![10, 20], 30));
        assert_eq!(outcome.total.statuses()[&500], 1);
        let width = Duration::from_millis(500).as_secs_f64();
        let points = outcome.series.points();
        let sum =
            |of: fn(&crate::load::series::Point) -> f64| points.iter().map(of).sum::<f64>() * width;
        assert!((sum(|p| p.answered_per_second) - 30.0).abs() < 1e-6);
        assert!((sum(|p| p.errors_per_second) - 1.0).abs() < 1e-6);
    }

    #[tokio::test]
    async fn what_is_not_sent_in_time_is_said_by_function() {
        let server = Server::start(|_| (Duration::from_millis(200), 200)).await;
        let mut options = server.options(1, 100);
        let other = Call::post("/other", "{}").expect("a call");
        options.calls.push(other);
        let plan: Vec<_> = (0..40)
            .map(|n| Arrival {
                at: Duration::ZERO,
                function: usize::from(n % 4 == 3),
            })
            .collect();
        let (load, ended) = (Load::Open(&plan), AtomicU64::new(0));
        let outcome = detailed(&options, load, &ended).await.expect("ran");
        let unsent: Vec<_> = outcome.by_call.iter().map(Tally::unsent).collect();
        assert_eq!((unsent, outcome.total.unsent()), (vec![29, 10], 39));
        assert!(
            !outcome.total.is_corrected(),
            "its latency counts from when a call was due"
        );
    }

    #[tokio::test]
    async fn a_closed_loop_has_what_it_left_out_added() {
        // Half of the calls would have to take half a second for this one to be usual.
        let stalls = |n| (Duration::from_millis(if n == 50 { 1_000 } else { 0 }), 200);
        let server = Server::start(stalls).await;
        let load = Load::Closed {
            turns: &[0],
            most: 100,
        };
        let (options, ended) = (server.options(1, 60_000), AtomicU64::new(0));
        let outcome = detailed(&options, load, &ended).await.expect("ran");
        let (total, one) = (&outcome.total, &outcome.by_call[0]);
        assert_eq!((total.latency().len(), total.unanswered()), (100, 0));
        assert!(total.is_corrected() && total.corrected().len() > 100);
        assert_eq!(total.corrected().len(), one.corrected().len());
        let plain = closed(&options, 10).await.expect("ran");
        assert!(
            !plain.is_corrected(),
            "the benches compare what they measured"
        );
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
