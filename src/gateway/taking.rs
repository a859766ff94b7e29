//! Answers by HTTP/2 that their client does not take. A stream has a window of its own, which the client opens or does not, so the kernel
//! sees nothing of it, and a connection has many streams. Each is a task of hyper's: here it is watched, and ended alone when nothing of
//! its answer was taken for long. For that, an answer goes out in pieces, the next one when there is room for it. Over HTTP/1 an answer
//! passes as it is: what is not taken there is the kernel's to notice.
//!
//! What waits for its client takes memory, and a client may have very many streams: all of them share a room, and a small one that finds none
//! there is ended as soon as it would wait.

use std::cell::Cell;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::poll_fn;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;

use crate::api::arriving::WAITING;
use crate::api::body::{self, Body as Answer};
use crate::api::room::{Client, NoRoom, Part, Room};
use crate::clock;
use crate::clock::patience::Patience;
use crate::gateway::connection::Underway;
use crate::telemetry::metrics;

/// The library asks for more as soon as a byte of the last piece was taken, and keeps a piece whole until then: so much of an answer is not
/// watched. One frame of it.
const PIECE: usize = 16 * 1024;
/// Answers up to this size are the kernel's as soon as there are any, or take next to nothing until they are.
pub const LARGE: usize = 64 * 1024;

tokio::task_local! {
    static STREAM: Stream;
}

/// What is known of a stream's answer.
#[derive(Debug, Default)]
struct Stream {
    last: Cell<Last>,
    /// What of it is there already, in bytes.
    size: Cell<usize>,
}

/// The last piece of an answer.
#[derive(Debug, Default, Clone, Copy)]
enum Last {
    /// There was none, or something of it was taken.
    #[default]
    Taken,
    /// It was given just now.
    Given,
    /// It waits.
    WaitsSince(Instant),
}

/// Runs the streams of a connection.
#[derive(Debug, Clone)]
pub struct Streams {
    /// For so long a client may take nothing.
    pub patience: Duration,
    /// Those that have not ended.
    pub underway: Underway,
    /// What waits shares it.
    pub room: Arc<Room>,
    pub peer: IpAddr,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let (patience, begun) = (self.patience, self.underway.begin());
        let part = Part::new(self.room.clone(), Client::Address(self.peer));
        TokioExecutor::new().execute(async move {
            taken(stream, patience, part).await;
            drop(begun);
        });
    }
}

/// Until the stream has ended, or nothing of it was taken for too long, or it would wait and there is no room for that; then it is reset.
async fn taken(stream: impl Future, patience: Duration, mut part: Part<'_, Arc<Room>>) {
    let watched = async {
        let mut stream = std::pin::pin!(stream);
        let mut limit = Patience::default();
        poll_fn(|context| {
            if stream.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            let since = match STREAM.with(|stream| stream.last.get()) {
                Last::Taken => return Poll::Pending,
                Last::Given => {
                    let now = clock::now();
                    STREAM.with(|stream| stream.last.set(Last::WaitsSince(now)));
                    now
                }
                Last::WaitsSince(since) => since,
            };
            // Once, and then for as long as it lasts.
            if !part.any() {
                let size = STREAM.with(|stream| stream.size.get());
                if size > LARGE {
                    // Its bytes are counted, and a function has run for it: who has too many of these runs no more of them.
                    part.have(WAITING);
                } else if let Err(NoRoom) = part.more_or_equal(WAITING + size) {
                    metrics::untaken("reset");
                    return Poll::Ready(());
                }
            }
            limit.poll_passed(since + patience, context)
        })
        .await;
    };
    STREAM.scope(Stream::default(), watched).await;
}

/// An answer, for whoever sends it.
#[derive(Debug, Default)]
pub struct Taken {
    answer: Answer,
    /// Of the answer's last piece, what was not given yet.
    rest: Bytes,
}

impl From<Answer> for Taken {
    fn from(answer: Answer) -> Self {
        if let Answer::Full(whole) = &answer {
            // Over HTTP/1 there is no stream.
            STREAM.try_with(|stream| stream.size.set(whole.len())).ok();
        }
        let rest = Bytes::new();
        Self { answer, rest }
    }
}

