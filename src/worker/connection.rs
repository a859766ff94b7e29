//! The host's end of a worker's socket. Warm path: the calling task writes and reads the socket itself; no other task, no
//! channel. `receive` may be dropped and called again; a `send` that is dropped half way leaves the connection unusable,
//! and whoever dropped it gives the worker up.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as Socket;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, getsockopt, recv, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use crate::domain::id::RequestId;
use crate::worker::frame::{self, Frame, Kind};
use crate::worker::message;

/// Payloads up to this size are copied behind their header and leave in one write; larger ones are written as they are.
const COPY_MAX: usize = 64 * 1024;
/// A buffer that grew beyond this for a large answer is not kept.
const BUFFER_KEEP: usize = 256 * 1024;
/// So much is read at once.
const READ_MAX: usize = 128 * 1024;

thread_local! {
    /// What is read comes here first. The room for it is made once, and the same few lines of it stay in the processor's cache, whichever
    /// worker answers; a connection keeps of it only what is no whole frame yet.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_MAX].into());
}

#[derive(Debug)]
pub struct Connection {
    /// The reactor is asked for what comes alone. It would tell of room to write, too: whenever the worker has read, for nothing, and at the
    /// very moment when the worker begins its work.
    socket: AsyncFd<Socket>,
    input: BytesMut,
    output: BytesMut,
}

/// What is left of an invocation to be sent.
#[derive(Debug, Clone, Copy)]
pub enum Rest {
    Nothing,
    From {
        /// Of the buffer.
        written: usize,
        /// The payload is in the buffer, too.
        copied: bool,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the worker closed the connection")]
    Closed,
    /// Before it was sent anything of this invocation.
    #[error("the worker had closed the connection")]
    Unheard,
    #[error("the worker's socket failed")]
    Io(#[source] io::Error),
    #[error("{0}")]
    Frame(#[from] frame::Error),
    #[error("expected {expected}, got {got:?} on stream {stream}")]
    Unexpected {
        expected: &'static str,
        got: Kind,
        stream: u32,
    },
    #[error("the {kind:?} message cannot be read")]
    Message {
        kind: Kind,
        #[source]
        source: serde_json::Error,
    },
}

impl Connection {
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self {
            socket: watched(stream.into_std()?, Interest::READABLE)?,
            input: BytesMut::new(),
            output: BytesMut::new(),
        })
    }

    /// Whether nothing came of the other end since the last frame, not even its end: as it must be between two invocations. Asks the kernel.
    pub fn is_quiet(&self) -> bool {
        let nothing = Err::<(), _>(Errno::EAGAIN);
        self.input.is_empty() && peek(self.socket.get_ref()).map(drop) == nothing
    }

    /// The same, as far as the reactor knows, which costs nothing: the kernel is asked only of what it told. What came since its last turn is
    /// seen later: an end by who sends, anything else by who waits for the answer, for whom it is the answer if it says it is. Only the
    /// function's own code could have said it, which answers what it likes anyway.
    pub fn seems_quiet(&self) -> bool {
        let told = self.socket.try_io(Interest::READABLE, |socket| {
            peek(socket).map_err(io::Error::from)
        });
        self.input.is_empty() && told.is_err_and(|error| would_block(&error))
    }

    /// The process on the other end, as the kernel knows it.
    pub fn peer_pid(&self) -> Option<i32> {
        let peer = getsockopt(self.socket.get_ref(), sockopt::PeerCredentials);
        Some(peer.ok()?.pid())
    }

    pub async fn send(&mut self, kind: Kind, stream: u32, body: &[u8]) -> Result<(), Error> {
        self.output.clear();
        self.output
            .put_slice(&frame::header(kind, 0, stream, body.len()));
        self.output.put_slice(body);
        let socket = self.socket.get_ref();
        write_all(socket, &self.output).await.map_err(broken)
    }

    /// Sends an invocation, if there is room for it, as there mostly is: who calls then has nothing of the waiting in its future.
    pub fn begin_invoke(
        &mut self,
        stream: u32,
        deadline_unix_ms: u64,
        request_id: RequestId,
        context: &[u8],
        payload: &[u8],
        raw: bool,
    ) -> Result<Rest, Error> {
        let length = message::invoke_head_len(context.len()) + payload.len();
        let flags = if raw { frame::RAW } else { 0 };
        self.output.clear();
        self.output
            .put_slice(&frame::header(Kind::Invoke, flags, stream, length));
        message::invoke_head(&mut self.output, deadline_unix_ms, request_id, context);
        let copied = payload.len() <= COPY_MAX;
        if copied {
            self.output.put_slice(payload);
        }
        let mut socket = self.socket.get_ref();
        let written = match socket.write(&self.output) {
            Err(error) if would_block(&error) => 0,
            begun => begun.map_err(|error| match broken(error) {
                Error::Closed => Error::Unheard,
                other => other,
            })?,
        };
        if copied && written == self.output.len() {
            return Ok(Rest::Nothing);
        }
        Ok(Rest::From { written, copied })
    }

    /// Sends what there was no room for of the invocation with this payload.
    pub async fn send_rest(&mut self, rest: Rest, payload: &[u8]) -> Result<(), Error> {
        let Rest::From { written, copied } = rest else {
            return Ok(());
        };
        let socket = self.socket.get_ref();
        let rest = &self.output[written..];
        let sent = write_all(socket, rest).await.map_err(broken);
        sent.map_err(|error| match error {
            Error::Closed if written == 0 => Error::Unheard,
            other => other,
        })?;
        if !copied {
            write_all(socket, payload).await.map_err(broken)?;
        }
        Ok(())
    }

    /// Sends an invocation, however long that takes.
    pub async fn send_invoke(
        &mut self,
        stream: u32,
        deadline_unix_ms: u64,
        request_id: RequestId,
        context: &[u8],
        payload: &[u8],
        raw: bool,
    ) -> Result<(), Error> {
        let begun = self.begin_invoke(stream, deadline_unix_ms, request_id, context, payload, raw);
        self.send_rest(begun?, payload).await
    }

    /// The next frame. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Frame, Error> {
        loop {
            if let Some(frame) = frame::decode(&mut self.input)? {
                if self.input.is_empty() && self.input.capacity() > BUFFER_KEEP {
                    self.input = BytesMut::new();
                }
                return Ok(frame);
            }
            if let Some(frame) = poll_fn(|context| self.poll_read(context)).await? {
                return Ok(frame);
            }
        }
    }

