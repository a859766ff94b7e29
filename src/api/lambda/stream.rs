//! The framing of AWS's event streams, as InvokeWithResponseStream answers: one event for each piece of the answer, and one at the end.
//!
//! ```text
//! u32 whole length · u32 length of headers · u32 CRC of these eight bytes · headers · payload · u32 CRC of everything before
//! header: u8 length of name · name · u8 7 (a text) · u16 length of value · value
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};

use crate::domain::fault::Fault;
use crate::scheduler::Body;

/// A piece is cut so that no client has to hold more at once.
const PIECE_MAX: usize = 64 * 1024;
const TEXT: u8 = 7;
/// Before the headers: two lengths and their sum.
const PRELUDE: usize = 12;

/// One event.
pub fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let length: usize = headers
        .iter()
        .map(|(name, value)| 4 + name.len() + value.len())
        .sum();
    let whole = PRELUDE + length + payload.len() + 4;
    let mut out = BytesMut::with_capacity(whole);
    out.put_u32(u32::try_from(whole).expect("pieces are cut far below"));
    out.put_u32(u32::try_from(length).expect("a few short headers"));
    out.put_u32(crc32fast::hash(&out));
    for (name, value) in headers {
        out.put_u8(u8::try_from(name.len()).expect("a short name of ours"));
        out.put_slice(name.as_bytes());
        out.put_u8(TEXT);
        out.put_u16(u16::try_from(value.len()).expect("a short value of ours"));
        out.put_slice(value.as_bytes());
    }
    out.put_slice(payload);
    out.put_u32(crc32fast::hash(&out));
    out.freeze()
}

fn chunk(piece: &[u8]) -> Bytes {
    let headers = [
        (":event-type", "PayloadChunk"),
        (":content-type", "application/octet-stream"),
        (":message-type", "event"),
    ];
    frame(&headers, piece)
}

/// What the last event says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct End {
    pub error: Option<(String, String)>,
    pub log: Option<String>,
}

impl End {
    fn frame(&self) -> Bytes {
        let mut body = json!({});
        if let Some((code, details)) = &self.error {
            body["ErrorCode"] = Value::from(code.as_str());
            body["ErrorDetails"] = Value::from(details.as_str());
        }
        if let Some(log) = &self.log {
            body["LogResult"] = Value::from(log.as_str());
        }
        let headers = [
            (":event-type", "InvokeComplete"),
            (":content-type", "application/json"),
            (":message-type", "event"),
        ];
        frame(&headers, body.to_string().as_bytes())
    }
}

/// An answer that is there already, as events.
pub fn whole(body: &[u8], end: &End) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 1024);
    for piece in body.chunks(PIECE_MAX) {
        out.extend_from_slice(&chunk(piece));
    }
    out.extend_from_slice(&end.frame());
    out.freeze()
}

/// An answer that is still being made, as events. What goes wrong on the way is the last one's to say: `ended` writes it.
pub fn events<F>(body: Body, ended: F) -> Body
where
    F: FnOnce(Option<Fault>) -> End + Send + 'static,
{
    let parts = stream::unfold(Some((body, ended)), async |state| {
        let (mut body, ended) = state?;
        Some(match body.next().await {
            Some(Ok(piece)) => {
                let mut out = BytesMut::new();
                for piece in piece.chunks(PIECE_MAX) {
                    out.extend_from_slice(&chunk(piece));
                }
                (Ok(out.freeze()), Some((body, ended)))
            }
            Some(Err(fault)) => (Ok(ended(Some(fault)).frame()), None),
            None => (Ok(ended(None).frame()), None),
        })
    });
    Box::pin(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_published() {
        // The documentation's example of a message without headers and payload, and one with both.
        assert_eq!(
            hex::encode(frame(&[], b"")),
            "000000100000000005c248eb7d98c8ff"
        );
        let with = frame(&[("event-type", "x")], b"{'foo':'bar'}");
        assert_eq!(with.len(), 12 + 15 + 13 + 4);
        assert_eq!(&with[..8], &[0, 0, 0, 44, 0, 0, 0, 15]);
        let (rest, crc) = with.split_at(with.len() - 4);
        assert_eq!(crc, crc32fast::hash(rest).to_be_bytes());
    }

    /// The events of a body: their type and payload.
    fn read(mut rest: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        while !rest.is_empty() {
            let u32_at = |at: usize| {
                let bytes: [u8; 4] = rest[at..at + 4].try_into().expect("four bytes");
                u32::from_be_bytes(bytes) as usize
            };
            let (whole, headers) = (u32_at(0), u32_at(4));
            assert_eq!(u32_at(8), crc32fast::hash(&rest[..8]) as usize);
            assert_eq!(
                u32_at(whole - 4),
                crc32fast::hash(&rest[..whole - 4]) as usize
            );
            let text = String::from_utf8_lossy(&rest[12..12 + headers]);
            let kind = match text.contains("PayloadChunk") {
                true => "PayloadChunk",
                false => "InvokeComplete",
            };
            found.push((kind.to_owned(), rest[12 + headers..whole - 4].to_vec()));
            rest = &rest[whole..];
        }
        found
    }

    #[test]
    fn a_whole_answer_is_cut_into_pieces() {
        let body = vec![b'x'; PIECE_MAX + 1];
        let events = read(&whole(&body, &End::default()));
        let lengths: Vec<_> = events
            .iter()
            .map(|(kind, body)| (kind.as_str(), body.len()))
            .collect();
        assert_eq!(
            lengths,
            [
                ("PayloadChunk", PIECE_MAX),
                ("PayloadChunk", 1),
                ("InvokeComplete", 2)
            ]
        );
        assert_eq!(read(&whole(b"", &End::default())).len(), 1);
    }

    #[tokio::test]
    async fn a_stream_ends_with_what_went_wrong() {
        let parts = [
            Ok(Bytes::from("one")),
            Err(Fault::Draining),
            Ok(Bytes::from("never")),
        ];
        let events = events(Box::pin(stream::iter(parts)), |fault| End {
            error: fault.map(|fault| ("Unhandled".into(), fault.to_string())),
            log: Some("bG9n".into()),
        });
        let pieces: Vec<_> = events.map(|piece| piece.expect("an event")).collect().await;
        let found = read(&pieces.concat());
        assert_eq!(found[0], ("PayloadChunk".into(), b"one".to_vec()));
        assert_eq!(found.len(), 2);
        let end: Value = serde_json::from_slice(&found[1].1).expect("JSON");
        assert_eq!(end["ErrorCode"], "Unhandled");
        assert_eq!(end["ErrorDetails"], "the server is shutting down");
        assert_eq!(end["LogResult"], "bG9n");
    }
}