impl Body for Taken {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        // Asked for, so all before the last piece was taken, and some of that.
        if STREAM
            .try_with(|stream| stream.last.set(Last::Taken))
            .is_err()
        {
            return Pin::new(&mut self.answer).poll_frame(context);
        }
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.answer).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let size = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(size);
        STREAM.with(|stream| stream.last.set(Last::Given));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.answer.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http_body_util::BodyExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const SOMEBODY: Client<'static> = Client::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

    fn large() -> Taken {
        Answer::Full(Bytes::from(vec![b'x'; 2 * PIECE + 1])).into()
    }

    fn roomy() -> Arc<Room> {
        Arc::new(Room::new(2 * (WAITING + 2 * PIECE + 1)))
    }

    fn part(room: &Arc<Room>) -> Part<'static, Arc<Room>> {
        Part::new(room.clone(), SOMEBODY)
    }

    async fn next(answer: &mut Taken) -> usize {
        let frame = answer.frame().await.expect("a piece").expect("is whole");
        frame.into_data().expect("data").len()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_given_up_when_nothing_is_taken_and_not_before() {
        let begun = clock::now();
        let passed = || clock::now().saturating_duration_since(begun);
        let second = Duration::from_secs(1);
        let stream = async {
            // The function may take its time.
            tokio::time::sleep(10 * PATIENCE).await;
            let mut answer = large();
            assert_eq!(next(&mut answer).await, PIECE);
            // So may the client.
            tokio::time::sleep(PATIENCE - second).await;
            assert_eq!(next(&mut answer).await, PIECE);
            tokio::time::sleep(PATIENCE - second).await;
            assert_eq!((next(&mut answer).await, answer.is_end_stream()), (1, true));
            std::future::pending::<()>().await;
        };
        taken(stream, PATIENCE, part(&roomy())).await;
        assert_eq!(passed(), 13 * PATIENCE - 2 * second);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_function_is_not_waiting_for_the_client() {
        let parts = async {
            tokio::time::sleep(5 * PATIENCE).await;
            Ok(Bytes::from("late"))
        };
        let stream = async {
            let mut answer = Taken::from(Answer::Stream {
                request_id: crate::domain::id::RequestId::generate(),
                body: Box::pin(futures_util::stream::once(parts)),
            });
            assert_eq!(next(&mut answer).await, 4);
            assert!(answer.frame().await.is_none());
        };
        let begun = clock::now();
        taken(stream, PATIENCE, part(&roomy())).await;
        assert_eq!(clock::now().saturating_duration_since(begun), 5 * PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_finds_room_waits() {
        let begun = clock::now();
        let room = roomy();
        let waits = || async {
            let mut answer = large();
            next(&mut answer).await;
            std::future::pending::<()>().await;
        };
        let passed = || clock::now().saturating_duration_since(begun);
        let second = async {
            tokio::task::yield_now().await;
            assert!(room.is_full_for(SOMEBODY));
            taken(waits(), PATIENCE, part(&room)).await;
            assert_eq!(passed(), Duration::ZERO);
            // One that is taken as it comes needs none.
            taken(async { next(&mut large()).await }, PATIENCE, part(&room)).await;
        };
        tokio::join!(taken(waits(), PATIENCE, part(&room)), second);
        assert_eq!(passed(), PATIENCE);
        assert!(!room.is_full_for(SOMEBODY));
    }

    #[tokio::test]
    async fn a_connection_s_only_answer_passes_as_it_is() {
        let mut answer = large();
        assert_eq!(answer.size_hint().exact(), Some(2 * PIECE as u64 + 1));
        assert_eq!(next(&mut answer).await, 2 * PIECE + 1);
        assert!(answer.is_end_stream());
        let whole = STREAM.scope(Stream::default(), large().collect());
        let whole = whole.await.expect("is whole").to_bytes();
        assert_eq!(whole.len(), 2 * PIECE + 1);
    }
}