    /// Ready when there may be something to receive.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_read_ready(context).map(drop)
    }

    /// Reads what is there: a frame if that is all of it, else it is put behind what was read before.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Frame>, Error>> {
        READ.with_borrow_mut(|room| {
            loop {
                let mut ready = ready!(self.socket.poll_read_ready(context)).map_err(broken)?;
                let read = match ready.get_inner().read(room) {
                    Ok(0) => return Poll::Ready(Err(Error::Closed)),
                    Ok(read) => read,
                    Err(error) if would_block(&error) => {
                        ready.clear_ready();
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Poll::Ready(Err(broken(error))),
                };
                if read < room.len() {
                    // That was all: asking again would only say so.
                    ready.clear_ready();
                }
                if self.input.is_empty()
                    && let Some(frame) = frame::sole(&room[..read])?
                {
                    return Poll::Ready(Ok(Some(frame)));
                }
                self.input.extend_from_slice(&room[..read]);
                return Poll::Ready(Ok(None));
            }
        })
    }

    /// The next frame's body, which must be of this kind.
    pub async fn expect(
        &mut self,
        kind: Kind,
        stream: u32,
        expected: &'static str,
    ) -> Result<Bytes, Error> {
        let frame = self.receive().await?;
        if frame.kind == kind && frame.stream == stream {
            Ok(frame.body)
        } else {
            Err(Error::Unexpected {
                expected,
                got: frame.kind,
                stream: frame.stream,
            })
        }
    }
}

#[expect(
    deprecated,
    reason = "what takes its place is unsafe; a socket that is owned stays open"
)]
fn watched(socket: Socket, interest: Interest) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::with_interest(socket, interest)
}

