//! The beginning of a streaming answer that says how it is to be sent: JSON, then eight zero bytes, then the body. JSON has no zero
//! byte, so it ends at the first one, however the stream is cut into pieces.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;

use crate::api::route::Failed;
use crate::api::route::answer::{self, Head};
use crate::scheduler;

/// The content type that announces it.
pub(super) const CONTENT_TYPE: &str = "application/vnd.awslambda.http-integration-response";
const END: [u8; 8] = [0; 8];
/// More than any headers that are passed on: what is longer has no end, or is no prelude.
const PRELUDE_MAX: usize = 256 * 1024;

/// The head, and what came of the body with it.
pub(super) async fn read(body: &mut scheduler::Body) -> Result<(Head, Bytes), Failed> {
    let mut begun = BytesMut::new();
    let mut searched = 0;
    let end = loop {
        if let Some(at) = begun[searched..].iter().position(|byte| *byte == 0) {
            searched += at;
            if begun.len() >= searched + END.len() {
                break searched;
            }
        } else {
            searched = begun.len();
        }
        let piece = match body.next().await {
            Some(piece) => piece.map_err(Failed::Fault)?,
            None => return Err(Failed::Answer(answer::Error::Prelude)),
        };
        if searched + piece.len().min(1) > PRELUDE_MAX {
            return Err(Failed::Answer(answer::Error::Prelude));
        }
        begun.extend_from_slice(&piece);
    };
    let json = begun.split_to(end);
    if begun[..END.len()] != END {
        return Err(Failed::Answer(answer::Error::Prelude));
    }
    begun.advance(END.len());
    let head = answer::prelude(&json).map_err(Failed::Answer)?;
    Ok((head, begun.freeze()))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::domain::fault::Fault;

    fn pieces(pieces: Vec<Result<Bytes, Fault>>) -> scheduler::Body {
        Box::pin(stream::iter(pieces))
    }

    #[tokio::test]
    async fn a_prelude_ends_where_it_ends_however_it_comes() {
        let text = b"{\"statusCode\": 418}\0\0\0\0\0\0\0\0\0body";
        for size in 1..text.len() {
            let cut = text
                .chunks(size)
                .map(|piece| Ok(Bytes::copy_from_slice(piece)));
            let mut body = pieces(cut.collect());
            let (head, first) = read(&mut body).await.expect("a head");
            assert_eq!(head.status, 418);
            let mut whole = first.to_vec();
            while let Some(piece) = body.next().await {
                whole.extend_from_slice(&piece.expect("a piece"));
            }
            assert_eq!(whole, b"\0body", "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn a_prelude_that_is_none_is_no_answer() {
        let ends = |bytes: &'static [u8]| pieces(vec![Ok(Bytes::from_static(bytes))]);
        for bad in [
            &b""[..],
            b"{}",
            b"{}\0\0\0\0\0\0\0",
            b"{}\0\0\0\0\0\0\0x",
            b"no\0\0\0\0\0\0\0\0",
            b"\0\0\0\0\0\0\0\0",
        ] {
            let got = read(&mut ends(bad)).await.map(|(head, _)| head);
            assert!(matches!(got, Err(Failed::Answer(_))), "{bad:?}: {got:?}");
        }
        let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[b' '; 4096])));
        let mut endless: scheduler::Body = Box::pin(endless);
        let got = read(&mut endless).await.map(|(head, _)| head);
        assert!(matches!(got, Err(Failed::Answer(answer::Error::Prelude))));
    }

    #[tokio::test]
    async fn a_function_that_fails_before_its_head_failed() {
        let mut body = pieces(vec![Ok(Bytes::from_static(b"{")), Err(Fault::Draining)]);
        let got = read(&mut body).await.map(|(head, _)| head);
        assert!(matches!(got, Err(Failed::Fault(Fault::Draining))));
    }
}
