//! The frame codec of `hearth-worker/1` (see `runtimes/PROTOCOL.md`): a 12-byte header, then the body.
//! Pure: bytes in, frames out. Owns the limits on every length. Warm path: no allocation beyond the body's own.

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub const HEADER_LEN: usize = 12;
/// A body up to this size is copied out of the buffer, which stays in one hand and is filled again; for one that shares it with a longer body
/// a new buffer is made.
const COPY_MAX: usize = 1024;
/// The largest body of the kinds that carry payloads and code settings.
pub const BODY_MAX: usize = 8 * 1024 * 1024;
/// The largest body of every other kind.
pub const SMALL_BODY_MAX: usize = 64 * 1024;

/// INVOKE: the payload is bytes, not JSON. RESPONSE_END: the answer is bytes, not JSON.
pub const RAW: u8 = 0x01;
/// ERROR: the payload was not what it claimed to be; the handler was not called.
pub const BAD_REQUEST: u8 = 0x02;
/// ERROR: the worker ends after this; it must not get another invocation.
pub const LAST: u8 = 0x04;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Hello = 1,
    Init = 2,
    Ready = 3,
    InitError = 4,
    Invoke = 5,
    ResponseHead = 6,
    ResponseChunk = 7,
    ResponseEnd = 8,
    Error = 9,
    Cancel = 10,
    Ping = 11,
    Pong = 12,
    Shutdown = 13,
}

impl Kind {
    pub const ALL: [Kind; 13] = [
        Kind::Hello,
        Kind::Init,
        Kind::Ready,
        Kind::InitError,
        Kind::Invoke,
        Kind::ResponseHead,
        Kind::ResponseChunk,
        Kind::ResponseEnd,
        Kind::Error,
        Kind::Cancel,
        Kind::Ping,
        Kind::Pong,
        Kind::Shutdown,
    ];

    fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }

    pub const fn body_max(self) -> usize {
        match self {
            Kind::Init | Kind::Invoke | Kind::ResponseChunk | Kind::ResponseEnd => BODY_MAX,
            _ => SMALL_BODY_MAX,
        }
    }

    fn flags_allowed(self) -> u8 {
        match self {
            Kind::Invoke | Kind::ResponseEnd => RAW,
            Kind::Error => BAD_REQUEST | LAST,
            _ => 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub flags: u8,
    pub stream: u32,
    pub body: Bytes,
}

/// Why bytes are not a frame. The connection they came on is of no more use: the place in the stream is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    #[error("a {kind:?} frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        kind: Kind,
        length: usize,
        limit: usize,
    },
    #[error("a {kind:?} frame has flags {flags:#04x}, which it cannot have")]
    Flags { kind: Kind, flags: u8 },
    #[error("reserved header bytes are not zero")]
    Reserved,
}

impl Frame {
    /// Whether the worker says nothing more of the invocation after this.
    pub fn ends_invocation(&self) -> bool {
        matches!(self.kind, Kind::ResponseEnd | Kind::Error)
    }

    pub fn new(kind: Kind, stream: u32, body: impl Into<Bytes>) -> Self {
        Self {
            kind,
            flags: 0,
            stream,
            body: body.into(),
        }
    }
}

/// The header for a body of `length` bytes. The caller guarantees the length is within the kind's limit.
pub fn header(kind: Kind, flags: u8, stream: u32, length: usize) -> [u8; HEADER_LEN] {
    debug_assert!(
        length <= kind.body_max(),
        "checked by whoever built the body"
    );
    let mut out = [0u8; HEADER_LEN];
    out[..4].copy_from_slice(&(length as u32).to_be_bytes());
    out[4] = kind as u8;
    out[5] = flags;
    out[8..].copy_from_slice(&stream.to_be_bytes());
    out
}

/// Appends a whole frame.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    out.reserve(HEADER_LEN + frame.body.len());
    out.put_slice(&header(
        frame.kind,
        frame.flags,
        frame.stream,
        frame.body.len(),
    ));
    out.put_slice(&frame.body);
}

/// What a header says, checked.
struct Head {
    kind: Kind,
    flags: u8,
    stream: u32,
    length: usize,
}

