//! Where definitions, keys and code live. What a method has answered `Ok` to survives `kill -9`. Every implementation passes
//! `store::suite` unchanged.

pub mod answers;
pub mod change;
pub mod dead_letters;
pub mod embedded;
pub mod events;
pub mod key;
pub mod layers;
pub mod mappings;
pub mod permits;
pub mod record;
pub mod redis;
pub mod signing;
#[cfg(test)]
pub mod suite;
pub mod versions;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::function::Function;
use crate::domain::id::FunctionId;
use crate::domain::key::KeyRecord;
use crate::domain::mapping::MappingId;
use crate::domain::signing::Id as SigningId;
use crate::domain::version::Version;
use crate::store::answers::Answers;
use crate::store::change::Changes;
use crate::store::dead_letters::DeadLetters;
use crate::store::events::Events;
use crate::store::layers::Layers;
use crate::store::mappings::Mappings;
use crate::store::signing::Signing;
use crate::store::versions::Versions;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The change was made from a revision that is no longer the current one, or the function is gone.
    #[error("the function was changed by somebody else meanwhile")]
    Stale,
    #[error("the name is taken by function {0}")]
    NameTaken(FunctionId),
    #[error("the route is taken by function {0}")]
    RouteTaken(FunctionId),
    /// Another mapping is for the same queue and function.
    #[error("the queue is mapped to the function already, by {0}")]
    PlaceTaken(MappingId),
    /// The code the function names is not in the store (any more): upload it again.
    #[error("the code package {0} is not stored")]
    CodeMissing(String),
    /// The code signing configuration that the function names is not there (any more).
    #[error("there is no code signing configuration {0}")]
    NoSigning(SigningId),
    #[error("a function has the code signing configuration {0}")]
    SigningInUse(SigningId),
    #[error("the store has no streams")]
    NoStreams,
    /// Of events that wait, or of keys of named calls.
    #[error("there are as many as there may be")]
    Full,
    #[error("the store cannot {operation}: its disk is full")]
    DiskFull {
        operation: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was asked, and has done so or not: of what may be done once only, that is another answer than no.
    #[error("the store did not say whether it could {operation}")]
    Unsaid {
        operation: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the store cannot {operation}")]
    Unavailable {
        operation: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What somebody sees who only looks, beside the process whose store it is.
#[derive(Debug, Default)]
pub struct Content {
    pub functions: Vec<Function>,
    /// Published, of all functions.
    pub versions: Vec<Arc<Version>>,
    pub keys: Vec<KeyRecord>,
}

/// Boxed futures, because the warm path never asks the store.
pub trait Store:
    Answers + DeadLetters + Events + Layers + Mappings + Signing + Versions + Send + Sync + fmt::Debug
{
    /// Every function.
    fn functions(&self) -> BoxFuture<'_, Result<Vec<Function>, Error>>;
    /// The revision of every function.
    fn revisions(&self) -> BoxFuture<'_, Result<HashMap<FunctionId, u64>, Error>> {
        async {
            let functions = self.functions().await?.into_iter();
            Ok(functions.map(|f| (f.id, f.revision)).collect())
        }
        .boxed()
    }
    /// One function; `None` if there is none with this id.
    fn function<'a>(&'a self, id: &'a FunctionId)
    -> BoxFuture<'a, Result<Option<Function>, Error>>;
    /// Writes a function. `from` is the revision the change was made from; `None` creates. In the same transaction: checks name and
    /// route are free and the code, the layers and what it is to be signed by are there, and drops those packages of the replaced revision
    /// that nobody else uses.
    fn put(&self, function: Function, from: Option<u64>) -> BoxFuture<'_, Result<(), Error>>;
    /// Removes a function, everything published of it, and code nobody else uses. `false` if there was none.
    fn delete<'a>(&'a self, id: &'a FunctionId) -> BoxFuture<'a, Result<bool, Error>>;
    /// Keeps a code package under its hash; the same again is no change.
    fn put_code<'a>(&'a self, sha256: &'a str, zip: Bytes) -> BoxFuture<'a, Result<(), Error>>;
    fn code<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Error>>;
    /// The bytes of a code package, rounded up to no more than a MiB more, without reading it.
    fn code_size<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>>;
    fn keys(&self) -> BoxFuture<'_, Result<Vec<KeyRecord>, Error>>;
    fn put_key(&self, key: KeyRecord) -> BoxFuture<'_, Result<(), Error>>;
    /// Removes a key. `false` if there was none.
    fn delete_key<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, Error>>;
    /// What functions and keys are changed from now on, by anybody, as soon as it is known here. What was read before it is told may
    /// be old. A store nobody else can write to need not tell.
    fn changes(&self) -> Changes;
}
