//! The host's end of a worker's socket. Warm path: the calling task writes and reads the socket itself; no other task, no
//! channel. `receive` may be dropped and called again; a `send` that is dropped half way leaves the connection unusable,
//! and whoever dropped it gives the worker up.

use std::io;
use std::os::fd::AsRawFd;

use bytes::{BufMut, Bytes, BytesMut};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::domain::id::RequestId;
use crate::worker::frame::{self, Frame, Kind};
use crate::worker::message;

/// Payloads up to this size are copied behind their header and leave in one write; larger ones are written as they are.
const COPY_MAX: usize = 64 * 1024;
/// A buffer that grew beyond this for a large answer is not kept.
const BUFFER_KEEP: usize = 256 * 1024;

#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    input: BytesMut,
    output: BytesMut,
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
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            input: BytesMut::with_capacity(8 * 1024),
            output: BytesMut::new(),
        }
    }

    /// Whether nothing came of the other end since the last frame, not even its end: as it must be between two invocations. Asks the kernel:
    /// what tokio remembers may be older than a worker's death, or than what it said to be taken for its next answer.
    pub fn is_quiet(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let peeked = recv(self.stream.as_raw_fd(), &mut [0; 1], flags);
        self.input.is_empty() && peeked == Err(Errno::EAGAIN)
    }

    /// The process on the other end, as the kernel knows it.
    pub fn peer_pid(&self) -> Option<i32> {
        self.stream.peer_cred().ok()?.pid()
    }

    pub async fn send(&mut self, kind: Kind, stream: u32, body: &[u8]) -> Result<(), Error> {
        self.output.clear();
        self.output
            .put_slice(&frame::header(kind, 0, stream, body.len()));
        self.output.put_slice(body);
        self.stream.write_all(&self.output).await.map_err(broken)
    }

    pub async fn send_invoke(
        &mut self,
        stream: u32,
        deadline_unix_ms: u64,
        request_id: RequestId,
        context: &[u8],
        payload: &[u8],
        raw: bool,
    ) -> Result<(), Error> {
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
        let begun = self.stream.write(&self.output).await;
        let written = begun.map_err(|error| match broken(error) {
            Error::Closed => Error::Unheard,
            other => other,
        })?;
        let rest = &self.output[written..];
        if !rest.is_empty() {
            self.stream.write_all(rest).await.map_err(broken)?;
        }
        if !copied {
            self.stream.write_all(payload).await.map_err(broken)?;
        }
        Ok(())
    }

    /// The next frame. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Frame, Error> {
        loop {
            if let Some(frame) = frame::decode(&mut self.input)? {
                if self.input.is_empty() && self.input.capacity() > BUFFER_KEEP {
                    self.input = BytesMut::with_capacity(8 * 1024);
                }
                return Ok(frame);
            }
            self.input.reserve(4 * 1024);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(Error::Closed),
                Ok(_) => {}
                Err(error) => return Err(broken(error)),
            }
        }
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
    use super::*;

    #[tokio::test]
    async fn an_end_shows_before_anything_is_asked() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let mut connection = Connection::new(here);
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
            let connection = Connection::new(here);
            there.write_all(says).await.expect("room");
            drop(there);
            assert!(!connection.is_quiet());
        }
    }
}
