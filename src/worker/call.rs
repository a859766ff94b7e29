//! One invocation on one worker.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

use crate::domain::fault::Fault;

/// What a handler answered.
pub enum Answer {
    Whole {
        body: Bytes,
        /// Bytes, not JSON.
        raw: bool,
    },
    Stream {
        content_type: String,
        body: Body,
    },
}

/// The rest of a streaming answer. Dropping it early means the client is gone.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::Whole { body, raw } => write!(f, "Whole({} bytes, raw: {raw})", body.len()),
            Answer::Stream { content_type, .. } => write!(f, "Stream({content_type})"),
        }
    }
}
