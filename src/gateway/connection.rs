//! One connection from its first request to its end: its own, the process's, or, over HTTP/2, that it has carried nothing for long. HTTP/1 has
//! a limit to the wait for the next request; a connection of HTTP/2 answers pings for as long as it likes, and nothing else ends it.
//!
//! A stream of HTTP/2 ends when the last of its answer is the library's to send. What waits for room then counts as under way, too: whoever takes
//! it slowly has all of it.

use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::rt::{Read, ReadBufCursor, Write};
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

/// What a connection carries.
#[derive(Debug, Clone)]
pub struct Underway(Arc<Mutex<Count>>);

#[derive(Debug)]
struct Count {
    streams: usize,
    /// Something waits for room to be sent.
    waits: bool,
    /// When the last of this ended, or the connection began.
    since: Instant,
}

/// One of them.
#[derive(Debug)]
pub struct Stream(Underway);

impl Default for Underway {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Count {
            streams: 0,
            waits: false,
            since: clock::now(),
        })))
    }
}

impl Underway {
    pub fn begin(&self) -> Stream {
        self.0.lock().streams += 1;
        Stream(self.clone())
    }

    /// Since when there has been nothing.
    fn idle_since(&self) -> Option<Instant> {
        let count = self.0.lock();
        (count.streams == 0 && !count.waits).then_some(count.since)
    }

    /// Something was to be sent, and waits for room or does not.
    fn wrote(&self, waits: bool) {
        let mut count = self.0.lock();
        if count.waits && !waits {
            count.since = clock::now();
        }
        count.waits = waits;
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

/// A connection's bytes, of which it is noted whether some wait for room.
#[derive(Debug)]
pub struct Watched<I> {
    io: I,
    underway: Underway,
}

impl<I> Watched<I> {
    pub fn new(io: I, underway: Underway) -> Self {
        Self { io, underway }
    }
}

impl<I: Read + Unpin> Read for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, room)
    }
}

impl<I: Write + Unpin> Write for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.underway.wrote(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, pieces);
        self.underway.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// Over TLS what was written may wait here.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.underway.wrote(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// How long a connection of HTTP/2 may carry nothing.
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
            // While there is something nothing has to wake this: when it has ended, there is as long again.
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
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Empty, Full};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::api::room::Room;
    use crate::gateway::taking::Streams;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_slowly_is_taken_whole_though_the_process_ends() {
        const ANSWER: usize = 300_000;
        let (near, far) = tokio::io::duplex(4 * 1024);
        let (client, link) = tokio::io::duplex(64 * 1024);
        let (mut from_server, mut to_server) = tokio::io::split(far);
        let (mut from_client, mut to_client) = tokio::io::split(link);
        // Half a minute for all of it.
        let slowly = async move {
            let mut piece = [0; 1024];
            while let Ok(read @ 1..) = from_server.read(&mut piece).await {
                to_client.write_all(&piece[..read]).await.expect("open");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            to_client.shutdown().await.ok();
        };
        let at_once = async move {
            tokio::io::copy(&mut from_client, &mut to_server).await.ok();
        };
        let (door, underway) = (Door::default(), Underway::default());
        let streams = Streams {
            patience: LIMIT,
            underway: underway.clone(),
            room: Arc::new(Room::new(usize::MAX)),
            peer: std::net::IpAddr::from([127, 0, 0, 1]),
        };
        let service = service_fn(async |_: Request<Incoming>| {
            let body = Full::new(Bytes::from(vec![7; ANSWER]));
            Ok::<_, Infallible>(Response::new(body))
        });
        let watched = Watched::new(TokioIo::new(near), underway.clone());
        let connection =
            hyper::server::conn::http2::Builder::new(streams).serve_connection(watched, service);
        let served = serve(connection, door.open(), Some(Idle::new(underway, LIMIT)));
        let calls = async {
            let window = 1024 * 1024;
            let (mut sender, connection) =
                hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(window)
                    .initial_connection_window_size(window)
                    .handshake(TokioIo::new(client))
                    .await
                    .expect("a connection");
            let asks = async move {
                let request = Request::new(Empty::<Bytes>::new());
                let answer = sender.send_request(request).await.expect("a head");
                let ended = door.close();
                let body = answer.into_body().collect().await.expect("a whole answer");
                assert_eq!(body.to_bytes().len(), ANSWER);
                ended.await;
            };
            tokio::join!(asks, async { connection.await.ok() });
        };
        tokio::join!(served, calls, slowly, at_once);
    }

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