/// Writes all of it. Room is waited for only where there is none: most that is written fits.
async fn write_all(mut socket: &Socket, mut rest: &[u8]) -> io::Result<()> {
    let mut room = None;
    while !rest.is_empty() {
        match socket.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if would_block(&error) => {
                // A descriptor of its own, because the other one is in the reactor for what comes. Where there is none, the worker is given up.
                let room = match &mut room {
                    Some(room) => room,
                    none => none.insert(watched(socket.try_clone()?, Interest::WRITABLE)?),
                };
                let mut ready = room.writable().await?;
                match ready.try_io(|socket| socket.get_ref().write(rest)) {
                    Ok(written) => rest = &rest[written?..],
                    Err(_none_after_all) => {}
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Looks for what is there to read, and leaves it there.
fn peek(socket: &Socket) -> nix::Result<usize> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    recv(socket.as_raw_fd(), &mut [0; 1], flags)
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// A peer that is gone shows in several ways; they all mean `Closed`.
fn broken(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof => Error::Closed,
        _ => Error::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_waits_for_room_and_comes_as_it_was() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let mut here = Connection::new(here).expect("a reactor");
        let mut there = Connection::new(there).expect("a reactor");
        let large: Vec<u8> = (0..6_000_000_u32).map(|n| (n % 251) as u8).collect();
        for payload in [
            &large[..],
            b"{}",
            &large[..100_000],
            &large[..READ_MAX],
            b"",
        ] {
            let sent = here.send_invoke(7, 0, RequestId::generate(), b"", payload, true);
            let (sent, invoke) = tokio::join!(sent, there.receive());
            sent.expect("sent");
            assert!(invoke.expect("whole").body.ends_with(payload));
            let answer = there.send(Kind::ResponseEnd, 7, payload);
            let (sent, answer) = tokio::join!(answer, here.receive());
            sent.expect("sent");
            assert!(answer.expect("whole").body == payload);
            assert!(here.is_quiet());
        }
    }

    #[tokio::test]
    async fn who_stops_waiting_in_the_middle_of_a_frame_has_all_of_it_later() {
        let (here, mut there) = UnixStream::pair().expect("a pair");
        let mut here = Connection::new(here).expect("a reactor");
        let head = frame::header(Kind::ResponseEnd, 0, 1, 20_000);
        for piece in [&head[..5], &head[5..], &[b'x'; 9_000], &[b'x'; 10_999]] {
            there.write_all(piece).await.expect("room");
            let some = tokio::time::timeout(std::time::Duration::from_millis(1), here.receive());
            assert!(some.await.is_err(), "it is not whole");
        }
        there.write_all(b"x").await.expect("room");
        let frame = here.receive().await.expect("whole");
        assert!(frame.body.len() == 20_000 && frame.body.iter().all(|byte| *byte == b'x'));
    }

    #[tokio::test]
    async fn frames_are_told_apart_however_they_come() {
        let (here, mut there) = UnixStream::pair().expect("a pair");
        let mut here = Connection::new(here).expect("a reactor");
        let mut bytes = Vec::new();
        for size in [0, 1, 5_000, READ_MAX, 200_000, 3] {
            bytes.extend_from_slice(&frame::header(Kind::ResponseChunk, 0, 1, size));
            bytes.extend_from_slice(&vec![b'x'; size]);
        }
        let sends = async {
            for piece in bytes.chunks(777) {
                there.write_all(piece).await.expect("room");
                tokio::task::yield_now().await;
            }
            there.shutdown().await.expect("open");
        };
        let receives = async {
            let mut sizes = Vec::new();
            let end = loop {
                match here.receive().await {
                    Ok(frame) => sizes.push(frame.body.len()),
                    Err(end) => break end,
                }
            };
            (sizes, end)
        };
        let (_, (sizes, end)) = tokio::join!(sends, receives);
        assert_eq!(sizes, [0, 1, 5_000, READ_MAX, 200_000, 3]);
        assert!(matches!(end, Error::Closed));
    }

    #[tokio::test]
    async fn an_end_shows_before_anything_is_asked() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let mut connection = Connection::new(here).expect("a reactor");
        assert!(connection.is_quiet());
        drop(there);
        // Nothing was awaited: the reactor has not looked.
        assert!(!connection.is_quiet());
        let sent = connection.send_invoke(1, 0, RequestId::generate(), b"", b"{}", false);
        assert!(matches!(sent.await, Err(Error::Unheard)));
    }

    #[tokio::test]
    async fn who_says_something_unasked_or_ends_is_not_quiet() {
        for says in [&b"x"[..], b""] {
            let (here, mut there) = UnixStream::pair().expect("a pair");
            let mut connection = Connection::new(here).expect("a reactor");
            let answer = frame::header(Kind::ResponseEnd, 0, 1, 0);
            there.write_all(&answer).await.expect("room");
            connection.receive().await.expect("an answer");
            assert!(connection.is_quiet() && connection.seems_quiet());
            there.write_all(says).await.expect("room");
            drop(there);
            assert!(!connection.is_quiet());
            // The reactor has its turn when a task waits.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            assert!(!connection.seems_quiet() && !connection.seems_quiet());
        }
    }
}
