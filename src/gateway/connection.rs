//! One connection from its first request to its end: its own, the process's, or, over HTTP/2, that it has carried nothing for long. HTTP/1 has
//! a limit to the wait for the next request; a connection of HTTP/2 answers pings for as long as it likes, and nothing else ends it.

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper_util::server::graceful::GracefulConnection;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock;
use crate::clock::patience::Patience;
use crate::gateway::repoll::Repoll;

/// When the process ends, a connection that carries nothing has this long to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Tells all connections that they are to end, and knows when they have.
#[derive(Debug, Default)]
pub struct Door(watch::Sender<()>);

/// A connection's, until it has ended.
#[derive(Debug)]
pub struct Open(watch::Receiver<()>);

impl Door {
    pub fn open(&self) -> Open {
        Open(self.0.subscribe())
    }

    /// Lets every connection finish what it has begun; ready when all have.
    pub fn close(self) -> BoxFuture<'static, ()> {
        // Told at once, whoever waits for the rest. If there is none, nobody hears it.
        self.0.send(()).ok();
        async move { self.0.closed().await }.boxed()
    }
}

/// The streams of a connection that are under way.
#[derive(Debug, Clone)]
pub struct Underway(Arc<Mutex<Count>>);

#[derive(Debug)]
struct Count {
    streams: usize,
    /// When the last of them ended, or the connection began.
    since: Instant,
}

/// One of them.
#[derive(Debug)]
pub struct Stream(Underway);

impl Default for Underway {
    fn default() -> Self {
        let (streams, since) = (0, clock::now());
        Self(Arc::new(Mutex::new(Count { streams, since })))
    }
}

impl Underway {
    pub fn begin(&self) -> Stream {
        self.0.lock().streams += 1;
        Stream(self.clone())
    }

    /// Since when there has been none.
    fn idle_since(&self) -> Option<Instant> {
        let count = self.0.lock();
        (count.streams == 0).then_some(count.since)
    }

    /// From now on, as if one had just ended.
    fn begin_anew(&self) {
        self.0.lock().since = clock::now();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let ended = clock::now();
        let mut count = self.0.0.lock();
        count.streams -= 1;
        count.since = ended;
    }
}

/// How long a connection of HTTP/2 may go without a stream.
#[derive(Debug)]
pub struct Idle {
    underway: Underway,
    limit: Duration,
    patience: Patience,
}

impl Idle {
    pub fn new(underway: Underway, limit: Duration) -> Self {
        let patience = Patience::default();
        Self {
            underway,
            limit,
            patience,
        }
    }

    /// From now on it may not go without for long.
    fn hurry(&mut self) {
        self.limit = self.limit.min(LAST_WORDS);
        self.underway.begin_anew();
    }

    /// Ready when it has gone without for so long.
    fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let since = self.underway.idle_since();
            // While there is a stream nothing has to wake this: when it has ended, there is as long again.
            let from = since.unwrap_or_else(clock::now);
            ready!(self.patience.poll_passed(from + self.limit, context));
            if since.is_some() && since == self.underway.idle_since() {
                self.underway.begin_anew();
                return Poll::Ready(());
            }
        }
    }
}

/// Serves one until its end. `idle` is for HTTP/2.
pub async fn serve<C>(connection: C, open: Open, mut idle: Option<Idle>)
where
    C: GracefulConnection,
    C::Error: Display,
{
    let Open(closing) = open;
    let served = async move {
        let mut connection = pin!(connection);
        let mut later = closing.clone();
        let mut told = pin!(later.changed());
        let (mut listens, mut ending, mut asked) = (false, false, false);
        poll_fn(|context| {
            // The door's word, or that whoever could have given it is gone. It wakes this, and a look at a counter then shows it: to ask for it
            // with every poll would cost more.
            if !listens || (!ending && closing.has_changed().unwrap_or(true)) {
                listens = true;
                ending = told.as_mut().poll(context).is_ready();
                if ending {
                    connection.as_mut().graceful_shutdown();
                    asked = true;
                    if let Some(idle) = &mut idle {
                        idle.hurry();
                    }
                }
            }
            let passed = |idle: &mut Idle| idle.poll_passed(context).is_ready();
            if idle.as_mut().is_some_and(passed) {
                if asked {
                    // It was asked to end, and does not.
                    return Poll::Ready(Ok(()));
                }
                asked = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(context)
        })
        .await
    };
    if let Err(error) = Repoll::new(served).await {
        // The peer's doing, or an answer that was cut off and logged where it was.
        tracing::debug!(%error, "connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn only_time_without_a_stream_counts() {
        let underway = Underway::default();
        let mut idle = Idle::new(underway.clone(), LIMIT);
        let begun = clock::now();
        let passed = || clock::now().saturating_duration_since(begun);
        let second = Duration::from_secs(1);
        let mut ends = async |within: Duration| {
            let waits = poll_fn(|context| idle.poll_passed(context));
            tokio::time::timeout(within, waits).await.is_ok()
        };
        assert!(!ends(LIMIT - second).await);
        let (one, other) = (underway.begin(), underway.begin());
        assert!(!ends(5 * LIMIT).await);
        drop(one);
        assert!(!ends(5 * LIMIT).await, "there is another");
        drop(other);
        assert!(!ends(LIMIT - second).await);
        drop(underway.begin());
        assert!(ends(LIMIT).await);
        assert_eq!(passed(), 13 * LIMIT - 2 * second);
        assert!(ends(LIMIT).await, "and again as long after that");
        assert_eq!(passed(), 14 * LIMIT - 2 * second);
    }
}