impl Head {
    /// `None` when more bytes are needed. A bad header is refused as soon as it is seen, before its body is waited for.
    fn read(input: &[u8]) -> Result<Option<Self>, Error> {
        let Some(head) = input.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = Kind::from_byte(head[4]).ok_or(Error::UnknownKind(head[4]))?;
        let flags = head[5];
        if head[6] != 0 || head[7] != 0 {
            return Err(Error::Reserved);
        }
        if flags & !kind.flags_allowed() != 0 {
            return Err(Error::Flags { kind, flags });
        }
        if length > kind.body_max() {
            return Err(Error::TooLong {
                kind,
                length,
                limit: kind.body_max(),
            });
        }
        let stream = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        Ok(Some(Self {
            kind,
            flags,
            stream,
            length,
        }))
    }

    fn with(self, body: Bytes) -> Frame {
        let Self {
            kind,
            flags,
            stream,
            ..
        } = self;
        Frame {
            kind,
            flags,
            stream,
            body,
        }
    }
}

/// Takes one frame off the front of `input`, or says `None` when more bytes are needed.
pub fn decode(input: &mut BytesMut) -> Result<Option<Frame>, Error> {
    let Some(head) = Head::read(input)? else {
        return Ok(None);
    };
    let length = head.length;
    if input.len() < HEADER_LEN + length {
        input.reserve(HEADER_LEN + length - input.len());
        return Ok(None);
    }
    input.advance(HEADER_LEN);
    let body = match length {
        ..=COPY_MAX => {
            let body = Bytes::copy_from_slice(&input[..length]);
            input.advance(length);
            body
        }
        _ => input.split_to(length).freeze(),
    };
    Ok(Some(head.with(body)))
}

/// The frame, if these bytes are one small frame and nothing else, as most that is read at once is.
pub fn sole(bytes: &[u8]) -> Result<Option<Frame>, Error> {
    let head = Head::read(bytes)?;
    let is_all = |head: &Head| head.length <= COPY_MAX && bytes.len() == HEADER_LEN + head.length;
    let head = head.filter(is_all);
    Ok(head.map(|head| head.with(Bytes::copy_from_slice(&bytes[HEADER_LEN..]))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        (
            0..Kind::ALL.len(),
            any::<u8>(),
            any::<u32>(),
            prop::collection::vec(any::<u8>(), 0..2048),
        )
            .prop_map(|(k, flags, stream, body)| {
                let kind = Kind::ALL[k];
                Frame {
                    kind,
                    flags: flags & kind.flags_allowed(),
                    stream,
                    body: body.into(),
                }
            })
    }

    proptest! {
        #[test]
        fn a_frame_alone_is_told_from_more_and_from_less(frame in any_frame(), more in 0usize..3) {
            let mut wire = BytesMut::new();
            encode(&frame, &mut wire);
            let whole = wire.len();
            for end in 0..whole {
                prop_assert_eq!(sole(&wire[..end]), Ok(None));
            }
            let small = (frame.body.len() <= COPY_MAX).then(|| frame.clone());
            prop_assert_eq!(sole(&wire), Ok(small));
            wire.extend_from_slice(&wire.clone()[..more]);
            if more > 0 {
                prop_assert_eq!(sole(&wire), Ok(None));
            }
        }

        #[test]
        fn frames_survive_the_wire_however_it_cuts_them(
            frames in prop::collection::vec(any_frame(), 1..8), cut in 1usize..512
        ) {
            let mut wire = BytesMut::new();
            for frame in &frames {
                encode(frame, &mut wire);
            }
            let (mut input, mut got) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(cut) {
                input.extend_from_slice(piece);
                while let Some(frame) = decode(&mut input).expect("valid") {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, frames);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_ask_for_more_than_the_limit(
            bytes in prop::collection::vec(any::<u8>(), 0..256)
        ) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode(&mut input) {}
            prop_assert!(input.capacity() <= BODY_MAX + HEADER_LEN + 4096);
        }
    }

    #[test]
    fn what_cannot_be_a_frame_is_refused_at_the_header() {
        let refuse =
            |bytes: [u8; HEADER_LEN]| decode(&mut BytesMut::from(&bytes[..])).expect_err("bad");
        assert_eq!(
            refuse([0, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0]),
            Error::UnknownKind(99)
        );
        assert_eq!(
            refuse([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Error::UnknownKind(0)
        );
        assert_eq!(
            refuse([0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0]),
            Error::Reserved
        );
        assert_eq!(
            refuse([0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]),
            Error::Flags {
                kind: Kind::Hello,
                flags: 1
            }
        );
        assert!(matches!(
            refuse([0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
            Error::TooLong { .. }
        ));
        assert!(matches!(
            refuse([0, 128, 0, 1, 8, 0, 0, 0, 0, 0, 0, 0]),
            Error::TooLong { .. }
        ));
    }
}
