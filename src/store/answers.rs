//! Answers to calls that their callers named, as every store keeps them: a key is begun by one, held while the call runs, and has an end,
//! which everybody who comes later with the same key is given. What is begun and neither held nor ended, because its process was killed,
//! is somebody else's to begin when the lease is over.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::domain::id::RequestId;
use crate::domain::idempotency::{Answer, Key};
use crate::store::Error;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Keys that are known. More are refused.
    pub keys: u64,
    /// Bytes of all answers. What comes beyond is not kept, only that there was an answer.
    pub bytes: u64,
    /// How long a key is known after its end; and after its beginning, if it has none.
    pub keep: Duration,
    /// How long one that is not held is its beginner's.
    pub lease: Duration,
}

/// How it stands with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Whoever asked has it now. `first` is who began it first, for who tried after a dead one.
    Yours {
        first: RequestId,
    },
    Running,
    Answered(Answer),
    /// It has an end, but the answer was too large to be kept.
    Unkept,
    /// It was begun for something else.
    Different,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Kept,
    Unkept,
    /// Somebody else has it: the lease was over.
    Lost,
}

pub trait Answers {
    /// Asks for a key, and begins it if nobody has. `Error::Full` if too many are known.
    fn begin<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<Begun, Error>>;
    /// Keeps it for another lease from now on. `false` if somebody else has it.
    fn hold<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<bool, Error>>;
    /// Gives it an end; `None` is an answer that is not kept.
    fn end<'a>(
        &'a self,
        key: &'a Key,
        by: RequestId,
        answer: Option<&'a Answer>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<Ended, Error>>;
    /// Forgets it, because nothing was run. `false` if somebody else has it.
    fn release<'a>(&'a self, key: &'a Key, by: RequestId) -> BoxFuture<'a, Result<bool, Error>>;
    /// Forgets a few keys whose time is over. `true` if some were: there may be more.
    fn forget(&self) -> BoxFuture<'_, Result<bool, Error>>;
}

/// An answer without its body, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    pub(super) fn of(answer: &Answer) -> Self {
        Self {
            status: answer.status,
            headers: answer.headers.clone(),
        }
    }

    pub(super) fn with(&self, body: bytes::Bytes) -> Answer {
        Answer {
            status: self.status,
            headers: self.headers.clone(),
            body,
        }
    }
}
