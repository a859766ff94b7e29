//! Frames. Knows lengths, kinds and flags; what is expected when is `worker`'s business.

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

pub const HEADER: usize = 12;
const BODY_MAX: usize = 8 * 1024 * 1024;
pub const SMALL_BODY_MAX: usize = 64 * 1024;
pub const CHUNK_MAX: usize = 1024 * 1024;
const PING_MAX: usize = 64;
const BUFFER: usize = 64 * 1024;

pub const RAW: u8 = 0x01;
pub const BAD_REQUEST: u8 = 0x02;
pub const LAST: u8 = 0x04;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Hello = 1,
    Init,
    Ready,
    InitError,
    Invoke,
    ResponseHead,
    ResponseChunk,
    ResponseEnd,
    Error,
    Cancel,
    Ping,
    Pong,
    Shutdown,
}

const NAMES: [(Kind, &str); 13] = [
    (Kind::Hello, "HELLO"),
    (Kind::Init, "INIT"),
    (Kind::Ready, "READY"),
    (Kind::InitError, "INIT_ERROR"),
    (Kind::Invoke, "INVOKE"),
    (Kind::ResponseHead, "RESPONSE_HEAD"),
    (Kind::ResponseChunk, "RESPONSE_CHUNK"),
    (Kind::ResponseEnd, "RESPONSE_END"),
    (Kind::Error, "ERROR"),
    (Kind::Cancel, "CANCEL"),
    (Kind::Ping, "PING"),
    (Kind::Pong, "PONG"),
    (Kind::Shutdown, "SHUTDOWN"),
];

impl Kind {
    fn of(number: u8) -> Option<(Self, &'static str)> {
        NAMES.into_iter().find(|(kind, _)| *kind as u8 == number)
    }

    pub fn name(self) -> &'static str {
        Kind::of(self as u8).map_or("", |(_, name)| name)
    }

    /// The longest body and the flags a frame from Hearth may have; `None` is a kind Hearth does not send.
    fn accepted(self) -> Option<(usize, u8)> {
        match self {
            Kind::Init => Some((BODY_MAX, 0)),
            Kind::Invoke => Some((BODY_MAX, RAW)),
            Kind::Cancel => Some((SMALL_BODY_MAX, 0)),
            Kind::Ping => Some((PING_MAX, 0)),
            Kind::Shutdown => Some((0, 0)),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub struct Frame {
    pub kind: Kind,
    pub flags: u8,
    pub stream: u32,
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub enum Error {
    /// Hearth's end of the connection is gone.
    Closed,
    /// Hearth broke the protocol; the text names both sides' view.
    Protocol(String),
}

pub struct Reader {
    input: BufReader<OwnedReadHalf>,
}

impl Reader {
    pub fn new(input: OwnedReadHalf) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER, input),
        }
    }

    /// The next frame. A bad header is refused before its body has come.
    pub async fn receive(&mut self) -> Result<Frame, Error> {
        let mut header = [0; HEADER];
        self.fill(&mut header).await?;
        let [l0, l1, l2, l3, kind, flags, r0, r1, s0, s1, s2, s3] = header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let reserved = u16::from_be_bytes([r0, r1]);
        let Some((kind, name)) = Kind::of(kind) else {
            return refused(format!("a frame a worker may get, got unknown kind {kind}"));
        };
        let Some((longest, allowed)) = kind.accepted() else {
            return refused(format!("a frame a worker may get, got {name}"));
        };
        if reserved != 0 {
            return refused(format!(
                "zero in the reserved bytes of {name}, got {reserved:#06x}"
            ));
        }
        if flags & !allowed != 0 {
            return refused(format!(
                "no flags but {allowed:#04x} on {name}, got {flags:#04x}"
            ));
        }
        if length > longest {
            return refused(format!(
                "at most {longest} bytes in {name}, got a length of {length}"
            ));
        }
        let mut body = vec![0; length];
        self.fill(&mut body).await?;
        Ok(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            body,
        })
    }

    /// Whatever ends the connection, Hearth is gone and there is nobody to tell.
    async fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        match self.input.read_exact(bytes).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Closed),
        }
    }
}

fn refused(what: String) -> Result<Frame, Error> {
    Err(Error::Protocol(format!("expected {what}")))
}

/// A whole frame, or nothing of it where Hearth is gone.
pub async fn send(
    output: &mut OwnedWriteHalf,
    kind: Kind,
    flags: u8,
    stream: u32,
    body: &[u8],
) -> Result<(), Error> {
    let length = u32::try_from(body.len()).expect("every body is bounded far below 4 GiB");
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(length.to_be_bytes());
    bytes.extend([kind as u8, flags, 0, 0]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(body);
    match output.write_all(&bytes).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Error::Closed),
    }
}
